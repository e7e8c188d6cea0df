"""exclusive-device has the verbs that enim has, each as a flow of its own."""

from enim import exclusive, exclusive_upkeep, exclusive_verbs, verbs


def test_verbs_are_those_of_enim():
    assert sorted(exclusive_verbs.COMMANDS) == sorted(verbs.COMMANDS)


def test_add_and_del_are_loaded_with_the_table_and_the_others_are_the_same_flows_as_loaded_directly():
    assert (exclusive_verbs.COMMANDS["ADD"], exclusive_verbs.COMMANDS["DEL"]) == (exclusive.add, exclusive.delete)
    for command in ("CHECK", "GC", "STATUS"):
        later = exclusive_verbs.COMMANDS[command](None)
        directly = {"CHECK": "check", "GC": "collect", "STATUS": "status"}[command]
        assert later.gi_code is getattr(exclusive_upkeep, directly).__code__
