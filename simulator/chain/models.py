"""PURE: the host-device plugin as flows, statement by statement: what it does to links, and what it prints.

    code = yield from models.main(environment, stdin, models.DEBIAN)      # a whole process: its exit code

- ADD moves the NIC first and asks the IPAM plugin then. A failed ADD leaves the NIC in the pod, under CNI_IFNAME.
- DEL without a netns is a success that nobody else hears of; with one that is gone it is an error. The IPAM plugin is
  told before the NIC leaves. A second DEL finds no link, and fails.

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
from typing import Any

from enim import addresses, config, effects, errors, jsonio, result
from simulator.chain import moves
from simulator.model import Link

TMPFS_MAGIC = "1021994"  # hexadecimal; what is left where a namespace was mounted lies on /run
CHECKED = ("CNI_CONTAINERID", "CNI_IFNAME")  # variables whose text is checked too


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
                raise moves.error(
                    f"failed to load netconf: json: cannot unmarshal into Go struct field {'.'.join(keys)}"
                )
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


def add(call: Call) -> moves.Steps:
    """ADD. Raises CniError: the IPAM plugin's own; 999 anything else. What was done until then stays done."""
    plugin = _load(call)
    pod = yield from _open(call)
    device = yield from _find_device(call)
    move_in = moves.move_in_by_way if call.release.is_new else moves.move_in
    try:
        link: Link = yield from move_in(device, pod, call.ifname)
    except errors.CniError as failure:
        raise moves.error(f"failed to move link {failure.msg}") from None
    interface = result.Interface(link.name, link.mac, call.netns)
    if not plugin:
        yield from _print(call, result.Result((interface,)))
        return
    granted = _granted(call, (yield from _delegate(call, plugin, "ADD")))
    if not granted.addresses:
        raise moves.error("IPAM plugin returned missing IP config")
    try:
        yield from _configure(call, pod, granted)
    except errors.CniError:
        yield from moves.ignoring(_delegate(call, plugin, "DEL"))
        raise
    found = tuple(result.Address(address.address, address.gateway, 0) for address in granted.addresses)
    dns = jsonio.member(call.netconf, "dns")
    yield from _print(call, result.Result((interface,), found, granted.routes, dns if isinstance(dns, dict) else {}))


def delete(call: Call) -> moves.Steps:
    """DEL. Raises CniError: the IPAM plugin's own; 999 anything else, with the NIC still in the pod."""
    plugin = _load(call)
    if not call.netns:
        return
    pod = yield from _open(call)
    if plugin:
        yield from _delegate(call, plugin, "DEL")
    move_out = moves.move_out_by_way if call.release.is_new else moves.move_out
    yield from move_out(pod, call.ifname)


# --- configuration, as loadConf, getLink and skel read it


def _load(call: Call) -> str:
    """Check the configuration; the IPAM plugin's name, "" for none."""
    device_id, pci = call.text("runtimeConfig", "deviceID"), call.text("pciBusID")
    if device_id and call.release.is_new:
        raise moves.error(f"runtime config DeviceID {device_id} not found or unsupported")
    named = [call.text(key) for key in ("device", "hwaddr", "kernelpath")]
    if not any((*named, device_id, pci)):
        raise moves.error('specify either "device", "hwaddr", "kernelpath" or "pciBusID"')
    if device_id or pci:
        path = f"/sys/bus/pci/devices/{device_id or pci}"
        raise moves.error(f"error with host device: lstat {path}: no such file or directory")
    return call.text("ipam", "type")


def _open(call: Call) -> moves.Steps:
    try:
        return (yield moves.OpenNetns(call.netns))
    except errors.KernelError as error:
        path = moves.quoted(call.netns)
        is_plain = error.text.lower() == "invalid argument"
        text = (
            f"unknown FS magic on {path}: {TMPFS_MAGIC}"
            if is_plain
            else f"failed to Statfs {path}: {moves.words(error)}"
        )
        raise moves.error(f"failed to open netns {path}: {text}") from None


