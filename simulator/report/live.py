"""EDGE: the bottom lines of a terminal while scenarios run: one for each run that is under way, redrawn by a thread.

Reports that print through the same console appear above them. They go when the context ends, and the terminal is as
it was. Where the console is no terminal nothing is drawn. Nothing is drawn before the first event either: by then the
processes that carry the runs out are forked, and no thread of ours can be caught in a fork.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from simulator.report import console as report_console
from simulator.report import events, progress

_REDRAWN_PER_S = 8


class LiveArea:
    """Use it in a ``with`` statement, and call it with a run's number and an event of that run.

    Args:
        console: the terminal; shared with the report that prints above.
        under_way: is told every event, and says what to draw.
        now_s: a clock that never goes back, in seconds.
    """

    def __init__(
        self, console: Console, under_way: progress.Progress, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._under_way = under_way
        self._now_s = now_s
        self._started_s: dict[int, float] = {}  # run's number → when it began
        self._spinner = Spinner("line")  # ASCII, so that every terminal can show it
        self._console = console
        self._live: Live | None = None

    def __enter__(self) -> LiveArea:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _place: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, index: int, event: events.Event) -> None:
        """Take the next event."""
        if isinstance(event, events.ScenarioStarted):
            self._started_s[index] = self._now_s()
        self._under_way(index, event)
        if self._live is None and self._console.is_interactive:
            self._live = Live(
                console=self._console,
                get_renderable=self.drawn,
                refresh_per_second=_REDRAWN_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def drawn(self) -> RenderableType:
        """The lines as they are now; each is cut where the terminal ends."""
        return Group(*(self._line(index, one) for index, one in sorted(self._under_way.under_way.items())))

    def _line(self, index: int, one: progress.UnderWay) -> Text:
        now_s = self._now_s()
        turning = self._spinner.render(now_s)
        assert isinstance(turning, Text)
        elapsed = f" {now_s - self._started_s[index]:4.0f} s"
        words = (_one_line(text) for text in (one.name, f"step {one.step}/{one.steps}", one.title))
        return Text.assemble(turning, elapsed, *(f"  {word}" for word in words), no_wrap=True, overflow="ellipsis")


def _one_line(text: str) -> str:
    return " ".join(report_console.visible(text).split())
