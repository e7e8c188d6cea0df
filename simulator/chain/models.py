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

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from enim import addresses, config, effects, errors, jsonio, result
from simulator.model import Link

Steps: TypeAlias = Generator[effects.Effect, Any, Any]

HOME = ""  # the handle of the plugin's own namespace
NO_LINK = "Link not found"


@dataclass(frozen=True, slots=True)
class Release:
    """A version of the plugin.

    Args:
        versions: of CNI that it takes.
        has_roll_back: whether it moves through a temporary namespace and undoes a move that fails.
        checks_netns: whether it looks, at the end, if CNI_NETNS was its own netns.
        prints_empty_dns: whether ``dns`` is printed in every version of a result.
        knows_route_attributes: whether the routes of a result keep what CNI 1.1.0 adds to them.
    """

    versions: tuple[str, ...]
    has_roll_back: bool
    checks_netns: bool
    prints_empty_dns: bool
    knows_route_attributes: bool


DEBIAN = Release(
    config.VERSIONS[:-1], has_roll_back=False, checks_netns=False, prints_empty_dns=True, knows_route_attributes=False
)  # 1.1.1, in Debian 12 and Ubuntu 24.04
NEWEST = Release(
    config.VERSIONS, has_roll_back=True, checks_netns=True, prints_empty_dns=False, knows_route_attributes=True
)  # 1.9.1


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
    stdin: bytes
    netconf: Mapping[str, Any]
    version: str
    command: str
    netns: str
    ifname: str
    path: str

    def text(self, *keys: str) -> str:
        """The text at a path in the configuration, keys in any case; "" if absent."""
        value: Any = dict(self.netconf)
        for key in keys:
            value = jsonio.member(value, key) if value is not None else None
            if value is not None and not isinstance(value, str if key == keys[-1] else dict):
                raise _error(f"failed to load netconf: json: cannot unmarshal into Go struct field {'.'.join(keys)}")
        return value or ""


def main(environment: Mapping[str, str], stdin: bytes, release: Release) -> Generator[effects.Effect, Any, int]:
    """The process: skel's checks, ADD or DEL, and the error object on stdout; its exit code."""
    try:
        call = _read(environment, stdin, release)
        yield from (add if call.command == "ADD" else delete)(call)
        is_overridden = environment.get("CNI_NETNS_OVERRIDE", "").upper() in ("TRUE", "1")
        if release.checks_netns and call.netns and not is_overridden and (yield effects.OwnNetns(call.netns)):
            text = "plugin's netns and netns from CNI_NETNS should not be the same"
            raise errors.CniError(errors.INVALID_NETNS, text)
    except errors.CniError as failure:
        printed = {"code": failure.code, "msg": failure.msg}
        if failure.details:
            printed["details"] = failure.details
        try:
            yield effects.Print(json.dumps(printed, indent=4, ensure_ascii=False).encode())
        except OSError:
            pass  # skel logs it
        return 1
    return 0


def add(call: Call) -> Steps:
    """ADD. Raises CniError: the IPAM plugin's own; 999 anything else. What was done until then stays done."""
    plugin = _load(call)
    pod = yield from _open(call)
    device = yield from _find_device(call)
    move_in = _move_in_by_way if call.release.has_roll_back else _move_in
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
    dns = jsonio.member(dict(call.netconf), "dns")
    yield from _print(call, result.Result((interface,), found, granted.routes, dns if isinstance(dns, dict) else {}))


def delete(call: Call) -> Steps:
    """DEL. Raises CniError: the IPAM plugin's own; 999 anything else, with the NIC still in the pod."""
    plugin = _load(call)
    if not call.netns:
        return
    pod = yield from _open(call)
    if plugin:
        yield from _delegate(call, plugin, "DEL")
    move_out = _move_out_by_way if call.release.has_roll_back else _move_out
    yield from move_out(pod, call.ifname)


# --- moves


