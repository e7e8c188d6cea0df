"""exclusive-device's flows, driven by hand: each step is what the flow asks for, and how that went."""

import json

import pytest

from enim import config, effects, errors, exclusive

NETNS, MAC = "/run/netns/p1", "02:00:00:00:00:01"
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": NETNS,
    "CNI_IFNAME": "net0",
    "CNI_PATH": "/opt/cni/bin",
}
NETCONF = {"cniVersion": "1.0.0", "name": "podlink", "type": "exclusive-device", "ipam": {"type": "enim"}}
ENI = effects.Link(7, "eni1", MAC)
MOVED = effects.Link(7, "net0", MAC, "eni1")
GRANTED = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "eni1", "mac": MAC}],
    "ips": [
        {"address": "192.0.2.10/24", "gateway": "192.0.2.1", "interface": 7},
        {"address": "2001:db8::10/64", "gateway": "2001:db8::1", "interface": 7},
    ],
    "routes": [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}, {"dst": "::/0"}],
}
PRINTED = {
    **GRANTED,
    "interfaces": [{"name": "net0", "mac": MAC, "sandbox": NETNS}],
    "ips": [{**ip, "interface": 0} for ip in GRANTED["ips"]],
}


def checked(command="ADD", netns=NETNS, environment=None, **netconf):
    stdin = json.dumps({**NETCONF, **netconf}).encode()
    environment = {**ENVIRONMENT, "CNI_COMMAND": command, "CNI_NETNS": netns, **(environment or {})}
    return config.read(environment, stdin, versions=config.WITH_INTERFACES)


def play(flow, *steps):
    """Drive a flow through ``(kind or whole effect, outcome or exception)``; what it asked for."""
    asked = []
    effect = next(flow, None)
    for expected, outcome in steps:
        asked.append(effect)
        assert effect == expected if isinstance(expected, effects.Effect) else type(effect) is expected, asked
        try:
            effect = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration:
            effect = None
    assert effect is None, f"the flow goes on with {effect}"
    return asked


def fails(flow, *steps):
    with pytest.raises(errors.CniError) as caught:
        play(flow, *steps)
    return caught.value


def delegate(call, command):
    return effects.Delegate("enim", command, call.stdin)


CHECKS = ((effects.OwnNetns, False), (effects.NetnsAlive, True), (effects.FindLink(name="net0", netns=NETNS), None))


def asked(granted=None, code=0):
    """The steps until the delegate has answered."""
    stdout = GRANTED if granted is None else granted
    return (*CHECKS, (effects.Delegate, (code, stdout if isinstance(stdout, bytes) else json.dumps(stdout).encode())))


FOUND = (effects.FindLink(ifindex=7), ENI)
MOVE_IN = effects.MoveIn(7, NETNS, "net0", "eni1")
MOVE_OUT = effects.MoveOut(NETNS, "net0", "eni1")
REFUSED = errors.KernelError("move eni1", 17, "File exists")
RELEASED = (effects.Delegate, (0, b""))
DONE = (FOUND, (MOVE_IN, 7), (effects.Configure, None), (effects.Print, None))


# ADD


def test_add_does_everything_in_order():
    call = checked()
    calls = play(
        exclusive.add(call),
        (effects.OwnNetns(NETNS), False),
        (effects.NetnsAlive(NETNS), True),
        (effects.FindLink(name="net0", netns=NETNS), None),
        (delegate(call, "ADD"), (0, json.dumps(GRANTED).encode())),
        (effects.FindLink(ifindex=7), ENI),
        (effects.MoveIn(7, NETNS, "net0", "eni1"), 9),
        (
            effects.Configure(
                NETNS,
                "net0",
                ("192.0.2.10/24", "2001:db8::10/64"),
                (("0.0.0.0/0", "192.0.2.1", {}), ("::/0", "2001:db8::1", {})),
            ),
            None,
        ),
        (effects.Print, None),
    )
    assert json.loads(calls[-1].data) == PRINTED


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.0.10", "1.1.0"])
def test_add_prints_the_version_of_the_configuration(version):
    printed = json.loads(play(exclusive.add(checked(cniVersion=version)), *asked(), *DONE)[-1].data)
    assert printed["cniVersion"] == version
    assert [ip.get("version") for ip in printed["ips"]] == (["4", "6"] if version < "1" else [None, None])
    assert [ip["interface"] for ip in printed["ips"]] == [0, 0]


