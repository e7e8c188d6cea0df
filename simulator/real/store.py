"""EDGE: the agent's journal on disk, and the only file that knows SQLite.

What has been appended survives SIGKILL at any moment, and a power cut as far as the disk keeps what it was told to.

- One table of events in the order of their commits. The journal is evidence (I7): nothing is changed, and nothing is
  deleted but what ``compact`` puts a snapshot in the place of, in the same transaction.
- Write-ahead mode with ``synchronous=FULL``: the log is synced before a commit returns.
- The file stays locked while it is open, so that two agents never serve one state.
- An append that fails counts as not done. One case is open, as in every store: when the sync itself failed and the
  process dies before its next append, the events may be found at the next start, like those of a reply that was lost.
- The caller serialises its calls; any thread may make them.

Sources: SQLite documentation "Write-Ahead Logging", "PRAGMA locking_mode", "PRAGMA application_id"; the advice to keep
no second truth beside the journal is incidents INC-G11 and INC-F07.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from simulator import errors

SCHEMA_VERSION = 2  # 1 had no snapshots, and is read too; it becomes 2 with the first one
_READABLE = (1, SCHEMA_VERSION)

_APPLICATION_ID = 0x656E696D  # "enim", so that no other program's database is taken for ours
_OPEN_TIMEOUT_S = 1.0  # a predecessor that was just killed may still be on its way out
_SCHEMA = (
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY, clock_ns INTEGER NOT NULL, body TEXT NOT NULL)",
    "CREATE TABLE clock (row INTEGER PRIMARY KEY CHECK (row = 1), offset_ns INTEGER NOT NULL)",
    "INSERT INTO clock VALUES (1, 0)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_LATEST_CLOCK = "SELECT coalesce(max(clock_ns), 0) FROM events"
_COUNT = "SELECT count(*) FROM events"
_CLOCK_OFFSET = "SELECT offset_ns FROM clock"
_ERRNO = {
    sqlite3.SQLITE_BUSY: errno.EBUSY,
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EROFS,
}
START_ANEW = "Move it away to start without a history: the agent then finds out from the kernel whose ENI is where."


class Journal:
    """The journal in the SQLite file ``path``, created if it is missing; its directory must exist.

    ``entry_count`` is how many events are in it.

    Raises:
        LabError: another agent holds the file, it cannot be opened for writing, it is damaged or no SQLite file,
            or it was written by another program or another version of this one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._connection = sqlite3.connect(
                path, timeout=_OPEN_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        try:
            self._open()
            self._files = self._identities()
            self.entry_count = self._number(_COUNT)
        except (sqlite3.Error, OSError) as error:
            self._connection.close()
            raise self._refusal(error) from error
        except errors.LabError:
            self._connection.close()
            raise

    def append(self, events: Iterable[dict[str, Any]], clock_ns: int = 0) -> None:
        """Make events durable, all or none, before returning.

        Args:
            events: JSON objects, in order.
            clock_ns: the agent's clock now; kept beside them for the timeline and for ``latest_clock_ns``.

        Raises:
            StoreFault: disk full, locked, read-only, closed, or the file was removed or replaced; nothing was appended.
        """
        rows = [(clock_ns, _text(event)) for event in events]
        try:
            self._check_in_place()
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("INSERT INTO events (clock_ns, body) VALUES (?, ?)", rows)
            self.entry_count += len(rows)
        except (sqlite3.Error, OSError) as error:
            raise self._fault(f"append {len(rows)} events to {self._path}", error) from error

    def read(self) -> list[dict[str, Any]]:
        """Every event, oldest first. Raises ``LabError`` if the file holds something that is no event."""
        try:
            rows = self._connection.execute("SELECT body FROM events ORDER BY sequence").fetchall()
            events = [json.loads(body) for (body,) in rows]
        except (sqlite3.Error, ValueError) as error:
            raise self._refusal(error) from error
        if not all(isinstance(event, dict) for event in events):
            raise errors.LabError(f"The state file {self._path} holds an event that is no object", START_ANEW)
        return events

    def compact(self, count: int, by: Sequence[dict[str, Any]]) -> None:
        """Put ``by`` in the place of the oldest ``count`` events, durably, all or none; then give the space back.

        Args:
            count: at least as many as ``by`` has.

        Raises:
            StoreFault: as of ``append``; the journal is as it was, or compacted and only its file is still as large.
        """
        assert count >= len(by) > 0
        oldest = "SELECT sequence, clock_ns FROM events ORDER BY sequence LIMIT ?"
        try:
            self._check_in_place()
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                find = f"SELECT max(sequence), max(clock_ns) FROM ({oldest})"  # noqa: S608 - a constant
                last, clock_ns = self._connection.execute(find, (count,)).fetchone()
                self._connection.execute("DELETE FROM events WHERE sequence <= ?", (last,))
                rows = [(last - len(by) + number, clock_ns, _text(event)) for number, event in enumerate(by, start=1)]
                self._connection.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self.entry_count = self._number(_COUNT)
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, OSError) as error:
            raise self._fault(f"compact {self._path}", error) from error

    def latest_clock_ns(self) -> int:
        """The highest clock of any event, 0 without events. Raises ``StoreFault``."""
        return self._number(_LATEST_CLOCK)

    def clock_offset_ns(self) -> int:
        """What has been added to the agent's clock over the life of this file. Raises ``StoreFault``."""
        return self._number(_CLOCK_OFFSET)

    def save_clock_offset(self, offset_ns: int) -> None:
        """Remember what has been added to the agent's clock. Raises ``StoreFault``."""
        try:
            self._check_in_place()
            self._connection.execute("UPDATE clock SET offset_ns = ?", (offset_ns,))
        except (sqlite3.Error, OSError) as error:
            raise self._fault(f"save the clock in {self._path}", error) from error

    def size_bytes(self) -> int | None:
        """The size of its files on disk, None if they are gone. Any thread may ask at any time."""
        try:
            return sum(file.stat().st_size for file, _, _ in self._files)
        except OSError:
            return None

    def close(self) -> None:
        """Give the file and its lock back. May be called twice; every later append is a ``StoreFault``."""
        self._connection.close()

    def _open(self) -> None:
        # Before the first access, so that the lock comes with it and no shared-memory file is made.
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        application, version = (self._number(f"PRAGMA {name}") for name in ("application_id", "user_version"))
        is_new = not self._number("SELECT count(*) FROM sqlite_master") and not application and not version
        if not is_new:
            self._check_ours(application, version)
        if self._connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
            raise errors.LabError(f"The file system of {self._path} cannot hold a write-ahead log", "Use another one.")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._connection:
            self._connection.execute("BEGIN EXCLUSIVE")
            for statement in _SCHEMA if is_new else ():
                self._connection.execute(statement)

    def _check_ours(self, application: int, version: int) -> None:
        if application != _APPLICATION_ID:
            raise errors.LabError(f"{self._path} is a database of another program", "Name another state file.")
        if version not in _READABLE:
            raise errors.LabError(
                f"The state file {self._path} has format {version}, and this version reads up to {SCHEMA_VERSION}",
                f"Use the version that wrote it. {START_ANEW}",
            )
        if self._connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise errors.LabError(f"The state file {self._path} is damaged", START_ANEW)
        try:
            self._connection.execute("SELECT sequence, body FROM events LIMIT 1")
            _ = self.latest_clock_ns(), self.clock_offset_ns()
        except (sqlite3.OperationalError, TypeError, ValueError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR:
                raise
            raise errors.LabError(f"The state file {self._path} is damaged: {error}", START_ANEW) from error

    def _identities(self) -> list[tuple[Path, int, int]]:
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return [(file, status.st_dev, status.st_ino) for file in files for status in (file.stat(),)]

    def _check_in_place(self) -> None:
        """SQLite goes on writing to a file that has no name any more; then nothing of it would be found again."""
        if self._identities() != self._files:
            raise FileNotFoundError(errno.ENOENT, "the state file was replaced while it was in use")

    def _number(self, statement: str) -> int:
        try:
            return int(self._connection.execute(statement).fetchone()[0])
        except sqlite3.ProgrammingError as error:
            raise self._fault(f"read {self._path}", error) from error

    def _fault(self, operation: str, error: sqlite3.Error | OSError) -> errors.StoreFault:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte; the rest is SQLite's own detail
        return errors.StoreFault(operation, getattr(error, "errno", None) or _ERRNO.get(code, 0), str(error))

    def _refusal(self, error: Exception) -> errors.LabError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            return errors.LabError(f"Another agent uses the state file {self._path}", "Stop it, or name another file.")
        if code == sqlite3.SQLITE_NOTADB:
            return errors.LabError(f"{self._path} is no state file of an agent", "Name another file, or move it away.")
        if code == sqlite3.SQLITE_CORRUPT or isinstance(error, ValueError):
            return errors.LabError(f"The state file {self._path} is damaged: {error}", START_ANEW)
        access = os.access(self._path.parent, os.W_OK)
        cure = "Check its permissions and the space on its disk." if access else "Name one in a directory of your own."
        return errors.LabError(f"The state file {self._path} cannot be opened: {str(error)[:256]}", cure)


def _text(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"))