def _move_in(device: Link, pod: str, ifname: str) -> Steps:
    """1.1.1: move, then make it what it should be; nothing is undone."""
    yield from _attempt(Move(device.ifindex, HOME, pod), "")
    link: Link = yield from _look(pod, device.name, f"failed to find {_quoted(device.name)}")
    yield from _attempt(Change(link.ifindex, pod, "up", value=False), f"failed to set {_quoted(device.name)} down")
    yield from _attempt(
        Change(link.ifindex, pod, "alias", device.name), f"failed to set alias to {_quoted(device.name)}"
    )
    text = f"failed to rename device {_quoted(device.name)} to {_quoted(ifname)}"
    yield from _attempt(Change(link.ifindex, pod, "name", ifname), text)
    yield from _attempt(Change(link.ifindex, pod, "up", value=True), f"failed to set {_quoted(ifname)} up")
    return (yield from _look(pod, ifname, f"failed to find {_quoted(ifname)}"))


def _move_out(pod: str, ifname: str) -> Steps:
    """1.1.1: rename it in the pod, then move it; the alias stays. If that fails it gets its name back."""
    link: Link = yield from _look(pod, ifname, f"failed to find {_quoted(ifname)}")
    yield from _attempt(Change(link.ifindex, pod, "up", value=False), f"failed to set {_quoted(ifname)} down")
    try:
        text = f"failed to restore {_quoted(ifname)} to original name {_quoted(link.alias)}"
        yield from _attempt(Change(link.ifindex, pod, "name", link.alias), text)
        yield from _attempt(Move(link.ifindex, pod, HOME), f"failed to move {_quoted(link.alias)} to host netns")
    except errors.CniError:
        yield from _ignoring(_attempt(Change(link.ifindex, pod, "name", ifname), ""))
        if link.up:
            yield from _ignoring(_attempt(Change(link.ifindex, pod, "up", value=True), ""))
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
    link: Link | None = yield from _look(way, name, f"failed to find {_quoted(name)} in tempNS")
    assert link is not None  # noqa: S101 -- _look raises
    undo: list[effects.Effect] = [Move(link.ifindex, way, HOME)]
    try:
        text = f"failed to rename host device {_quoted(name)} to {_quoted(ifname)}"
        yield from _attempt(Change(link.ifindex, way, "name", ifname), text)
        undo.insert(0, Change(link.ifindex, way, "name", name))
        yield from _attempt(Change(link.ifindex, way, "alias", name), f"failed to set alias to {_quoted(name)}")
        undo.insert(0, Change(link.ifindex, way, "alias", ""))
        text = f"failed to move {_quoted(ifname)} (host: {_quoted(name)}) to container NS"
        yield from _attempt(Move(link.ifindex, way, pod), text)
    except errors.CniError:
        for effect in undo:
            yield from _ignoring(_attempt(effect, ""))
        raise
    try:
        found: Link = yield from _look(pod, ifname, f"failed to find {_quoted(ifname)} in container NS")
        yield from _attempt(Change(found.ifindex, pod, "up", value=True), f"failed to set {_quoted(ifname)} up")
    except errors.CniError:
        yield from _ignoring(_take_back(name, way, pod, ifname))
        raise
    return found


def _take_back(name: str, way: str, pod: str, ifname: str) -> Steps:
    """Out of the pod again; only what is back in the temporary namespace can be brought home."""
    link: Link = yield from _look(pod, ifname, "")
    yield from _ignoring(_attempt(Move(link.ifindex, pod, way), ""))
    back: Link = yield from _look(way, ifname, "")
    for effect in (
        Change(back.ifindex, way, "alias", ""),
        Change(back.ifindex, way, "name", name),
        Move(back.ifindex, way, HOME),
    ):
        yield from _ignoring(_attempt(effect, ""))


def _move_out_by_way(pod: str, ifname: str) -> Steps:
    """1.9.1: through a temporary namespace, where it loses name and alias; undone if it fails."""
    way = yield from _attempt(OpenTemporary(), "failed to create tempNS")
    link: Link | None = None
    try:
        link = yield from _look(pod, ifname, f"failed to find {_quoted(ifname)} in containerNS")
        assert link is not None  # noqa: S101 -- _look raises
        if not link.alias:
            raise _error(f"failed to find original ifname for {_quoted(ifname)} (alias is not set)")
        yield from _attempt(Move(link.ifindex, pod, way), f"failed to move {_quoted(ifname)} to tempNS")
        yield from _pass_out(way, pod, ifname)
    except errors.CniError:
        if link is not None and link.up:
            yield from _ignoring(_set_up(pod, ifname))
        yield Close(way)
        raise
    yield Close(way)