def _find_device(call: Call) -> moves.Steps:
    text = "failed to find host device"
    name, mac, path = (call.text(key) for key in ("device", "hwaddr", "kernelpath"))
    if name:
        return (yield from moves.look(moves.HOME, name, text))
    if not mac:
        raise moves.error(f"{text}: failed to find network devices at {moves.quoted(path + '/net')}")
    try:
        wanted = addresses.parse_mac(mac)
    except ValueError:
        raise moves.error(
            f"{text}: failed to parse MAC address {moves.quoted(mac)}: address {mac}: invalid MAC address"
        ) from None
    link = yield from moves.attempt(moves.Look(moves.HOME, mac=wanted), text)
    if link is None:
        raise moves.error(f"{text}: failed to find physical interface")
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
        supported = " ".join(moves.quoted(one) for one in release.versions)
        details = f"config is {moves.quoted(version)}, plugin supports [{supported}]"
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


def _delegate(call: Call, plugin: str, command: str) -> moves.Steps:
    """Run it; what it printed. A failure is its error object, with code 0 if it printed none."""
    try:
        code, stdout = yield effects.Delegate(plugin, command, call.stdin)
    except errors.CniError:
        directories = call.environment["CNI_PATH"].replace(":", " ")
        raise moves.error(f"failed to find plugin {moves.quoted(plugin)} in path [{directories}]") from None
    if code == 0:
        return stdout
    raise _said(code, stdout)


def _said(code: int, stdout: bytes) -> errors.CniError:
    if not stdout:
        ended = f"exit status {code}" if code > 0 else f"signal {-code}"
        return errors.CniError(0, f"netplugin failed with no error message: {ended}")
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        value = jsonio.loads(stdout)
        value = {} if value is None else value
        number, msg, details = (jsonio.member(value, key) for key in ("code", "msg", "details"))
        if type(number or 0) is int and (number or 0) >= 0 and isinstance((msg or "") + (details or ""), str):
            return errors.CniError(number or 0, msg or "", details or "")
    text = f"netplugin failed but error parsing its diagnostic message {moves.quoted(stdout.decode(errors='replace'))}"
    return errors.CniError(0, text)


def _granted(call: Call, stdout: bytes) -> result.Result:
    """The result that it printed, in whichever version it says; without one it is the configuration's."""
    try:
        value = jsonio.loads(stdout)
        value = {} if value is None else value
        version = value["cniVersion"] if isinstance(value, dict) and value.get("cniVersion") else call.version
        if version not in call.release.versions:
            raise moves.error(f"unsupported CNI result version {moves.quoted(str(version))}")
        strange = ("ips", "interfaces", "routes") if version in result.OLDEST_SHAPES else ("ip4", "ip6")
        granted = result.from_object({key: part for key, part in value.items() if key not in strange})
    except (ValueError, AttributeError) as error:
        raise moves.error(f"failed to unmarshal raw result: {error}"[:256]) from None
    if call.release.is_new:
        return granted
    routes = tuple(result.Route(route.dst, route.gw) for route in granted.routes)
    return result.Result(granted.interfaces, granted.addresses, routes, granted.dns)


def _configure(call: Call, pod: str, granted: result.Result) -> moves.Steps:
    """ConfigureIface: addresses and routes; a route without a gateway takes the first of its family."""
    ifname = call.ifname
    yield from moves.look(pod, ifname, f"failed to lookup {moves.quoted(ifname)}")
    gateways: dict[int, str] = {}
    for address in granted.addresses:
        if address.gateway:
            gateways.setdefault(address.family, address.gateway)
    routes = tuple(
        (route.dst, route.gw or gateways.get(route.family, ""), _known_to_host_device(route))
        for route in granted.routes
    )
    wanted = tuple(address.address for address in granted.addresses)
    yield from moves.attempt(
        effects.Configure(pod, ifname, wanted, routes), f"failed to configure {moves.quoted(ifname)}"
    )


def _known_to_host_device(route: result.Route) -> dict[str, int]:
    """The attributes that it sets; mtu and advmss are not among them."""
    return {name: value for name, value in route.attributes.items() if name in ("priority", "table", "scope")}


def _print(call: Call, printed: result.Result) -> moves.Steps:
    """Print the result in the configuration's version. Raises CniError 999: it has no form there, or nobody reads."""
    try:
        value = jsonio.loads(result.encode(printed, call.version, call.version))
        if not call.release.is_new:
            value.setdefault("dns", {})
        yield effects.Print(json.dumps(value, indent=4, ensure_ascii=False).encode())
    except ValueError:
        raise moves.error("cannot convert: no valid IP addresses") from None
    except OSError:
        raise moves.error("write /dev/stdout: broken pipe") from None
