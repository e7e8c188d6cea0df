from collections.abc import Generator
from typing import Any

import pytest

from simulator.effects import Persist
from simulator.errors import StoreFault
from simulator.virtual import driver, store

Journal = tuple[driver.Driver, driver.Changes, store.Store]


@pytest.fixture
def journal() -> Journal:
    """A journal whose writes take 10 ns."""
    heap = driver.Driver()
    changes = driver.Changes(heap)
    return heap, changes, store.Store(heap, changes, sync_ns=10)


def write(journal: Journal, *kinds: str) -> driver.Process:
    heap, _, kept = journal

    def flow() -> Generator[Any, Any, str]:
        try:
            yield Persist(tuple({"kind": kind} for kind in kinds))
        except StoreFault as fault:
            return fault.text
        return "durable"

    return heap.start("writer", flow(), {Persist: kept.persist})


def kinds(journal: Journal) -> list[str]:
    return [event["kind"] for event in journal[2].read()]


def test_events_are_durable_when_the_flow_is_told_so(journal: Journal) -> None:
    heap, changes, _ = journal
    process = write(journal, "a", "b")
    heap.run(9)
    assert (kinds(journal), process.is_alive) == ([], True)

    heap.run(10)
    assert (kinds(journal), process.result(), changes.count) == (["a", "b"], "durable", 1)


def test_writes_keep_their_order(journal: Journal) -> None:
    for kind in "abc":
        write(journal, kind)
    journal[0].run(10)

    assert kinds(journal) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("kept_count", "found"), [(0, []), (1, ["a", "b"]), (2, ["a", "b", "c"]), (9, ["a", "b", "c"])]
)
def test_crash_loses_or_keeps_whole_batches_that_nobody_was_told_of(
    journal: Journal, kept_count: int, found: list[str]
) -> None:
    heap, _, kept = journal
    processes = [write(journal, "a", "b"), write(journal, "c")]
    heap.run(5)

    assert kept.crash(kept_count) == 2
    for process in processes:
        process.kill()
    heap.run(100)

    assert kinds(journal) == found


def test_crash_never_loses_what_was_durable(journal: Journal) -> None:
    write(journal, "a")
    journal[0].run(10)

    assert journal[2].crash() == 0
    assert kinds(journal) == ["a"]


def test_full_disk_is_a_fault_and_nothing_is_kept(journal: Journal) -> None:
    heap, changes, kept = journal
    kept.is_full = True
    process = write(journal, "a")
    heap.run(10)
    assert (process.result(), kinds(journal), changes.count) == ("No space left on device", [], 0)

    kept.is_full = False
    write(journal, "b")
    heap.run(20)
    assert (kinds(journal), kept.persist_count) == (["b"], 2)


def test_journal_keeps_its_own_copy(journal: Journal) -> None:
    write(journal, "a")
    journal[0].run(10)
    journal[2].read().clear()

    assert kinds(journal) == ["a"]


def test_compaction_replaces_the_oldest_events(journal: Journal) -> None:
    heap, _, kept = journal
    write(journal, "a", "b", "c")
    heap.run(10)
    kept.compact(2, [{"kind": "a and b"}])
    assert kinds(journal) == ["a and b", "c"]