@pytest.mark.parametrize(
    ("own", "granted", "printed"),
    [({"domain": "a"}, {}, {"domain": "a"}), ({"domain": "a"}, {"search": ["b"]}, {"search": ["b"]}), (None, {}, None)],
)
def test_add_prints_the_dns_of_the_delegate_or_else_its_own(own, granted, printed):
    calls = play(exclusive.add(checked(dns=own)), *asked({**GRANTED, "dns": granted}), *DONE)
    assert json.loads(calls[-1].data).get("dns") == printed


@pytest.mark.parametrize(
    ("routes", "configured"),
    [
        ([{"dst": "198.51.100.0/24"}], [("198.51.100.0/24", "192.0.2.1", {})]),
        ([{"dst": "198.51.100.0/24", "gw": "192.0.2.9"}], [("198.51.100.0/24", "192.0.2.9", {})]),
        ([{"dst": "2001:db8:1::/48"}], [("2001:db8:1::/48", "", {})]),
        ([{"dst": "169.254.1.1/32", "scope": 253}], [("169.254.1.1/32", "", {"scope": 253})]),
        ([{"dst": "0.0.0.0/0", "mtu": 1400, "table": 7}], [("0.0.0.0/0", "192.0.2.1", {"mtu": 1400, "table": 7})]),
        ([{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": "192.0.2.9"}], [("0.0.0.0/0", "192.0.2.1", {})]),
        (None, []),
    ],
)
def test_add_makes_each_route_once_by_the_first_gateway_of_its_family(routes, configured):
    ips = [
        {"address": "192.0.2.10/24", "gateway": "192.0.2.1", "interface": 7},
        {"address": "192.0.2.11/24", "gateway": "192.0.2.2", "interface": 7},
        {"address": "2001:db8::10/64", "interface": 7},
    ]
    steps = (*asked({**GRANTED, "ips": ips, "routes": routes}), *DONE)
    calls = play(exclusive.add(checked(cniVersion="1.1.0")), *steps)
    assert list(calls[-2].routes) == configured
    assert json.loads(calls[-1].data).get("routes", []) == (routes or [])[:1]


def test_add_refuses_a_route_of_a_scope_that_cannot_be():
    granted = {**GRANTED, "routes": [{"dst": "::/0", "scope": 256}]}
    error = fails(exclusive.add(checked(cniVersion="1.1.0")), *asked(granted), RELEASED)
    assert (error.code, "scope" in error.msg, "256" in error.msg) == (errors.UNSUPPORTED_FIELD, True, True)


# ADD: what is wrong before anything is allocated


@pytest.mark.parametrize("ipam", ["enim", None, [], {}, {"type": ""}, {"type": "a/b"}, {"type": 7}, {"type": ".."}])
def test_add_needs_the_name_of_a_delegate(ipam):
    error = fails(exclusive.add(checked(ipam=ipam)))
    assert (error.code, "ipam" in error.msg) == (errors.INVALID_CONFIG, True)


@pytest.mark.parametrize("version", [None, "", "0.1.0", "0.2.0", "0.3.2", "1.0", "1.1.1"])
def test_add_refuses_versions_without_interfaces(version):
    with pytest.raises(errors.CniError) as caught:
        checked(cniVersion=version)
    assert caught.value.code == errors.INCOMPATIBLE_VERSION


@pytest.mark.parametrize("call", [{"delegate": "EXEC"}, {"delegate": 5}, {"environment": {"CNI_IFNAME": "eth%d"}}])
def test_add_refuses_what_it_cannot_do_and_del_does_not_mind(call):
    assert fails(exclusive.add(checked(**call))).code == (7 if "delegate" in call else 4)
    assert play(exclusive.delete(checked("DEL", netns="", **call)), (effects.Delegate, (0, b"")))


def test_add_into_its_own_netns_is_refused():
    error = fails(exclusive.add(checked()), (effects.OwnNetns(NETNS), True))
    assert (error.code, error.details) == (errors.INVALID_NETNS, NETNS)


def test_add_into_its_own_netns_is_done_where_the_runtime_insists():
    call = checked(environment={"CNI_NETNS_OVERRIDE": "true"})
    play(exclusive.add(call), *asked()[1:], *DONE)


def test_add_into_a_dead_netns_is_refused():
    error = fails(exclusive.add(checked()), (effects.OwnNetns, False), (effects.NetnsAlive(NETNS), False))
    assert error.code == errors.INVALID_NETNS


def test_add_into_a_netns_that_cannot_be_entered_is_refused():
    refused = errors.KernelError("enter it", 1, "Operation not permitted")
    error = fails(exclusive.add(checked()), *CHECKS[:2], (effects.FindLink, refused))
    assert (error.code, error.details) == (errors.INVALID_NETNS, "cannot enter it: Operation not permitted")


def test_add_onto_a_link_of_that_name_is_refused():
    error = fails(exclusive.add(checked()), *CHECKS[:2], (effects.FindLink, MOVED))
    assert (error.code, "net0" in error.msg) == (errors.LINK_FAILURE, True)


def test_add_whose_delegate_does_not_start_has_nothing_to_undo():
    missing = errors.CniError(errors.DELEGATE_FAILURE, "there is no IPAM plugin enim in CNI_PATH")
    assert fails(exclusive.add(checked()), *CHECKS, (effects.Delegate, missing)) is missing


def test_add_passes_the_delegates_error_on_untouched():
    said = {"cniVersion": "1.0.0", "code": 11, "msg": "no ENI", "details": "not found: HTTP 500"}
    error = fails(exclusive.add(checked()), *asked(said, code=1))
    assert (error.code, error.msg, error.details) == (11, "no ENI", "not found: HTTP 500")


# ADD: what is undone


@pytest.mark.parametrize(
    ("code", "stdout", "said"),
    [
        (1, b"", "ended with exit code 1"),
        (2, b"Traceback", "ended with exit code 2"),
        (1, b"[]", "printed no CNI error"),
        (1, b'{"msg": "no code"}', "printed no CNI error"),
        *((1, b'{"code":%b,"msg":"x"}' % code, "printed no CNI error") for code in (b'"7"', b"0", b"4294967296")),
        (-9, b"", "was killed by signal 9"),
        (0, b"", "cannot be read"),
        (0, b"{}", "gave no address"),
        (0, b'{"ips": [{"address": "192.0.2.300/24"}]}', "cannot be read"),
    ],
)
def test_add_takes_no_junk_and_lets_the_delegate_release_what_it_may_hold(code, stdout, said):
    call = checked()
    error = fails(exclusive.add(call), *asked(stdout, code), (delegate(call, "DEL"), (0, b"")))
    assert (error.code, said in error.msg) == (errors.DELEGATE_FAILURE, True), error.msg


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ips": []}, "gave no address"),
        ({"interfaces": []}, "gave no interface"),
        ({"interfaces": [{"name": "eni1"}]}, "invalid MAC"),
        ({"ips": [{"address": "192.0.2.10/24"}]}, "gave no interface index"),
        ({"ips": [{"address": "192.0.2.10/24", "interface": 0}]}, "gave no interface index"),
        ({"ips": [*GRANTED["ips"], {"address": "192.0.2.11/24", "interface": 8}]}, "more than one NIC"),
        ({"interfaces": [{"name": "a", "mac": MAC}, {"name": "b", "mac": "02:00:00:00:00:02"}]}, "more than one NIC"),
    ],
)
def test_add_needs_a_result_that_names_one_nic(change, said):
    error = fails(exclusive.add(checked()), *asked({**GRANTED, **change}), RELEASED)
    assert (error.code, said in error.msg) == (errors.DELEGATE_FAILURE, True), error.msg


def test_add_takes_one_interface_entry_per_family_of_the_same_nic():
    twice = [{"name": "eni1", "mac": MAC}, {"name": "eni1", "mac": MAC.upper()}]
    play(exclusive.add(checked()), *asked({**GRANTED, "interfaces": twice}), *DONE)


@pytest.mark.parametrize("link", [None, effects.Link(7, "eth0", "02:00:00:00:00:99")])
def test_add_moves_no_other_nic_than_the_one_with_the_mac(link):
    error = fails(exclusive.add(checked()), *asked(), (effects.FindLink(ifindex=7), link), RELEASED)
    assert (error.code, MAC in error.details) == (errors.WRONG_DEVICE, True)


def test_add_whose_move_is_refused_has_only_to_release():
    error = fails(exclusive.add(checked()), *asked(), FOUND, (MOVE_IN, REFUSED), RELEASED)
    assert (error.code, error.msg, error.details) == (errors.LINK_FAILURE, "cannot move eni1", "File exists")


def test_add_whose_configuration_is_refused_brings_the_nic_home_and_then_releases():
    call = checked()
    invalid = errors.KernelError("add a route", 22, "Nexthop has invalid gateway")
    moved = (*asked(), FOUND, (MOVE_IN, 7), (effects.Configure, invalid))
    error = fails(exclusive.add(call), *moved, (MOVE_OUT, True), (delegate(call, "DEL"), (0, b"")))
    assert (error.code, error.details) == (errors.LINK_FAILURE, "Nexthop has invalid gateway")


def test_add_that_nobody_reads_is_undone():
    moved = (*asked(), FOUND, (MOVE_IN, 7), (effects.Configure, None), (effects.Print, BrokenPipeError(32, "Broken")))
    error = fails(exclusive.add(checked()), *moved, (MOVE_OUT, True), RELEASED)
    assert error.code == errors.IO_FAILURE


def test_add_keeps_the_first_error_and_adds_what_could_not_be_undone():
    moved = (*asked(), FOUND, (MOVE_IN, 7), (effects.Configure, errors.KernelError("set net0 up", 1, "no")))
    stuck = errors.KernelError("move net0", 16, "busy")
    said = b'{"code": 11, "msg": "the agent is down"}'
    undone = ((MOVE_OUT, stuck), (effects.Delegate, (1, said)), (effects.Log, None), (effects.Log, None))
    error = fails(exclusive.add(checked()), *moved, *undone)
    assert (error.code, error.msg) == (errors.LINK_FAILURE, "cannot set net0 up")
    assert error.details == (
        "no; the roll-back failed too: cannot move net0 (busy); the roll-back failed too: the agent is down"
    )


@pytest.mark.parametrize(
    "steps", [(*CHECKS, (effects.Delegate, ZeroDivisionError())), (*asked(), (FOUND[0], ZeroDivisionError()))]
)
def test_add_undoes_also_what_nobody_foresaw(steps):
    with pytest.raises(ZeroDivisionError):
        play(exclusive.add(checked()), *steps, RELEASED)


# DEL

ALIVE = ((effects.OwnNetns(NETNS), False), (effects.NetnsAlive(NETNS), True))
LOOK = effects.FindLink(name="net0", netns=NETNS)


def recorded(mac, name="net0", sandbox=NETNS):
    return {"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": name, "mac": mac, "sandbox": sandbox}]}}


