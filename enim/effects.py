"""What the plugins' flows may yield.

A flow is a generator: ``outcome = yield Effect(...)``. It never does I/O itself; a driver carries the effect out and
sends the outcome back, or throws the failure into the flow at the yield. Every class states its outcome and failures.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from typing import Any, TypeAlias

    Flow: TypeAlias = Generator["Effect", Any, None]


class Effect:
    """A small value that says "please do this and tell me how it went"."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Now(Effect):
    """Outcome: milliseconds of a monotonic clock (int)."""

    __slots__ = ()


class Sleep(Effect):
    """Outcome: None, after ``ms`` milliseconds."""

    __slots__ = ("ms",)

    def __init__(self, ms: int) -> None:
        self.ms = ms


class Request(Effect):
    """One HTTP round trip on the agent's unix socket.

    Outcome: ``wire.Reply``. Failures: ``Unreachable`` (nothing was sent), ``Interrupted`` (outcome unknown).

    Args:
        socket: path of the unix socket.
        request: the ``wire.Request`` to send.
        timeout_ms: for the whole round trip.
    """

    __slots__ = ("request", "socket", "timeout_ms")

    def __init__(self, socket: str, request: "Any", timeout_ms: int) -> None:
        self.socket = socket
        self.request = request
        self.timeout_ms = timeout_ms


class OwnNetns(Effect):
    """Outcome: True if ``path`` is the network namespace the plugin itself runs in; False if it is another or none."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class NetnsAlive(Effect):
    """Outcome: True if ``path`` names a network namespace (an nsfs file that setns accepts), else False.

    A path that is empty, gone, a plain file or a left-over of an unmounted namespace is False (incidents K9).
    Failures: ``OSError`` if this process cannot tell.
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class FindLink(Effect):
    """Find a link in the plugin's own netns, or in ``netns`` if that is not empty.

    The conditions that are given (ifindex not 0, mac not empty, name not empty) must all hold.
    Outcome: a ``Link``, or None; one of the own netns that was found without a name may lack its alias.
    Failures: ``KernelError`` (also when ``netns`` is not a network namespace).
    """

    __slots__ = ("ifindex", "mac", "name", "netns")

    def __init__(self, ifindex: int = 0, mac: str = "", name: str = "", netns: str = "") -> None:
        self.ifindex = ifindex
        self.mac = mac
        self.name = name
        self.netns = netns


class DeviceName(Effect):
    """Outcome: the name of the link of a PCI or auxiliary device in the plugin's own netns, "" if none is shown.

    Args:
        device: its id on the bus, such as ``0000:04:00.5`` or ``mlx5_core.sf.4``.
    """

    __slots__ = ("device",)

    def __init__(self, device: str) -> None:
        self.device = device


class Link:
    """A link as the kernel shows it: ifindex (int ≥ 1), name, mac (lower case, ``aa:bb:…``), alias ("" for none)."""

    __slots__ = ("alias", "ifindex", "mac", "name")

    def __init__(self, ifindex: int, name: str, mac: str, alias: str = "") -> None:
        self.ifindex = ifindex
        self.name = name
        self.mac = mac
        self.alias = alias


class MoveIn(Effect):
    """Move a link of the plugin's own netns into ``netns``, named ``ifname``, its alias set to ``alias``; left down.

    Outcome: the ifindex (int) it has in ``netns``. Failures: ``KernelError``; then the link is at home as it was.
    """

    __slots__ = ("alias", "ifindex", "ifname", "netns")

    def __init__(self, ifindex: int, netns: str, ifname: str, alias: str) -> None:
        self.ifindex = ifindex
        self.netns = netns
        self.ifname = ifname
        self.alias = alias


class Configure(Effect):
    """Set a link of ``netns`` up, with addresses and routes.

    Outcome: None, when the addresses can be used. Failures: ``KernelError``; what was done until then stays done.

    Args:
        addresses: CIDR texts such as ``192.0.2.10/24``.
        routes: ``(dst, gw, attributes)``, added in this order: CIDR text, gateway text ("" for none), and by name what
            CNI 1.1.0 has besides: mtu, advmss, priority, table, scope (int).
        dad: whether IPv6 addresses first undergo duplicate address detection; an address that another host has is a
            failure then.
    """

    __slots__ = ("addresses", "dad", "ifname", "netns", "routes")

    def __init__(
        self,
        netns: str,
        ifname: str,
        addresses: tuple[str, ...],
        routes: "tuple[tuple[str, str, Mapping[str, int]], ...]",
        *,
        dad: bool = False,
    ) -> None:
        self.netns = netns
        self.ifname = ifname
        self.addresses = addresses
        self.routes = routes
        self.dad = dad


class Addresses(Effect):
    """The addresses of the link ``ifname`` of ``netns``.

    Outcome: a frozenset of ``(family, number, prefix length)``. Failures: ``KernelError`` (also: no such link).
    """

    __slots__ = ("ifname", "netns")

    def __init__(self, netns: str, ifname: str) -> None:
        self.netns = netns
        self.ifname = ifname


class MoveOut(Effect):
    """Move ``ifname`` of ``netns`` into the plugin's own netns: down, addresses flushed, alias cleared, named ``name``.

    If ``name`` is taken there it arrives under the first free ``dev%d``, for the agent to restore.
    Outcome: True, or False if there is no such link in ``netns``. Failures: ``KernelError``; then it is still in
    ``netns``.
    """

    __slots__ = ("ifname", "name", "netns")

    def __init__(self, netns: str, ifname: str, name: str) -> None:
        self.netns = netns
        self.ifname = ifname
        self.name = name


class Delegate(Effect):
    """Run the IPAM plugin ``plugin`` from CNI_PATH with the caller's own environment and ``stdin``.

    Outcome: ``(exit_code, stdout)`` (int, bytes). Failures: ``CniError`` with DELEGATE_FAILURE if it cannot be started.

    Args:
        command: replaces CNI_COMMAND: ``ADD``, ``DEL`` …
        in_process: it may be run in the caller's own process if it is of the same installation (design D14).
    """

    __slots__ = ("command", "in_process", "plugin", "stdin")

    def __init__(self, plugin: str, command: str, stdin: bytes, *, in_process: bool = True) -> None:
        self.plugin = plugin
        self.command = command
        self.stdin = stdin
        self.in_process = in_process


class Print(Effect):
    """Write ``data`` to stdout, whole. Outcome: None. Failures: ``CniError`` with IO_FAILURE (the reader is gone)."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class Log(Effect):
    """One line for the operator, on stderr. Outcome: None. Never fails."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text
