"""PURE: how far the runs have got, as a fold over events that come from several of them at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simulator.report import events


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A run that has begun and not ended.

    Args:
        name: the scenario's, with its chain.
        steps: how many the file has.
        step: the 1-based number of the step; 0 during set-up, ``steps`` also for what follows the last one.
        title: what the step says of itself.
    """

    name: str
    steps: int
    step: int = 0
    title: str = ""


class Progress:
    """Which runs are under way, and how many have ended. Call it with a run's number and an event of that run."""

    def __init__(self) -> None:
        self.under_way: dict[int, UnderWay] = {}  # run's number → where it is
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def __call__(self, index: int, event: events.Event) -> None:
        """Take the next event."""
        match event:
            case events.ScenarioStarted():
                self.under_way[index] = UnderWay(f"{event.name} · {event.chain}", event.steps)
            case events.StepStarted():
                before = self.under_way[index]
                number = min(before.step + 1, before.steps) if before.title else 0
                self.under_way[index] = replace(before, step=number, title=event.step)
            case events.ScenarioFinished():
                self.under_way.pop(index, None)
                self.counts["failed" if event.failed else "passed"] += 1
            case events.ScenarioSkipped():
                self.counts["skipped"] += 1

    def summary(self) -> str:
        """Everything in one sentence, for who interrupts the runs."""
        ended = ", ".join(f"{count} {what}" for what, count in self.counts.items() if count or what != "skipped")
        running = [
            f"{one.name} at step {one.step}/{one.steps} ({one.title})" for _, one in sorted(self.under_way.items())
        ]
        return f"{ended}; under way: {', '.join(running)}" if running else f"{ended}; none under way"
