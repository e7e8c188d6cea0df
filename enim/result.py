"""What a plugin prints and reads back: results in every CNI version, the error object, the answer to VERSION.

    result.of_allocation(allocation, name, ifindex, routes) -> Result     # enim's own
    result.parse(stdout) -> Result                                        # a delegate's, or prevResult; any version
    result.encode(result, label, shape) -> bytes                          # in the version of the configuration

Rules: one ``Result`` holds what any version can say; ``encode`` drops what its version has no room for, as the Go
library does: the same keys in the same order (sorted from 1.0.0 on), in one line.

Source: CNI SPEC section 5; cni ``pkg/types/{020,040,100}``, ``pkg/types/types.go``; contract A4 to A6; design D2.
"""

from enim import addresses, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from enim import wire

MAIN_TABLE = 254  # RT_TABLE_MAIN
IPV6_PRIORITY = 1024  # IP6_RT_PRIO_USER: what the kernel makes of none, or of 0
LOCAL_SCOPES = (253, 254)  # RT_SCOPE_LINK, RT_SCOPE_HOST
OLDEST_SHAPES = ("0.1.0", "0.2.0")
MIDDLE_SHAPES = ("0.3.0", "0.3.1", "0.4.0")
NUMBER_MAX = 2**32 - 1  # of what the kernel keeps: mtu, table, priority …
IFINDEX_MAX = 2**31 - 1


class Interface:
    """An entry of ``interfaces``: texts "" and ``mtu`` 0 if absent; ``sandbox`` is the netns path, "" on the host."""

    __slots__ = ("mac", "mtu", "name", "pci_id", "sandbox", "socket_path")

    def __init__(
        self, name: str, mac: str = "", sandbox: str = "", *, mtu: int = 0, socket_path: str = "", pci_id: str = ""
    ) -> None:
        self.name = name
        self.mac = mac
        self.sandbox = sandbox
        self.mtu = mtu
        self.socket_path = socket_path
        self.pci_id = pci_id


class Address:
    """An entry of ``ips``: CIDR text, ``gateway`` text or "", ``interface`` an index or None."""

    __slots__ = ("address", "gateway", "interface")

    def __init__(self, address: str, gateway: str = "", interface: "int | None" = None) -> None:
        self.address = address
        self.gateway = gateway
        self.interface = interface

    @property
    def family(self) -> int:
        """4 or 6."""
        return addresses.parse_prefix(self.address)[0]


class Route:
    """An entry of ``routes``: network ``dst`` as CIDR text, ``gw`` or "", the other keys of 1.1.0 as ``attributes``."""

    __slots__ = ("attributes", "dst", "gw")

    NAMES = ("mtu", "advmss", "priority", "table", "scope")

    def __init__(self, dst: str, gw: str = "", attributes: "dict[str, int] | None" = None) -> None:
        self.dst = dst
        self.gw = gw
        self.attributes = attributes or {}

    @property
    def family(self) -> int:
        """4 or 6."""
        return addresses.parse_prefix(self.dst)[0]

    @property
    def is_default(self) -> bool:
        """Is it for every destination of its family?"""
        return self.dst.endswith("/0")

    @property
    def table(self) -> int:
        """The routing table; 0 stands for the main one."""
        return self.attributes.get("table") or MAIN_TABLE

    def via(self, gateways: dict[int, str]) -> str:
        """Its gateway, "" for none: without a ``gw`` its family's, unless it ends on the link or the host itself."""
        ends_here = self.attributes.get("scope") in LOCAL_SCOPES
        return self.gw or ("" if ends_here else gateways.get(self.family, ""))


class Result:
    """A result of any version. ``dns`` is the JSON object, {} for none."""

    __slots__ = ("addresses", "dns", "interfaces", "routes")

    def __init__(
        self,
        interfaces: tuple[Interface, ...] = (),
        addresses: tuple[Address, ...] = (),
        routes: tuple[Route, ...] = (),
        dns: "dict[str, Any] | None" = None,
    ) -> None:
        self.interfaces = interfaces
        self.addresses = addresses
        self.routes = routes
        self.dns = dns or {}


