"""EDGE: the operators' log: a line for each call of a plugin, and one for each note of its flow.

    "log-file": "/var/log/enim.log"        appended to; "syslog": sent to /dev/log, as the C library does
    "log-format": "text"                   or "json"; without it text

A line has, of these, what is known: time (UTC, RFC 3339), level, plugin, command, network, owner, container, ifname,
eni (its MAC), device (its name on the host), code, duration_ms, msg, details.

Rules: ``process`` loads this module only if the configuration asks for a log. Nothing here raises, waits, or changes
what a call does: what is wrong with the log is said once on stderr. A line is one write of less than 4 KiB of printable
ASCII, so that plugins that run at the same time do not mix theirs, and no name becomes a line of its own.

Source: syslog(3), RFC 3164 section 4.1, RFC 3339; open(2) and fifo(7) for what O_NONBLOCK keeps from waiting.
"""

import _json
import _stat
import errno
import posix
import time
from _socket import AF_UNIX, SOCK_DGRAM, SOCK_STREAM
from _socket import socket as new_socket

from enim import addresses, effects, errors, jsonio, result, settings, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from enim import config

    Handler = Callable[[Any], Any]

SYSLOG = "syslog"
SYSLOG_SOCKET = "/dev/log"
TEXT, JSON = "text", "json"

_INFO, _WARNING, _ERROR = "info", "warning", "error"
_SEVERITIES = {_ERROR: 3, _WARNING: 4, _INFO: 6}
_FACILITY = 21  # local5, as the real plugin has it (contract C7)
_FILE_MODE = 0o640
_VALUE_MAX = 256  # characters of one field, as it is printed
_TO_QUOTE = frozenset(' "=\\')
_SOCKET_TYPES = (SOCK_DGRAM, SOCK_STREAM)  # in the C library's order


