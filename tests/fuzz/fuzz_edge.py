"""What stands for the edge of a plugin's process: an agent that knows what it has given away, a kernel, a clock.

What goes wrong is drawn from the tape. The agent tells the truth: an answer of 4xx to a POST means that nothing is
given away, one of 404 or 2xx to a DELETE that nothing is any more. What it has given must have been asked for in the
very words of the call: a name never becomes another parameter or header.
"""

from __future__ import annotations

import copy
import errno
import json
from collections.abc import Callable
from typing import Any

from fuzz_tape import CONTAINER, IFNAME, MAC, NETWORK, Tape, changed, damaged

from enim import answers, effects, errors, process, verbs, wire

IFINDEX, HOME_NAME = 7, "eni1"
GRANT = {
    "address": {"ipv4": "192.0.2.10"},
    "ipv4": {
        "ip": "192.0.2.10",
        "cidrs": ["192.0.2.0/24"],
        "gateway": "192.0.2.1",
        "master-mac": MAC,
        "interface-number": str(IFINDEX),
    },
}
GRANT_PATHS = tuple(
    tuple(path.split("/"))
    for path in (
        *("address", "address/ipv4", "address/ipv6", "ipv4", "ipv6", "ipv4/ip", "ipv4/cidrs", "ipv4/gateway"),
        *("ipv4/master-mac", "ipv4/interface-number", "ipv6/ip", "host-addressing"),
    )
)
RECORD = {"network": NETWORK, "containerID": CONTAINER, "ifname": IFNAME, "state": "in_use", "mac": MAC}
RECORD |= {"ips": ["192.0.2.10/24"]}
RECORD_PATHS = tuple((name,) for name in (*RECORD, "attachments"))
STATUSES = (200, 201, 204, 302, 400, 404, 409, 422, 500, 503, 504, 999)
BODIES = (
    *(
        b'"no ENI is free"',
        b'"please retry"',
        b"",
        b'{"code":500,"message":"busy"}',
        b"<html><b>no</b>",
        b"\xff\0",
        b'"\\ud800"',
    ),
    *(
        b"noop enim",
        b'"noop enim"',
        b"{" * 5000,
        b"not found\n",
        b"\xc4\xb0" * 20 + b"not found",
        b"[]",
        b"{}",
        b"null",
    ),
)
HEADS = (
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999\r\n",
        b"X: " + b"y" * 70_000,
    ),
    *(
        b"Content-Length: 7\r\nContent-Length: 8\r\n",
        b"X: y\r\n" * 3000,
        b" folded\r\n",
        b"\xff: \xff\r\n",
        b": \r\n",
        b"\0\r\n",
    ),
)
PART_LENGTHS = (1 << 20,) * 12 + (1000, 100, 17, 3)


