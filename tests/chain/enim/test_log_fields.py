"""What the line of a call tells, for each outcome of ADD and DEL: whose call it was, how long it took, and which ENI.

A plugin knows the ENI from its answer to ADD, from prevResult, or from the NIC that it has brought home.
"""

import json
import os

MAC, MISSING = "02:00:00:00:00:01", "02:00:00:00:00:99"
WHOSE = {"container": "c1", "owner": "default/web-0", "ifname": "eth0"}


class Runtime:
    """Calls one plugin for a pod."""

    def __init__(self, node, log_caller, plugin, delegate=""):
        self.plugin = plugin
        self.caller = log_caller(node.directory, node.create_nic("eni1", MAC))
        self.caller.netns = node.create_netns()
        self.caller.netconf |= {"type": "exclusive-device", "delegate": delegate, "log-format": "json"}
        del self.caller.netconf["device"]
        self.agent = self.caller.agent

    def run(self, command, **changes):
        """What the call printed, and of each line but warnings plugin, verb, level and ENI."""
        _, stdout, _ = self.caller.run(self.plugin, command, **changes)
        entries = [entry for entry in self.caller.logged() if entry["level"] != "warning"]
        self.caller.file.unlink()
        for entry in entries:
            known = {name: entry.get(name) for name in WHOSE}
            assert (known, type(entry.get("duration_ms"))) == (WHOSE, int), entry
        return stdout, [(one["plugin"], one["command"], one["level"], one.get("eni")) for one in entries]

    def add(self):
        """A successful ADD: prevResult, and its lines."""
        stdout, lines = self.run("ADD")
        return {"prevResult": json.loads(stdout)}, lines

    def add_unread(self):
        """The lines of an ADD whose result nobody reads."""
        reading, writing = os.pipe()
        os.close(reading)
        _, lines = self.run("ADD", stdout=writing)
        os.close(writing)
        return lines


def test_line_of_enim_names_pod_duration_and_eni(node, log_caller):
    runtime = Runtime(node, log_caller, "enim")

    previous, added = runtime.add()
    assert added == [("enim", "ADD", "info", MAC)]
    runtime.agent.delete_status = 500
    assert runtime.run("DEL", **previous)[1] == [("enim", "DEL", "error", MAC)]
    runtime.agent.delete_status = 200
    assert runtime.run("DEL", **previous)[1] == [("enim", "DEL", "info", MAC)]
    assert runtime.run("DEL")[1] == [("enim", "DEL", "info", None)]

    assert runtime.add_unread() == [("enim", "ADD", "error", MAC)]
    runtime.agent.granted = runtime.agent.granted.replace(MAC.encode(), MISSING.encode())
    assert runtime.run("ADD")[1] == [("enim", "ADD", "error", MISSING)]


def test_lines_of_both_plugins_name_pod_duration_and_eni(node, log_caller, delegate):
    runtime = Runtime(node, log_caller, "exclusive-device", delegate)

    previous, added = runtime.add()
    assert added == [("enim", "ADD", "info", MAC), ("exclusive-device", "ADD", "info", MAC)]
    runtime.agent.delete_status = 500
    ended = runtime.run("DEL", **previous)[1]
    assert ended == [("enim", "DEL", "error", MAC), ("exclusive-device", "DEL", "error", MAC)]
    runtime.agent.delete_status = 200
    ended = runtime.run("DEL", **previous)[1]
    assert ended == [("enim", "DEL", "info", MAC), ("exclusive-device", "DEL", "info", MAC)]

    runtime.add()
    runtime.agent.delete_status = 500
    ended = runtime.run("DEL")[1]
    assert ended == [("enim", "DEL", "error", None), ("exclusive-device", "DEL", "error", MAC)]
    runtime.agent.delete_status = 200

    undone = ("enim", "DEL", "info", None)
    failed = ("exclusive-device", "ADD", "error", MAC)
    assert runtime.add_unread() == [("enim", "ADD", "info", MAC), undone, failed]
    unreachable = {**runtime.caller.netconf["ipam"], "routes": [{"dst": "0.0.0.0/0", "gw": "203.0.113.1"}]}
    assert runtime.run("ADD", ipam=unreachable)[1] == [("enim", "ADD", "info", MAC), undone, failed]
    runtime.agent.granted = runtime.agent.granted.replace(MAC.encode(), MISSING.encode())
    missing = [("enim", "ADD", "error", MISSING), ("exclusive-device", "ADD", "error", None)]
    assert runtime.run("ADD")[1] == missing
