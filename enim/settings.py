"""What enim itself reads from a ``Config``: whom the ENI is for, which agent to ask, what is wished, which routes.

Rules: strict on ADD: what was asked for and cannot be understood is an error, never ignored. ``owner`` and ``socket``,
which DEL needs too, never fail there. Wishes are asked of the agent and then verified, for an agent may ignore them.

Source: contract A9 to A11 (CNI_ARGS, ``args.cni``, ``runtimeConfig``), B1 (what host-device looks at); design D3 to D5.
"""

from enim import addresses, errors, jsonio, result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from enim import config, wire

DEFAULT_SOCKET = "/var/run/cce-network-v2/cce-network.sock"
SOCKET_BYTES_MAX = 107  # sun_path of unix(7) without the final NUL
HOST_DEVICE = "host-device"


class Wishes:
    """What the configuration wants of the ENI.

    Args:
        ips: ``(family, number)``; the answer must have every one.
        ranges: sets of ``Range``; for each set the answer must have an address in one of its ranges.
        mac: of the NIC that host-device has moved, "" if it is not named by MAC.
        device: its name or its bus id, "" if it is not named so.
    """

    __slots__ = ("device", "ips", "mac", "ranges")

    def __init__(
        self,
        ips: tuple[tuple[int, int], ...] = (),
        ranges: "tuple[tuple[Range, ...], ...]" = (),
        mac: str = "",
        device: str = "",
    ) -> None:
        self.ips = ips
        self.ranges = ranges
        self.mac = mac
        self.device = device

    def body(self) -> bytes:
        """The POST's body for the agent (design D10), empty if nothing is wished."""
        wishes: dict[str, Any] = {
            "ips": [addresses.text_of(family, number) for family, number in self.ips],
            "ipRanges": [[wanted.value for wanted in wanted_set] for wanted_set in self.ranges],
            "mac": self.mac,
            "device": self.device,
        }
        return jsonio.dumps({"x-enim": wishes}) if any(wishes.values()) else b""

    def unmet(self, allocation: "wire.Allocation") -> str:
        """The first wish for addresses that the agent did not grant, "" if there is none."""
        granted = [addresses.parse(address.ip) for address in allocation.addresses]
        for family, number in self.ips:
            if (family, number) not in granted:
                return addresses.text_of(family, number)
        for wanted_set in self.ranges:
            if not any(wanted.contains(family, number) for wanted in wanted_set for family, number in granted):
                return " or ".join([str(wanted.value["subnet"]) for wanted in wanted_set])
        return ""


class Range:
    """A range of addresses: ``first`` to ``last`` of ``family``; ``value`` is its object in ``ipRanges``."""

    __slots__ = ("family", "first", "last", "value")

    def __init__(self, family: int, first: int, last: int, value: "dict[str, Any]") -> None:
        self.family = family
        self.first = first
        self.last = last
        self.value = value

    def contains(self, family: int, number: int) -> bool:
        """Is it in the range?"""
        return family == self.family and self.first <= number <= self.last


def owner(checked: "config.Config") -> str:
    """Whom the ENI is for: the pod's ``namespace/name``, else ``<network name>/<container id>`` (design D3)."""
    namespace = checked.arguments.get("K8S_POD_NAMESPACE")
    name = checked.arguments.get("K8S_POD_NAME")
    return f"{namespace}/{name}" if namespace and name else f"{checked.network}/{checked.container_id}"


def socket(checked: "config.Config") -> str:
    """Path of the agent's socket: ``ipam.socket``, else the environment's CCE_SOCK, else the real agent's default.

    Raises:
        CniError: 7, on ADD, if ``ipam.socket`` is no path that a socket can have. On DEL it then counts as absent.
    """
    path = checked.text("ipam", "socket")
    if not _is_socket_path(path):
        if checked.strict:
            raise errors.CniError(errors.INVALID_CONFIG, "ipam.socket is no path of a socket", path[:256])
        path = ""
    return path or checked.environment.get("CCE_SOCK", "") or DEFAULT_SOCKET


def _is_socket_path(path: str) -> bool:
    try:
        return "\0" not in path and len(path.encode()) <= SOCKET_BYTES_MAX
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False


def connect_ms(checked: "config.Config", longest_ms: int) -> int:
    """How long to try to connect to the agent, milliseconds: ``ipam.connect-timeout``, in seconds, if that is shorter.

    Raises:
        CniError: 7, on ADD, if it is no whole number from 1 on. On DEL it then counts as absent.
    """
    seconds = checked.member("ipam", "connect-timeout")
    if seconds is None:
        return longest_ms
    if type(seconds) is not int or seconds < 1:
        if checked.strict:
            text = "ipam.connect-timeout is no whole number of seconds from 1 on"
            raise errors.CniError(errors.INVALID_CONFIG, text, f"{seconds!r}"[:256])
        return longest_ms
    return min(1000 * seconds, longest_ms)


def refuse_unusable(checked: "config.Config") -> None:
    """Raise CniError 7 if ``ipam`` does not say in a usable way which agent to ask, and for how long."""
    socket(checked)
    connect_ms(checked, 0)


