"""PURE: what happens in a run, as records. A reporter is a fold over them; nothing else prints.

Every duration is in milliseconds of the world's own time, so that a run in virtual time reports virtual durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from simulator.model import PluginOutcome


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a scenario failed.

    Args:
        step: what the step says of itself, for example ``del c1``; "set-up" before the first.
        file: the scenario file.
        line: 1-based line of the step.
        message: one sentence.
        views: ``(label, text)`` pairs that help to understand it: what disagreed, what was seen last.
        plugins: the plugin runs of the failing step.
    """

    step: str
    file: str
    line: int
    message: str
    views: tuple[tuple[str, str], ...] = ()
    plugins: tuple[PluginOutcome, ...] = ()


@dataclass(frozen=True, slots=True)
class RunStarted:
    """``lab``: its name; ``why``: why this one; ``count``: scenario runs to come.

    ``backend``: which kind of link ENIs are where a scenario has no wish, "" in a lab without a kernel.
    """

    lab: str
    why: str
    count: int
    backend: str = ""


@dataclass(frozen=True, slots=True)
class ScenarioStarted:
    """One scenario file in one chain begins; ``steps``: how many the file has."""

    name: str
    chain: str
    file: str
    steps: int


@dataclass(frozen=True, slots=True)
class LabUp:
    """The lab of the scenario is up with its ENIs; ``backend``: which kind of link they are, "" without a kernel."""

    enis: int
    duration_ms: float
    backend: str = ""


@dataclass(frozen=True, slots=True)
class PluginRan:
    """A plugin process ended."""

    outcome: PluginOutcome


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins."""

    step: str


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step did what the scenario expects, and the invariants hold after it. ``outcome``: what it gave, for people."""

    step: str
    outcome: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class ScenarioFinished:
    """``failed`` None is success."""

    name: str
    chain: str
    file: str
    duration_ms: float
    failed: Failed | None


@dataclass(frozen=True, slots=True)
class ScenarioSkipped:
    """The lab cannot do what this scenario needs, and says why."""

    name: str
    chain: str
    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last record of a run."""

    passed_count: int
    failed_count: int
    skipped_count: int
    duration_ms: float


Event: TypeAlias = (
    RunStarted
    | ScenarioStarted
    | LabUp
    | PluginRan
    | StepStarted
    | StepFinished
    | ScenarioFinished
    | ScenarioSkipped
    | RunFinished
)
