"""EDGE: what an installation puts into a CNI bin directory: two launchers, and a package compiled into one file.

Rules: a launcher names its interpreter absolutely, because a runtime need not set PATH, and starts it without site,
user paths and PYTHON* variables (``-ISE``). The package lies in a folder named for its content: an upgrade replaces
nothing that a running plugin may still load, and becomes effective with the rename of a launcher. The compiled file is
for interpreters of the version that made it; another one that has taken its place runs the sources beside it. Nothing
is checked against the sources at run time, and no plugin writes a file.

Source: execve(2) "Interpreter scripts" (one argument, 127 bytes before Linux 5.1).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import enim
from enim import errors, loading
from simulator.chain import interpreter

PACKAGES = ".enim"
FLAGS = "-ISE"
SHEBANG_BYTES_MAX = 127
BARE = "bare-python"
COMPILED = "plugins"
UNFINISHED = ".enim-unfinished-"  # begins the name of what is being written, and is left behind by a kill

UNLOADABLE = "the plugin cannot be loaded; if a file is missing or damaged, install it anew"

# A text in the launcher, which is compiled when it is needed; without the package there is no json.
# Started by a symbolic link in another folder, the launcher runs once more, as if by its own path.
_ELSE = (
    "try:\n"
    "    import os\n"
    "    own = os.path.realpath(__file__)\n"
    "    if own != __file__ and not os.path.isdir(home):\n"
    "        __file__ = own\n"
    "        exec(open(own, 'rb').read())\n"
    "    if sys.hexversion >> 16 == VERSION: raise error\n"
    "    sys.dont_write_bytecode = True\n"
    "    sys.path.insert(0, home)\n"
    "    getattr(__import__('enim.' + first), first).main()\n"
    "except Exception as error:\n"
    "    said = ascii(str(error))[1:-1].replace('\\\\', '/').replace('\"', '\\'')\n"
    f'    print(\'{{"cniVersion":"1.1.0","code":{errors.IO_FAILURE},"msg":"{UNLOADABLE}","details":"%s"}}\' % said)\n'
    "    sys.exit(1)\n"
)
_LAUNCHERS = {"enim": "__main__", "exclusive-device": "exclusive_main"}


def bundle(python: str = sys.executable) -> dict[str, bytes]:
    """Make the files of an installation.

    Args:
        python: path of a CPython that ``interpreter.find`` accepts; a virtual environment's is replaced by the one
            behind it.

    Returns:
        path relative to the CNI bin directory → content; only the launchers have no ``/`` in their path.

    Raises:
        LabError: another interpreter than this one, and it does not compile the package.
    """
    sources = {file.stem: file.read_bytes() for file in sorted(Path(next(iter(enim.__path__))).glob("*.py"))}
    made = interpreter.compiled(python, sources)
    content = b"".join(f"enim/{name}.py".encode() + b"\0" + source for name, source in sources.items())
    home = f"{PACKAGES}/{made.tag}-{hashlib.sha256(content + made.file).hexdigest()[:12]}"
    files = {f"{home}/enim/{name}.py": source for name, source in sources.items()}
    files[f"{home}/{COMPILED}"] = made.file
    for name, module in _LAUNCHERS.items():
        files |= _launcher(name, module, os.path.realpath(python), home, made.version)
    return files


def bare(python: str = sys.executable) -> dict[str, bytes]:
    """A program beside the plugins that starts as they do, and does nothing: what any of them costs at the least."""
    return _start("", BARE, os.path.realpath(python), PACKAGES)


def node(interpreter: str = sys.executable) -> dict[str, bytes]:
    """What a node of a lab gets: an installation, and the bare program."""
    return bundle(interpreter) | bare(interpreter)


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of ``bundle``, each whole or not at all, launchers last and executable.

    Raises:
        OSError: the directory cannot be written.
    """
    for path in sorted(files, key=lambda path: ("/" not in path, path)):
        target = directory / path
        make_folder(target.parent)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=UNFINISHED)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(files[path])
                os.fchmod(file.fileno(), 0o644 if "/" in path else 0o755)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def make_folder(directory: Path) -> None:
    """Make a folder, and those above it, so that everybody can read and only the owner write, whatever the umask.

    Raises:
        OSError: it cannot be made.
    """
    if not directory.is_dir():
        make_folder(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def _launcher(name: str, module: str, python: str, home: str, version: int) -> dict[str, bytes]:
    """The files that start one plugin: a script, and one for sh before it where no shebang can name the interpreter."""
    script = (
        "import marshal, posix, sys\n"
        f'home, first = __file__.rpartition("/")[0] + {{folder!r}}, "{module}"\n'
        "try:\n"
        f"    if sys.hexversion >> 16 != {version:#x}: raise ImportError\n"
        f'    file = posix.open(home + "/{COMPILED}", posix.O_RDONLY)\n'
        f"    exec(marshal.loads(posix.read(file, {loading.HEAD_BYTES})))\n"
        "except Exception as error:\n"
        f"    exec({_ELSE.replace('VERSION', f'{version:#x}').replace('{', '{{').replace('}', '}}')!r})\n"
    )
    return _start(script, name, python, home)


def _start(script: str, name: str, python: str, home: str) -> dict[str, bytes]:
    """A program of these lines; ``{folder}`` in them: from the script's own folder to ``home``."""
    shebang = f"#!{python} {FLAGS}\n"
    if len(os.fsencode(shebang)) <= SHEBANG_BYTES_MAX and not any(character.isspace() for character in python):
        return {name: os.fsencode(shebang) + script.format(folder=f"/{home}").encode()}
    inner = f"{home}/start-{name}.py"
    quoted = shlex.quote(python)
    details = f"{python} or {inner} is gone"
    gone = json.dumps({"cniVersion": "1.1.0", "code": errors.IO_FAILURE, "msg": UNLOADABLE, "details": details})
    wrapper = (
        "#!/bin/sh\n"
        f'folder=${{0%/*}}; [ -e "$folder/{inner}" ] || folder=$(dirname -- "$(readlink -f -- "$0")")\n'
        f"""[ -x {quoted} ] && [ -e "$folder/{inner}" ] || {{ printf '%s\\n' {shlex.quote(gone)}; exit 1; }}\n"""
        f'exec {quoted} {FLAGS} "$folder/{inner}" "$0"\n'
    )
    return {name: os.fsencode(wrapper), inner: script.format(folder="").encode()}


def is_launcher(content: bytes) -> bool:
    """Is it a launcher of ``bundle``, of this version or another one?"""
    return content.startswith(b"#!") and f"/{PACKAGES}/".encode() in content


def interpreter_of(launcher: bytes) -> str:
    """Path of the interpreter that a launcher names, "" if this is no launcher of ``bundle``."""
    first, _, rest = os.fsdecode(launcher).partition("\n")
    ending = f" {FLAGS}"
    if first == "#!/bin/sh":
        words = _words(rest.rstrip("\n").rpartition("\n")[2])
        return words[1] if words[:1] == ["exec"] and FLAGS in words[2:3] else ""
    return first[2:].removesuffix(ending) if first.startswith("#!/") and first.endswith(ending) else ""


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []
