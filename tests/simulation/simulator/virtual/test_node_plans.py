"""Any plan of what a runtime, a kernel and an unclean stop may do: safe at every moment, and well again at the end."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simulator.agent import compaction, pool
from simulator.virtual.plugins import Run

MS = 1_000_000
PODS = ("default/web-0", "default/web-1", "default/web-2")

JOURNAL_KEPT = st.sampled_from([compaction.KEPT, 0, 1, 5])  # events that the restart leaves as they are
STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(PODS), st.booleans()),
    st.tuples(st.just("add again"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("del"), st.integers(0, 30), st.booleans()),
    st.tuples(st.just("netns dies"), st.integers(0, 30)),
    st.tuples(st.just("plugin dies"), st.integers(0, 30)),
    st.tuples(st.just("agent restarts"), st.integers(0, 3), st.sampled_from([0, 100, 5_000]), JOURNAL_KEPT),
    st.tuples(st.just("answers are lost"), st.integers(1, 2)),
    st.tuples(st.just("disk is full"), st.sampled_from([1, 100, 3_000])),
    st.tuples(st.just("time"), st.sampled_from([1, 7, 100, 1_900, 2_100, 31_000])),
)


@dataclass
class Container:
    """A container as its runtime sees it. ``eni`` is what its ADD was told, until its DEL began or its netns died."""

    name: str
    pod: str
    add: Run
    asked: int = 0  # when its last ADD began, among all
    overlaps: bool = False  # an older ADD of its pod was under way, and may have reached the agent after this one
    eni: str = ""
    is_ending: bool = False
    runs: list[Run] = field(default_factory=list)


class Plan:
    """Carries out steps, and checks what must hold after each."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.containers: list[Container] = []
        self.asked = 0
        self.journal_before = 0

    def step(self, step: tuple[Any, ...]) -> None:
        kind, *rest = step
        actions: dict[str, Callable[..., None]] = {
            "add": self.add,
            "add again": self.add_again,
            "del": self.delete,
            "netns dies": self.end_netns,
            "plugin dies": self.kill_plugin,
            "agent restarts": self.restart,
            "answers are lost": self.lose_answers,
            "disk is full": self.fill_disk,
            "time": self.lab.node.pause,
        }
        actions[kind](*rest)
        self.check()

    def add(self, pod: str, waits: bool) -> None:
        name = f"c{len(self.containers)}"
        overlaps = any(run.is_tree_alive for one in self.containers if one.pod == pod for run in one.runs)
        run = self.lab.begin_add(name, pod)
        self.asked += 1
        self.containers.append(Container(name, pod, run, self.asked, overlaps, runs=[run]))
        if waits:
            self.lab.node.finish(run)

    def add_again(self, index: int, waits: bool) -> None:
        container = self.chosen(index)
        if container is None or self.lab.path(container.name) not in self.lab.node.kernel.paths():
            return
        container.is_ending = True  # whoever of the two fails takes back what both were given: no promise any more
        run = self.lab.begin_add(container.name, container.pod)
        self.asked += 1
        container.asked = self.asked
        container.runs.append(run)
        if waits:
            self.lab.node.finish(run)

    def delete(self, index: int, waits: bool) -> None:
        container = self.chosen(index)
        if container is None:
            return
        container.is_ending = True
        run = self.lab.begin_delete(container.name, container.pod)
        container.runs.append(run)
        if waits:
            self.lab.node.finish(run)

    def end_netns(self, index: int) -> None:
        container = self.chosen(index)
        if container is not None:
            container.is_ending = True
            self.lab.node.delete_netns(self.lab.path(container.name))

    def kill_plugin(self, index: int) -> None:
        container = self.chosen(index)
        if container is not None:
            for run in container.runs:
                run.kill()

    def restart(self, kept_count: int, down_ms: int, journal_kept: int) -> None:
        self.lab.node.crash_agent(kept_count)
        self.lab.node.pause(down_ms)
        journal = self.lab.node.store
        journal.compact(*compaction.compact(journal.read(), 0, journal_kept))
        self.journal_before = len(journal.read())
        self.lab.node.start_agent()
        self.lab.assert_recovery_is_neutral()

    def lose_answers(self, count: int) -> None:
        self.lab.node.network.answers_to_lose = count

    def fill_disk(self, ms: int) -> None:
        self.lab.node.store.is_full = True
        self.lab.node.pause(ms)
        self.lab.node.store.is_full = False

    def chosen(self, index: int) -> Container | None:
        return self.containers[index % len(self.containers)] if self.containers else None

    def check(self) -> None:
        node = self.lab.node
        records = node.snapshot().records
        assert [record.eni.id for record in records] == [eni.id for eni in node.enis]
        assert all(record.state in pool.STATES for record in records)
        attachments = [record.attachment for record in records if record.attachment is not None]
        assert len(set(attachments)) == len(attachments)
        for number in range(1, len(node.enis) + 1):
            self.lab.place(number)
        for container in self.containers:
            if not container.add.is_alive and not container.add.is_killed and container.add.exit_code == 0:
                container.eni = self.lab.answer(container.add)
        live = [container for container in self.containers if self.is_live(container)]
        assert len({container.eni for container in live}) == len(live), "two live containers share an ENI"
        for container in live:
            record = next(record for record in records if record.eni.id == container.eni)
            assert record.state == "in_use"
            assert record.attachment is not None
            assert record.attachment.container_id == container.name
            assert self.lab.place(int(container.eni[4:])) == f"{self.lab.path(container.name)}:eth0"

    def is_live(self, container: Container) -> bool:
        """Acknowledged, not ending, and no ADD of another container of its pod began after its own."""
        newer = [one for one in self.containers if one.pod == container.pod and one.asked > container.asked]
        return bool(container.eni) and not container.is_ending and not container.overlaps and not newer

    def end(self) -> None:
        """The faults are over: DEL of everything, and time."""
        node = self.lab.node
        node.network.answers_to_lose = 0
        node.finish(*(run for container in self.containers for run in container.runs))
        for container in self.containers:
            assert self.lab.delete(container.name, container.pod) == ""
            container.is_ending = True
        node.pause(200_000)
        self.check()
        assert self.lab.states() == ["free"] * len(node.enis)
        assert self.lab.violations() == []
        self.lab.assert_figures_agree(self.journal_before)


