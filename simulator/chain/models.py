"""PURE: the host-device plugin as flows, statement by statement: what it does to links, and what it prints.

    code = yield from models.main(environment, stdin, models.DEBIAN)      # a whole process: its exit code

- ADD moves the NIC first and asks the IPAM plugin then. A failed ADD leaves the NIC in the pod, under CNI_IFNAME.
- DEL without a netns is a success that nobody else hears of; with one that is gone it is an error. The IPAM plugin is
  told before the NIC leaves. A second DEL finds no link, and fails.
- Each yield is one request to the kernel, so that a kill can come between any two, as on a real node.
- A namespace that has been opened lives until it is closed or the process ends, whatever becomes of its path.

Not in it: PCI and auxiliary devices (there are none on a node of the testbed), the order in which ConfigureIface adds
what it then fails on, and Go's own words for JSON that cannot be read.

Source: containernetworking plugins v1.1.1 and v1.9.1 (``host-device.go``, ``pkg/ipam``), cni v1.1.2 and v1.3.0
(``skel``, ``invoke``, ``types``); contract A2, A6, A12, B; incidents section 3.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from enim import addresses, config, effects, errors, jsonio, result
from simulator.model import Link

Steps: TypeAlias = Generator[effects.Effect, Any, Any]

HOME = ""  # the handle of the plugin's own namespace
CHECKED = ("CNI_CONTAINERID", "CNI_IFNAME")  # variables whose text is checked too
NO_LINK = "Link not found"


@dataclass(frozen=True, slots=True)
class Release:
    """A version of the plugin.

    Args:
        versions: of CNI that it takes.
        is_new: whether it moves through a temporary namespace and undoes a move that fails, looks at the end if
            CNI_NETNS was its own netns, knows what CNI 1.1.0 adds to routes, and omits an empty ``dns``.
    """

    versions: tuple[str, ...]
    is_new: bool


DEBIAN = Release(config.VERSIONS[:-1], is_new=False)  # 1.1.1, in Debian 12 and Ubuntu 24.04
NEWEST = Release(config.VERSIONS, is_new=True)  # 1.9.1


@dataclass(frozen=True, slots=True)
class OpenNetns(effects.Effect):
    """Outcome: a handle (str) of the namespace at ``path``. Failure: ``KernelError``, EINVAL if it names none."""

    path: str


@dataclass(frozen=True, slots=True)
class OpenTemporary(effects.Effect):
    """Outcome: the handle (str) of a new namespace without a path. Failure: ``KernelError``."""


@dataclass(frozen=True, slots=True)
class Close(effects.Effect):
    """Let go of a namespace; it may end. Outcome: None. Never fails."""

    netns: str


@dataclass(frozen=True, slots=True)
class Look(effects.Effect):
    """Outcome: the ``model.Link`` with this name or altname, or this MAC, or None. Failure: ``KernelError``."""

    netns: str
    name: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Move(effects.Effect):
    """Move a link to another namespace, under its name. Outcome: None. Failure: ``KernelError``; it has not moved."""

    ifindex: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Change(effects.Effect):
    """Change one attribute of a link: ``name`` ("" is no change), ``alias`` ("" clears it) or ``up``.

    Outcome: None. Failure: ``KernelError``; nothing has changed.
    """

    ifindex: int
    netns: str
    attribute: str
    value: str | bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the plugin that skel has let pass."""

    release: Release
    environment: Mapping[str, str]
    stdin: bytes
    netconf: dict[str, Any]
    version: str

    @property
    def netns(self) -> str:
        """CNI_NETNS, "" if it is not set."""
        return self.environment.get("CNI_NETNS", "")

    @property
    def ifname(self) -> str:
        """CNI_IFNAME."""
        return self.environment["CNI_IFNAME"]

    def text(self, *keys: str) -> str:
        """The text at a path in the configuration, keys in any case; "" if absent. Raises CniError 999: no text."""
        value: Any = self.netconf
        for key in keys:
            value = jsonio.member(value, key) if value is not None else None
            if value is not None and not isinstance(value, str if key == keys[-1] else dict):
                raise _error(f"failed to load netconf: json: cannot unmarshal into Go struct field {'.'.join(keys)}")
        return value or ""