def test_delete_brings_the_nic_home_before_it_is_released():
    call = checked("DEL")
    play(exclusive.delete(call), *ALIVE, (LOOK, MOVED), (MOVE_OUT, True), (delegate(call, "DEL"), (0, b"")))


def test_delete_without_a_netns_only_releases():
    call = checked("DEL", netns="")
    play(exclusive.delete(call), (delegate(call, "DEL"), (0, b"")))


@pytest.mark.parametrize(
    "found",
    [
        (ALIVE[0], (effects.NetnsAlive(NETNS), False)),  # a dead netns
        ((effects.OwnNetns(NETNS), True),),  # the path names the host's by now
        (*ALIVE, (LOOK, None)),  # DEL again
    ],
)
def test_delete_that_finds_no_nic_only_releases(found):
    play(exclusive.delete(checked("DEL")), *found, RELEASED)


def test_delete_leaves_the_nic_of_another_attachment_alone():
    call = checked("DEL", **recorded("02:00:00:00:00:77"))
    calls = play(exclusive.delete(call), *ALIVE, (LOOK, MOVED), (effects.Log, None), RELEASED)
    assert "left there" in calls[3].text


def test_delete_leaves_a_link_alone_that_nothing_says_is_ours():
    bare = effects.Link(2, "net0", "0a:00:00:00:00:01")
    play(exclusive.delete(checked("DEL")), *ALIVE, (LOOK, bare), (effects.Log, None), RELEASED)


