"""A run as a person reads it: one line per scenario and chain, and at a failure everything that explains it."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from simulator.model import PluginOutcome
from simulator.report import events

_SHOWN_BYTES_MAX = 4096


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
                self._print(f"lab [bold]{event.lab}[/]: {escape(event.why)}; {event.count} scenario runs")
            case events.ScenarioStarted():
                self._step_count = 0
                if self._verbose:
                    self._print(f"[bold]{escape(event.name)}[/] in {event.chain}")
            case events.LabUp() if self._verbose:
                self._print(f"    lab up with {event.enis} ENIs [dim]{event.duration_ms:.0f} ms[/]")
            case events.StepFinished():
                self._step_count += 1
                if self._verbose:
                    outcome = f" → {event.outcome}" if event.outcome else ""
                    self._print(f"    {escape(event.step + outcome)} [dim]{event.duration_ms:.0f} ms[/]")
            case events.ScenarioFinished():
                self._scenario(event)
            case events.RunFinished():
                colour = "red" if event.failed_count else "green"
                counts = f"{event.passed_count} passed, {event.failed_count} failed"
                self._print(f"[{colour}]{counts}[/] in {event.duration_ms / 1000:.1f} s")

    def _scenario(self, event: events.ScenarioFinished) -> None:
        verdict = "[green]passed[/]" if event.failed is None else "[red]FAILED[/]"
        took = f"[dim]{self._step_count} steps, {event.duration_ms:.0f} ms[/]"
        self._print(f"{verdict} {escape(event.name)} · {event.chain} {took}")
        if event.failed is not None:
            self._failure(event.failed)

    def _failure(self, failed: events.Failed) -> None:
        self._print(f"  [red]{escape(failed.message)}[/]")
        self._print(f"  at step [bold]{escape(failed.step)}[/], {escape(failed.file)}:{failed.line}")
        for label, text in failed.views:
            self._print(f"  {escape(label)}: {escape(text)}")
        for outcome in failed.plugins:
            self._plugin(outcome)

    def _plugin(self, outcome: PluginOutcome) -> None:
        call = outcome.call
        command = call.environment.get("CNI_COMMAND", "")
        ended = "timed out" if outcome.timed_out else f"exit {outcome.exit_code}"
        self._print(f"  [bold]{call.plugin} {command}[/]: {ended} after {outcome.duration_ms:.0f} ms")
        variables = " ".join(f"{key}={value}" for key, value in sorted(call.environment.items()))
        for label, text in (
            ("environment", variables),
            ("stdin", _text(call.stdin)),
            ("stdout", _text(outcome.stdout)),
            ("stderr", _text(outcome.stderr)),
        ):
            if text:
                self._print(f"    {label}: {escape(text)}")

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _text(data: bytes) -> str:
    shown = data[:_SHOWN_BYTES_MAX].decode(errors="replace").rstrip()
    return shown if len(data) <= _SHOWN_BYTES_MAX else f"{shown} … ({len(data)} bytes)"
