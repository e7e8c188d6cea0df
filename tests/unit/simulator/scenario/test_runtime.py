"""What a runtime sends: with which conf, to whom, and what at the end. The world is the tests' own."""

from collections.abc import Callable
from typing import Any

import pytest

from simulator.scenario import load

ADD = "  - add: {pod: default/web-0, container: c1}\n"
ADD2 = "  - add: {pod: default/web-1, container: c2}\n"
INLINE = """\
name: inline
summary: a conflist of its own
node: {enis: 1}
network:
  name: bridgenet
  plugins:
    - type: bridge
      isGateway: true
      ipam: {type: host-local, ranges: [[{subnet: 10.88.0.0/24}]]}
    - {type: tuning, sysctl: {a: b}}
steps:
"""
Play = Callable[..., Any]


def sent(world: Any) -> list[tuple[str, str, str]]:
    """What was sent: the command, the container and the namespace."""
    variables = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS")
    command, container, netns = ([call.environment[name] for call in world.calls] for name in variables)
    return list(zip(command, container, netns, strict=True))


def test_in_the_end_every_container_gets_a_del_and_its_namespace_is_removed(world: Any, play: Play) -> None:
    assert play(world, ADD + ADD2 + "  - del: {container: c1}\n").failed is None
    assert sent(world)[-2:] == [("DEL", "c1", "/n/c1"), ("DEL", "c2", "/n/c2")]
    assert [path for verb, path in world.done if verb == "delete_netns"] == ["/n/c1", "/n/c2"]


def test_container_whose_add_failed_gets_a_del_too(world: Any, play: Play) -> None:
    world.answers = [lambda _: (1, {"code": 11, "msg": "no"})]
    assert play(world, ADD + "    expect: {error: {code: 11}}\n").failed is None
    assert sent(world) == [("ADD", "c1", "/n/c1"), ("DEL", "c1", "/n/c1")]


def test_del_that_fails_is_sent_again_without_the_namespace(world: Any, play: Play) -> None:
    world.answers = [world.honest, lambda _: (1, {"code": 5, "msg": "io"})]
    assert play(world, ADD).failed is None
    assert sent(world)[1:] == [("DEL", "c1", "/n/c1"), ("DEL", "c1", "")]
    assert [path for verb, path in world.done if verb == "delete_netns"] == ["/n/c1"]


def test_del_that_never_succeeds_breaks_del_converges(world: Any, play: Play) -> None:
    world.answers = [world.honest, *[lambda _: (1, {"code": 5, "msg": "io"})] * 2]
    failed = play(world, ADD).failure
    assert (failed.step, failed.line) == ("end of all containers", 6)
    assert failed.message == (
        "del-converges: podnet/c1/eth0: the runtime has sent DEL twice, the second time without a netns; "
        "but it fails: exclusive-device: code 5: io"
    )


def test_version_that_the_plugin_does_not_speak_has_begun_nothing(world: Any, play: Play) -> None:
    world.answers = [lambda _: (1, {"code": 1, "msg": "incompatible"})] * 3
    assert play(world, ADD + "    expect: {error: {code: 1}}\n").failed is None


def test_container_that_is_forgotten_gets_no_del_and_still_loses_its_namespace(world: Any, play: Play) -> None:
    assert play(world, ADD + "  - runtime.forget: c1\n").failed is None
    assert sent(world) == [("ADD", "c1", "/n/c1")]
    assert [path for verb, path in world.done if verb == "delete_netns"] == ["/n/c1"]


def test_eni_that_does_not_come_back_in_the_end_is_not_conserved(world: Any, play: Play) -> None:
    world.answers = [world.honest, lambda _: (0, None)]  # a DEL that does nothing
    world.advance_clock = lambda _ms: None
    failed = play(world, ADD).failure
    assert failed.message == "conserved: eni-1: every container has ended; but the agent says in_use"


def test_what_plugins_are_expected_to_break_must_break_and_does_not_fail_the_run(make_world: Any, play: Play) -> None:
    for answers, message in (
        ([lambda _: (0, None)], ""),
        ([], "these plugins are expected to break `conserved`, but did not"),
    ):
        world = make_world(2)
        world.advance_clock = lambda _ms: None
        world.answers = [world.honest, *answers]
        played = play(world, ADD + "breaks: conserved\n")
        assert ("" if played.failed is None else played.failed.message) == message
        if not message:
            assert played.steps[-1] == (
                "end of all containers",
                "as expected, it breaks conserved: eni-1: every container has ended; but the agent says in_use",
            )


def test_conflist_of_its_own_is_sent_whole_with_the_labs_places_in_it(make_world: Any, play: Play) -> None:
    loaded = load.parse("s.yaml", (INLINE + ADD).encode())
    assert loaded.scenario.all_chains == ("bridge+host-local,tuning",)
    assert loaded.scenario.plugins("") == ("bridge", "host-local", "tuning")
    world = make_world(1)
    world.answers = [lambda _: (1, {"code": 11, "msg": "no"})]
    played = play(world, INLINE + ADD, whole=True)
    assert played.failure.message == "failed: bridge: code 11: no"
    assert world.calls[0].plugin == "bridge"
    assert b'"dataDir": "/var/lib/cni"' in world.calls[0].stdin
    assert b'"isGateway": true' in world.calls[0].stdin


@pytest.mark.parametrize(
    ("netconf", "said"),
    [
        ("chain: host-device", "give one of `chain`, `chains` and `network.plugins`"),
        ("dad: true", ""),
    ],
)
def test_conflist_of_its_own_is_in_place_of_a_chain(netconf: str, said: str) -> None:
    text = INLINE.replace("steps:\n", f"{netconf}\nsteps:\n") + ADD
    if said:
        with pytest.raises(Exception, match=said.replace(".", "[.]")):
            load.parse("s.yaml", text.encode())
    else:
        load.parse("s.yaml", text.encode())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    - {isGateway: true}\n", "`type` is missing"),
        ("    - {type: ../enim}\n", "should be a plugin's file name"),
        ("    - {type: bridge, ipam: {}}\n", "`type` is missing"),
        ("    - {type: bridge, ipam: {type: 7}}\n", "should be a text"),
    ],
)
def test_conflist_of_its_own_is_checked_as_far_as_it_is_known(line: str, said: str) -> None:
    text = INLINE.replace("    - {type: tuning, sysctl: {a: b}}\n", line) + ADD
    with pytest.raises(Exception, match=said):
        load.parse("s.yaml", text.encode())


def test_keys_of_a_chain_say_nothing_beside_a_whole_conf() -> None:
    text = INLINE.replace("  name: bridgenet\n", "  name: bridgenet\n  device: eni1\n") + ADD
    with pytest.raises(Exception, match="`plugins` is the whole conf: `device` goes into it"):
        load.parse("s.yaml", text.encode())


def test_calls_that_are_of_no_pod_name_no_device(make_world: Any, play: Play) -> None:
    world = make_world(1)
    world.answers = [world.honest, *[lambda _: (0, None)] * 2]
    head = "name: s\nsummary: s\nnode: {enis: 1}\nchain: host-device\nnetwork: {cniVersion: 1.1.0}\nsteps:\n"
    steps = ADD + "  - status: true\n  - gc: {valid: [c1]}\n"
    assert play(world, head + steps, "host-device", whole=True).failed is None
    asked = [(call.environment["CNI_COMMAND"], b'"device": "eni1"' in call.stdin) for call in world.calls]
    assert asked == [("ADD", True), ("STATUS", False), ("GC", False), ("DEL", True)]
