"""Every verb of enim has its flow."""

import json
import types

import pytest

from enim import config, verbs


@pytest.mark.parametrize("command", list(verbs.COMMANDS))
def test_every_verb_is_a_flow(command):
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/n",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/b",
    }
    stdin = json.dumps({"cniVersion": "1.1.0", "name": "n", "type": "exclusive-device", "ipam": {"type": "enim"}})
    checked = config.read(environment, stdin.encode(), commands=tuple(verbs.COMMANDS))
    assert isinstance(verbs.COMMANDS[command](checked), types.GeneratorType)


def test_verbs_are_those_of_the_specification_but_version_which_needs_no_flow():
    assert sorted(verbs.COMMANDS) == ["ADD", "CHECK", "DEL", "GC", "STATUS"]