@pytest.mark.parametrize("alias", ["", "an alias of somebody", "a/b"])
def test_delete_of_a_nic_whose_home_name_is_lost_takes_any_free_one(alias):
    call = checked("DEL", **recorded(MAC.upper()))
    stripped = effects.Link(7, "net0", MAC, alias)
    play(exclusive.delete(call), *ALIVE, (LOOK, stripped), (effects.MoveOut(NETNS, "net0", "dev%d"), True), RELEASED)


@pytest.mark.parametrize(
    "previous",
    [
        recorded("no mac"),
        recorded("02:00:00:00:00:77", name="eth9"),
        recorded("02:00:00:00:00:77", sandbox=""),
        {"prevResult": None},
        {"prevResult": {"ips": 7}},
        {"prevResult": "nonsense"},
    ],
)
def test_delete_does_not_need_a_previous_result(previous):
    play(exclusive.delete(checked("DEL", **previous)), *ALIVE, (LOOK, MOVED), (MOVE_OUT, True), RELEASED)


def test_delete_whose_move_fails_releases_and_then_says_so():
    stuck = errors.KernelError("move net0", 16, "busy")
    error = fails(exclusive.delete(checked("DEL")), *ALIVE, (LOOK, MOVED), (MOVE_OUT, stuck), RELEASED)
    assert (error.code, error.msg, error.details) == (errors.LINK_FAILURE, "cannot move net0", "busy")


