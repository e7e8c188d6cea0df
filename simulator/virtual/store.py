"""The agent's journal in memory, with what an unclean stop does to it.

Fault model: events that were reported durable are never lost. A batch that is being written when the agent is killed is
lost, or is found at the next start although nobody was ever told: ``crash`` decides which, and never splits a batch.
A write may also fail, for as long as the disk is full; then nothing of it is kept.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from simulator.effects import Persist
from simulator.errors import StoreFault
from simulator.virtual.driver import Changes, Driver, Pending


class Store:
    """One journal.

    Args:
        sync_ns: how long a write takes.
        changes: told after each write that succeeded, as soon as its flow has gone on.
    """

    def __init__(self, driver: Driver, changes: Changes, sync_ns: int = 0) -> None:
        self.is_full = False
        self.persist_count = 0  # writes that were asked for
        self._driver = driver
        self._changes = changes
        self._sync_ns = sync_ns
        self._durable: list[dict[str, Any]] = []
        self._tail: list[tuple[dict[str, Any], ...]] = []  # batches that are being written, in order

    def read(self) -> list[dict[str, Any]]:
        """Every durable event, oldest first."""
        return list(self._durable)

    def compact(self, count: int, by: Sequence[dict[str, Any]]) -> None:
        """Put ``by`` in the place of the oldest ``count`` events; no agent runs then."""
        self._durable[:count] = [dict(event) for event in by]

    def persist(self, effect: Persist, pending: Pending) -> None:
        """The handler of ``Persist``."""
        self.persist_count += 1
        if self.is_full:
            fault = StoreFault(f"append {len(effect.events)} events", errno.ENOSPC, os.strerror(errno.ENOSPC))
            pending.fail(fault, self._sync_ns)
            return
        batch = tuple(dict(event) for event in effect.events)
        self._tail.append(batch)
        self._driver.after(self._sync_ns, lambda: self._written(batch, pending))

    def crash(self, kept_count: int = 0) -> int:
        """The agent is killed: of the batches that are being written, the first ``kept_count`` are found later.

        Returns:
            How many were being written.
        """
        count = len(self._tail)
        for batch in self._tail[:kept_count]:
            self._durable.extend(batch)
        self._tail.clear()
        return count

    def _written(self, batch: tuple[dict[str, Any], ...], pending: Pending) -> None:
        if not any(one is batch for one in self._tail):
            return  # a crash was first
        self._tail = [one for one in self._tail if one is not batch]
        self._durable.extend(batch)
        pending.succeed()
        self._driver.after(0, self._changes.note)
