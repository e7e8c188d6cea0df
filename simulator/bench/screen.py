"""A benchmark as a person reads it: the machine, a table of latencies, a table of phases, and what was left out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from simulator.bench import outcome, stats

_WIDTH = 120  # of a file or a pipe


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """While it runs, a bar for each thing that is measured; only on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks = {}

        def tell(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield tell


def show(bench: outcome.Bench, console: Console) -> None:
    """Print all of it."""
    if not console.is_terminal:
        console = Console(file=console.file, width=_WIDTH)
    for part in _parts(bench):
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


def _parts(bench: outcome.Bench) -> Iterator[RenderableType]:
    yield Text(f"lab {bench.lab}: {bench.why}")
    if bench.machine:
        yield Text(", ".join(f"{name} {value}" for name, value in bench.machine.items()))
    kind = "virtual" if bench.is_virtual else "real"
    yield Text(f"milliseconds of {kind} time, {bench.options['concurrency']} at once")
    yield _latencies(bench.rows)
    yield _phases(bench.rows)
    for subject, why in bench.left_out.items():
        yield Text(f"left out {subject}: {why}")


def _latencies(rows: Sequence[outcome.Row]) -> Table:
    table = _table(*stats.PERCENTILES, "max", "pairs/s")
    for row in rows:
        values = (*row.total.percentiles.values(), row.total.max)
        rate = "" if row.pairs_per_second is None else f"{row.pairs_per_second:.1f}"
        table.add_row(*_subject(row), *map(_ms, values), rate)
    return table


def _phases(rows: Sequence[outcome.Row]) -> Table:
    table = _table("mean", *(f"{'= ' if phase == 'start' else '+ '}{phase}" for phase in stats.PHASES), "tries")
    for row in rows:
        means = (row.total.mean, *(row.phases[phase].mean for phase in stats.PHASES))
        table.add_row(*_subject(row), *map(_ms, means), str(row.tries))
    return table


def _table(*numbers: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("pool", "subject", "verb", "ended"):
        table.add_column(name, overflow="fold")  # what gives way on a narrow terminal
    for name in ("n", *numbers):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _subject(row: outcome.Row) -> tuple[str, ...]:
    return row.state, row.subject, row.verb, row.result, str(row.total.count)


def _ms(value: float) -> str:
    return f"{value:.2f}"