class CallLog:
    """The log of one call.

    Args:
        plugin: which plugin this is.
        environment: of the call.
        netconf: of the call, whether it is valid or not.
    """

    def __init__(self, plugin: str, environment: "Mapping[str, str]", netconf: "dict[str, Any]") -> None:
        self._plugin = plugin
        self._target: Any = jsonio.member(netconf, "log-file")
        self._is_silent = False
        self._start_ns = time.monotonic_ns()
        self._mac = self._device = ""
        self._known: dict[str, Any] = {
            "plugin": plugin,
            "command": environment.get("CNI_COMMAND", ""),
            "network": jsonio.member(netconf, "name"),
            "owner": "",
            "container": environment.get("CNI_CONTAINERID", ""),
            "ifname": environment.get("CNI_IFNAME", ""),
        }
        self._format = _format(jsonio.member(netconf, "log-format"))
        if not self._format:
            _say(
                plugin,
                f"log-format is text or json, not {_shown(jsonio.member(netconf, 'log-format'))}; it is text now",
            )

    def watching(self, handlers: "Mapping[str, Handler]") -> "dict[str, Handler]":
        """The same handlers; what they are told and give is looked at."""
        looks: dict[str, Callable[[Any, Any], None]] = {
            "Log": self._note,
            "Request": self._see_reply,
            "Delegate": self._see_result,
            "FindLink": self._see_link,
            "MoveOut": self._see_return,
        }
        return {kind: _looked_at(handler, looks.get(kind)) for kind, handler in handlers.items()}

    def read(self, checked: "config.Config") -> None:
        """What the checked configuration tells."""
        self._known["owner"] = settings.owner(checked) if checked.container_id else ""  # GC and STATUS are for nobody
        try:
            for interface in result.from_object(checked.member("prevResult")).interfaces:
                self._mac = self._mac or addresses.parse_mac(interface.mac)
        except ValueError:
            pass  # no line fails for what it cannot know

    def end(self, failure: "errors.CniError | None") -> None:
        """The line of the call."""
        code, msg, details = (failure.code, failure.msg, failure.details) if failure else (0, "ok", "")
        self._write(_ERROR if failure else _INFO, msg, code=code, details=details)

    def _note(self, effect: effects.Log, _: None) -> None:
        known = f"{self._plugin}: {self._known['container']} {self._known['ifname']}: "
        self._write(_WARNING, effect.text[len(known) if effect.text.startswith(known) else 0 :])

    def _see_reply(self, effect: effects.Request, reply: wire.Reply) -> None:
        if effect.request.method == "POST" and reply.status == 200:
            try:
                self._mac = wire.parse_allocation(reply.body).mac
            except errors.WireError:
                pass  # or it is no allocation: the flow decides what that means

    def _see_result(self, effect: effects.Delegate, outcome: "tuple[int, bytes]") -> None:
        if effect.command == "ADD" and outcome[0] == 0:
            try:
                self._mac = addresses.parse_mac(result.parse(outcome[1]).interfaces[0].mac)
            except (ValueError, IndexError):
                pass  # as above

    def _see_link(self, effect: effects.FindLink, link: "effects.Link | None") -> None:
        if link is None:
            return
        if not self._mac and self._known["command"] == "DEL" and effect.netns and link.alias:
            self._mac = link.mac  # exclusive-device knows its NIC by the alias
        if link.mac == self._mac:
            self._device = link.alias if effect.netns else link.name

    def _see_return(self, effect: effects.MoveOut, is_home: bool) -> None:  # noqa: FBT001 -- an outcome
        if is_home:
            self._device = effect.name

    def _write(self, level: str, msg: str, *, code: "int | None" = None, details: str = "") -> None:
        known = {"time": _now(), "level": level, **self._known}
        known |= {"eni": self._mac, "device": self._device, "code": code}
        known |= {"duration_ms": (time.monotonic_ns() - self._start_ns) // 1_000_000, "msg": msg, "details": details}
        entries = {name: _shown(value) for name, value in known.items() if value not in ("", None)}
        if self._format == JSON:
            line = "{" + ",".join([f'"{name}":{value}' for name, value in entries.items()]) + "}"
        else:
            line = " ".join([f"{name}={_bare(value)}" for name, value in entries.items()])
        try:
            if self._target == SYSLOG:
                _send(SYSLOG_SOCKET, level, self._plugin, line)
            elif isinstance(self._target, str) and self._target[:1] == "/":
                _append(self._target, line.encode() + b"\n")
            elif not self._is_silent:
                self._is_silent = True
                _say(
                    self._plugin, f'the log {_shown(self._target)} is not written: name a path from / on, or "{SYSLOG}"'
                )
        except (OSError, ValueError) as error:
            if not self._is_silent:
                self._is_silent = True
                text = error.strerror if isinstance(error, OSError) and error.strerror else error
                _say(self._plugin, f"the log {_bare(_shown(self._target))} cannot be written: {text}")


def _say(plugin: str, text: str) -> None:
    try:
        posix.write(2, f"{plugin}: {text}\n".encode("ascii", "backslashreplace"))
    except OSError:
        pass  # whoever closed stderr does not want to know


def begin(plugin: str, environment: "Mapping[str, str]", stdin: bytes) -> "CallLog | None":
    """The log of this call, or None if its configuration, valid or not, asks for none."""
    try:
        netconf = jsonio.loads(stdin)
    except ValueError:
        return None
    if not isinstance(netconf, dict) or jsonio.member(netconf, "log-file") in (None, ""):
        return None
    return CallLog(plugin, environment, netconf)


def _format(value: "Any") -> str:
    if value in (None, ""):
        return TEXT
    name = value.lower() if isinstance(value, str) else ""
    return name if name in (TEXT, JSON) else ""


def _looked_at(handler: "Handler", look: "Callable[[Any, Any], None] | None") -> "Handler":
    if look is None:
        return handler

    def carried_out(effect: "Any") -> "Any":
        outcome = handler(effect)
        look(effect, outcome)
        return outcome

    return carried_out


def _shown(value: "Any") -> str:
    """A value as JSON of printable ASCII, not much longer than ``_VALUE_MAX``."""
    if type(value) is int and abs(value) < 1 << 63:
        return str(value)
    text = value if isinstance(value, str) else f"({type(value).__name__})"
    shown: str = _json.encode_basestring_ascii(text[:_VALUE_MAX])
    if len(shown) > _VALUE_MAX + 2:
        shown = _json.encode_basestring_ascii(text[: _VALUE_MAX // 6])  # \u0000 is the longest
    return shown


def _bare(shown: str) -> str:
    """The same for a line of text, without its quotes where there is nothing to quote."""
    inner = shown[1:-1] if shown[:1] == '"' else shown
    return shown if not inner or not _TO_QUOTE.isdisjoint(inner) else inner


def _now() -> str:
    seconds, ms = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{ms:03}Z"


def _append(path: str, line: bytes) -> None:
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC
    descriptor = posix.open(path, flags, _FILE_MODE)
    try:
        if _is_stdout(descriptor):
            raise OSError(errno.EINVAL, "it is the plugin's stdout, which the runtime reads")
        if posix.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, "only a part of a line was written")
    finally:
        posix.close(descriptor)


def _is_stdout(descriptor: int) -> bool:
    """Is it what the result is printed to, such as /dev/stdout? A device may be both: what is printed there is lost."""
    try:
        theirs, ours = posix.fstat(descriptor), posix.fstat(1)
    except OSError:
        return False  # stdout is closed
    is_same = (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)
    return is_same and descriptor != 1 and not _stat.S_ISCHR(ours.st_mode)


def _send(path: str, level: str, plugin: str, line: str) -> None:
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime())
    message = f"<{_FACILITY * 8 + _SEVERITIES[level]}>{stamp} {plugin}[{posix.getpid()}]: {line}".encode()
    for kind in _SOCKET_TYPES:
        connection = new_socket(AF_UNIX, kind)
        connection.settimeout(0)
        try:
            connection.connect(path)
            connection.send(message if kind == SOCK_DGRAM else message + b"\0")
        except OSError as error:
            if error.errno != errno.EPROTOTYPE or kind == SOCK_STREAM:
                raise
        else:
            return
        finally:
            connection.close()
