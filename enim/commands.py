"""What enim does for ADD and DEL, as flows: the order of the steps, what is retried, and what is undone.

    ADD  configuration → own netns? → POST → answer valid? → wishes met? → the NIC is where it must be? → print
    DEL  DELETE

Rules: a POST is never sent twice. A DELETE follows one that failed in any way that can have allocated: once, bounded,
and the first error is the one that is reported. A DELETE whose connection broke is sent again. An answer of 4xx is
the agent's word that nothing was allocated; a DELETE after it could only end what another ADD has got, so there is
none.

Source: contract A7, C5 (deadlines), C9 R1 to R7; design D2 to D6, D13.
"""

from enim import effects, errors, result, settings, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, TypeAlias

    from enim import config, wishes

    Steps: TypeAlias = Generator[effects.Effect, Any, Any]

ENI = "/v1/eni"
NETWORK_HEADER = "x-enim-network"
TRANSIENT = "please retry"  # in the agent's errors that pass by themselves (contract C9 R1)
OTHER_MODE = "noop enim"  # what the real agent answers for ever on a node that is not in ENI mode (contract C6)

# Milliseconds: connecting (``ipam.connect-timeout`` can shorten it), one round trip, all together. The agent may take
# 60 s for a POST (contract C5); kubelet gives ADD 4 minutes, containerd and CRI-O give DEL one.
ADD_BUDGET = (30_000, 70_000, 100_000)
DEL_BUDGET = (25_000, 25_000, 50_000)
ROLL_BACK_BUDGET = (10_000, 10_000, 10_000)
PAUSE_MS = 50
PAUSE_MS_MAX = 1_000

RETRIED = ("ENOENT", "ECONNREFUSED", "EAGAIN")  # the agent is restarting, or its backlog is full


def add(checked: "config.Config") -> "effects.Flow":
    """ADD: get an ENI from the agent and print the result; whatever fails after the request gives the ENI back.

    Raises:
        CniError: see ``allocate``; 5 if nobody reads the result any more.
    """
    granted = yield from allocate(checked)
    try:
        yield effects.Print(result.encode(granted, checked.version, checked.shape))
    except Exception as failure:  # noqa: BLE001 -- whatever it is, the ENI must go back
        raise (yield from roll_back(checked, failure)) from None


def delete(checked: "config.Config") -> "effects.Flow":
    """DEL: tell the agent that the attachment has ended; what it does not know has ended already.

    Raises:
        CniError: 11 the agent is down or busy, 101 it answered an error that a retry does not cure.
    """
    try:
        reply = yield from _ask(checked, _request("DELETE", checked), DEL_BUDGET)
    except errors.Interrupted as failure:
        raise _coded(failure) from None
    if not _is_released(reply):
        raise _refusal(reply, "the agent did not release the ENI")


def allocate(checked: "config.Config") -> "Generator[effects.Effect, Any, result.Result]":
    """All of ADD but the printing. The caller answers for the ENI: it must ``roll_back`` if anything fails later.

    Raises:
        CniError: 4 and 7 configuration, 8 own netns, 11 agent down or busy, 100 refused, 101 the agent's failure,
            102 no allocation, 103 wishes not met, 104 NIC not found, 105 kernel. Then nothing is allocated, or it was
            given back.
    """
    settings.refuse_unusable(checked)
    routes, with_default = settings.routes(checked), settings.default_route(checked)
    wanted = yield from _wishes(checked)
    if not checked.netns_override and (yield effects.OwnNetns(checked.netns)):
        raise errors.CniError(errors.INVALID_NETNS, "CNI_NETNS is the plugin's own network namespace", checked.netns)
    request = _request("POST", checked, wanted.body() if wanted else b"")
    try:
        reply = yield from _ask(checked, request, ADD_BUDGET)
    except errors.CniError:
        raise
    except Exception as failure:  # noqa: BLE001 -- the outcome is unknown
        raise (yield from roll_back(checked, failure)) from None
    if 400 <= reply.status < 500:
        raise _refusal(reply, "the agent refused the ENI")
    try:
        allocation, name, ifindex = yield from _accept(checked, reply, wanted)
        return result.of_allocation(allocation, name, ifindex, routes, with_default=with_default)
    except Exception as failure:  # noqa: BLE001 -- whatever it is, the ENI must go back
        raise (yield from roll_back(checked, failure)) from None


def roll_back(checked: "config.Config", failure: Exception) -> "Generator[effects.Effect, Any, Exception]":
    """Give back what this ADD got, or may have got.

    Returns:
        the error to raise: ``failure``, coded, whatever comes of this.
    """
    try:
        reply = yield from _ask(checked, _request("DELETE", checked), ROLL_BACK_BUDGET)
        problem = "" if _is_released(reply) else wire.error_text(reply)
    except errors.CniError as second:
        problem = second.msg
    except Exception as second:  # noqa: BLE001 -- the first error wins
        problem = str(second)
    failure = _coded(failure)
    if problem:
        note = f"the roll-back failed too: {problem}"[:256]
        yield effects.Log(f"enim: {checked.container_id} {checked.ifname}: {note}")
        if isinstance(failure, errors.CniError):
            details = f"{failure.details}; {note}" if failure.details else note
            failure = errors.CniError(failure.code, failure.msg, details)
    return failure


