"""CHECK of the installed plugins for a pod that is as ADD left it, when the agent has another record of it, or none."""

import json

import pytest

from enim import errors, wire

MAC = "02:00:00:00:00:01"
IPS = ["192.0.2.10/24", "2001:db8::10/64"]
RECORD = {"network": "n", "containerID": "c1", "ifname": "eth0", "state": "in_use", "mac": MAC, "ips": IPS}
NOT_IN_USE = "the agent has no ENI in use for this attachment"
# What the agent has, and what CHECK says of it.
OTHER_RECORDS = [
    ({"mac": "02:00:00:00:00:99"}, f"the agent's record has the NIC 02:00:00:00:00:99; the pod has {MAC}"),
    ({"ips": IPS[:1]}, f"the agent's record lacks {IPS[1]}; it has {IPS[0]}"),
    ({"state": "returning"}, f"{NOT_IN_USE}; it has returning"),
    ({"containerID": "c2"}, f"{NOT_IN_USE}; it has no record"),
]


@pytest.mark.parametrize(("plugin", "delegate"), [("enim", ""), ("exclusive-device", ""), ("exclusive-device", "exec")])
def test_check_fails_unless_the_agent_has_the_record_of_what_add_gave(node, plant_agent, call_plugin, plugin, delegate):
    agent = plant_agent(node.directory / "agent.sock")
    eni = {"master-mac": MAC, "interface-number": str(node.create_nic("eni1", MAC))}
    agent.grant(
        {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], **eni},
        {"ip": "2001:db8::10", "cidrs": ["2001:db8::/64"], **eni},
    )
    attachment = (node.directory / "agent.sock", node.create_netns())
    netconf = {"type": "exclusive-device", "delegate": delegate}
    granted = call_plugin("exclusive-device", *attachment, **netconf).succeed()
    runtime = call_plugin(plugin, *attachment, **netconf, prevResult=granted)

    def record(**changes):
        body = json.dumps({"attachments": [{**RECORD, **changes}]}).encode()
        agent.replies["GET /v1/x-enim/attachments"] = wire.Reply(200, body, "application/json")

    record()
    assert runtime.succeed("CHECK") is None
    for changes, said in OTHER_RECORDS:
        record(**changes)
        error = runtime.fail("CHECK")
        assert (error["code"], f"{error['msg']}; {error['details']}") == (errors.CHANGED, said)
    assert agent.methods == ["POST", *["GET"] * (1 + len(OTHER_RECORDS))]
