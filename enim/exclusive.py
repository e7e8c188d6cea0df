"""What exclusive-device does for ADD and DEL, as flows: it gives a pod the whole NIC that its IPAM plugin names.

    ADD  configuration → netns another one, alive, ifname free? → delegate ADD → its NIC is at home? → move in
         → configure → print
    DEL  the NIC in the netns is ours? → move it home → delegate DEL, whatever came of the move

Rules: nothing is allocated before everything has been checked that can be. Whatever fails after the delegate's ADD is
undone in reverse order, and the first error is the one that is reported. The NIC comes home before the IPAM plugin is
told that it is free. The delegate's own word on a failed ADD (a CNI error object) means that it holds nothing.
On DEL a NIC is ours if ADD's alias is on it, unless prevResult has another MAC: what does not fit is left alone.

Source: CNI SPEC sections 2 and 4; contract A5, A7, A12, C8-20 to C8-31; incidents section 3; design D1, D7.
"""

from enim import addresses, answers, config, effects, errors, result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, TypeAlias

    Steps: TypeAlias = Generator[effects.Effect, Any, Any]

FREE_NAME = "dev%d"  # "any free name": the agent knows its NICs by MAC, and restores their names
EXEC = "exec"  # of ``delegate``
SCOPE_MAX = 255  # of a route: the kernel keeps it in one byte


def add(checked: config.Config) -> "effects.Flow":
    """ADD: get a NIC with addresses from the IPAM plugin, move it into the pod, configure it, print the result.

    Raises:
        CniError: the delegate's own; 2 a route that cannot be made as asked, 5 nobody reads the result, 7
            configuration, 8 netns, 104 the delegate's NIC is not there, 105 kernel, 106 the delegate does not speak
            CNI or names no NIC. Then the NIC is at home and nothing is allocated, or ``details`` says what could not
            be undone.
    """
    plugin, dad = ipam_plugin(checked), _wants_detection(checked)
    _check_delegate(checked)
    yield from _check_netns(checked)
    home_name = ""  # of the NIC, once it is in the pod
    try:
        code, stdout = yield delegation(checked, plugin, "ADD")
    except errors.CniError:
        raise  # it was not started
    except Exception as failure:  # noqa: BLE001 -- its outcome is unknown
        raise (yield from _undo(checked, plugin, home_name, failure)) from None
    if code != 0 and (refusal := answers.read_error(stdout)):
        raise refusal
    try:
        granted = _granted(plugin, code, stdout)
        routes = _routes(granted)
        link = yield from _nic(granted)
        yield effects.MoveIn(link.ifindex, checked.netns, checked.ifname, link.name)
        home_name = link.name
        wanted = tuple([address.address for address in granted.addresses])
        made = tuple([(route.dst, gateway, route.attributes) for route, gateway in routes])
        yield effects.Configure(checked.netns, checked.ifname, wanted, made, dad=dad)
        own = _own_result(checked, granted, link.mac, tuple([route for route, _ in routes]))
        yield effects.Print(result.encode(own, checked.version, checked.shape))
    except Exception as failure:  # noqa: BLE001 -- whatever it is, the NIC must go back
        raise (yield from _undo(checked, plugin, home_name, failure)) from None


def delete(checked: config.Config) -> "effects.Flow":
    """DEL: bring the NIC home, then let the IPAM plugin release it. Nothing to bring home is a success.

    Raises:
        CniError: 105 the NIC is still in the pod; else the delegate's own; 7 no delegate is named, 106 it failed
            without a word.
    """
    failure: Exception | None = None
    try:
        yield from _bring_home(checked)
    except Exception as caught:  # noqa: BLE001 -- the delegate must be told all the same
        failure = errors.coded(caught)
    try:
        plugin = ipam_plugin(checked)
        code, stdout = yield delegation(checked, plugin, "DEL")
        if code != 0:
            raise answers.read_error(stdout) or answers.no_error(plugin, code, stdout)
    except errors.CniError as second:
        raise _with_note(failure, f"the IPAM plugin failed too: {second.msg}") if failure else second from None
    if failure:
        raise failure


