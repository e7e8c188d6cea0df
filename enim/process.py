"""EDGE: what both plugins share of a process: environment, stdin, stdout, stderr, the loop that drives a flow.

An entry point is this, and nothing more:

    HANDLERS = process.HANDLERS | {"MoveIn": _move_in, ...}    # name of the effect's class → function of the effect

    def main() -> None:
        commands = {"ADD": exclusive.add, "DEL": exclusive.delete}            # each: Config → flow
        process.end(process.run("exclusive-device: …", commands, HANDLERS, versions=config.WITH_INTERFACES))

``run`` reads and checks the Config (``config.read``), runs the flow, prints a ``CniError`` (any exception becomes one)
and returns the exit code; it also answers VERSION and the call without a command. ``process.HANDLERS`` carries out Now,
Sleep, Request, OwnNetns, NetnsAlive, FindLink, DeviceName, Print and Log. ``drive(flow, handlers)`` is the loop alone.

Rules: stdout is written here only, and whole; no traceback is printed. ``rtnetlink`` and ``log`` are imported when they
are needed.
"""

import posix
import time

from enim import answers, config, effects, errors, namespaces, transport, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from typing import Any, NoReturn, TypeAlias

    Handlers: TypeAlias = Mapping[str, Callable[[Any], Any]]
    Commands: TypeAlias = Mapping[str, Callable[[config.Config], Generator[effects.Effect, Any, Any]]]

STDIN_BYTES_MAX = 16 * 1024 * 1024  # far beyond any configuration


def run(about: str, commands: "Commands", handlers: "Handlers", *, versions: tuple[str, ...] = config.VERSIONS) -> int:
    """Do what the environment asks for; the exit code of the process.

    Args:
        about: printed to stderr if there is no CNI_COMMAND.
        commands: CNI_COMMAND → the function that makes its flow.
        handlers: who carries out the effects of these flows.
        versions: the CNI versions that the plugin accepts.
    """
    environment = read_environment()
    command = environment.get("CNI_COMMAND", "")
    if not command:
        _log(effects.Log(f"{about}\nCNI protocol versions supported: {', '.join(versions)}"))
        return 0
    stdin = b""
    try:
        if command == "VERSION":
            _answer_version(versions)
            return 0
        config.check_environment(environment)
        stdin = _read_stdin()
    except Exception as error:  # noqa: BLE001 -- see call
        code, answer = 1, answers.error(_coded(error), answers.error_version(stdin, versions), command)
    else:
        code, answer = call(about.partition(":")[0], environment, stdin, commands, handlers, versions=versions)
    if answer:
        try:
            _write(1, answer)
        except OSError:
            pass  # nobody reads: the exit code is all that is left to say
    return code


def call(
    plugin: str,
    environment: "Mapping[str, str]",
    stdin: bytes,
    commands: "Commands",
    handlers: "Handlers",
    *,
    versions: tuple[str, ...] = config.VERSIONS,
) -> tuple[int, bytes]:
    """One call of a plugin, but for its process: the exit code, and the error that it must print, b"" for none."""
    command = environment["CNI_COMMAND"]
    failure = call_log = None
    try:
        if b"log-file" in stdin.lower():
            from enim import log  # noqa: PLC0415 -- only where a log is asked for

            call_log = log.begin(plugin, environment, stdin)
        checked = config.read(environment, stdin, versions=versions, commands=tuple(commands))
        if call_log:
            call_log.read(checked)
            handlers = call_log.watching(handlers)
        drive(commands[command](checked), handlers)
    except Exception as error:  # noqa: BLE001 -- the last line of defence: a crash is reported in CNI's words too
        failure = _coded(error)
    if call_log:
        call_log.end(failure)
    return (1, answers.error(failure, answers.error_version(stdin, versions), command)) if failure else (0, b"")


def drive(flow: "Generator[effects.Effect, Any, Any]", handlers: "Handlers") -> "Any":
    """Carry out the effects of ``flow`` until it ends: outcomes are sent in, failures thrown in; what it returns.

    Raises:
        whatever the flow lets pass.
    """
    try:
        effect = next(flow)
        while True:
            try:
                outcome = handlers[type(effect).__name__](effect)
            except Exception as failure:  # noqa: BLE001 -- the flow decides what a failure means
                effect = flow.throw(failure)
            else:
                effect = flow.send(outcome)
    except StopIteration as stop:
        return stop.value