def main(environment: Mapping[str, str], stdin: bytes, release: Release) -> Generator[effects.Effect, Any, int]:
    """The process: skel's checks, ADD or DEL, and the error object on stdout; its exit code."""
    try:
        call = _read(environment, stdin, release)
        yield from (add if environment["CNI_COMMAND"] == "ADD" else delete)(call)
        is_overridden = environment.get("CNI_NETNS_OVERRIDE", "").upper() in ("TRUE", "1")
        if release.is_new and call.netns and not is_overridden and (yield effects.OwnNetns(call.netns)):
            text = "plugin's netns and netns from CNI_NETNS should not be the same"
            raise errors.CniError(errors.INVALID_NETNS, text)
    except errors.CniError as failure:
        printed = {"code": failure.code, "msg": failure.msg}
        if failure.details:
            printed["details"] = failure.details
        with contextlib.suppress(OSError):  # skel logs it
            yield effects.Print(json.dumps(printed, indent=4, ensure_ascii=False).encode())
        return 1
    return 0


def add(call: Call) -> Steps:
    """ADD. Raises CniError: the IPAM plugin's own; 999 anything else. What was done until then stays done."""
    plugin = _load(call)
    pod = yield from _open(call)
    device = yield from _find_device(call)
    move_in = _move_in_by_way if call.release.is_new else _move_in
    try:
        link: Link = yield from move_in(device, pod, call.ifname)
    except errors.CniError as failure:
        raise _error(f"failed to move link {failure.msg}") from None
    interface = result.Interface(link.name, link.mac, call.netns)
    if not plugin:
        yield from _print(call, result.Result((interface,)))
        return
    granted = _granted(call, (yield from _delegate(call, plugin, "ADD")))
    if not granted.addresses:
        raise _error("IPAM plugin returned missing IP config")
    try:
        yield from _configure(call, pod, granted)
    except errors.CniError:
        yield from _ignoring(_delegate(call, plugin, "DEL"))
        raise
    found = tuple(result.Address(address.address, address.gateway, 0) for address in granted.addresses)
    dns = jsonio.member(call.netconf, "dns")
    yield from _print(call, result.Result((interface,), found, granted.routes, dns if isinstance(dns, dict) else {}))


def delete(call: Call) -> Steps:
    """DEL. Raises CniError: the IPAM plugin's own; 999 anything else, with the NIC still in the pod."""
    plugin = _load(call)
    if not call.netns:
        return
    pod = yield from _open(call)
    if plugin:
        yield from _delegate(call, plugin, "DEL")
    move_out = _move_out_by_way if call.release.is_new else _move_out
    yield from move_out(pod, call.ifname)


# --- moves


def _move_in(device: Link, pod: str, ifname: str) -> Steps:
    """1.1.1: move, then make it what it should be; nothing is undone."""
    host, inside = _quoted(device.name), _quoted(ifname)
    yield from _attempt(Move(device.ifindex, HOME, pod), "")
    index = (yield from _look(pod, device.name, f"failed to find {host}")).ifindex
    yield from _attempt(Change(index, pod, "up", value=False), f"failed to set {host} down")
    yield from _attempt(Change(index, pod, "alias", device.name), f"failed to set alias to {host}")
    yield from _attempt(Change(index, pod, "name", ifname), f"failed to rename device {host} to {inside}")
    yield from _attempt(Change(index, pod, "up", value=True), f"failed to set {inside} up")
    return (yield from _look(pod, ifname, f"failed to find {inside}"))


def _move_out(pod: str, ifname: str) -> Steps:
    """1.1.1: rename it in the pod, then move it; the alias stays. If that fails it gets its name back."""
    inside = _quoted(ifname)
    link: Link = yield from _look(pod, ifname, f"failed to find {inside}")
    host, index = _quoted(link.alias), link.ifindex
    yield from _attempt(Change(index, pod, "up", value=False), f"failed to set {inside} down")
    try:
        text = f"failed to restore {inside} to original name {host}"
        yield from _attempt(Change(index, pod, "name", link.alias), text)
        yield from _attempt(Move(index, pod, HOME), f"failed to move {host} to host netns")
    except errors.CniError:
        yield from _ignoring(_attempt(Change(index, pod, "name", ifname), ""))
        if link.up:
            yield from _ignoring(_attempt(Change(index, pod, "up", value=True), ""))
        raise


