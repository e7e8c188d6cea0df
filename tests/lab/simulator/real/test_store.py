import errno
import os
import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.errors import LabError, StoreFault
from simulator.real import store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def journal(file: Path) -> Iterator[store.Journal]:
    opened = store.Journal(file)
    yield opened
    opened.close()


def test_journal_gives_back_what_was_appended_in_order_also_after_it_was_closed(file: Path) -> None:
    journal = store.Journal(file)
    journal.append([{"kind": "reserved", "eni": "eni-1", "at_ns": 1 << 62}, {"kind": "freed", "note": None}])
    journal.append(())
    journal.append([{"kind": "reserved", "owner": "default/wéb-0"}])
    journal.close()
    again = store.Journal(file)
    assert again.read() == [
        {"kind": "reserved", "eni": "eni-1", "at_ns": 1 << 62},
        {"kind": "freed", "note": None},
        {"kind": "reserved", "owner": "default/wéb-0"},
    ]
    again.close()


def test_journal_remembers_the_latest_clock_and_what_was_added_to_it(file: Path) -> None:
    journal = store.Journal(file)
    assert (journal.latest_clock_ns(), journal.clock_offset_ns()) == (0, 0)
    journal.append([{}], clock_ns=7)
    journal.append([{}], clock_ns=5)
    journal.save_clock_offset(3_000_000_000)
    journal.close()
    again = store.Journal(file)
    assert (again.latest_clock_ns(), again.clock_offset_ns()) == (7, 3_000_000_000)
    again.close()