def carry_out(lab: Any, steps: list[tuple[Any, ...]]) -> None:
    plan = Plan(lab)
    plan.check()
    for step in steps:
        plan.step(step)
    plan.end()


# The same plans every time, so that a run never fails by luck; ENIM_EXAMPLES asks for others, and for more of them.
RELAXED = settings(
    max_examples=int(os.environ.get("ENIM_EXAMPLES", "120")),
    derandomize="ENIM_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

RESERVATION_LEFT_OVER = [
    ("add", "default/web-0", False),
    ("add again", 0, True),
    ("disk is full", 1),
    ("add again", 0, True),
]


@RELAXED
@example(steps=RESERVATION_LEFT_OVER)
@given(steps=st.lists(STEPS, max_size=30))
def test_any_plan_is_safe_and_ends_well_when_nothing_takes_time(make_lab: Any, steps: list[tuple[Any, ...]]) -> None:
    carry_out(make_lab(2), steps)


@RELAXED
@given(
    steps=st.lists(STEPS, max_size=30),
    sync_us=st.sampled_from([100, 1_000, 30_000]),
    delay_us=st.sampled_from([0, 500, 20_000]),
    live_rename=st.booleans(),
)
def test_any_plan_is_safe_and_ends_well_when_everything_takes_time(
    make_lab: Any, steps: list[tuple[Any, ...]], sync_us: int, delay_us: int, live_rename: bool
) -> None:
    carry_out(make_lab(3, sync_us * 1_000, delay_us * 1_000, live_rename=live_rename), steps)
