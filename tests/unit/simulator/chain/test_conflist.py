"""The conflist of an installation: recognised again, and what differs in another one."""

import json

import pytest

from simulator.chain import conflist

TEXT = conflist.text("exclusive-device", "podnet", "/run/enim.sock")


def changed(change):
    network = json.loads(TEXT)
    change(network, network["plugins"][0])
    return (json.dumps(network, indent=2) + "\n").encode()


def test_a_text_does_not_differ_from_itself():
    assert conflist.differences(TEXT, TEXT) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda network, _: network.update(name="n"), 'name is "n", an installation writes "podnet"'),
        (lambda network, _: network.pop("name"), 'name is not there, an installation writes "podnet"'),
        (lambda network, _: network.update(x=[1]), "x is [1], an installation writes no such member"),
        (lambda _, plugin: plugin.update(type=7), 'plugins[0].type is 7, an installation writes "exclusive-device"'),
        (
            lambda _, plugin: plugin["capabilities"].update(mac=1),
            "plugins[0].capabilities.mac is 1, an installation writes true",
        ),
        (
            lambda network, _: network["plugins"].append({"type": "tuning"}),
            'plugins[1] is {"type": "tuning"}, an installation writes no such member',
        ),
        (
            lambda network, _: network["plugins"].clear(),
            'plugins[0] is not there, an installation writes {"type": "exclusive-device"',
        ),
        (
            lambda _, plugin: plugin.update(ipam="enim"),
            'plugins[0].ipam is "enim", an installation writes {"type": "enim"',
        ),
        (lambda network, _: network.update({"\x1b[31m": 1}), "\\u001b[31m is 1, an installation writes no such member"),
    ],
)
def test_what_differs_is_named_by_its_place(change, said):
    (found,) = conflist.differences(changed(change), TEXT)
    assert found.startswith(said)
    assert len(found) < 250


def test_every_difference_is_named_in_the_order_of_the_file_that_is_wanted():
    other = conflist.text("host-device", "n", "")
    named = [said.partition(" is ")[0] for said in conflist.differences(other, TEXT)]
    assert named == ["name", "plugins[0].type", "plugins[0].ipam.socket"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (b"", "it cannot be read as JSON"),
        (b"\xff", "it cannot be read as JSON"),
        (b"{", "it cannot be read as JSON"),
        (b"[" * 100_000, "it cannot be read as JSON"),
        (b"1" * 5000, "it cannot be read as JSON"),
        (TEXT.replace(b" ", b""), "it says the same, but is formatted otherwise"),
        (TEXT + b"\n", "it says the same, but is formatted otherwise"),
    ],
)
def test_what_is_no_network_or_is_formatted_otherwise_is_said(other, said):
    assert conflist.differences(other, TEXT) == [said]


@pytest.mark.parametrize("chain", conflist.CHAINS)
@pytest.mark.parametrize("socket", ["", "/run/enim.sock"])
def test_nearest_to_one_that_was_written_is_itself(chain, socket):
    text = conflist.text(chain, "n", socket)
    assert conflist.nearest(text) == text
    assert conflist.nearest(text, chain=chain, name="n", socket=socket) == text


@pytest.mark.parametrize("other", [{"chain": "host-device"}, {"name": "n"}, {"socket": ""}, {"socket": "/run/b"}])
def test_nearest_is_another_one_if_something_else_was_asked_for(other):
    assert len(conflist.differences(TEXT, conflist.nearest(TEXT, **other))) == 1


@pytest.mark.parametrize(
    "other",
    [
        *(b"", b"\xff", b"[" * 100_000, b"null", b"[]", b"{}", b'{"plugins": {}}', b'{"plugins": [7]}'),
        *(TEXT.replace(before, after) for before, after in ((b'"podnet"', b"7"), (b'"/run/enim.sock"', b"null"))),
        TEXT.replace(b'"exclusive-device"', b'"bridge"'),
        TEXT.replace(b'"exclusive-device"', b"[]"),
        TEXT.replace(b'"/run/enim.sock"', b'""'),
    ],
)
def test_nearest_to_what_was_never_written_is_another_one(other):
    assert conflist.differences(other, conflist.nearest(other)) != []
