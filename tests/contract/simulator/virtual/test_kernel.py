"""The model of links and namespaces against the real kernel: the same steps give the same answers and the same world.

Steps are drawn at random, but always the same ones; with ENIM_EXAMPLES=500 there are more. The real kernel is a lab's,
and its hardware process brings ENIs home as the kernel would bring real NICs (incidents P1 to P4).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from simulator import topology
from simulator.errors import KernelFault
from simulator.model import Link
from simulator.virtual import kernel as virtual

EXAMPLES = int(os.environ.get("ENIM_EXAMPLES", "12"))
ENIS = topology.enis(3)

InLab: TypeAlias = Callable[[Callable[[Path], Any]], Any]
Step: TypeAlias = tuple[Any, ...]
Seen: TypeAlias = list[tuple[Step, str, dict[str, tuple[Link, ...]]]]

PODS = ("p1", "p2")
NAMES = ("eni1", "eni2", "eth0", "dev0", "dev3")


class Model:
    """The kernel in memory."""

    def __init__(self, *, live_rename: bool) -> None:
        self.kernel = virtual.Kernel(live_rename=live_rename)
        for eni in ENIS:
            self.kernel.attach(eni)
        self.pins: dict[str, Callable[[], None]] = {}
        self.create = self.kernel.create_netns
        self.delete = self.kernel.delete_netns
        self.unmount = self.kernel.unmount_netns
        self.links = self.kernel.links
        self.restore = self.kernel.restore
        self.move_home = self.kernel.move_home

    def pin(self, path: str) -> Callable[[], None]:
        return self.kernel.pin(path)

    def add_link(self, name: str, mac: str, netns: str) -> None:
        self.kernel.add_link(name, mac, netns)

    def move_in(self, link: Link, target: str, name: str, alias: str) -> None:
        self.kernel.move(link.ifindex, "", target, name, alias)

    def move(self, link: Link, target: str) -> None:
        self.kernel.move(link.ifindex, link.netns, target, link.name)

    def change(self, link: Link, attribute: str, value: Any) -> None:
        self.kernel.change(link.name, link.netns, **{attribute: value})

    def add_altname(self, link: Link, name: str) -> None:
        self.kernel.change(link.name, link.netns, altnames=tuple(sorted((*link.altnames, name))))

    def add_address(self, link: Link, address: str) -> None:
        self.kernel.change(link.name, link.netns, addresses=tuple(sorted((*link.addresses, address))))

    def is_netns(self, path: str) -> bool:
        return self.kernel.is_netns(path)

    def settle(self) -> None:
        """It has no time."""


World: TypeAlias = Any  # a Model or a Real


def take(world: World, steps: list[Step]) -> Seen:
    """Take the steps; after each its answer, and what can be seen."""
    seen: Seen = []
    for step in steps:
        try:
            answer = perform(world, *step) or "done"
        except KernelFault as fault:
            answer = errno.errorcode.get(fault.errno, str(fault.errno))
        world.settle()
        netns = ["", *(pod for pod in PODS if world.is_netns(pod))]
        seen.append((step, answer, {one: world.links(one) for one in netns}))
    return seen


def perform(world: World, verb: str, *arguments: Any) -> str:
    """One step; "skipped" if it makes no sense here."""
    if verb in ("delete", "unmount") and not world.is_netns(*arguments):
        return "skipped"
    if verb in ("create", "delete", "unmount"):
        getattr(world, verb)(*arguments)
        return ""
    if verb == "pin":
        if arguments[0] in world.pins or not world.is_netns(*arguments):
            return "skipped"
        world.pins[arguments[0]] = world.pin(arguments[0])
        return ""
    if verb == "let_go":
        world.pins.pop(arguments[0], lambda: None)()
        return ""
    if verb == "add_link":
        name, netns = arguments
        if netns and not world.is_netns(netns):
            return "skipped"
        world.add_link(name, f"02:00:00:00:00:{sum(netns.encode()) % 200:02x}", netns)
        return ""
    return perform_on_eni(world, verb, *arguments)


def perform_on_eni(world: World, verb: str, number: int, *arguments: Any) -> str:
    eni = ENIS[number]
    netns = ["", *(pod for pod in PODS if world.is_netns(pod))]
    link = next((link for one in netns for link in world.links(one) if link.mac == eni.mac), None)
    if link is None or not makes_sense(world, verb, link, *arguments):
        return "skipped"
    if verb == "move_home":
        world.move_home(link.netns or "p1", eni.mac, *arguments)
    elif verb == "restore":
        world.restore(link.ifindex, eni.name, eni.mtu)
    elif verb in ("move", "move_in", "add_address", "add_altname"):
        getattr(world, verb)(link, *arguments)
    else:
        world.change(link, verb, *arguments)
    return ""


def makes_sense(world: World, verb: str, link: Link, *arguments: Any) -> bool:
    if verb == "move":
        return arguments[0] != link.netns and (not arguments[0] or world.is_netns(arguments[0]))
    if verb == "add_address":
        return arguments[0] not in link.addresses
    return verb not in ("move_in", "restore") or not link.netns


pods, names, enis = st.sampled_from(PODS), st.sampled_from(NAMES), st.integers(0, len(ENIS) - 1)
anywhere = st.sampled_from(("", *PODS))
moves = st.one_of(
    st.tuples(st.just("move"), enis, anywhere),
    st.tuples(st.just("move_in"), enis, pods, names, names),
    st.tuples(st.just("move_home"), enis, names),
    st.tuples(st.just("restore"), enis),
)
changes = st.one_of(
    st.tuples(st.just("name"), enis, st.one_of(names, st.sampled_from(("sixteen-bytes-xx", "a/b", "..")))),
    st.tuples(st.just("alias"), enis, st.one_of(names, st.just(""))),
    st.tuples(st.just("add_altname"), enis, names),
    st.tuples(st.just("mtu"), enis, st.sampled_from((1400, 9000))),
    st.tuples(st.just("up"), enis, st.booleans()),
    st.tuples(st.just("add_address"), enis, st.sampled_from(("10.64.0.10/24", "fd64::a/64"))),
)
namespaces = st.one_of(
    st.tuples(st.sampled_from(("create", "delete", "pin", "let_go", "unmount")), pods),
    st.tuples(st.just("add_link"), names, anywhere),
)
plans = st.lists(st.one_of(moves, changes, namespaces), min_size=10, max_size=20)
RENAMES: list[Step] = [("name", 1, one) for one in ("eni2", "eth9", "eni3", "sixteen-bytes-xx", "a/b")]
BEGIN: list[Step] = [("create", "p1"), ("create", "p2"), ("move_in", 0, "p1", "eth0", "eni1")]


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # each run costs a lab: the failing plan is shown as it was found
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(plan=plans)
def test_kernel_answers_as_the_real_one(
    in_lab: InLab, real: Callable[[Path], World], live_rename: bool, plan: list[Step]
) -> None:
    plan = [*BEGIN, *plan]

    assert_alike(in_lab(lambda scratch: take(real(scratch), plan)), take(Model(live_rename=live_rename), plan))


def assert_alike(real: Seen, model: Seen) -> None:
    for step, (expected, seen) in enumerate(zip(real, model, strict=True)):
        assert seen == expected, f"step {step + 1}, {seen[0]}"


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param([("delete", "p1")], id="P1: home under the pod's name"),
        pytest.param([("name", 1, "eth0"), ("delete", "p1")], id="P2: that name is taken"),
        pytest.param([("add_altname", 1, "eth0"), ("delete", "p1")], id="P2: that name is an altname"),
        pytest.param([("add_altname", 0, "dev0"), ("name", 1, "dev0"), ("delete", "p1")], id="P3: an altname is taken"),
        pytest.param([("pin", "p1"), ("delete", "p1"), ("let_go", "p1")], id="K2: a process holds it"),
        pytest.param([("unmount", "p1"), ("create", "p1")], id="K9: a plain file stays"),
        pytest.param([("add_link", "eni9", "p1"), ("delete", "p1")], id="P4: a virtual link dies"),
        pytest.param([("move", 0, "p2"), ("move", 1, "p1"), ("move", 0, "p1")], id="K10: the ifindex is kept if free"),
        pytest.param([("up", 1, True), *RENAMES], id="P5: a link that is up is renamed, or not"),
        pytest.param([("up", 1, True), ("move_in", 1, "p1", "eth1", "eni2")], id="P5: a move renames any"),
        pytest.param([("up", 1, True), ("name", 1, "eth9"), ("restore", 1)], id="P5: restoring sets it down first"),
    ],
)
def test_kernel_shows_the_facts_as_the_real_one(
    in_lab: InLab, real: Callable[[Path], World], live_rename: bool, plan: list[Step]
) -> None:
    plan = [*BEGIN, *plan]

    assert_alike(in_lab(lambda scratch: take(real(scratch), plan)), take(Model(live_rename=live_rename), plan))
