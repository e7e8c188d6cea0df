"""The key ``dad`` of exclusive-device's configuration: what it may be, and what becomes of it."""

import json

import pytest

from enim import config, effects, errors, exclusive

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/run/netns/p1",
    "CNI_IFNAME": "net0",
    "CNI_PATH": "/opt/cni/bin",
}
NETCONF = {"cniVersion": "1.0.0", "name": "podlink", "type": "exclusive-device", "ipam": {"type": "enim"}}
MAC = "02:00:00:00:00:01"
GRANTED = {
    "interfaces": [{"name": "eni1", "mac": MAC}],
    "ips": [{"address": "2001:db8::10/64", "interface": 7}],
}
ANSWERS = {
    effects.OwnNetns: False,
    effects.NetnsAlive: True,
    effects.Delegate: (0, json.dumps(GRANTED).encode()),
    effects.MoveIn: 7,
    effects.MoveOut: True,
}


def add(refusal=None, **keys):
    """Drive an ADD; its effects, and how it ended: None, or its error. ``refusal`` is what comes of Configure."""
    stdin = json.dumps({**NETCONF, **keys}).encode()
    flow = exclusive.add(config.read(ENVIRONMENT, stdin, versions=config.WITH_INTERFACES))
    seen = []
    try:
        effect = next(flow)
        while True:
            seen.append(effect)
            is_configure = type(effect) is effects.Configure
            if type(effect) is effects.FindLink:
                effect = flow.send(None if effect.name else effects.Link(7, "eni1", MAC))
            elif is_configure and refusal:
                effect = flow.throw(refusal)
            else:
                effect = flow.send(ANSWERS.get(type(effect)))
    except StopIteration:
        return seen, None
    except errors.CniError as error:
        return seen, error


@pytest.mark.parametrize(
    ("keys", "dad"), [({}, False), ({"dad": None}, False), ({"dad": False}, False), ({"dad": True}, True)]
)
def test_detection_is_off_unless_it_is_asked_for(keys, dad):
    seen, error = add(**keys)
    assert ([one.dad for one in seen if type(one) is effects.Configure], error) == ([dad], None)


@pytest.mark.parametrize("wrong", ["true", 1, [True]])
def test_what_is_no_boolean_is_refused_before_anything_is_done(wrong):
    seen, error = add(dad=wrong)
    assert (seen, error.code, error.msg) == ([], errors.INVALID_CONFIG, "dad must be true or false")
    assert error.details == f"it is {wrong!r}"


def test_address_that_another_host_has_is_code_105_and_everything_is_undone():
    seen, error = add(
        errors.KernelError("use the IPv6 addresses of net0", 98, "another host has 2001:db8::10"), dad=True
    )
    assert (error.code, error.details) == (errors.LINK_FAILURE, "another host has 2001:db8::10")
    assert [type(one) for one in seen[-2:]] == [effects.MoveOut, effects.Delegate]
    assert seen[-1].command == "DEL"
