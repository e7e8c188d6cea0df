"""EDGE: starts a plugin out of one file that holds the whole package, compiled (``simulator.chain.install`` makes it).

For each module Python looks in several places, reads a file of its own, and runs it, needed or not: 0.2 ms each time.
Here a module is an empty one until something of it is asked for; only then is its code read, from the one file, and
run. And what no other line of its module mentions is a part of its own, which is read when it is asked for itself. So a
call loads what it uses: DEL, for one, no line of what prints results. For the calls that pods wait for the file has all
that they use once more, in two pieces: a name that occurs in several modules is made once in each.

The launcher runs this module's code on its own, so nothing here may import another one of the package.
"""

import _signal  # type: ignore[import-not-found]  # signal without its enums; typeshed has no stub
import gc
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any
else:
    ModuleType = type(sys)

HEAD_BYTES = 6144  # of the file: the code of this module; then comes the table, as long, of where all else is


def start(file: int, first: str) -> None:
    """Run a plugin.

    Args:
        file: descriptor of the file.
        first: the module whose ``main`` is called.
    """
    sys.dont_write_bytecode = True
    gc.disable()  # a plugin ends before it has rubbish worth a search
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # it ends a plugin as SIGTERM does, without a traceback
    call = f"{first} {posix.environ.get(b'CNI_COMMAND', b'').decode('utf-8', 'replace')}"
    getattr(load(_above_streams(file), "enim", call), first).main()


def _above_streams(file: int) -> int:
    """The same file under a descriptor that is none of stdin, stdout and stderr, which may have been closed."""
    taken = []
    while file <= 2:
        taken.append(file)
        file = posix.dup(file)
    for descriptor in taken:
        posix.close(descriptor)
    return file


def load(file: int, name: str, call: str = "") -> ModuleType:
    """Make the package ``name``; its modules come into being when they are asked for.

    Args:
        file: descriptor of the file.
        name: of the package.
        call: a plugin's first module and its verb, of which the file may have all that it runs in a few pieces.
    """

    def read(place: "tuple[int, int]") -> "Any":
        return marshal.loads(posix.pread(file, place[1], place[0]))  # noqa: S302 -- ours, as a .pyc

    modules, calls = read((HEAD_BYTES, HEAD_BYTES))
    find = _finder(read, list(calls.get(call, ())))

    def make(wanted: str) -> ModuleType:
        module = ModuleType(f"{name}.{wanted}")
        module.__getattr__ = _asker(vars(module), wanted, modules, read, find)  # type: ignore[method-assign]
        setattr(package, wanted, module)
        return module

    package = sys.modules[name] = ModuleType(name)
    package.__path__ = []  # Python asks for it with each import, and nothing is dearer than an AttributeError
    package.__getattr__ = make  # type: ignore[method-assign]  # ``from enim import x`` asks it (PEP 562)
    return package


def _finder(read: "Callable[[Any], Any]", pieces: "list[Any]") -> "Callable[[str], Any]":
    """A function that tells the code of a module, or of "module.part", if one of the pieces has it.

    The next piece is read when the ones before do not have what is looked for.
    """
    at_hand: dict[str, Any] = {}

    def find(wanted: str) -> "Any":
        while pieces and wanted not in at_hand:
            at_hand.update(read(pieces.pop(0)))
        return at_hand.get(wanted)

    return find


def _asker(
    names: "dict[str, Any]", module: str, modules: "Any", read: "Callable[[Any], Any]", find: "Callable[[str], Any]"
) -> "Callable[[str], Any]":
    """The ``__getattr__`` of a module."""

    def core() -> "Any":
        return read(read(modules)[module][0])

    def part(what: str) -> "Any":
        parts = read(read(modules)[module][1])
        if what not in parts:
            raise AttributeError(f"{module} has no {what}")
        return read(parts[what])

    def ask(what: str) -> "Any":
        """Run the module, if that has not been done, and the part of it that defines ``what``."""
        if "__run__" not in names:
            names["__run__"] = True
            try:
                exec(find(module) or core(), names)  # noqa: S102 -- ours, as a .pyc
            except BaseException:
                del names["__run__"]  # so that who asks next hears of it too
                raise
        if what not in names:
            exec(find(f"{module}.{what}") or part(what), names)  # noqa: S102 -- as above
        return names[what]

    return ask