def test_journal_syncs_each_commit(journal: store.Journal) -> None:
    modes = [journal._connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous")]
    assert modes == [("wal",), (2,)]  # 2 is FULL


def acknowledged_before_a_kill(
    work: Callable[[Path, int], None], file: Path, *, after: int, wait_s: float = 0.0
) -> int:
    """Kill a process that does ``work`` once so many acknowledgements have come, and a while later; the last one."""
    acknowledged, acknowledge = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(file, acknowledge)
        finally:
            os._exit(1)
    os.close(acknowledge)
    count = b""
    for _ in range(after):
        count = os.read(acknowledged, 4)
    time.sleep(wait_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(acknowledged, 4):
        count = more
    os.close(acknowledged)
    return int.from_bytes(count, "big")


def append_numbers_until_killed(file: Path, acknowledgements: int) -> None:
    journal = store.Journal(file)
    number = len(journal.read())
    while True:
        journal.append([{"number": number}, {"number": number + 1}])
        number += 2
        os.write(acknowledgements, number.to_bytes(4, "big"))


def test_journal_loses_no_acknowledged_event_to_a_kill_and_keeps_no_half_append(file: Path) -> None:
    for round_number in range(25):
        count = acknowledged_before_a_kill(append_numbers_until_killed, file, after=1 + round_number * 3)

        journal = store.Journal(file)
        numbers = [event["number"] for event in journal.read()]
        journal.close()
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= count > 0
        assert len(numbers) % 2 == 0


def test_second_agent_on_the_same_file_is_refused_and_the_first_goes_on(file: Path, journal: store.Journal) -> None:
    child = os.fork()
    if child == 0:
        try:
            store.Journal(file)
        except LabError:
            os._exit(42)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    with pytest.raises(LabError, match=r"Another agent uses the state file .*Stop it"):
        store.Journal(file)
    journal.append([{"kind": "freed"}])
    assert journal.read() == [{"kind": "freed"}]


def test_append_to_a_full_disk_is_a_store_fault_and_nothing_of_it_is_kept(file: Path, journal: store.Journal) -> None:
    journal.append([{"number": 1}])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.with_name("state.db-wal").stat().st_size + 5000, hard))
    try:
        with pytest.raises(StoreFault) as failed:
            journal.append([{"number": 2}, {"filler": "x" * 100_000}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.errno in (errno.ENOSPC, errno.EIO)
    assert journal.read() == [{"number": 1}]
    journal.append([{"number": 3}])
    journal.close()
    again = store.Journal(file)
    assert again.read() == [{"number": 1}, {"number": 3}]
    again.close()


def test_compaction_replaces_the_oldest_events_and_keeps_the_order_and_the_clock(file: Path) -> None:
    journal = store.Journal(file)
    for number in range(6):
        journal.append([{"number": number}], clock_ns=10 - number)
    journal.compact(4, [{"sum": 6}])
    journal.append([{"number": 6}])
    journal.close()
    again = store.Journal(file)
    assert again.read() == [{"sum": 6}, {"number": 4}, {"number": 5}, {"number": 6}]
    assert again.latest_clock_ns() == 10
    again.compact(4, [{"sum": 21}])
    assert (again.read(), again.latest_clock_ns()) == ([{"sum": 21}], 10)
    again.close()


def test_journal_says_how_many_events_are_in_it(file: Path) -> None:
    journal = store.Journal(file)
    counts = [journal.entry_count]
    journal.append([{}, {}, {}])
    counts.append(journal.entry_count)
    file.rename(file.with_name("elsewhere.db"))
    with pytest.raises(StoreFault):
        journal.append([{}])
    counts.append(journal.entry_count)
    file.with_name("elsewhere.db").rename(file)
    journal.compact(2, [{}])
    counts.append(journal.entry_count)
    journal.close()
    again = store.Journal(file)
    assert [*counts, again.entry_count] == [0, 3, 3, 2, 2]
    again.close()


def test_journal_says_how_large_its_files_are_until_they_are_gone(file: Path, journal: store.Journal) -> None:
    journal.append([{"filler": "x" * 100_000}])
    size = journal.size_bytes()
    assert size is not None
    assert 100_000 < size == sum(one.stat().st_size for one in file.parent.iterdir())
    file.unlink()
    assert journal.size_bytes() is None


def test_compaction_gives_the_space_back(file: Path, journal: store.Journal) -> None:
    journal.append([{"filler": "x" * 1000}] * 1000)
    journal.compact(1000, [{}])
    assert sum(one.stat().st_size for one in file.parent.iterdir()) < 50_000


def test_journal_of_a_version_without_snapshots_is_read_and_becomes_one_of_ours_with_the_first(file: Path) -> None:
    journal = store.Journal(file)
    journal._connection.execute("PRAGMA user_version = 1")
    journal.append([{}, {}])
    journal.close()
    older = store.Journal(file)
    assert older._number("PRAGMA user_version") == 1
    older.compact(1, [{"sum": 0}])
    assert older._number("PRAGMA user_version") == 2
    older.close()


def total(events: list[dict[str, int]]) -> int:
    """Of a journal of ones and their sums."""
    return sum(event["sum"] for event in events)


def compact_until_killed(file: Path, acknowledgements: int) -> None:
    journal = store.Journal(file)
    while True:
        journal.append([{"sum": 1}] * 50)
        events = journal.read()
        os.write(acknowledgements, total(events).to_bytes(4, "big"))
        count = len(events) - 10
        journal.compact(count, [{"sum": total(events[:count]) - 1}, {"sum": 1}])


def test_kill_during_a_compaction_loses_nothing_and_counts_nothing_twice(file: Path) -> None:
    for round_number in range(25):
        wait_s = round_number * 0.0005  # anywhere in the compactions that follow
        count = acknowledged_before_a_kill(compact_until_killed, file, after=1, wait_s=wait_s)

        journal = store.Journal(file)
        found = total(journal.read())
        journal.close()
        assert found - count in (0, 50)  # 50: appended, and not said yet


def test_compaction_on_a_full_disk_is_a_store_fault_and_the_journal_is_as_it_was(
    file: Path, journal: store.Journal
) -> None:
    events = [{"number": number, "filler": "x" * 1000} for number in range(50)]
    journal.append(events)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.with_name("state.db-wal").stat().st_size + 5000, hard))
    try:
        with pytest.raises(StoreFault):
            journal.compact(40, [{}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journal.read() == events
    journal.compact(50, [{}])
    assert journal.read() == [{}]


def test_append_to_a_database_that_may_not_grow_is_enospc(journal: store.Journal) -> None:
    journal._connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(StoreFault) as failed:
        journal.append([{"filler": "x" * 100_000}])
    assert failed.value.errno == errno.ENOSPC
    assert journal.read() == []


def test_append_to_a_read_only_database_is_erofs(journal: store.Journal) -> None:
    journal._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreFault) as failed:
        journal.append([{}])
    assert failed.value.errno == errno.EROFS


def test_append_after_close_is_a_store_fault(journal: store.Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(StoreFault):
        journal.append([{}])


@pytest.mark.parametrize("name", ["state.db", "state.db-wal"])
def test_append_to_a_file_that_was_removed_is_a_store_fault(file: Path, journal: store.Journal, name: str) -> None:
    journal.append([{}])
    file.with_name(name).unlink()
    with pytest.raises(StoreFault) as failed:
        journal.append([{}])
    assert failed.value.errno == errno.ENOENT


def test_file_that_is_no_database_is_refused_and_left_as_it_is(file: Path) -> None:
    file.write_text("apiVersion: v1\n" * 100)
    with pytest.raises(LabError, match=r"is no state file of an agent. Name another"):
        store.Journal(file)
    assert file.read_text() == "apiVersion: v1\n" * 100


def test_database_of_another_program_is_refused_and_left_as_it_is(file: Path) -> None:
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE events (id)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(LabError, match="is a database of another program"):
        store.Journal(file)
    assert file.read_bytes() == before


def test_journal_of_another_version_is_refused(file: Path) -> None:
    journal = store.Journal(file)
    journal._connection.execute("PRAGMA user_version = 9")
    journal.close()
    with pytest.raises(LabError, match=r"has format 9, and this version reads up to 2. Use the version that wrote it"):
        store.Journal(file)


@pytest.mark.parametrize("kept_bytes", [4096, 5000, 12_000])
def test_truncated_journal_is_refused_with_what_to_do(file: Path, kept_bytes: int) -> None:
    journal = store.Journal(file)
    journal.append([{"filler": "x" * 1000}] * 50)
    journal.close()
    os.truncate(file, kept_bytes)
    with pytest.raises(LabError, match=r"is damaged.*Move it away"):
        store.Journal(file)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE clock",
        "DROP TABLE events",
        "DELETE FROM clock",
        "UPDATE clock SET offset_ns = 'soon'",
        "INSERT INTO events VALUES (1, 'noon', '{}')",
        "ALTER TABLE events RENAME COLUMN body TO text",
    ],
)
def test_journal_whose_tables_are_not_ours_is_refused_with_what_to_do(file: Path, damage: str) -> None:
    journal = store.Journal(file)
    journal._connection.execute(damage)
    journal.close()
    with pytest.raises(LabError, match=r"is damaged: .*Move it away"):
        store.Journal(file)


def test_event_that_is_no_object_is_refused(journal: store.Journal) -> None:
    journal._connection.execute("INSERT INTO events (clock_ns, body) VALUES (0, '[]')")
    with pytest.raises(LabError, match="no object"):
        journal.read()
    journal._connection.execute("UPDATE events SET body = '{'")
    with pytest.raises(LabError, match="is damaged"):
        journal.read()


def test_empty_file_is_a_new_journal(file: Path) -> None:
    file.touch()
    journal = store.Journal(file)
    assert journal.read() == []
    journal.close()


def test_file_in_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be opened"):
        store.Journal(tmp_path / "missing" / "state.db")