def of_allocation(
    allocation: "wire.Allocation", name: str, ifindex: int, routes: "Iterable[Route]", *, with_default: bool = True
) -> Result:
    """The result of enim's ADD: one interface, which every address names by its index on the host (design D2).

    Args:
        allocation: the agent's answer.
        name: the ENI's name on the host, "" if unknown.
        ifindex: its index on the host.
        routes: those of the configuration.
        with_default: whether each family with a gateway gets a default route, unless ``routes`` have one.
    """
    found = tuple(
        Address(f"{address.ip}/{address.prefix_length}", address.gateway, ifindex) for address in allocation.addresses
    )
    gateways = {address.family: address.gateway for address in allocation.addresses}
    merged = merge_routes(routes, gateways, with_default=with_default)
    return Result((Interface(name, allocation.mac),), found, merged)


def merge_routes(
    routes: "Iterable[Route]", gateways: dict[int, str], *, with_default: bool = True
) -> tuple[Route, ...]:
    """The routes of the configuration, and a default in the main table for each family that has none there.

    Args:
        routes: one of a family without an address has nothing to leave from, and is dropped.
        gateways: family → gateway text or "".
        with_default: whether defaults are added.
    """
    wanted = [route for route in routes if route.family in gateways]
    have_default = {route.family for route in wanted if route.is_default and route.table == MAIN_TABLE}
    for family, gateway in gateways.items():
        if gateway and with_default and family not in have_default:
            wanted.append(Route("0.0.0.0/0" if family == 4 else "::/0", gateway))
    return distinct_routes(wanted, gateways)


def distinct_routes(routes: "Iterable[Route]", gateways: dict[int, str]) -> tuple[Route, ...]:
    """Those that can be added one after the other: no equal ones, and one default per family, table and priority.

    The kernel would answer "File exists" to the one, and let a second default take the place of the first (contract
    A12). The first one stays.
    """
    found: dict[tuple[str, str, int, int], Route] = {}
    for route in routes:
        gateway = "" if route.is_default else route.via(gateways)
        priority = route.attributes.get("priority") or (IPV6_PRIORITY if route.family == 6 else 0)
        found.setdefault((route.dst, gateway, route.table, priority), route)
    return tuple(found.values())


def encode(result: Result, label: str, shape: str) -> bytes:
    """Print a result.

    Args:
        result: what to print.
        label: the version that the configuration asked for, printed as ``cniVersion``.
        shape: the version of the CNI specification that it means; see ``config.Config``.

    Raises:
        ValueError: no address, where 0.1.0 and 0.2.0 need one.
    """
    if shape in OLDEST_SHAPES:
        return jsonio.dumps({"cniVersion": label, **_oldest(result), "dns": result.dns})
    middle = shape in MIDDLE_SHAPES
    parts = {
        "interfaces": [_interface(entry, new=not middle) for entry in result.interfaces],
        "ips": [_address(entry, with_version=middle) for entry in result.addresses],
        "routes": [_route(route) for route in result.routes],
    }
    printed: dict[str, Any] = {"cniVersion": label, **_present(parts)}
    if middle or result.dns:
        printed["dns"] = result.dns
    return jsonio.dumps(printed, sort_keys=not middle)


def _oldest(result: Result) -> "dict[str, Any]":
    printed: dict[str, Any] = {}
    for address in result.addresses:
        key = f"ip{address.family}"
        if key not in printed:
            routes = [route for route in result.routes if route.family == address.family]
            parts = {
                "ip": address.address,
                "gateway": address.gateway,
                "routes": [_present({"dst": route.dst, "gw": route.gw}) for route in routes],
            }
            printed[key] = _present(parts)
    if not printed:
        raise ValueError("a result without an address has no form in CNI 0.2.0")
    return dict(sorted(printed.items()))


def _interface(entry: Interface, *, new: bool) -> "dict[str, Any]":
    printed: dict[str, Any] = {"mac": entry.mac, "mtu": entry.mtu if new else 0, "sandbox": entry.sandbox}
    if new:
        printed |= {"socketPath": entry.socket_path, "pciID": entry.pci_id}
    return {"name": entry.name, **_present(printed)}


def _address(entry: Address, *, with_version: bool) -> "dict[str, Any]":
    printed: dict[str, Any] = {"version": str(entry.family)} if with_version else {}
    if entry.interface is not None:
        printed["interface"] = entry.interface
    return {**printed, "address": entry.address, **_present({"gateway": entry.gateway})}


