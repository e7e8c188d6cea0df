"""What a call wants of the ENI: addresses, a MAC, a device. Loaded only where ``settings.may_wish``.

    wanted = wishes.read(checked)                   # strict: it is ADD's alone
    wanted = yield from wishes.resolve(checked, wanted)
    body = wanted.body()                            # for the agent …
    wanted.unmet(allocation)                        # … which may ignore it: so the answer is compared

Rules: what was asked for and cannot be understood is an error, never ignored. A bus id becomes the MAC of its NIC here,
on the node, so that no agent needs to know bus ids; one that the node does not know is asked for as it stands.

Source: contract A9 to A11 (CNI_ARGS, ``args.cni``, ``runtimeConfig``), B1, B2 (what host-device looks at, and when it
moves the NIC); design D4, D5, D10.
"""

from enim import addresses, effects, errors, jsonio, settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any, TypeVar

    from enim import config, wire

    Value = TypeVar("Value")


class Wishes:
    """What the configuration wants of the ENI.

    Args:
        ips: ``(family, number)``; the answer must have every one.
        ranges: sets of ``Range``; for each set the answer must have an address of its own in one of its ranges.
        mac: the ENI's, "" for any.
        device: its name at home, or, if ``is_bus_id``, what the kernel knows it by; "" for any.
    """

    __slots__ = ("device", "ips", "is_bus_id", "mac", "ranges")

    def __init__(
        self,
        ips: tuple[tuple[int, int], ...] = (),
        ranges: "tuple[tuple[Range, ...], ...]" = (),
        mac: str = "",
        device: str = "",
        *,
        is_bus_id: bool = False,
    ) -> None:
        self.ips = ips
        self.ranges = ranges
        self.mac = mac
        self.device = device
        self.is_bus_id = is_bus_id

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
        """The first wish that the agent did not grant, "" if there is none. ``is_device`` has to be asked besides."""
        if self.mac not in ("", allocation.mac):
            return f"the MAC {self.mac}"
        granted = [addresses.parse(address.ip) for address in allocation.addresses]
        for family, number in self.ips:
            if (family, number) not in granted:
                return addresses.text_of(family, number)
        for number, wanted_set in enumerate(self.ranges):
            if not _are_met(self.ranges[: number + 1], allocation.addresses):
                return " or ".join([str(wanted) for wanted in wanted_set])
        return ""

    def is_device(self, name: str, mac: str) -> bool:
        """Is the NIC of that name at home and that MAC the wished one? Also if it is wished for by no device at all."""
        return self.device in ("", name) or self.device.lower() == mac


class Range:
    """Addresses from ``first`` to ``last`` of ``family``, with that ``gateway`` if it is not "".

    ``value`` is its object in ``ipRanges``.
    """

    __slots__ = ("family", "first", "gateway", "last", "value")

    def __init__(self, family: int, first: int, last: int, gateway: str, value: "dict[str, Any]") -> None:
        self.family = family
        self.first = first
        self.last = last
        self.gateway = gateway
        self.value = value

    def __str__(self) -> str:
        return f"{self.value['subnet']} with the gateway {self.gateway}" if self.gateway else str(self.value["subnet"])

    def has(self, address: "wire.Address") -> bool:
        """Is the address in the range, with the gateway that is wished?"""
        family, number = addresses.parse(address.ip)
        is_in = family == self.family and self.first <= number <= self.last
        return is_in and self.gateway in ("", address.gateway)


def _are_met(sets: "tuple[tuple[Range, ...], ...]", granted: "tuple[wire.Address, ...]") -> bool:
    """Whether each set has an address that no other set needs."""
    return not sets or any(
        _are_met(sets[1:], granted[:index] + granted[index + 1 :])
        for index, address in enumerate(granted)
        if any(wanted.has(address) for wanted in sets[0])
    )


