"""Plays the call that a tape stands for, and says what is wrong with what a plugin made of it.

Held to be true of every input: the plugin answers in CNI's words with a code of its list, within the time that a
runtime gives it; an ADD that failed holds no ENI and has left no NIC in the pod, or says that its roll-back failed, and
then a DEL gives both back.
"""

from __future__ import annotations

import errno
import json
from typing import Any

from fuzz_edge import Edge
from fuzz_tape import CONTAINER, IFNAME, NETWORK, Call, Tape, call

from enim import answers, config, exclusive_verbs, log, process, verbs

CODES = {1, 2, 4, 5, 6, 7, 8, 11, 50, *range(100, 108)}
ANSWER_BYTES_MAX = 8192
LINE_BYTES_MAX = 4096
PRINTABLE = frozenset(range(32, 127))
LIMIT_MS = {"DEL": 60_000, "STATUS": 5_000}
OTHER_LIMIT_MS = 240_000
PLUGINS = {
    "enim": (verbs.COMMANDS, config.VERSIONS),
    "exclusive-device": (exclusive_verbs.COMMANDS, config.WITH_INTERFACES),
}


LOGGED: list[bytes] = []  # the lines of the last call


def _log(_path: str, *line: Any) -> None:
    """Stands for the file and for syslog; neither is there for real."""
    LOGGED.append(line[-1] if isinstance(line[-1], bytes) else line[-1].encode() + b"\n")
    if len(LOGGED) % 7 == 0:
        raise OSError(errno.ENOSPC, "No space left on device")


def _say(plugin: str, text: str) -> None:
    """Stands for stderr."""
    LOGGED.append(f"{plugin}: {text}\n".encode())


def play(data: bytes) -> str:
    """Play one tape; what is wrong, with the input, "" for nothing."""
    del LOGGED[:]
    doors = log._append, log._send, log._say
    log._append, log._send, log._say = _log, _log, _say
    try:
        return _play(data)
    finally:
        log._append, log._send, log._say = doors


def shrunk(data: bytes) -> bytes:
    """A tape with something wrong, and with no more bytes that are not 0 than that takes."""
    for at in range(len(data)):
        simpler = data[:at] + b"\0" + data[at + 1 :]
        data = simpler if play(simpler) else data
    return data


def _play(data: bytes) -> str:
    tape = Tape(data)
    plugin = tape.pick(tuple(PLUGINS))
    asked = call(tape, plugin)
    edge = Edge(tape, asked.environment, asked.stdin)
    if asked.environment["CNI_COMMAND"] in ("DEL", "CHECK"):
        edge.held, edge.in_pod = (NETWORK, CONTAINER, IFNAME), IFNAME
    try:
        problem = _verdict(plugin, asked, edge) or _bad_lines()
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is what we are looking for
        problem = f"{type(error).__name__}: {error}"
    state = {
        name: value for name, value in vars(edge).items() if name not in ("handlers", "tape", "environment", "stdin")
    }
    return f"{problem}\n{plugin} {asked}\n{state}\ntape {data.hex()}"[:8000] if problem else ""


def _verdict(plugin: str, asked: Call, edge: Edge) -> str:
    command = asked.environment["CNI_COMMAND"]
    commands, versions = PLUGINS[plugin]
    if command == "VERSION":
        supported = json.loads(answers.versions(answers.asked_version(asked.stdin), versions))["supportedVersions"]
        return "" if supported == list(versions) else f"VERSION says {supported}"
    code, answer = process.call(plugin, asked.environment, asked.stdin, commands, edge.handlers, versions=versions)
    if edge.now_ms > LIMIT_MS.get(command, OTHER_LIMIT_MS):
        return f"it took {edge.now_ms} ms"
    if code == 0:
        return _success(command, asked, edge, answer)
    error = json.loads(answer.decode())
    wrong = [key for key in ("cniVersion", "msg", "details") if not isinstance(error[key], str)]
    is_known = error["code"] in CODES or (edge.has_foreign_code and 0 < error["code"] < 2**32)
    if code != 1 or edge.printed or wrong or not is_known or len(answer) > ANSWER_BYTES_MAX:
        return f"exit code {code}, {len(answer)} bytes, printed {edge.printed}, {answer[:300]!r}"
    return _left_over(plugin, asked, edge, error) if command == "ADD" else ""


def _bad_lines() -> str:
    """A line of the log that could be taken for two, or for something else."""
    for line in LOGGED:
        if len(line) > LINE_BYTES_MAX or not line.endswith(b"\n") or not PRINTABLE.issuperset(line[:-1]):
            return f"a bad line of the log: {line!r}"
        if line.startswith(b"{"):
            json.loads(line)
    return ""


def _success(command: str, asked: Call, edge: Edge, answer: bytes) -> str:
    if answer:
        return f"a success that answers {answer[:300]!r}"
    if command != "ADD":
        if edge.printed or (command == "DEL" and not edge.released_count):
            return f"a {command} that printed {edge.printed} and released {edge.released_count}"
        return ""
    (printed,) = edge.printed
    shown = json.loads(printed.decode())
    wanted = json.loads(asked.stdin.decode("utf-8", "replace"))
    label = next((wanted[key] for key in wanted if key.lower() == "cniversion"), None) or "0.1.0"
    if shown["cniVersion"] != label and "cniVersion" not in wanted:
        return f"answered under {shown['cniVersion']}"
    return "" if edge.held else "a success without an ENI"


def _left_over(plugin: str, asked: Call, edge: Edge, error: dict[str, Any]) -> str:
    """What a failed ADD has left behind, and did not say; or a DEL in a world without faults does not take away."""
    if not edge.held and not edge.in_pod:
        return ""
    if "the roll-back failed too" not in error["details"]:
        return f"left behind without a word: {edge.held} {edge.in_pod}: {error}"
    edge.tape = Tape()
    environment = {**asked.environment, "CNI_COMMAND": "DEL"}
    commands, versions = PLUGINS[plugin]
    code, answer = process.call(plugin, environment, asked.stdin, commands, edge.handlers, versions=versions)
    if code or edge.held or edge.in_pod:
        return f"DEL did not take it away: {edge.held} {edge.in_pod}: {answer!r}"
    return ""