def routes(checked: "config.Config") -> tuple[result.Route, ...]:
    """The routes of ``ipam.routes``. Raises CniError 7."""
    if not isinstance(checked.member("ipam"), dict):
        raise errors.CniError(errors.INVALID_CONFIG, "ipam is no object")
    try:
        return result.parse_routes(checked.member("ipam", "routes"))
    except ValueError as error:
        raise errors.CniError(errors.INVALID_CONFIG, f"ipam.routes: {error}"[:256]) from None


def default_route(checked: "config.Config") -> bool:
    """Whether a family without a default route of its own gets one: ``ipam.default-route``, else yes.

    Raises:
        CniError: 7, it is no boolean.
    """
    value = checked.member("ipam", "default-route")
    if value not in (None, True, False) or type(value) is int:
        raise errors.CniError(errors.INVALID_CONFIG, "ipam.default-route is no boolean", repr(value)[:256])
    return value is not False


def wishes(checked: "config.Config") -> Wishes:
    """What the configuration wants of the ENI.

    Addresses add up, as in host-local: CNI_ARGS, ``args.cni.ips``, ``runtimeConfig.ips``; prefix lengths are dropped.

    Raises:
        CniError: 4 for CNI_ARGS, 7 for the rest: a wish that cannot be understood.
    """
    asked = [
        (text, errors.INVALID_ENVIRONMENT, f"CNI_ARGS {key}")
        for key in ("IP", "ip")
        for text in checked.arguments.get(key, "").split(",")
        if text
    ]
    if not isinstance(checked.member("runtimeConfig"), (dict, type(None))):
        raise errors.CniError(errors.INVALID_CONFIG, "runtimeConfig is no object")
    for path in (("args", "cni", "ips"), ("runtimeConfig", "ips")):
        entries = checked.member(*path)
        if not isinstance(entries, (list, type(None))):
            raise errors.CniError(errors.INVALID_CONFIG, f"{'.'.join(path)} is no list")
        asked += [(text, errors.INVALID_CONFIG, ".".join(path)) for text in entries or ()]
    ips = {_ip(text, code, source): None for text, code, source in asked}
    mac, device = _device(checked) if checked.type == HOST_DEVICE else ("", "")
    return Wishes(tuple(ips), _ranges(checked.member("runtimeConfig", "ipRanges")), mac, device)


def _ip(text: "Any", code: int, source: str) -> tuple[int, int]:
    try:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text"[:256])  # noqa: TRY004 -- the user's fault, reported as his
        return addresses.parse_prefix(text)[:2] if "/" in text else addresses.parse(text)
    except ValueError as error:
        raise errors.CniError(code, f"{source}: {error}"[:256]) from None


def _device(checked: "config.Config") -> tuple[str, str]:
    """``(mac, device)`` of the NIC that host-device takes: the first key that it looks at (contract B1)."""
    if device := checked.text("device"):
        return "", device
    if mac := checked.text("hwaddr"):
        try:
            return addresses.parse_mac(mac), ""
        except ValueError as error:
            raise errors.CniError(errors.INVALID_CONFIG, f"hwaddr: {error}") from None
    if checked.text("kernelpath"):
        return "", ""  # no agent knows a path below /sys; the NIC's MAC is compared with the answer all the same
    return "", checked.text("runtimeConfig", "deviceID") or checked.text("pciBusID")


def _ranges(value: "Any") -> tuple[tuple[Range, ...], ...]:
    """Read ``ipRanges``: a list of sets; a flat list, which go-cni's helper sends, is one set for each range."""
    try:
        if not isinstance(value, (list, type(None))):
            raise ValueError("no list")  # noqa: TRY004 -- the user's fault, reported as his
        sets = [entry if isinstance(entry, list) else [entry] for entry in value or ()]
        return tuple(tuple(_range(entry) for entry in entries) for entries in sets if entries)
    except ValueError as error:
        raise errors.CniError(errors.INVALID_CONFIG, f"runtimeConfig.ipRanges: {error}"[:256]) from None


def _range(entry: "Any") -> Range:
    known = isinstance(entry, dict)
    texts = {key: jsonio.member(entry, key) for key in ("subnet", "rangeStart", "rangeEnd")} if known else {}
    texts = {key: text for key, text in texts.items() if text not in (None, "")}
    if not all(isinstance(text, str) for text in texts.values()) or "subnet" not in texts:
        raise ValueError("a range is an object of texts with a subnet")
    family, number, length = addresses.parse_prefix(texts["subnet"])
    lowest = addresses.network(family, number, length)
    highest = lowest + (1 << (addresses.BITS[family] - length)) - 1
    first = addresses.parse(texts["rangeStart"]) if "rangeStart" in texts else (family, lowest)
    last = addresses.parse(texts["rangeEnd"]) if "rangeEnd" in texts else (family, highest)
    if not (family, lowest) <= first <= last <= (family, highest):
        raise ValueError(f"{texts['subnet']} does not hold the range")
    return Range(family, first[1], last[1], texts)
