"""PURE: where an agent can be made to die in the middle of a request, between two of its steps.

Names are incidents.md's: A1 reserved in memory, A2 the reservation is durable, D1 release requested, D2 released and
durable. ``add.reply``: the ENI is the container's, and the answer that says so is never sent. A failpoint is reached
when the agent journals an event of its kind; it dies just before, or just after, that is durable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Failpoint:
    """``kind`` of the journal's event; ``is_durable``: the event is found at the next start."""

    kind: str
    is_durable: bool


FAILPOINTS: Mapping[str, Failpoint] = {
    "add.A1": Failpoint("reserved", is_durable=False),
    "add.A2": Failpoint("reserved", is_durable=True),
    "add.reply": Failpoint("acknowledged", is_durable=True),
    "del.D1": Failpoint("released", is_durable=False),
    "del.D2": Failpoint("released", is_durable=True),
}


def is_reached(name: str, events: Iterable[Mapping[str, Any]]) -> bool:
    """Whether journaling these events is where the agent dies; "" is nowhere."""
    point = FAILPOINTS.get(name)
    return point is not None and any(event.get("kind") == point.kind for event in events)