def _move_in_by_way(device: Link, pod: str, ifname: str) -> Steps:
    """1.9.1: through a temporary namespace, where it gets its name and alias; undone if it fails."""
    way = yield from _attempt(OpenTemporary(), "failed to create tempNS")
    try:
        yield from _attempt(Move(device.ifindex, HOME, way), f"failed to move {_quoted(device.name)} to tempNS")
        link = yield from _pass_in(device.name, way, pod, ifname)
    except errors.CniError:
        if device.up:
            yield from _ignoring(_set_up(HOME, device.name))
        yield Close(way)
        raise
    yield Close(way)
    return link


def _pass_in(name: str, way: str, pod: str, ifname: str) -> Steps:
    host, inside = _quoted(name), _quoted(ifname)
    index = (yield from _look(way, name, f"failed to find {host} in tempNS")).ifindex
    yield from _all_or_none(
        Move(index, way, HOME),
        (Change(index, way, "name", ifname), f"failed to rename host device {host} to {inside}"),
        Change(index, way, "name", name),
        (Change(index, way, "alias", name), f"failed to set alias to {host}"),
        Change(index, way, "alias", ""),
        (Move(index, way, pod), f"failed to move {inside} (host: {host}) to container NS"),
    )
    try:
        link: Link = yield from _look(pod, ifname, f"failed to find {inside} in container NS")
        yield from _attempt(Change(link.ifindex, pod, "up", value=True), f"failed to set {inside} up")
    except errors.CniError:
        yield from _ignoring(_take_back(name, way, pod, ifname))
        raise
    return link


def _take_back(name: str, way: str, pod: str, ifname: str) -> Steps:
    """Out of the pod again; only what is back in the temporary namespace can be brought home."""
    index = (yield from _look(pod, ifname, "")).ifindex
    yield from _ignoring(_attempt(Move(index, pod, way), ""))
    index = (yield from _look(way, ifname, "")).ifindex
    for effect in (Change(index, way, "alias", ""), Change(index, way, "name", name), Move(index, way, HOME)):
        yield from _ignoring(_attempt(effect, ""))


def _move_out_by_way(pod: str, ifname: str) -> Steps:
    """1.9.1: through a temporary namespace, where it loses name and alias; undone if it fails."""
    way = yield from _attempt(OpenTemporary(), "failed to create tempNS")
    was_up = False
    try:
        link: Link = yield from _look(pod, ifname, f"failed to find {_quoted(ifname)} in containerNS")
        was_up = link.up
        if not link.alias:
            raise _error(f"failed to find original ifname for {_quoted(ifname)} (alias is not set)")
        yield from _attempt(Move(link.ifindex, pod, way), f"failed to move {_quoted(ifname)} to tempNS")
        yield from _pass_out(way, pod, ifname)
    except errors.CniError:
        if was_up:
            yield from _ignoring(_set_up(pod, ifname))
        yield Close(way)
        raise
    yield Close(way)


def _pass_out(way: str, pod: str, ifname: str) -> Steps:
    link: Link = yield from _look(way, ifname, f"failed to find {_quoted(ifname)} in tempNS")
    index, name, host = link.ifindex, link.alias, _quoted(link.alias)
    yield from _all_or_none(
        Move(index, way, pod),
        (Change(index, way, "name", name), f"failed to rename device {_quoted(ifname)} to {host}"),
        Change(index, way, "name", ifname),
        (Change(index, way, "alias", ""), f"failed to unset alias of {host}"),
        Change(index, way, "alias", name),
        (Move(index, way, HOME), f"failed to move {host} to hostNS"),
    )


def _all_or_none(*steps: effects.Effect | tuple[effects.Effect, str]) -> Steps:
    """Carry out the pairs of effect and text. When one fails, the lone effects before it undo, the last one first."""
    undo: list[effects.Effect] = []
    for step in steps:
        if isinstance(step, effects.Effect):
            undo.insert(0, step)
            continue
        try:
            yield from _attempt(*step)
        except errors.CniError:
            for effect in undo:
                yield from _ignoring(_attempt(effect, ""))
            raise


