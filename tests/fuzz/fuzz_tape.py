"""A tape of random bytes, and what is made of it: the environment and the stdin of a call, and bytes that are damaged.

Every choice takes a byte; 0 is the ordinary one, and so is what lies beyond the end. So a tape of zeros is a valid ADD,
and a tape that hypothesis shrinks becomes one with little that is odd.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

Option = TypeVar("Option")

NETWORK, CONTAINER, IFNAME, NETNS = "podnet", "c1", "eth0", "/run/netns/p1"
MAC = "02:e1:00:00:00:01"
VERSIONS = ("1.0.0", "1.1.0", "0.4.0", "0.3.1", "0.3.0", "0.2.0", "0.1.0", "1.0.10", "", "9.9.9")
COMMANDS = ("ADD",) * 8 + ("DEL",) * 4 + ("CHECK", "GC", "STATUS", "VERSION")

ODD_TEXTS = (
    *(
        b"",
        b" ",
        b"a/b",
        b"..",
        b".",
        b"\xff",
        "é".encode() * 8,
        b"x" * 16,
        b"x" * 15,
        b"x" * 5000,
        b"a\nb",
        b"a\r\nX: y",
    ),
    *(
        b"%00",
        b"\x1b[2J",
        "\u2028".encode(),
        b"a=b;c",
        b"a&b=c#d?e",
        b"0",
        b"-",
        b"_a",
        b"a b",
        b"\xc3",
        b"\xed\xa0\x80",
    ),
)
ARGUMENTS = (
    b"K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
    *(b"", b"IgnoreUnknown=1;X=y", b"X=y", b"IgnoreUnknown=maybe", b"a=b=c", b";;", b"=", b"K8S_POD_NAME=web-0"),
    *(
        b"IP=192.0.2.10",
        b"IP=192.0.2.10/24,::1",
        b"ip=nonsense",
        b"IP=" + b"1" * 5000,
        b"K8S_POD_NAME=\xff\n;IgnoreUnknown=1",
    ),
    *(b"MAC=02:e1:00:00:00:01", b"MAC=02:E1:00:00:00:99;K8S_POD_UID=7", b"MAC=x", b"IP=192.0.2.10,;MAC="),
    b"IgnoreUnknown=true;K8S_POD_NAMESPACE=%2F;K8S_POD_NAME=a&containerID=c2",
)
NETNS_PATHS = (NETNS.encode(), b"", b"/proc/1/ns/net", b"relative", b"/run/netns/\xff", b"/" + b"x" * 5000)
VARIABLES = ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_PATH", "CNI_NETNS_OVERRIDE", "CCE_SOCK")

PATHS = tuple(
    tuple(path.split("/"))
    for path in (
        *("cniVersion", "name", "type", "ipam", "ipam/type", "ipam/socket", "ipam/routes", "ipam/connect-timeout"),
        *("runtimeConfig", "runtimeConfig/ips", "runtimeConfig/ipRanges", "runtimeConfig/deviceID", "args", "args/cni"),
        *(
            "args/cni/ips",
            "prevResult",
            "prevResult/interfaces",
            "prevResult/ips",
            "prevResult/cniVersion",
            "dns",
            "device",
        ),
        *("hwaddr", "pciBusID", "kernelpath", "capabilities", "delegate", "log-file", "log-format", "IPAM", "Name"),
        *("mtu", "keep", "validAttachments", "cni.dev~valid-attachments", "cni.dev~attachments", "disableCheck"),
        *("runtimeConfig/mac", "args/cni/mac", "ipam/default-route", "dad"),
    )
)
ODD_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        7,
        2**31,
        2**63,
        10**30,
        10**400,
        1.5,
        -0.0,
        1e308,
        "",
        "x",
        "x" * 300,
        "a\0b",
        "\ud800",
    ),
    *("192.0.2.10", "192.0.2.10/24", "::1/128", "::ffff:1.2.3.4", "192.0.2.10/33", "fe80::1%eth0", MAC, "enim", "exec"),
    *(
        "/run/agent.sock",
        "..",
        "a/b",
        "host-device",
        "json",
        "\u2028\x85\x1b[2J",
        [],
        [[]],
        {},
        {"x": 1},
        [None],
        [7],
        [{}],
    ),
    *(["192.0.2.10"], ["192.0.2.77/24"], [["x"]], ["\ud800"], list(range(1000)), {"": {"": {"": []}}}),
    [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}, {"dst": "::/0"}],
    [{"dst": "10.0.0.0/8", "mtu": 1400, "priority": -1, "scope": 10**12, "table": "main"}],
    [[{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.5", "rangeEnd": "192.0.2.20"}]],
    [{"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.99", "rangeEnd": "192.0.2.20"}],
    [{"containerID": CONTAINER, "ifname": IFNAME}],
    [{"containerID": "", "ifname": 7}],
    [{"name": IFNAME, "mac": MAC, "sandbox": NETNS}],
    [{"name": IFNAME, "mac": "02:e1", "sandbox": 7}],
    [{"address": "192.0.2.10/24", "interface": 0, "gateway": "192.0.2.1"}],
    [{"address": "192.0.2.10/24", "interface": -7, "gateway": "::1"}],
)
FRAGMENTS = (
    *(
        b"\0",
        b"\xef\xbb\xbf",
        b"\xff",
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\",
        b"\n",
        b"\r\n\r\n",
        b"//",
        b"NaN",
        b"1e400",
    ),
    *(
        b"-",
        b"\\ud800",
        b"\xed\xa0\x80",
        b"[" * 3000,
        b'{"a":' * 2000,
        b"9" * 5000,
        b"null",
        b"true",
        b" " * 3000,
        b"\x85",
    ),
    *(
        b'{"name":7,',
        b'"NAME":"x",',
        b'"ipam":{},',
        b'"ipam":7,"name":"n2",',
        b'"log-file":"/x",',
        b"\xf0\x9f\x92\xa9",
        b"\x7f",
    ),
)
DOCUMENTS = (
    *(b"", b"null", b"{}", b"[]", b"7", b'""', b"{", b"\0", b"\xff\xfe", b'{"name":"n"}{"name":"n"}', b"[" * 100_000),
    *(
        b'{"a":' * 50_000,
        b'{"name":"n","name":7}',
        b'{"NAME":"n","cniversion":"1.0.0"}',
        b" " * 70_000,
        b'{"name":"' + b"x" * 70_000,
    ),
)


class Call(NamedTuple):
    """The environment (decoded as a plugin decodes it) and stdin of a call."""

    environment: dict[str, str]
    stdin: bytes


class Tape:
    """Choices, one byte each."""

    __slots__ = ("_at", "_bytes")

    def __init__(self, data: bytes = b"") -> None:
        self._bytes = data
        self._at = 0

    def byte(self) -> int:
        """The next byte; 0 beyond the end."""
        self._at += 1
        return self._bytes[self._at - 1] if self._at <= len(self._bytes) else 0

    def pick(self, options: Sequence[Option]) -> Option:
        """One of at most 256 options, the first at 0."""
        return options[self.byte() % len(options)]

    def rarely(self, one_in: int) -> bool:
        """True once in so many times, at most 256."""
        return self.byte() >= 256 - 256 // one_in

    def place(self, length: int) -> int:
        """A place in something of that length, its end included."""
        return (self.byte() << 8 | self.byte()) % (length + 1)


def call(tape: Tape, upper: str) -> Call:
    """A call of a plugin whose netconf's type is ``upper``: ordinary, or with something odd in it."""
    command = tape.pick(COMMANDS).encode()
    environment = {b"CNI_COMMAND": command, b"CNI_CONTAINERID": CONTAINER.encode(), b"CNI_IFNAME": IFNAME.encode()}
    environment |= {
        b"CNI_NETNS": tape.pick(NETNS_PATHS) if tape.rarely(8) else NETNS.encode(),
        b"CNI_PATH": b"/opt/cni/bin",
    }
    environment[b"CNI_ARGS"] = tape.pick(ARGUMENTS) if tape.rarely(4) else ARGUMENTS[0]
    if tape.rarely(6):
        environment[tape.pick(VARIABLES).encode()] = tape.pick(ODD_TEXTS)
    decoded = {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in environment.items()}
    return Call(decoded, _stdin(tape, upper, command))


