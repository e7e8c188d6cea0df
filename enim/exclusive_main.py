"""EDGE: the exclusive-device plugin. It runs its IPAM plugin, moves and configures NICs; ``process`` does the rest.

Rules: the IPAM plugin is the first regular file of its name in CNI_PATH. It gets the caller's environment with another
CNI_COMMAND, the same stdin, and the caller's stderr. Nothing of it is left behind: its end is waited for.

Source: cni ``pkg/invoke`` (find.go, raw_exec.go); contract A1, A3, A8.
"""

import _signal  # type: ignore[import-not-found]  # signal without its enums; typeshed has no stub
import _stat
import errno
import posix
import sys
import time

from enim import config, effects, errors, exclusive_verbs, process, rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ABOUT = "exclusive-device: a CNI plugin that gives a pod a whole network interface, which its IPAM plugin chooses"

STDOUT_BYTES_MAX = 16 * 1024 * 1024
STARTS_MAX = 6  # of a plugin that is being written (ETXTBSY), as libcni's
START_PAUSE_S = 1.0

# By what two launchers of one installation differ: a script for Python by the one, one for sh by the other.
_DIFFERENCES = ((b'"exclusive_main"', b'"__main__"'), (b"/start-exclusive-device.py", b"/start-enim.py"))
_LAUNCHER_BYTES_MAX = 4096

_SIGPIPE, _SIGXFSZ = 13, 25  # what Python ignores, a child must not inherit


def main() -> None:
    """Run as the runtime asks, by environment and stdin; end the process."""
    process.end(process.run(ABOUT, exclusive_verbs.COMMANDS, HANDLERS, versions=config.WITH_INTERFACES))


def delegate(effect: effects.Delegate) -> tuple[int, bytes]:
    """Run the IPAM plugin to its end: ``(exit code, stdout)``; the code is negative for a signal.

    An enim of this very installation is run right here, which saves starting a second interpreter.

    Raises:
        CniError: 106, it was not started.
        OSError: it was, but its stdout could not be read.
    """
    path = _find(effect.plugin, posix.environ.get(b"CNI_PATH", b""))
    if effect.in_process and is_own_enim(path):
        return _run_enim(effect)
    try:
        child, reading = _start(path, {**posix.environ, b"CNI_COMMAND": effect.command.encode()}, effect.stdin)
    except OSError as error:
        text = f"the IPAM plugin {effect.plugin} cannot be started"
        details = f"{path.decode('utf-8', 'replace')}: {error.strerror}"
        raise errors.CniError(errors.DELEGATE_FAILURE, text, details) from None
    try:
        stdout = b"".join(_parts(reading))
    finally:
        posix.close(reading)  # if it goes on writing, it gets EPIPE
    return posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1]), stdout


def _move_in(effect: effects.MoveIn) -> int:
    return rtnetlink.move_in(effect)


def _configure(effect: effects.Configure) -> None:
    rtnetlink.configure(effect)


def _addresses(effect: effects.Addresses) -> frozenset[tuple[int, int, int]]:
    return rtnetlink.addresses_of(effect)


def _move_out(effect: effects.MoveOut) -> bool:
    return rtnetlink.move_out(effect)


def is_own_enim(path: bytes) -> bool:
    """Whether this is the launcher of enim that was installed together with the one that started this process.

    Two launchers of one installation lie in one directory, to which links may lead, and differ by what they start
    alone. A launcher for sh tells its path to the script that it starts.
    """
    script = getattr(sys.modules.get("__main__"), "__file__", "")
    own = (sys.argv[1] if script.endswith(".py") and sys.argv[1:] else script).encode("utf-8", "surrogateescape")
    try:
        beside = (own.rpartition(b"/")[0] or b".") + b"/" + path.rpartition(b"/")[2]
        ours, theirs = posix.stat(beside), posix.stat(path)
        if not own or (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            return False
        launcher, wanted = _read(own), _read(path)
        return any(this in launcher and wanted == launcher.replace(this, enim) for this, enim in _DIFFERENCES)
    except OSError:
        return False


def _read(path: bytes) -> bytes:
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, _LAUNCHER_BYTES_MAX)
    finally:
        posix.close(descriptor)


def _run_enim(effect: effects.Delegate) -> tuple[int, bytes]:
    from enim import verbs  # noqa: PLC0415 -- only where enim is the IPAM plugin

    printed: list[bytes] = []
    handlers = {**process.HANDLERS, "Print": lambda one: printed.append(one.data)}
    environment = {**process.read_environment(), "CNI_COMMAND": effect.command}
    code, error = process.call("enim", environment, effect.stdin, verbs.COMMANDS, handlers)
    return code, b"".join(printed) + error


def _find(plugin: str, search: bytes) -> bytes:
    name = plugin.encode("utf-8", "surrogateescape")
    for directory in search.split(b":"):
        path = directory + b"/" + name
        try:
            if directory and _stat.S_ISREG(posix.stat(path).st_mode):
                return path
        except OSError:
            pass  # the next directory may have it
    details = f"CNI_PATH is {search.decode('utf-8', 'replace')}"[:256]
    raise errors.CniError(errors.DELEGATE_FAILURE, f"there is no IPAM plugin {plugin[:200]} in CNI_PATH", details)


def _start(path: bytes, environment: dict[bytes, bytes], stdin: bytes) -> tuple[int, int]:
    """Start the plugin; its process id, and a pipe from its stdout."""
    if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # or nobody could learn how the child ended
    reading, writing = posix.pipe()
    try:
        return _start_on(path, environment, stdin, writing), reading
    except BaseException:
        posix.close(reading)
        raise
    finally:
        posix.close(writing)


def _start_on(path: bytes, environment: dict[bytes, bytes], stdin: bytes, stdout: int) -> int:
    """Start the plugin; its process id. Its stdin is a file in memory: with a pipe, each could wait for the other."""
    memory = posix.memfd_create("stdin")
    try:
        rest = stdin
        while rest:
            rest = rest[posix.write(memory, rest) :]
        posix.lseek(memory, 0, 0)
        streams = ((posix.POSIX_SPAWN_DUP2, memory, 0), (posix.POSIX_SPAWN_DUP2, stdout, 1))
        for _attempt in range(STARTS_MAX - 1):
            try:
                return _spawn(path, environment, streams)
            except OSError as error:
                if error.errno != errno.ETXTBSY:
                    raise
            time.sleep(START_PAUSE_S)
        return _spawn(path, environment, streams)
    finally:
        posix.close(memory)


def _spawn(path: bytes, environment: dict[bytes, bytes], streams: tuple[tuple[int, int, int], ...]) -> int:
    ignored = (_SIGPIPE, _SIGXFSZ)
    return posix.posix_spawn(path, [path], environment, file_actions=streams, setsigdef=ignored)


def _parts(descriptor: int) -> "Iterator[bytes]":
    length = 0
    while length < STDOUT_BYTES_MAX and (part := posix.read(descriptor, 65536)):
        length += len(part)
        yield part


# What is not of this module is asked for by a function that is: so a call loads of rtnetlink what it uses.
HANDLERS: "process.Handlers" = {
    **process.HANDLERS,
    "MoveIn": _move_in,
    "Configure": _configure,
    "MoveOut": _move_out,
    "Addresses": _addresses,
    "Delegate": delegate,
}

if __name__ == "__main__":
    main()