def _pass_out(way: str, pod: str, ifname: str) -> Steps:
    link: Link = yield from _look(way, ifname, f"failed to find {_quoted(ifname)} in tempNS")
    name = link.alias
    undo: list[effects.Effect] = [Move(link.ifindex, way, pod)]
    try:
        text = f"failed to rename device {_quoted(ifname)} to {_quoted(name)}"
        yield from _attempt(Change(link.ifindex, way, "name", name), text)
        undo.insert(0, Change(link.ifindex, way, "name", ifname))
        yield from _attempt(Change(link.ifindex, way, "alias", ""), f"failed to unset alias of {_quoted(name)}")
        undo.insert(0, Change(link.ifindex, way, "alias", name))
        yield from _attempt(Move(link.ifindex, way, HOME), f"failed to move {_quoted(name)} to hostNS")
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
    if device_id and call.release.has_roll_back:
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
    """What skel checks, in the order of its version: the newest looks at each variable before it reads stdin."""
    command = environment.get("CNI_COMMAND", "")
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")
    container_id, netns, ifname, path = (environment.get(name, "") for name in names)
    if release.checks_netns:
        config.check_environment(environment)
        netconf = _netconf(stdin)
    else:
        wanted = {"CNI_COMMAND": command, **{name: environment.get(name, "") for name in names}}
        missing = [name for name, value in wanted.items() if not value and (name, command) != ("CNI_NETNS", "DEL")]
        if missing:
            text = f"required env variables [{','.join(missing)}] missing"
            raise errors.CniError(errors.INVALID_ENVIRONMENT, text)
        netconf = _netconf(stdin)
        config.check_container_id(container_id)
        config.check_ifname(ifname)
    if command not in ("ADD", "DEL"):
        raise errors.CniError(errors.INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}")
    version = jsonio.member(netconf, "cniVersion") or config.VERSIONS[0]
    if not isinstance(version, str):
        raise errors.CniError(errors.DECODING_FAILURE, "decoding version from network config: json: cannot unmarshal")
    if version not in release.versions:
        supported = " ".join(_quoted(one) for one in release.versions)
        details = f"config is {_quoted(version)}, plugin supports [{supported}]"
        raise errors.CniError(errors.INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    return Call(release, stdin, netconf, version, command, netns, ifname, path)


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
        raise _error(f"failed to find plugin {_quoted(plugin)} in path [{call.path.replace(':', ' ')}]") from None
    if code == 0:
        return stdout
    ended = f"exit status {code}" if code > 0 else f"signal {-code}"
    if not stdout:
        raise errors.CniError(0, f"netplugin failed with no error message: {ended}")
    try:
        value = jsonio.loads(stdout)
        fields = [jsonio.member(value or {}, key) for key in ("code", "msg", "details")]
    except (ValueError, AttributeError, TypeError):
        fields = ["", "", ""]
    number, msg, details = fields[0] or 0, fields[1] or "", fields[2] or ""
    if fields[0] == "" or type(number) is not int or number < 0 or not isinstance(msg + details, str):
        text = f"netplugin failed but error parsing its diagnostic message {_quoted(stdout.decode(errors='replace'))}"
        raise errors.CniError(0, text)
    raise errors.CniError(number, msg, details)


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
    if call.release.knows_route_attributes:
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
        if call.release.prints_empty_dns:
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
    """What is done whatever comes of it: a roll-back."""
    try:
        yield from steps
    except errors.CniError:
        pass  # the first error is the one that is reported


def _error(text: str) -> errors.CniError:
    """Every plain error of Go has this code."""
    return errors.CniError(errors.INTERNAL, text)


def _words(error: errors.KernelError) -> str:
    """Go's errno texts are those of libc, in lower case."""
    return error.text.lower()


def _quoted(text: str) -> str:
    """Go's ``%q``."""
    return json.dumps(text, ensure_ascii=False)
