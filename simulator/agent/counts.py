"""PURE: what one agent counts of what it does, from its start on.

Counted is what has happened: an event when it is durable, a refusal when it is the answer. So the counts agree with the
pool at every moment between two yields, which is when they are read.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """Everything that was counted.

    Args:
        events: kind of event → how many are in the journal that this agent has written.
        evidence: the same, of those that the evidence table has led to.
        collected: ``reclaimed`` and ``kept`` → ENIs that a runtime's list omitted.
        refusals: reason → requests.
        write_failures: times that the journal could not be written.
    """

    events: Counter[str] = field(default_factory=Counter)
    evidence: Counter[str] = field(default_factory=Counter)
    collected: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    write_failures: int = 0