def _accept(
    checked: "config.Config", reply: wire.Reply, wanted: "wishes.Wishes | None"
) -> "Generator[effects.Effect, Any, tuple[wire.Allocation, str, int]]":
    """The ENI that a good answer grants, with its name and its index on the host."""
    if reply.status >= 500:
        raise _refusal(reply, "the agent has no ENI to give")
    if reply.status != 200:
        raise errors.CniError(errors.BAD_AGENT_REPLY, f"the agent answered with HTTP status {reply.status}")
    try:
        allocation = wire.parse_allocation(reply.body)
    except errors.WireError as error:
        raw = reply.body.decode("utf-8", "replace")[:256]
        raise errors.CniError(errors.BAD_AGENT_REPLY, f"the agent's answer is {error.text}"[:256], raw) from None
    if wanted and (unmet := wanted.unmet(allocation)):
        granted = ", ".join([address.ip for address in allocation.addresses])
        raise errors.CniError(errors.NOT_GRANTED, f"the agent did not grant {unmet}", f"it granted {granted}")
    if checked.type == settings.HOST_DEVICE:
        name, ifindex = yield from _check_moved(checked, allocation)
    else:
        name, ifindex = yield from _find_at_home(allocation)
        if wanted and not wanted.is_device(name, allocation.mac):
            text = f"the agent did not grant the device {wanted.device}"[:256]
            raise errors.CniError(errors.NOT_GRANTED, text, f"it granted {name}, {allocation.mac}")
    return allocation, name, ifindex


def _wishes(checked: "config.Config") -> "Generator[effects.Effect, Any, wishes.Wishes | None]":
    if not settings.may_wish(checked):
        return None
    from enim import wishes  # noqa: PLC0415 -- few calls have any

    return (yield from wishes.resolve(checked, wishes.read(checked)))


def _check_moved(checked: "config.Config", allocation: wire.Allocation) -> "Steps":
    """host-device has moved its NIC by now: is it the one of the answer? Its name on the host is in its alias."""
    if not (yield effects.NetnsAlive(checked.netns)):
        return checked.text("device"), allocation.ifindex
    link = yield effects.FindLink(name=checked.ifname, netns=checked.netns)
    if link is None:
        text = f"there is no {checked.ifname} in {checked.netns}"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"the agent granted {allocation.mac}")
    if link.mac != allocation.mac:
        text = f"{checked.ifname} is not the ENI that the agent granted"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"it has {link.mac}, the agent granted {allocation.mac}")
    return link.alias, allocation.ifindex


def _find_at_home(allocation: wire.Allocation) -> "Steps":
    """Does the index still belong to this MAC? If not, the MAC decides: a move can change the index (contract B3)."""
    link = yield effects.FindLink(ifindex=allocation.ifindex, mac=allocation.mac)
    if link is None:
        link = yield effects.FindLink(mac=allocation.mac)
    if link is None:
        text = f"the ENI {allocation.mac} is not in the host's network namespace"
        raise errors.CniError(errors.WRONG_DEVICE, text, f"the agent says that it has index {allocation.ifindex}")
    return link.name, link.ifindex


def _request(method: str, checked: "config.Config", body: bytes = b"") -> wire.Request:
    query = (
        ("owner", settings.owner(checked)),
        ("containerID", checked.container_id),
        ("netns", checked.netns),
        ("ifname", checked.ifname),
    )
    return wire.Request(method, ENI, query, ((NETWORK_HEADER, checked.network),), body)


def _ask(checked: "config.Config", request: wire.Request, budget: tuple[int, int, int]) -> "Steps":
    """One round trip. Within the budget connecting is retried, as nothing was sent then; and a DELETE, which is
    idempotent, also when its connection broke: an agent that dies may still accept what it will never answer.

    Raises:
        CniError: 11, the agent cannot be connected: nothing was sent.
        Interrupted: the outcome is unknown.
    """
    longest_ms, request_ms, whole_ms = budget
    socket, connect_ms = settings.socket(checked), settings.connect_ms(checked, longest_ms)
    start = now = yield effects.Now()
    pause = PAUSE_MS
    while True:
        try:
            return (yield effects.Request(socket, request, min(request_ms, start + whole_ms - now)))
        except errors.Unreachable as failure:
            now = yield effects.Now()
            if not _is_retried(failure) or now + pause >= start + connect_ms:
                text = f"the agent cannot be reached at {socket}"[:256]
                raise errors.CniError(errors.TRY_AGAIN_LATER, text, failure.text[:256]) from None
        except errors.Interrupted:
            now = yield effects.Now()
            if request.method != "DELETE" or now + pause >= start + connect_ms:
                raise
        yield effects.Sleep(pause)
        now += pause
        pause = min(2 * pause, PAUSE_MS_MAX)


def _is_retried(failure: errors.Unreachable) -> bool:
    import errno  # noqa: PLC0415 -- where all goes well nobody needs it, and loading it takes 0.05 ms

    return errno.errorcode.get(failure.errno) in RETRIED


def _is_released(reply: wire.Reply) -> bool:
    return reply.status == 404 or 200 <= reply.status < 300


def _refusal(reply: wire.Reply, text: str) -> errors.CniError:
    """The code of an error answer."""
    reason = wire.error_text(reply)
    code = errors.AGENT_FAILURE
    if reply.status == 409:
        code = errors.TRY_AGAIN_LATER if TRANSIENT in reason else errors.REFUSED
    elif reply.status in (500, 502, 503) and reason != OTHER_MODE:
        code = errors.TRY_AGAIN_LATER
    return errors.CniError(code, f"{text}: {reason}"[:256], f"HTTP status {reply.status}")


def _coded(failure: Exception) -> Exception:
    """The CniError that a foreign failure is; what nobody foresaw stays what it is, for the edge to report."""
    if isinstance(failure, errors.Interrupted):
        return errors.CniError(errors.TRY_AGAIN_LATER, "the agent gave no whole answer", failure.text[:256])
    return errors.coded(failure)