def damaged(tape: Tape, data: bytes) -> bytes:
    """The same bytes with something wrong: cut off, changed, something put in or taken out."""
    at = tape.place(len(data))
    kind = tape.pick(("cut", "change", "put", "put", "take", "repeat"))
    if kind == "cut":
        return data[:at]
    if kind == "change":
        return data[:at] + bytes((tape.byte(),)) + data[at + 1 :]
    if kind == "put":
        return data[:at] + tape.pick(FRAGMENTS) + data[at:]
    if kind == "take":
        return data[:at] + data[at + tape.byte() :]
    return data[:at] + data[at : at + tape.byte()] + data[at:]


def changed(tape: Tape, value: dict[str, Any], paths: Sequence[tuple[str, ...]]) -> None:
    """Put something odd at a path of a JSON object, or take it out."""
    *parents, last = tape.pick(paths)
    for key in parents:
        if not isinstance(value.get(key), dict):
            value[key] = {}
        value = value[key]
    if tape.rarely(16):
        value.pop(last, None)
    else:
        odd = tape.pick(ODD_VALUES)
        value[last.replace("~", "/")] = dict(odd) if isinstance(odd, dict) else odd  # the next change may go into it


def _stdin(tape: Tape, upper: str, command: bytes) -> bytes:
    if tape.rarely(32):
        return tape.pick(DOCUMENTS)
    netconf: dict[str, Any] = {
        "cniVersion": tape.pick(VERSIONS) if tape.rarely(3) else "1.1.0",
        "name": NETWORK,
        "type": "host-device" if upper == "enim" and tape.rarely(4) else "exclusive-device",
        "ipam": {"type": "enim", "socket": "/run/agent.sock"},
    }
    if command in (b"CHECK", b"DEL") and not tape.rarely(4):
        interfaces = [{"name": IFNAME, "mac": MAC, "sandbox": NETNS}]
        ips = [{"address": "192.0.2.10/24", "gateway": "192.0.2.1", "interface": 0}]
        netconf["prevResult"] = {"cniVersion": netconf["cniVersion"], "interfaces": interfaces, "ips": ips}
    if command == b"GC":
        netconf["cni.dev/valid-attachments"] = [{"containerID": CONTAINER, "ifname": IFNAME}]
    if tape.rarely(8):
        netconf |= {"log-file": "/var/log/enim.log", "log-format": tape.pick(("text", "json", "xml"))}
    for _ in range(tape.pick((0, 0, 1, 1, 2))):
        changed(tape, netconf, PATHS)
    data = json.dumps(netconf, ensure_ascii=tape.rarely(2)).encode("utf-8", "surrogatepass")
    if tape.rarely(4):
        data = damaged(tape, data)
    if tape.rarely(64):
        data = data.decode("utf-8", "replace").encode("utf-16")
    return data