def ipam_plugin(checked: config.Config) -> str:
    """The IPAM plugin's name, which is never a path."""
    if not isinstance(checked.member("ipam"), dict):
        details = f"it is {checked.member('ipam')!r}"[:256]
        raise errors.CniError(errors.INVALID_CONFIG, 'ipam must be an object such as {"type": "enim"}', details)
    plugin = checked.text("ipam", "type")
    if not plugin.isprintable() or not plugin or "/" in plugin or plugin in (".", ".."):
        raise errors.CniError(errors.INVALID_CONFIG, "ipam.type must be the name of a plugin", repr(plugin)[:256])
    return plugin


def delegation(checked: config.Config, plugin: str, command: str) -> effects.Delegate:
    """Running the IPAM plugin, in a process of its own if ``delegate`` is ``exec``."""
    return effects.Delegate(plugin, command, checked.stdin, in_process=checked.member("delegate") != EXEC)


def _wants_detection(checked: config.Config) -> bool:
    """``dad``: whether IPv6 addresses undergo duplicate address detection. The cloud gives an address out once."""
    wanted = checked.member("dad")
    if wanted is None or isinstance(wanted, bool):
        return bool(wanted)
    raise errors.CniError(errors.INVALID_CONFIG, "dad must be true or false", f"it is {wanted!r}"[:256])


def _check_delegate(checked: config.Config) -> None:
    if checked.member("delegate") not in (None, "", EXEC):
        details = f"it is {checked.member('delegate')!r}"[:256]
        raise errors.CniError(errors.INVALID_CONFIG, f'delegate must be "{EXEC}", or not there', details)


def _check_netns(checked: config.Config) -> "Steps":
    netns, ifname = checked.netns, checked.ifname
    if "%" in ifname:
        text = "CNI_IFNAME has a %, which the kernel reads as the place of a number"
        raise errors.CniError(errors.INVALID_ENVIRONMENT, text, ifname)
    if not checked.netns_override and (yield effects.OwnNetns(netns)):
        raise errors.CniError(errors.INVALID_NETNS, "CNI_NETNS is the plugin's own network namespace", netns)
    if not (yield effects.NetnsAlive(netns)):
        raise errors.CniError(errors.INVALID_NETNS, "CNI_NETNS is no network namespace", netns)
    try:
        link = yield effects.FindLink(name=ifname, netns=netns)
    except errors.KernelError as error:
        text = f"cannot {error.operation}: {error.text}"[:256]
        raise errors.CniError(errors.INVALID_NETNS, "CNI_NETNS cannot be looked into", text) from None
    if link is not None:
        text = f"there is a link {ifname} in the pod already"
        raise errors.CniError(errors.LINK_FAILURE, text, f"{link.mac} in {netns}")


def _granted(plugin: str, code: int, stdout: bytes) -> result.Result:
    """The delegate's result: at least one address, all on the one NIC that it names (contract A5)."""
    if code != 0:
        raise answers.no_error(plugin, code, stdout)
    try:
        granted = result.parse(stdout)
        macs = {addresses.parse_mac(interface.mac) for interface in granted.interfaces}
    except ValueError as error:
        text = f"the result of the IPAM plugin {plugin} cannot be read: {error}"[:256]
        raise errors.CniError(errors.DELEGATE_FAILURE, text, _excerpt(stdout)) from None
    indexes = {address.interface or 0 for address in granted.addresses}
    missing = "address" if not indexes else "interface" if not macs else "interface index" if 0 in indexes else ""
    if missing:
        text = f"the IPAM plugin {plugin} gave no {missing}; exclusive-device needs one that names a NIC, such as enim"
        raise errors.CniError(errors.DELEGATE_FAILURE, text, _excerpt(stdout))
    if len(indexes) > 1 or len(macs) > 1:
        text = f"the IPAM plugin {plugin} named more than one NIC"
        raise errors.CniError(errors.DELEGATE_FAILURE, text, _excerpt(stdout))
    return granted


def _nic(granted: result.Result) -> "Steps":
    """The NIC that the result names; an index alone may be another NIC's by now (contract C8-27)."""
    ifindex = granted.addresses[0].interface or 0
    mac = addresses.parse_mac(granted.interfaces[0].mac)
    link = yield effects.FindLink(ifindex=ifindex)
    if link is None:
        text = f"there is no link with the index {ifindex} that the IPAM plugin gave"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"it should have {mac}")
    if link.mac != mac:
        text = f"the link {link.name} with the index {ifindex} is not the NIC that the IPAM plugin gave"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"it has {link.mac}, not {mac}")
    return link