def read(checked: "config.Config") -> Wishes:
    """What the configuration wants of the ENI.

    Addresses add up, as in host-local: CNI_ARGS, ``args.cni.ips``, ``runtimeConfig.ips``; prefix lengths are dropped.
    Of several MACs the last in the same order counts, as in containernetworking's plugins.

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
    ips = {_parsed(_ip, text, code, source): None for text, code, source in asked}
    mac, device, is_bus_id = _mac(checked), checked.text("runtimeConfig", "deviceID"), True
    if checked.type == settings.HOST_DEVICE:
        hwaddr, device, is_bus_id = _taken(checked)
        if mac and hwaddr not in ("", mac):
            raise errors.CniError(errors.INVALID_CONFIG, f"hwaddr is {hwaddr}, and the MAC that is asked for {mac}")
        mac = mac or hwaddr
    ranges = _ranges(checked.member("runtimeConfig", "ipRanges"))
    return Wishes(tuple(ips), ranges, mac, device, is_bus_id=is_bus_id and bool(device))


def resolve(checked: "config.Config", wanted: Wishes) -> "Generator[effects.Effect, Any, Wishes]":
    """The same wishes, by MAC in place of a bus id if the node knows it. Nothing has been asked of the agent yet.

    host-device has moved its NIC by now, so that is CNI_IFNAME in CNI_NETNS. In the hands of another upper plugin it is
    still at home, under a name that the kernel tells.

    Raises:
        CniError: 104 there is no such NIC, 105 the kernel does not say.
    """
    if not wanted.is_bus_id:
        return wanted
    if checked.type == settings.HOST_DEVICE:
        name, netns = checked.ifname, checked.netns
        if not (yield effects.NetnsAlive(netns)):
            return Wishes(wanted.ips, wanted.ranges, wanted.mac, "" if "/" in wanted.device else wanted.device)
    else:
        name, netns = (yield effects.DeviceName(wanted.device)), ""
        if not name:
            return wanted
    try:
        link = yield effects.FindLink(name=name, netns=netns)
    except errors.KernelError as error:
        raise errors.CniError(errors.LINK_FAILURE, f"cannot {error.operation}"[:256], error.text[:256]) from None
    if link is None:
        text = f"there is no {name} in {netns or 'the network namespace of the host'}"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"it should be {wanted.device}"[:256])
    if wanted.mac not in ("", link.mac):
        text = f"{wanted.device} is not the NIC that is asked for"[:256]
        raise errors.CniError(errors.WRONG_DEVICE, text, f"it has {link.mac}, asked for is {wanted.mac}")
    return Wishes(wanted.ips, wanted.ranges, link.mac)


def _mac(checked: "config.Config") -> str:
    """The MAC that is asked for, "" for none."""
    found = ""
    asked = (
        (checked.arguments.get("MAC", ""), errors.INVALID_ENVIRONMENT, "CNI_ARGS MAC"),
        (checked.member("args", "cni", "mac"), errors.INVALID_CONFIG, "args.cni.mac"),
        (checked.member("runtimeConfig", "mac"), errors.INVALID_CONFIG, "runtimeConfig.mac"),
    )
    for text, code, source in asked:
        if text not in (None, ""):
            found = _parsed(addresses.parse_mac, text, code, source)
    return found


def _ip(text: str) -> tuple[int, int]:
    return addresses.parse_prefix(text)[:2] if "/" in text else addresses.parse(text)


def _parsed(parse: "Callable[[str], Value]", text: "Any", code: int, source: str) -> "Value":
    """What ``parse`` makes of a text from ``source``. Raises CniError ``code``."""
    try:
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is no text"[:256])  # noqa: TRY004 -- the user's fault, reported as his
        return parse(text)
    except ValueError as error:
        raise errors.CniError(code, f"{source}: {error}"[:256]) from None


def _taken(checked: "config.Config") -> tuple[str, str, bool]:
    """``(mac, device, whether that is a bus id)`` of the NIC that host-device takes: its first key (contract B1)."""
    if device := checked.text("device"):
        return "", device, False
    if hwaddr := checked.text("hwaddr"):
        return _parsed(addresses.parse_mac, hwaddr, errors.INVALID_CONFIG, "hwaddr"), "", False
    if kernelpath := checked.text("kernelpath"):
        return "", kernelpath, True
    return "", checked.text("runtimeConfig", "deviceID") or checked.text("pciBusID"), True


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
    keys = ("subnet", "rangeStart", "rangeEnd", "gateway")
    texts = {key: jsonio.member(entry, key) for key in keys} if known else {}
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
    gateway = addresses.canonical(texts["gateway"]) if "gateway" in texts else ""
    if gateway and addresses.parse(gateway)[0] != family:
        raise ValueError(f"the gateway {gateway} is not of the family of {texts['subnet']}")
    return Range(family, first[1], last[1], gateway, texts)
