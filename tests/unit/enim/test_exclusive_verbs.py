"""exclusive-device has the verbs that enim has, each as a flow of its own."""

import pytest

from enim import exclusive, exclusive_upkeep, exclusive_verbs, verbs

FLOWS = {
    "ADD": exclusive.add,
    "DEL": exclusive.delete,
    "CHECK": exclusive_upkeep.check,
    "GC": exclusive_upkeep.collect,
    "STATUS": exclusive_upkeep.status,
}


def test_verbs_are_those_of_enim():
    assert sorted(exclusive_verbs.COMMANDS) == sorted(verbs.COMMANDS) == sorted(FLOWS)


@pytest.mark.parametrize("command", list(FLOWS))
def test_each_verb_is_its_flow(command):
    assert exclusive_verbs.COMMANDS[command](None).gi_code is FLOWS[command].__code__
