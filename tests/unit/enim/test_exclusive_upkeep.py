"""CHECK, GC and STATUS of exclusive-device: its own look at the pod, then the word of its IPAM plugin."""

import errno
import json

import pytest

from enim import config, effects, errors, exclusive_upkeep

NETNS, MAC = "/run/netns/n1", "fa:26:00:01:02:03"
PREVIOUS = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "mac": MAC, "sandbox": NETNS}],
    "ips": [{"address": "192.0.2.10/24", "interface": 0}],
}
NIC = (
    (effects.NetnsAlive(NETNS), True),
    (effects.FindLink(name="eth0", netns=NETNS), effects.Link(2, "eth0", MAC, "eni1")),
)
LOOK = effects.Addresses(NETNS, "eth0")
OWN = (4, 0xC000020A, 24)
VERBS = {
    "CHECK": exclusive_upkeep.check,
    "GC": exclusive_upkeep.collect,
    "STATUS": exclusive_upkeep.status,
}


def call(command):
    document = {"cniVersion": "1.1.0", "name": "n", "type": "exclusive-device", "ipam": {"type": "enim"}}
    stdin = json.dumps({**document, "prevResult": PREVIOUS}).encode()
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": NETNS,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin",
    }
    return config.read(environment, stdin, commands=tuple(VERBS), versions=config.WITH_INTERFACES)


@pytest.fixture
def run(play):
    """A function that plays a verb; ``delegate`` in it is what its IPAM plugin is asked."""

    def run(command, *steps):
        checked = call(command)
        asked = effects.Delegate("enim", command, checked.stdin)
        steps = [(asked if effect == "delegate" else effect, outcome) for effect, outcome in steps]
        return play(VERBS[command](checked), *steps)

    return run


def test_check_looks_at_nic_and_addresses_and_then_asks_the_ipam_plugin(run):
    assert run("CHECK", *NIC, (LOOK, frozenset({OWN})), ("delegate", (0, b""))) is None


def test_check_fails_when_an_address_is_gone_or_has_another_prefix(run):
    for shown in (frozenset(), frozenset({(4, 0xC000020A, 32)})):
        error = run("CHECK", *NIC, (LOOK, shown))
        assert (error.code, error.msg) == (107, "eth0 has lost its address 192.0.2.10/24")


def test_check_of_a_pod_that_cannot_be_looked_into_is_code_105(run):
    assert run("CHECK", *NIC, (LOOK, errors.KernelError("look", errno.EPERM, "no"))).code == 105


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_gc_and_status_are_the_ipam_plugins(run, command):
    assert run(command, ("delegate", (0, b""))) is None


@pytest.mark.parametrize("command", list(VERBS))
def test_error_of_the_ipam_plugin_is_handed_on_as_it_is(run, command):
    before = (*NIC, (LOOK, frozenset({OWN}))) if command == "CHECK" else ()
    said = b'{"cniVersion":"1.1.0","code":50,"msg":"down","details":"socket"}'
    error = run(command, *before, ("delegate", (1, said)))
    assert (error.code, error.msg, error.details) == (50, "down", "socket")
    assert run(command, *before, ("delegate", (-9, b""))).code == 106
