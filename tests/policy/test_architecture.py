"""docs/architecture.md says what the code does."""

from pathlib import Path

from simulator.agent import reclaim

TEXT = Path(__file__).parents[2].joinpath("docs/architecture.md").read_text()


def rendered(row: reclaim.Row) -> str:
    after = f"{row.after_ms / 1000:g} s" if row.after_ms else ""
    after += " of it" if row.seen_all_along else ""
    action = row.event if row.action == reclaim.RECORD else row.action
    return f"| {row.state} | {row.sight} | {after} | {action} |"


def test_architecture_has_the_evidence_table_row_by_row() -> None:
    shown = [line for line in TEXT.splitlines() if line.startswith(tuple(f"| {row.state} |" for row in reclaim.ROWS))]
    assert [rendered(row) for row in reclaim.ROWS] == shown