def end(code: int) -> "NoReturn":
    """End the process at once: everything is written, and Python's own good-bye takes a millisecond."""
    posix._exit(code)  # noqa: SLF001 -- its public name


def _coded(error: Exception) -> errors.CniError:
    """What must be reported of an error, whatever it is."""
    known = errors.coded(error)
    if isinstance(known, errors.CniError):
        return known
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f"in {place.tb_frame.f_code.co_name}, line {place.tb_lineno}"
    return errors.CniError(errors.INTERNAL, f"unexpected {type(error).__name__}: {error}"[:256], where)


def read_environment() -> dict[str, str]:
    """The process's environment; what is no UTF-8 is kept as surrogates."""
    return {
        name.decode("utf-8", "surrogateescape"): value.decode("utf-8", "surrogateescape")
        for name, value in posix.environ.items()
    }


def _answer_version(versions: tuple[str, ...]) -> None:
    try:
        stdin = _read_stdin()
    except errors.CniError:
        stdin = b""  # skel does not even look at it
    _write(1, answers.versions(answers.asked_version(stdin), versions))


def _read_stdin() -> bytes:
    parts = []
    length = 0
    try:
        while part := posix.read(0, 65536):
            parts.append(part)
            length += len(part)
            if length > STDIN_BYTES_MAX:
                raise errors.CniError(errors.IO_FAILURE, "stdin is longer than 16 MiB")
    except OSError as error:
        raise errors.CniError(errors.IO_FAILURE, "stdin cannot be read", error.strerror or "") from None
    return b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[posix.write(descriptor, data) :]


def _now(_: effects.Now) -> int:
    return time.monotonic_ns() // 1_000_000


def _sleep(effect: effects.Sleep) -> None:
    time.sleep(effect.ms / 1000)


def _request(effect: effects.Request) -> wire.Reply:
    return transport.round_trip(effect, _load_ahead_of_grant if effect.request.method == "POST" else _load_ahead)


def _load_ahead() -> None:
    """What the answer will need is loaded while the agent is at work on it: to ask for something is to load it."""
    from enim import framing  # noqa: PLC0415 -- see the module's docstring

    _ = wire.decode_reply, framing.split_head, framing.content_length, framing.is_chunked, framing.take


def _load_ahead_of_grant() -> None:
    from enim import ifreq, result  # noqa: PLC0415 -- as above

    _load_ahead()
    _ = wire.parse_allocation, ifreq.link_at, effects.Link, result.of_allocation, result.encode


def _own_netns(effect: effects.OwnNetns) -> bool:
    return namespaces.is_own_netns(effect.path)


def _netns_alive(effect: effects.NetnsAlive) -> bool:
    return namespaces.netns_alive(effect.path)


def _find_link(effect: effects.FindLink) -> "effects.Link | None":
    if effect.ifindex and not effect.name and not effect.netns:
        try:
            return _link_at(effect)
        except (OSError, OverflowError, ValueError):
            pass  # netlink knows more of it
    from enim import rtnetlink  # noqa: PLC0415 -- see the module's docstring

    return rtnetlink.find_link(effect)


def _link_at(effect: effects.FindLink) -> "effects.Link | None":
    from enim import ifreq  # noqa: PLC0415 -- see the module's docstring

    link = ifreq.link_at(effect.ifindex)
    return link if link and effect.mac.lower() in ("", link.mac) else None


def _device_name(effect: effects.DeviceName) -> str:
    from enim import devices  # noqa: PLC0415 -- few calls name a device

    return devices.name_of(effect.device)


def _print(effect: effects.Print) -> None:
    try:
        _write(1, effect.data)
    except OSError as error:
        raise errors.CniError(errors.IO_FAILURE, "the result cannot be printed", str(error)) from None


def _log(effect: effects.Log) -> None:
    try:
        _write(2, effect.text.encode("utf-8", "replace") + b"\n")
    except OSError:
        pass  # whoever closed stderr does not want to know


HANDLERS: "Handlers" = {
    "Now": _now,
    "Sleep": _sleep,
    "Request": _request,
    "OwnNetns": _own_netns,
    "NetnsAlive": _netns_alive,
    "FindLink": _find_link,
    "DeviceName": _device_name,
    "Print": _print,
    "Log": _log,
}
