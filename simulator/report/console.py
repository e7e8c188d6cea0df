"""A run as a person reads it: one line per scenario and chain, and at a failure everything that explains it."""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

from simulator.model import PluginOutcome
from simulator.report import events

_SHOWN_BYTES_MAX = 4096

# What a terminal would obey and not show; a plugin's output must not colour, move or overwrite what stands above it.
_NOT_SHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class ConsoleReport:
    """Prints as events come.

    Args:
        console: where to.
        verbose: a line per step too.
    """

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console = console
        self._verbose = verbose
        self._step_count = 0

    def __call__(self, event: events.Event) -> None:
        """Take the next event of the run."""
        match event:
            case events.RunStarted():
                enis = f"; ENIs are {event.backend} links" if event.backend else ""
                self._print("lab ", (event.lab, "bold"), f": {event.why}{enis}; {event.count} scenario runs")
            case events.ScenarioStarted():
                self._step_count = 0
                if self._verbose:
                    self._print((event.name, "bold"), f" in {event.chain}")
            case events.LabUp() if self._verbose:
                kind = f"{event.backend} " if event.backend else ""
                self._print(f"    lab up with {event.enis} {kind}ENIs ", _dim(f"{event.duration_ms:.0f} ms"))
            case events.StepFinished():
                self._step_count += 1
                if self._verbose:
                    outcome = f" → {event.outcome}" if event.outcome else ""
                    self._print(f"    {event.step}{outcome} ", _dim(f"{event.duration_ms:.0f} ms"))
            case events.ScenarioFinished():
                self._scenario(event)
            case events.ScenarioSkipped():
                self._print(("SKIPPED", "yellow"), f" {event.name} · {event.chain}: {event.reason}")
            case events.RunFinished():
                colour = "red" if event.failed_count else "green"
                counts = f"{event.passed_count} passed, {event.failed_count} failed"
                skipped = f", {event.skipped_count} skipped" if event.skipped_count else ""
                self._print((counts + skipped, colour), f" in {event.duration_ms / 1000:.1f} s")

    def _scenario(self, event: events.ScenarioFinished) -> None:
        verdict = ("passed", "green") if event.failed is None else ("FAILED", "red")
        took = _dim(f"{self._step_count} steps, {event.duration_ms:.0f} ms")
        self._print(verdict, f" {event.name} · {event.chain} ", took)
        if event.failed is not None:
            self._failure(event.failed)

    def _failure(self, failed: events.Failed) -> None:
        self._print("  ", (failed.message, "red"))
        self._print("  at step ", (failed.step, "bold"), f", {failed.file}:{failed.line}")
        for label, text in failed.views:
            self._print(f"  {label}: {text}")
        for outcome in failed.plugins:
            self._plugin(outcome)

    def _plugin(self, outcome: PluginOutcome) -> None:
        call = outcome.call
        command = call.environment.get("CNI_COMMAND", "")
        ended = "timed out" if outcome.timed_out else f"exit {outcome.exit_code}"
        self._print("  ", (f"{call.plugin} {command}", "bold"), f": {ended} after {outcome.duration_ms:.0f} ms")
        variables = " ".join(f"{key}={value}" for key, value in sorted(call.environment.items()))
        for label, text in (
            ("environment", variables),
            ("stdin", _text(call.stdin)),
            ("stdout", _text(outcome.stdout)),
            ("stderr", _text(outcome.stderr)),
        ):
            if text:
                self._print(f"    {label}: {text}")

    def _print(self, *parts: str | tuple[str, str]) -> None:
        """One paragraph; a part is a text, or a text and its style. Texts are shown as they are, never as markup."""
        pairs = [(part, "") if isinstance(part, str) else part for part in parts]
        line = Text.assemble(*((visible(text), style) for text, style in pairs))
        self._console.print(line, highlight=False, soft_wrap=True)


def _dim(text: str) -> tuple[str, str]:
    return text, "dim"


def visible(text: str) -> str:
    """The text with everything that a terminal would obey spelt out; lines and tabs stay."""
    return _NOT_SHOWN.sub(_escaped, text.replace("\r\n", "\n"))


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def _text(data: bytes) -> str:
    shown = data[:_SHOWN_BYTES_MAX].decode(errors="replace").rstrip()
    return shown if len(data) <= _SHOWN_BYTES_MAX else f"{shown} … ({len(data)} bytes)"