def _look(netns: str, name: str, text: str) -> Steps:
    link = yield from _attempt(Look(netns, name), text)
    if link is None:
        raise _error(f"{text}: {NO_LINK}")
    return link


def _set_up(netns: str, name: str) -> Steps:
    link: Link = yield from _look(netns, name, "")
    yield from _attempt(Change(link.ifindex, netns, "up", value=True), "")


# --- configuration, as loadConf, getLink and skel read it


def _load(call: Call) -> str:
    """Check the configuration; the IPAM plugin's name, "" for none."""
    device_id, pci = call.text("runtimeConfig", "deviceID"), call.text("pciBusID")
    if device_id and call.release.is_new:
        raise _error(f"runtime config DeviceID {device_id} not found or unsupported")
    named = [call.text(key) for key in ("device", "hwaddr", "kernelpath")]
    if not any((*named, device_id, pci)):
        raise _error('specify either "device", "hwaddr", "kernelpath" or "pciBusID"')
    if device_id or pci:
        path = f"/sys/bus/pci/devices/{device_id or pci}"
        raise _error(f"error with host device: lstat {path}: no such file or directory")
    return call.text("ipam", "type")


def _open(call: Call) -> Steps:
    try:
        return (yield OpenNetns(call.netns))
    except errors.KernelError as error:
        path = _quoted(call.netns)
        is_plain = error.text.lower() == "invalid argument"
        text = f"unknown FS magic on {path}" if is_plain else f"failed to Statfs {path}: {_words(error)}"
        raise _error(f"failed to open netns {path}: {text}") from None


def _find_device(call: Call) -> Steps:
    text = "failed to find host device"
    name, mac, path = (call.text(key) for key in ("device", "hwaddr", "kernelpath"))
    if name:
        return (yield from _look(HOME, name, text))
    if not mac:
        raise _error(f"{text}: failed to find network devices at {_quoted(path + '/net')}")
    try:
        wanted = addresses.parse_mac(mac)
    except ValueError:
        raise _error(
            f"{text}: failed to parse MAC address {_quoted(mac)}: address {mac}: invalid MAC address"
        ) from None
    link = yield from _attempt(Look(HOME, mac=wanted), text)
    if link is None:
        raise _error(f"{text}: failed to find physical interface")
    return link