def test_delete_passes_the_delegates_error_on():
    said = b'{"code": 11, "msg": "the agent is down", "details": "ECONNREFUSED"}'
    error = fails(exclusive.delete(checked("DEL")), *ALIVE, (LOOK, None), (effects.Delegate, (1, said)))
    assert (error.code, error.msg, error.details) == (11, "the agent is down", "ECONNREFUSED")


def test_delete_reports_a_delegate_without_a_word():
    error = fails(exclusive.delete(checked("DEL")), *ALIVE, (LOOK, None), (effects.Delegate, (-9, b"")))
    assert (error.code, "signal 9" in error.msg) == (errors.DELEGATE_FAILURE, True)


def test_delete_reports_the_move_first_if_both_fail():
    stuck = errors.KernelError("move net0", 16, "busy")
    said = b'{"code": 11, "msg": "the agent is down"}'
    error = fails(
        exclusive.delete(checked("DEL")), *ALIVE, (LOOK, MOVED), (MOVE_OUT, stuck), (effects.Delegate, (1, said))
    )
    assert (error.code, error.details) == (errors.LINK_FAILURE, "busy; the IPAM plugin failed too: the agent is down")


def test_delete_with_a_broken_ipam_brings_the_nic_home_all_the_same():
    error = fails(exclusive.delete(checked("DEL", ipam="enim")), *ALIVE, (LOOK, MOVED), (MOVE_OUT, True))
    assert error.code == errors.INVALID_CONFIG
