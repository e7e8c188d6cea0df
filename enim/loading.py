"""EDGE: starts a plugin out of one file that holds the whole package, compiled (``simulator.chain.install`` makes it).

For each module Python looks in several places, reads a file of its own, and runs it, needed or not: 0.2 ms each time.
Here a module is an empty one until something of it is asked for; only then is its code read, from the one file, and
run. So a call loads what it uses: DEL, for one, no line of what prints results.

The launcher runs this module's code on its own, so nothing here may import another one of the package. What is not in
the file is looked for in the package's folder.
"""

import gc
import marshal
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
else:
    ModuleType = type(sys)

HEAD_BYTES = 4096  # of the file: the code of this module; then comes the table, as long, of where the others are


def start(file: int, folder: str, first: str) -> None:
    """Run a plugin.

    Args:
        file: descriptor of the file.
        folder: the package's.
        first: the module whose ``main`` is called.
    """
    sys.dont_write_bytecode = True
    gc.disable()  # a plugin ends before it has rubbish worth a search
    getattr(load(_above_streams(file), folder, "enim"), first).main()


def _above_streams(file: int) -> int:
    """The same file under a descriptor that is none of stdin, stdout and stderr, which may have been closed."""
    taken = []
    while file <= 2:
        taken.append(file)
        file = posix.dup(file)
    for descriptor in taken:
        posix.close(descriptor)
    return file


def load(file: int, folder: str, name: str) -> ModuleType:
    """Make the package ``name``; its modules come into being when they are asked for."""
    places: dict[str, tuple[int, int]] = marshal.loads(posix.pread(file, HEAD_BYTES, HEAD_BYTES))  # noqa: S302 -- ours

    class Unread(ModuleType):
        """A module whose code has not been run: whoever asks for something of it brings that about."""

        def __getattr__(self, wanted: str) -> object:
            self.__class__ = ModuleType  # type: ignore[assignment]
            try:
                offset, length = places[self.__name__.rpartition(".")[2]]
                exec(marshal.loads(posix.pread(file, length, offset)), self.__dict__)  # noqa: S102, S302 -- as a .pyc
            except BaseException:
                self.__class__ = Unread  # so that who asks next hears of it too
                raise
            return getattr(self, wanted)

    def make(wanted: str) -> ModuleType:
        if wanted not in places:
            raise AttributeError(wanted)  # then Python looks into the folder
        module = Unread(f"{name}.{wanted}")
        sys.modules[module.__name__] = module
        setattr(package, wanted, module)
        return module

    package = sys.modules[name] = ModuleType(name)
    package.__path__ = [folder]
    package.__getattr__ = make  # type: ignore[method-assign]  # ``from enim import x`` asks it (PEP 562)
    return package