def _route(route: Route) -> "dict[str, Any]":
    return {"dst": route.dst, **_present({"gw": route.gw}), **route.attributes}


def _present(parts: "dict[str, Any]") -> "dict[str, Any]":
    """As Go's ``omitempty``."""
    return {key: value for key, value in parts.items() if value}


def parse(data: bytes) -> Result:
    """Read a result of any version; its shape tells which.

    Raises:
        ValueError: no JSON object, or a member of it that cannot be.
    """
    return from_object(jsonio.loads(data))


def from_object(value: "Any") -> Result:
    """Read a result that is already decoded, such as ``prevResult``. Raises ValueError as ``parse``."""
    value = _object({"the result": value}, "the result") or {}
    dns = _object(value, "dns")
    parts = [part for part in (_object(value, "ip4"), _object(value, "ip6")) if part is not None]
    if parts:
        routes = [route for part in parts for route in parse_routes(jsonio.member(part, "routes"))]
        return Result((), tuple(_parse_address(part, "ip") for part in parts), tuple(routes), dns)
    return Result(
        tuple(_parse_interface(entry) for entry in _objects(value, "interfaces")),
        tuple(_parse_address(entry, "address") for entry in _objects(value, "ips")),
        parse_routes(jsonio.member(value, "routes")),
        dns,
    )


def parse_routes(value: "Any") -> tuple[Route, ...]:
    """Read a list of routes, of a result or of ``ipam.routes``; null is none.

    Raises:
        ValueError: no list, no ``dst``, a ``gw`` of another family, an attribute that is no number.
    """
    return tuple(_parse_route(entry) for entry in _objects({"routes": value}, "routes"))


def _parse_interface(entry: "dict[str, Any]") -> Interface:
    texts = [_member(entry, key, str, "") for key in ("name", "mac", "sandbox", "socketPath", "pciID")]
    mtu = _member(entry, "mtu", int, 0)
    return Interface(*texts[:3], mtu=mtu, socket_path=texts[3], pci_id=texts[4])


def _parse_address(entry: "dict[str, Any]", key: str) -> Address:
    family, number, length = addresses.parse_prefix(_member(entry, key, str, ""))
    gateway = _member(entry, "gateway", str, "")
    return Address(
        f"{addresses.text_of(family, number)}/{length}",
        addresses.canonical(gateway) if gateway else "",
        _member(entry, "interface", int, None),
    )


def _parse_route(entry: "dict[str, Any]") -> Route:
    family, number, length = addresses.parse_prefix(_member(entry, "dst", str, ""))
    gateway = _member(entry, "gw", str, "")
    if gateway and addresses.parse(gateway)[0] != family:
        raise ValueError(f"the gateway {gateway!r} of a route is not IPv{family}")
    attributes = {name: _member(entry, name, int, None) for name in Route.NAMES}
    return Route(
        f"{addresses.text_of(family, addresses.network(family, number, length))}/{length}",
        addresses.canonical(gateway) if gateway else "",
        {
            name: value
            for name, value in attributes.items()
            if value or (value is not None and name in ("table", "scope"))
        },
    )


def _object(value: "dict[str, Any]", key: str) -> "dict[str, Any] | None":
    part = jsonio.member(value, key)
    if part is None or isinstance(part, dict):
        return part
    raise ValueError(f"{key} is no object")


def _objects(value: "dict[str, Any]", key: str) -> "list[dict[str, Any]]":
    entries = jsonio.member(value, key)
    if entries is None:
        return []
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        return entries
    raise ValueError(f"{key} is no list of objects")


def _member(entry: "dict[str, Any]", key: str, kind: "Callable[..., Any]", absent: "Any") -> "Any":
    value = jsonio.member(entry, key)
    if value is None:
        return absent
    if type(value) is not kind:
        raise ValueError(f"{key} {value!r} is no {'text' if kind is str else 'number'}"[:256])
    if kind is int and not 0 <= value <= (IFINDEX_MAX if key == "interface" else NUMBER_MAX):
        raise ValueError(f"{key} {value} is out of range"[:256])
    return value