def _read(environment: Mapping[str, str], stdin: bytes, release: Release) -> Call:
    """What skel checks. Before 1.2 it looks only for missing variables before it reads stdin."""
    if release.is_new:
        config.check_environment(environment)
    else:
        config.check_environment({**environment, **{name: "x" for name in CHECKED if environment.get(name)}})
    netconf = _netconf(stdin)
    config.check_environment(environment)
    command = environment["CNI_COMMAND"]
    if command not in ("ADD", "DEL"):
        raise errors.CniError(errors.INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}")
    version = jsonio.member(netconf, "cniVersion") or config.VERSIONS[0]
    if not isinstance(version, str):
        raise errors.CniError(errors.DECODING_FAILURE, "decoding version from network config: json: cannot unmarshal")
    if version not in release.versions:
        supported = " ".join(_quoted(one) for one in release.versions)
        details = f"config is {_quoted(version)}, plugin supports [{supported}]"
        raise errors.CniError(errors.INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    return Call(release, environment, stdin, netconf, version)


def _netconf(stdin: bytes) -> dict[str, Any]:
    try:
        value = jsonio.loads(stdin)
    except ValueError as error:
        raise errors.CniError(errors.DECODING_FAILURE, f"error unmarshall network config: {error}") from None
    value = {} if value is None else value
    if not isinstance(value, dict) or not isinstance(jsonio.member(value, "name") or "", str):
        raise errors.CniError(errors.DECODING_FAILURE, "error unmarshall network config: json: cannot unmarshal")
    config.check_network_name(jsonio.member(value, "name") or "")
    return value


# --- the IPAM plugin


def _delegate(call: Call, plugin: str, command: str) -> Steps:
    """Run it; what it printed. A failure is its error object, with code 0 if it printed none."""
    try:
        code, stdout = yield effects.Delegate(plugin, command, call.stdin)
    except errors.CniError:
        directories = call.environment["CNI_PATH"].replace(":", " ")
        raise _error(f"failed to find plugin {_quoted(plugin)} in path [{directories}]") from None
    if code == 0:
        return stdout
    raise _said(code, stdout)


def _said(code: int, stdout: bytes) -> errors.CniError:
    if not stdout:
        ended = f"exit status {code}" if code > 0 else f"signal {-code}"
        return errors.CniError(0, f"netplugin failed with no error message: {ended}")
    with contextlib.suppress(ValueError, AttributeError):
        value = jsonio.loads(stdout) or {}
        number, msg, details = (jsonio.member(value, key) for key in ("code", "msg", "details"))
        if type(number or 0) is int and (number or 0) >= 0 and isinstance((msg or "") + (details or ""), str):
            return errors.CniError(number or 0, msg or "", details or "")
    text = f"netplugin failed but error parsing its diagnostic message {_quoted(stdout.decode(errors='replace'))}"
    return errors.CniError(0, text)


def _granted(call: Call, stdout: bytes) -> result.Result:
    """The result that it printed, in whichever version it says; without one it is the configuration's."""
    try:
        value = jsonio.loads(stdout)
        value = {} if value is None else value
        version = value["cniVersion"] if isinstance(value, dict) and value.get("cniVersion") else call.version
        if version not in call.release.versions:
            raise _error(f"unsupported CNI result version {_quoted(str(version))}")
        strange = ("ips", "interfaces", "routes") if version in result.OLDEST_SHAPES else ("ip4", "ip6")
        granted = result.from_object({key: part for key, part in value.items() if key not in strange})
    except (ValueError, AttributeError) as error:
        raise _error(f"failed to unmarshal raw result: {error}"[:256]) from None
    if call.release.is_new:
        return granted
    routes = tuple(result.Route(route.dst, route.gw) for route in granted.routes)
    return result.Result(granted.interfaces, granted.addresses, routes, granted.dns)


def _configure(call: Call, pod: str, granted: result.Result) -> Steps:
    """ConfigureIface: addresses and routes; a route without a gateway takes the first of its family."""
    ifname = call.ifname
    yield from _look(pod, ifname, f"failed to lookup {_quoted(ifname)}")
    gateways: dict[int, str] = {}
    for address in granted.addresses:
        if address.gateway:
            gateways.setdefault(address.family, address.gateway)
    routes = tuple((route.dst, route.gw or gateways.get(route.family, "")) for route in granted.routes)
    wanted = tuple(address.address for address in granted.addresses)
    yield from _attempt(effects.Configure(pod, ifname, wanted, routes), f"failed to configure {_quoted(ifname)}")


def _print(call: Call, printed: result.Result) -> Steps:
    """Print the result in the configuration's version. Raises CniError 999: it has no form there, or nobody reads."""
    try:
        value = jsonio.loads(result.encode(printed, call.version, call.version))
        if not call.release.is_new:
            value.setdefault("dns", {})
        yield effects.Print(json.dumps(value, indent=4, ensure_ascii=False).encode())
    except ValueError:
        raise _error("cannot convert: no valid IP addresses") from None
    except OSError:
        raise _error("write /dev/stdout: broken pipe") from None


# --- errors


def _attempt(effect: effects.Effect, text: str) -> Steps:
    """An effect whose failure is reported as Go's ``fmt.Errorf("<text>: %v", err)``."""
    try:
        return (yield effect)
    except errors.KernelError as error:
        raise _error(f"{text}: {_words(error)}" if text else _words(error)) from None


def _ignoring(steps: Steps) -> Steps:
    """What is done whatever comes of it; the first error is the one that is reported."""
    with contextlib.suppress(errors.CniError):
        yield from steps


def _error(text: str) -> errors.CniError:
    """Every plain error of Go has this code."""
    return errors.CniError(errors.INTERNAL, text)


def _words(error: errors.KernelError) -> str:
    """Go's errno texts are those of libc, in lower case."""
    return error.text.lower()


def _quoted(text: str) -> str:
    """Go's ``%q``."""
    return json.dumps(text, ensure_ascii=False)
