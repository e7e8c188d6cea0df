"""What enim does for CHECK, GC and STATUS, as flows. None of them changes what a container has, but GC.

    CHECK   prevResult → its NIC in the pod → the agent's record of the attachment
    GC      the list of what is valid → the agent, which takes back the rest by its own evidence
    STATUS  one look at the agent's health

Rules: an agent without ``/v1/x-enim/`` (the real one) answers 404: then CHECK verifies what can be seen without it, and
GC does nothing and says so. A list that is absent, or that cannot be read, is no evidence: nothing is taken back.

Source: contract A7, A8, B6; design D10 (the wire), D11 (STATUS), D12 (GC).
"""

from enim import addresses, config, effects, errors, jsonio, result, settings, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, TypeAlias

    Steps: TypeAlias = Generator[effects.Effect, Any, Any]

HEALTH = "/v1/healthz"
ATTACHMENTS = "/v1/x-enim/attachments"
COLLECT = "/v1/x-enim/gc"
VALID_KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")

STATUS_MS = 900  # it may run every 5 s (contract A7)
CHECK_MS = 10_000
GC_MS = 30_000


def check(checked: "config.Config") -> "effects.Flow":
    """CHECK: the pod has the NIC and the agent the record that ADD's result speaks of.

    Raises:
        CniError: 7 no usable prevResult, 8 no netns, 11 the agent does not answer, 101 and 102 it answered an error or
            nonsense, 104 the NIC is not there, 105 the kernel does not say, 107 the agent's record is another.
    """
    socket = settings.socket(checked)
    mac, wanted = previous(checked)
    yield from check_nic(checked, mac)
    query = (("network", checked.network), ("containerID", checked.container_id), ("ifname", checked.ifname))
    reply = yield from _ask(socket, wire.Request("GET", ATTACHMENTS, query), CHECK_MS)
    if reply.status == 404:
        healthy = yield from _ask(socket, wire.Request("GET", HEALTH), STATUS_MS)
        _refuse_failure(healthy, "the agent is not healthy")
        return
    _refuse_failure(reply, "the agent does not tell its attachments")
    try:
        changed = _changed(checked, mac, wanted, jsonio.loads(reply.body))
    except (ValueError, TypeError, AttributeError) as error:
        raw = reply.body.decode("utf-8", "replace")[:256]
        raise errors.CniError(
            errors.BAD_AGENT_REPLY, f"the agent's list of attachments cannot be read: {error}"[:256], raw
        ) from None
    if changed:
        raise errors.CniError(errors.CHANGED, *changed)


def collect(checked: "config.Config") -> "effects.Flow":
    """GC: tell the agent which attachments of this network are valid; it keeps what its evidence does not give up.

    Raises:
        CniError: 7 a list that cannot be read, 11 the agent does not answer, 101 it failed; nothing was lost then.
    """
    valid = _valid(checked)
    if valid is None:
        return
    body = jsonio.dumps({"network": checked.network, "valid": [{"containerID": c, "ifname": i} for c, i in valid]})
    reply = yield from _ask(settings.socket(checked), wire.Request("POST", COLLECT, body=body), GC_MS)
    if reply.status == 404:
        yield effects.Log(f"enim: the agent takes part in no garbage collection of {checked.network}: {COLLECT} is 404")
        return
    _refuse_failure(reply, "the garbage collection failed")


def status(checked: "config.Config") -> "effects.Flow":
    """STATUS: the agent is there and well. That no ENI is free is no failure (design D11).

    Raises:
        CniError: 50.
    """
    try:
        reply = yield effects.Request(settings.socket(checked), wire.Request("GET", HEALTH), STATUS_MS)
    except (errors.Unreachable, errors.Interrupted) as failure:
        text = f"the agent does not answer at {settings.socket(checked)}"[:256]
        raise errors.CniError(errors.NOT_AVAILABLE, text, failure.text[:256]) from None
    if reply.status != 200:
        reason = f"the agent is not healthy: {wire.error_text(reply)}"[:256]
        raise errors.CniError(errors.NOT_AVAILABLE, reason, f"HTTP status {reply.status}")


def previous(checked: "config.Config") -> tuple[str, tuple[str, ...]]:
    """``(mac, addresses)`` of this attachment's NIC in ``prevResult``; addresses are CIDR texts in their shortest form.

    Raises:
        CniError: 7, there is none, or it does not speak of this attachment.
    """
    if checked.member("prevResult") is None:
        raise errors.CniError(errors.INVALID_CONFIG, "CHECK needs prevResult, the result of ADD")
    try:
        found = result.from_object(checked.member("prevResult"))
        ours = [
            index
            for index, one in enumerate(found.interfaces)
            if one.name == checked.ifname and one.sandbox == checked.netns
        ]
        if len(ours) != 1:
            raise ValueError(f"it names {len(ours)} interfaces {checked.ifname} in {checked.netns}")
        mac = addresses.parse_mac(found.interfaces[ours[0]].mac)
        wanted = tuple(_normal(one.address) for one in found.addresses if one.interface in (None, ours[0]))
    except ValueError as error:
        raise errors.CniError(errors.INVALID_CONFIG, f"prevResult: {error}"[:256]) from None
    if not wanted:
        raise errors.CniError(errors.INVALID_CONFIG, f"prevResult has no address for {checked.ifname}")
    return mac, wanted