class Edge:
    """The world of one attachment, and the handlers of both plugins' effects.

    ``held``: whose the ENI is, (network, container id, ifname), or None. ``in_pod``: the NIC is in the pod.
    """

    def __init__(self, tape: Tape, environment: dict[str, str], stdin: bytes) -> None:
        self.tape = tape
        self.environment = environment
        self.stdin = stdin
        self.held: tuple[str, str, str] | None = None
        self.in_pod = ""
        self.now_ms = 0
        self.printed: list[bytes] = []
        self.notes: list[str] = []
        self.released_count = 0
        self.has_foreign_code = False  # the IPAM plugin said something else; its code is passed on
        self.handlers: dict[str, Callable[[Any], Any]] = {
            "Now": lambda _: self.now_ms,
            "Sleep": self._sleep,
            "Request": self._request,
            "OwnNetns": lambda _: self.tape.rarely(32),
            "NetnsAlive": lambda _: not self.tape.rarely(16),
            "FindLink": self._find_link,
            "DeviceName": lambda _: "" if self.tape.rarely(2) else HOME_NAME,
            "Print": self._print,
            "Log": lambda effect: self.notes.append(effect.text),
            "MoveIn": self._move_in,
            "Configure": lambda effect: self._refuse(effect.ifname),
            "Addresses": self._addresses,
            "MoveOut": self._move_out,
            "Delegate": self._delegate,
        }

    def _sleep(self, effect: effects.Sleep) -> None:
        self.now_ms += effect.ms

    def _print(self, effect: effects.Print) -> None:
        if self.tape.rarely(32):
            raise errors.CniError(errors.IO_FAILURE, "the result cannot be printed", "Broken pipe")
        self.printed.append(effect.data)

    # The agent

    def _request(self, effect: effects.Request) -> wire.Reply:
        fate = self.tape.byte()
        if fate >= 250:
            raise errors.Unreachable((errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN, errno.EACCES, 0)[fate % 5], "no")
        data = wire.encode_request(effect.request)
        try:
            decoded = wire.decode_request(data)
        except errors.WireError as error:  # names that are no UTF-8, or too long
            return wire.Reply(error.status, b'"no"', "application/json")
        assert decoded is not None, data
        asked, length = decoded
        assert (length, asked.method) == (len(data), effect.request.method)
        if fate >= 246:
            self._hang(effect)
        answer = self._answer(asked)
        try:
            reply = _received(self.tape, answer)
        except errors.WireError as error:
            reply, failure = None, error
        self._act(asked, reply)
        if reply is None:
            raise errors.Interrupted(failure.text)
        if fate >= 242:
            self._hang(effect)
        return reply

    def _hang(self, effect: effects.Request) -> None:
        self.now_ms += effect.timeout_ms
        raise errors.Interrupted("the deadline has passed")

    def _answer(self, asked: wire.Request) -> bytes:
        """What the agent sends."""
        tape = self.tape
        kind = tape.byte()
        status, body = 200, b""
        if asked.method == "POST" and asked.path == "/v1/eni":
            grant = GRANT
            if kind >= 200:
                grant = copy.deepcopy(GRANT)
                changed(tape, grant, GRANT_PATHS)
            body = json.dumps(grant).encode("utf-8", "surrogatepass")
        elif asked.method == "GET" and asked.path.endswith("/attachments"):
            listed = {"attachments": [dict(RECORD)]}
            if kind >= 200:
                changed(tape, listed if tape.rarely(8) else listed["attachments"][0], RECORD_PATHS)
            body = json.dumps(listed).encode("utf-8", "surrogatepass")
        if 160 <= kind < 200:
            status, body = tape.pick(STATUSES), tape.pick(BODIES)
        answer = wire.encode_reply(wire.Reply(status, body, "application/json"))
        if tape.rarely(8):
            answer = damaged(tape, answer)
        if tape.rarely(32):
            answer = answer.replace(b"\r\n", b"\r\n" + tape.pick(HEADS), 1)
        if tape.rarely(256):
            answer += b" " * (2 << 20)
        return answer

    def _act(self, asked: wire.Request, reply: wire.Reply | None) -> None:
        """What the agent has done when it sent that. It also gives ENIs to those whom its answer does not reach."""
        if asked.path != "/v1/eni":
            return
        whose = (asked.header("x-enim-network"), asked.parameter("containerID"), asked.parameter("ifname"))
        if asked.method == "POST":
            self._compare(asked, whose)
            if reply is None or not 400 <= reply.status < 500:
                self.held = whose
        elif reply is not None and (reply.status == 404 or 200 <= reply.status < 300):
            self.released_count += 1
            if self.held == whose:
                self.held = None

    def _compare(self, asked: wire.Request, whose: tuple[str, str, str]) -> None:
        sent = [self.environment.get(name, "") for name in ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS")]
        got = [*whose[1:], asked.parameter("netns")]
        assert [_bytes(text) for text in sent] == [_bytes(text) for text in got]
        assert len(asked.query) <= 4
        assert [name for name, _ in asked.headers].count("x-enim-network") == 1

    # The kernel

    def _refuse(self, what: str) -> None:
        if self.tape.rarely(24):
            raise errors.KernelError(f"touch {what}", errno.EBUSY, "Device or resource busy")

    def _find_link(self, effect: effects.FindLink) -> effects.Link | None:
        self._refuse(effect.name or str(effect.ifindex))
        if self.tape.rarely(24):
            return None
        mac = "02:e1:00:00:00:99" if self.tape.rarely(24) else MAC
        here = effects.Link(IFINDEX, self.in_pod or HOME_NAME, mac, HOME_NAME if self.in_pod else "")
        is_there = bool(effect.netns) == bool(self.in_pod) and effect.name in ("", here.name)
        is_it = effect.mac in ("", here.mac) and effect.ifindex in (0, IFINDEX)
        return here if is_there and is_it else None

    def _move_in(self, effect: effects.MoveIn) -> int:
        self._refuse(effect.ifname)
        assert not self.in_pod
        self.in_pod = effect.ifname
        return IFINDEX

    def _move_out(self, effect: effects.MoveOut) -> bool:
        self._refuse(effect.ifname)
        was_there = self.in_pod == effect.ifname
        self.in_pod = "" if was_there else self.in_pod
        return was_there

    def _addresses(self, effect: effects.Addresses) -> frozenset[tuple[int, int, int]]:
        self._refuse(effect.ifname)
        return frozenset() if self.tape.rarely(4) else frozenset([(4, 0xC000020A, 24)])

    # The IPAM plugin of exclusive-device: enim; now and then it says something else, or dies

    def _delegate(self, effect: effects.Delegate) -> tuple[int, bytes]:
        if effect.plugin != "enim":
            raise errors.CniError(errors.DELEGATE_FAILURE, f"there is no IPAM plugin {effect.plugin[:200]} in CNI_PATH")
        printed: list[bytes] = []
        environment = {**self.environment, "CNI_COMMAND": effect.command}
        handlers = {**self.handlers, "Print": lambda one: printed.append(one.data)}
        code, answer = process.call("enim", environment, effect.stdin, verbs.COMMANDS, handlers)
        stdout = b"".join(printed) + answer
        if self.tape.rarely(32):
            stdout = damaged(self.tape, stdout)
            self.has_foreign_code = True
            code = self.tape.pick((code, 0 if effect.command == "ADD" else code, 1, -9))
            if code != 0 and effect.command == "ADD" and answers.read_error(stdout):
                self.held = None  # it says that it holds nothing, and is not lying
        return code, stdout


def _received(tape: Tape, answer: bytes) -> wire.Reply:
    """What a client makes of the bytes, however they are cut into parts. Raises WireError."""
    length = tape.pick(PART_LENGTHS)
    if length * 400 < len(answer):
        length = len(answer) // 400  # bytes one by one take their time
    for end in range(length, len(answer) + length, length):
        reply = wire.decode_reply(answer[:end], closed=False)
        if reply is not None:
            return reply
    reply = wire.decode_reply(answer, closed=True)
    assert reply is not None
    return reply


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