def _routes(granted: result.Result) -> tuple[tuple[result.Route, str], ...]:
    """The routes to make, each with its gateway: its own, or the first one of its family, or "" for none."""
    gateways: dict[int, str] = {}
    for address in granted.addresses:
        if address.gateway:
            gateways.setdefault(address.family, address.gateway)
    found = result.distinct_routes(granted.routes, gateways)
    for route in found:
        if route.attributes.get("scope", 0) > SCOPE_MAX:
            text = f"there is no route with scope {route.attributes['scope']}"
            raise errors.CniError(errors.UNSUPPORTED_FIELD, text, f"the route to {route.dst}")
    return tuple([(route, route.via(gateways)) for route in found])


def _own_result(
    checked: config.Config, granted: result.Result, mac: str, routes: tuple[result.Route, ...]
) -> result.Result:
    dns = checked.member("dns")
    return result.Result(
        (result.Interface(checked.ifname, mac, checked.netns),),
        tuple([result.Address(address.address, address.gateway, 0) for address in granted.addresses]),
        routes,
        granted.dns or (dns if isinstance(dns, dict) else {}),
    )


def _undo(
    checked: config.Config, plugin: str, home_name: str, failure: Exception
) -> "Generator[effects.Effect, Any, Exception]":
    """Bring the NIC home and let the delegate release it; the error to raise is ``failure`` whatever comes of this."""
    problems = []
    if home_name:
        try:
            yield effects.MoveOut(checked.netns, checked.ifname, home_name)
        except Exception as second:  # noqa: BLE001 -- the first error wins
            problems.append(_text(second))
    try:
        code, stdout = yield delegation(checked, plugin, "DEL")
        if code != 0:
            problems.append(_text(answers.read_error(stdout) or answers.no_error(plugin, code, stdout)))
    except Exception as second:  # noqa: BLE001 -- the first error wins
        problems.append(_text(second))
    failure = errors.coded(failure)
    for problem in problems:
        note = f"the roll-back failed too: {problem}"[:256]
        yield _log(checked, note)
        failure = _with_note(failure, note)
    return failure


def _bring_home(checked: config.Config) -> "Steps":
    """Move the NIC out of the pod, if there is one and it is ours."""
    netns, ifname = checked.netns, checked.ifname
    if not netns or (not checked.netns_override and (yield effects.OwnNetns(netns))):
        return
    if not (yield effects.NetnsAlive(netns)):
        return
    link = yield effects.FindLink(name=ifname, netns=netns)
    if link is None:
        return
    mac = _recorded_mac(checked)
    if mac and link.mac != mac:
        yield _log(checked, f"{ifname} in {netns} has {link.mac}, this attachment's NIC {mac}: it is left there")
    elif not mac and not link.alias:
        yield _log(checked, f"{ifname} in {netns} has no alias, so it is not from here: it is left there")
    else:
        yield effects.MoveOut(netns, ifname, link.alias if _is_ifname(link.alias) else FREE_NAME)


def _recorded_mac(checked: config.Config) -> str:
    """The MAC that ADD's result has for the NIC, "" if there is no result (before 0.4.0, or the runtime lost it)."""
    try:
        for interface in result.from_object(checked.member("prevResult")).interfaces:
            if interface.name == checked.ifname and interface.sandbox:
                return addresses.parse_mac(interface.mac)
    except ValueError:
        pass  # what cannot be read is no evidence, and must not make DEL fail
    return ""


def _is_ifname(text: str) -> bool:
    try:
        config.check_ifname(text)
    except errors.CniError:
        return False
    return True


def _excerpt(stdout: bytes) -> str:
    return stdout[:256].decode("utf-8", "replace")


def _with_note(failure: Exception, note: str) -> Exception:
    if not isinstance(failure, errors.CniError):
        return failure
    return errors.CniError(failure.code, failure.msg, f"{failure.details}; {note}" if failure.details else note)


def _text(failure: Exception) -> str:
    failure = errors.coded(failure)
    if not isinstance(failure, errors.CniError):
        return str(failure)
    return f"{failure.msg} ({failure.details})" if failure.details else failure.msg


def _log(checked: config.Config, text: str) -> effects.Log:
    return effects.Log(f"exclusive-device: {checked.container_id} {checked.ifname}: {text}")
