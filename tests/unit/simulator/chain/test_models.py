"""host-device by hand: which requests, in which order, and what it says when one fails. No kernel, no plugin."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from typing import Any

import pytest

from enim import effects, errors
from simulator.chain import models, moves
from simulator.model import Link

MAC = "02:e1:00:00:00:01"
POD, WAY = "#pod", "#way"
NETNS = "/run/netns/p1"
AT_HOME = Link(2, "eni1", MAC, 1500, up=True)
IN_POD = Link(2, "eth0", MAC, 1500, alias="eni1", up=True)
GRANTED = {"cniVersion": "1.0.0", "ips": [{"address": "10.64.0.10/24", "gateway": "10.64.0.1"}]}
CONF = {"cniVersion": "1.0.0", "name": "net", "type": "host-device", "device": "eni1", "ipam": {"type": "enim"}}
ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": NETNS,
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin:/usr/lib/cni",
}
DOES_EXIST = errors.KernelError("", errno.EEXIST, "File exists")
IS_GONE = errors.KernelError("", errno.ENOENT, "No such file or directory")


class World:
    """Answers effects; what is in ``answers`` comes first, an exception is thrown into the flow."""

    def __init__(self, answers: Mapping[effects.Effect, Any]) -> None:
        self.answers = dict(answers)
        self.seen: list[effects.Effect] = []
        self.printed = b""

    def run(
        self,
        command: str = "ADD",
        release: models.Release = models.DEBIAN,
        conf: object = CONF,
        changed: Mapping[str, str] | None = None,
    ) -> int:
        environment = {**ENVIRONMENT, "CNI_COMMAND": command, **(changed or {})}
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        flow = models.main(environment, stdin, release)
        outcome: Any = None
        try:
            effect = next(flow)
            while True:
                self.seen.append(effect)
                outcome = self.answer(effect)
                effect = flow.throw(outcome) if isinstance(outcome, Exception) else flow.send(outcome)
        except StopIteration as end:
            return int(end.value)

    def answer(self, effect: effects.Effect) -> Any:
        if isinstance(effect, effects.Print):
            self.printed += effect.data
        if effect in self.answers:
            return self.answers[effect]
        fixed = {moves.OpenNetns: POD, moves.OpenTemporary: WAY, effects.OwnNetns: False, effects.Delegate: (0, b"")}
        if isinstance(effect, effects.Delegate) and effect.command == "ADD":
            return 0, json.dumps(GRANTED).encode()
        if isinstance(effect, moves.Look):
            return IN_POD if effect.name == "eth0" else AT_HOME
        return fixed.get(type(effect))

    @property
    def steps(self) -> list[str]:
        """What was done, without what was only looked at and printed."""
        return [step for effect in self.seen if (step := self.word(effect))]

    def word(self, effect: effects.Effect) -> str:
        if isinstance(effect, effects.Delegate):
            return effect.command
        if isinstance(effect, moves.Move):
            return f"{effect.source or 'home'} to {effect.target or 'home'}"
        if isinstance(effect, moves.Change):
            return f"{effect.netns or 'home'} {effect.attribute}={effect.value}"
        return {moves.Close: "close", effects.Configure: "configure"}.get(type(effect), "")

    @property
    def error(self) -> tuple[int, str]:
        value = json.loads(self.printed)
        return value["code"], value["msg"]


ADD_OF_DEBIAN = ["home to #pod", "#pod up=False", "#pod alias=eni1", "#pod name=eth0", "#pod up=True"]
ADD_OF_NEWEST = ["home to #way", "#way name=eth0", "#way alias=eni1", "#way to #pod", "#pod up=True", "close"]
DEL_OF_DEBIAN = ["DEL", "#pod up=False", "#pod name=eni1", "#pod to home"]
DEL_OF_NEWEST = ["DEL", "#pod to #way", "#way name=eni1", "#way alias=", "#way to home", "close"]


@pytest.mark.parametrize(("release", "moved"), [(models.DEBIAN, ADD_OF_DEBIAN), (models.NEWEST, ADD_OF_NEWEST)])
def test_add_moves_before_it_asks_the_ipam_plugin(release: models.Release, moved: list[str]) -> None:
    world = World({})

    assert world.run(release=release) == 0
    assert world.steps == [*moved, "ADD", "configure"]
    assert json.loads(world.printed)["ips"] == [{"address": "10.64.0.10/24", "gateway": "10.64.0.1", "interface": 0}]
    assert json.loads(world.printed)["interfaces"] == [{"name": "eth0", "mac": MAC, "sandbox": NETNS}]


def test_add_takes_dns_from_the_configuration_and_the_oldest_gateway_for_routes() -> None:
    granted = {**GRANTED, "dns": {"domain": "ipam"}, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
    world = World({effects.Delegate("enim", "ADD", json.dumps(CONF).encode()): (0, json.dumps(granted).encode())})
    world.run(conf=CONF)

    assert json.loads(world.printed)["dns"] == {}
    assert [effect.routes for effect in world.seen if isinstance(effect, effects.Configure)] == [
        (("0.0.0.0/0", "10.64.0.1", {}), ("::/0", "", {}))
    ]


def test_add_without_ipam_only_moves() -> None:
    world = World({})

    assert world.run(conf={**CONF, "ipam": {}}) == 0
    assert world.steps == ADD_OF_DEBIAN


@pytest.mark.parametrize("release", [models.DEBIAN, models.NEWEST])
def test_add_leaves_the_nic_in_the_pod_when_ipam_refuses(release: models.Release) -> None:
    said = b'{"code": 11, "msg": "later"}'
    world = World({effects.Delegate("enim", "ADD", json.dumps(CONF).encode()): (1, said)})

    assert world.run(release=release) == 1
    assert world.error == (11, "later")
    assert world.steps[-1] == "ADD"


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        ((0, b"{}"), 999, "IPAM plugin returned missing IP config"),
        ((0, b""), 999, "failed to unmarshal raw result"),
        ((0, b'{"cniVersion": "1.1.0"}'), 999, 'unsupported CNI result version "1.1.0"'),
        ((1, b""), 0, "netplugin failed with no error message: exit status 1"),
        ((-9, b""), 0, "netplugin failed with no error message: signal 9"),
        ((1, b"[]"), 0, "netplugin failed but error parsing its diagnostic message"),
        ((1, b'{"msg": 1}'), 0, "netplugin failed but error parsing its diagnostic message"),
    ],
)
def test_add_reports_what_ipam_says_and_releases_nothing(said: tuple[int, bytes], code: int, text: str) -> None:
    world = World({effects.Delegate("enim", "ADD", json.dumps(CONF).encode()): said})

    assert world.run() == 1
    assert (world.error[0], world.error[1][: len(text)]) == (code, text)
    assert "DEL" not in world.steps


def test_add_releases_when_configuring_fails_and_still_does_not_move_back() -> None:
    refusal = errors.KernelError("", errno.ENETUNREACH, "Network is unreachable")
    world = World({effects.Configure(POD, "eth0", ("10.64.0.10/24",), ()): refusal})

    assert world.run() == 1
    assert world.steps == [*ADD_OF_DEBIAN, "ADD", "configure", "DEL"]


def test_add_releases_nothing_when_nobody_reads_its_result() -> None:
    class Deaf(World):
        def answer(self, effect: effects.Effect) -> Any:
            return BrokenPipeError() if isinstance(effect, effects.Print) else super().answer(effect)

    world = Deaf({})

    assert world.run() == 1
    assert world.steps[-1] == "configure"


@pytest.mark.parametrize("step", ADD_OF_DEBIAN)
def test_add_of_debian_undoes_nothing(step: str) -> None:
    world = World({})
    world.run()
    refused = next(effect for effect in world.seen if world.word(effect) == step)
    world = World({refused: DOES_EXIST})

    assert world.run() == 1
    assert world.steps == ADD_OF_DEBIAN[: ADD_OF_DEBIAN.index(step) + 1]
    assert world.error[1].startswith("failed to move link ")
    assert world.error[1].endswith("file exists")


@pytest.mark.parametrize(
    ("step", "undone"),
    [
        ("home to #way", []),
        ("#way name=eth0", ["#way to home"]),
        ("#way alias=eni1", ["#way name=eni1", "#way to home"]),
        ("#way to #pod", ["#way alias=", "#way name=eni1", "#way to home"]),
        ("#pod up=True", ["#pod to #way", "#way alias=", "#way name=eni1", "#way to home"]),
    ],
)
def test_add_of_the_newest_undoes_what_it_did(step: str, undone: list[str]) -> None:
    world = World({})
    world.run(release=models.NEWEST)
    refused = next(effect for effect in world.seen if world.word(effect) == step)
    world = World({refused: DOES_EXIST})

    assert world.run(release=models.NEWEST) == 1
    done = ADD_OF_NEWEST[: ADD_OF_NEWEST.index(step) + 1]
    assert world.steps == [*done, *undone, "home up=True", "close"]


@pytest.mark.parametrize(("release", "moved"), [(models.DEBIAN, DEL_OF_DEBIAN), (models.NEWEST, DEL_OF_NEWEST)])
def test_delete_asks_the_ipam_plugin_before_it_moves(release: models.Release, moved: list[str]) -> None:
    world = World({moves.Look(WAY, "eth0"): IN_POD})

    assert world.run("DEL", release) == 0
    assert world.steps == moved
    assert world.printed == b""


@pytest.mark.parametrize("step", ["#pod name=eni1", "#pod to home"])
def test_delete_of_debian_renames_back_when_it_cannot_move(step: str) -> None:
    world = World({})
    world.run("DEL")
    refused = next(effect for effect in world.seen if world.word(effect) == step)
    world = World({refused: DOES_EXIST})

    assert world.run("DEL") == 1
    assert world.steps == [*DEL_OF_DEBIAN[: DEL_OF_DEBIAN.index(step) + 1], "#pod name=eth0", "#pod up=True"]


@pytest.mark.parametrize(
    ("step", "undone"),
    [
        ("#pod to #way", []),
        ("#way name=eni1", ["#way to #pod"]),
        ("#way alias=", ["#way name=eth0", "#way to #pod"]),
        ("#way to home", ["#way alias=eni1", "#way name=eth0", "#way to #pod"]),
    ],
)
def test_delete_of_the_newest_undoes_what_it_did(step: str, undone: list[str]) -> None:
    world = World({})
    world.run("DEL", models.NEWEST)
    refused = next(effect for effect in world.seen if world.word(effect) == step)
    world = World({refused: DOES_EXIST})

    assert world.run("DEL", models.NEWEST) == 1
    done = DEL_OF_NEWEST[: DEL_OF_NEWEST.index(step) + 1]
    assert world.steps == [*done, *undone, "#pod up=True", "close"]


def test_delete_without_a_netns_is_a_success_that_ipam_never_hears_of() -> None:
    world = World({})

    assert world.run("DEL", changed={"CNI_NETNS": ""}) == 0
    assert world.seen == []


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (IS_GONE, f'failed to Statfs "{NETNS}": no such file or directory'),
        (errors.KernelError("", errno.EINVAL, "Invalid argument"), f'unknown FS magic on "{NETNS}": 1021994'),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_dead_netns_is_an_error_before_anything_is_done(command: str, refusal: errors.KernelError, text: str) -> None:
    world = World({moves.OpenNetns(NETNS): refusal})

    assert world.run(command) == 1
    assert world.error == (999, f'failed to open netns "{NETNS}": {text}')
    assert world.steps == []


def test_delete_stops_when_ipam_fails() -> None:
    world = World({effects.Delegate("enim", "DEL", json.dumps(CONF).encode()): (1, b'{"code": 101, "msg": "no"}')})

    assert world.run("DEL") == 1
    assert (world.error, world.steps) == ((101, "no"), ["DEL"])


def test_delete_fails_when_the_link_has_left() -> None:
    world = World({moves.Look(POD, "eth0"): None})

    assert world.run("DEL") == 1
    assert world.error == (999, 'failed to find "eth0": Link not found')


def test_delete_of_the_newest_leaves_a_link_without_an_alias() -> None:
    world = World({moves.Look(POD, "eth0"): Link(2, "eth0", MAC, 1500)})

    assert world.run("DEL", models.NEWEST) == 1
    assert world.error == (999, 'failed to find original ifname for "eth0" (alias is not set)')
    assert world.steps == ["DEL", "close"]


@pytest.mark.parametrize(
    ("conf", "code", "text"),
    [
        (b"{", 6, "error unmarshall network config"),
        (b"[]", 6, "error unmarshall network config"),
        ({**CONF, "name": ""}, 7, "missing network name"),
        ({**CONF, "name": "a/b"}, 7, "invalid characters found in network name"),
        ({**CONF, "cniVersion": "1.1.0"}, 1, "incompatible CNI versions"),
        ({**CONF, "cniVersion": 1}, 6, "decoding version"),
        ({**CONF, "device": ""}, 999, 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"'),
        ({**CONF, "device": 1}, 999, "failed to load netconf"),
        ({**CONF, "pciBusID": "0000:00:05.0"}, 999, "error with host device: lstat /sys/bus/pci/devices/0000:00:05.0"),
    ],
)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_bad_configuration_fails_add_and_delete_alike(command: str, conf: object, code: int, text: str) -> None:
    world = World({})

    assert world.run(command, conf=conf) == 1
    assert (world.error[0], world.error[1][: len(text)]) == (code, text)
    assert world.steps == []


def test_the_newest_takes_1_1_0_and_refuses_a_device_id_that_is_not_there() -> None:
    assert World({}).run(conf={**CONF, "cniVersion": "1.1.0"}, release=models.NEWEST) == 0
    world = World({})
    world.run(conf={**CONF, "runtimeConfig": {"deviceID": "x"}}, release=models.NEWEST)

    assert world.error == (999, "runtime config DeviceID x not found or unsupported")


def test_the_newest_looks_at_variables_before_stdin_and_debian_after() -> None:
    codes = {}
    for release in (models.DEBIAN, models.NEWEST):
        world = World({})
        world.run(conf=b"{", changed={"CNI_IFNAME": "a/b"}, release=release)
        codes[release] = world.error[0]

    assert codes == {models.DEBIAN: 6, models.NEWEST: 4}


def test_the_newest_says_at_the_end_that_the_netns_was_its_own() -> None:
    world = World({effects.OwnNetns(NETNS): True})

    assert world.run("DEL", models.NEWEST) == 1
    assert world.error[0] == errors.INVALID_NETNS
    assert world.steps == DEL_OF_NEWEST


def test_an_ipam_plugin_that_is_not_there_is_named_with_the_path() -> None:
    missing = errors.CniError(errors.DELEGATE_FAILURE, "it cannot be started")
    world = World({effects.Delegate("enim", "ADD", json.dumps(CONF).encode()): missing})

    assert world.run() == 1
    assert world.error == (999, 'failed to find plugin "enim" in path [/opt/cni/bin /usr/lib/cni]')