def check_nic(checked: "config.Config", mac: str) -> "Steps":
    """The link CNI_IFNAME in CNI_NETNS, which must have this MAC. Raises CniError 8, 104, 105."""
    netns, ifname = checked.netns, checked.ifname
    if not (yield effects.NetnsAlive(netns)):
        raise errors.CniError(errors.INVALID_NETNS, "CNI_NETNS is no network namespace", netns)
    try:
        link = yield effects.FindLink(name=ifname, netns=netns)
    except errors.KernelError as error:
        raise errors.CniError(errors.LINK_FAILURE, f"cannot {error.operation}"[:256], error.text[:256]) from None
    if link is None:
        raise errors.CniError(errors.WRONG_DEVICE, f"there is no {ifname} in {netns}", f"ADD's result has {mac}")
    if link.mac != mac:
        text = f"{ifname} is not the NIC that ADD gave"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"it has {link.mac}, ADD's result has {mac}")
    return link


def _changed(checked: "config.Config", mac: str, wanted: tuple[str, ...], answer: "Any") -> tuple[str, ...]:
    """What is not as ADD left it, and a detail; () if all is. Raises ValueError, TypeError, AttributeError: nonsense.

    Args:
        answer: ``{"attachments": [{"network", "containerID", "ifname", "state", "mac", "ips": [CIDR]}]}``.
    """
    key = [checked.network, checked.container_id, checked.ifname]
    recorded = [
        one
        for one in answer.get("attachments")
        if [one.get(name) for name in ("network", "containerID", "ifname")] == key
    ]
    found = [one for one in recorded if one.get("state") == "in_use"]
    if not found:
        states = ", ".join([str(one.get("state")) for one in recorded]) or "no record"
        return "the agent has no ENI in use for this attachment", f"it has {states}"[:256]
    own_mac = addresses.parse_mac(found[0].get("mac", ""))
    if own_mac != mac:
        return f"the agent's record has the NIC {own_mac}", f"the pod has {mac}"
    own = [_normal(text) for text in found[0].get("ips", ())]
    lacking = [text for text in wanted if text not in own]
    return (f"the agent's record lacks {lacking[0]}", f"it has {', '.join(own)}"[:256]) if lacking else ()


def _normal(text: str) -> str:
    family, number, length = addresses.parse_prefix(text)
    return f"{addresses.text_of(family, number)}/{length}"


def _valid(checked: "config.Config") -> "list[tuple[str, str]] | None":
    """``(container id, ifname)`` of the valid attachments, the union of both keys; None if neither is there (D12)."""
    found: dict[tuple[str, str], None] = {}
    is_given = False
    for key in VALID_KEYS:
        for name, value in checked.netconf.items():
            if name.lower() == key:
                is_given = True
                for one in _entries(key, value):
                    found[one] = None
    return list(found) if is_given else None


def _entries(key: str, value: "Any") -> "list[tuple[str, str]]":
    if not isinstance(value, (list, type(None))):
        raise errors.CniError(errors.INVALID_CONFIG, f"{key} is no list", repr(value)[:256])
    entries = []
    for one in value or ():
        container_id, ifname = [
            jsonio.member(one, name) if isinstance(one, dict) else None for name in ("containerID", "ifname")
        ]
        if not isinstance(container_id, str) or not isinstance(ifname, str) or not container_id or not ifname:
            text = f"{key} has an entry without containerID and ifname; nothing was collected"
            raise errors.CniError(errors.INVALID_CONFIG, text, repr(one)[:256])
        entries.append((container_id, ifname))
    return entries


def _ask(socket: str, request: wire.Request, timeout_ms: int) -> "Steps":
    """One round trip, not retried. Raises CniError 11."""
    try:
        return (yield effects.Request(socket, request, timeout_ms))
    except (errors.Unreachable, errors.Interrupted) as failure:
        text = f"the agent does not answer at {socket}"[:256]
        raise errors.CniError(errors.TRY_AGAIN_LATER, text, failure.text[:256]) from None


def _refuse_failure(reply: wire.Reply, text: str) -> None:
    if reply.status != 200:
        raise errors.CniError(
            errors.AGENT_FAILURE, f"{text}: {wire.error_text(reply)}"[:256], f"HTTP status {reply.status}"
        )
