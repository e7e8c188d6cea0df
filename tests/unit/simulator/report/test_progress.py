"""Events of several runs at once, and how far they have got."""

from simulator.report import events, progress

FAILED = events.Failed("add c1", "s.yaml", 7, "no")


def told(*happened: tuple[int, events.Event]) -> progress.Progress:
    seen = progress.Progress()
    for index, event in happened:
        seen(index, event)
    return seen


def started(name: str, steps: int) -> events.Event:
    return events.ScenarioStarted(name, "host-device", f"{name}.yaml", steps)


def test_steps_are_counted_from_the_end_of_the_set_up_to_the_number_that_the_file_has() -> None:
    seen = told((0, started("leak", 2)))
    numbers = []
    for title in ("set-up", "add c1", "del c1", "settle"):
        seen(0, events.StepStarted(title))
        numbers.append((seen.under_way[0].step, seen.under_way[0].title))
    assert numbers == [(0, "set-up"), (1, "add c1"), (2, "del c1"), (2, "settle")]


def test_summary_says_what_ended_and_where_the_others_are() -> None:
    seen = told(
        (0, started("first", 1)),
        (1, started("second", 3)),
        (1, events.StepStarted("set-up")),
        (0, events.ScenarioFinished("first", "host-device", "f.yaml", 1.0, None)),
        (1, events.StepStarted("add c1")),
        (2, started("third", 1)),
        (2, events.ScenarioFinished("third", "host-device", "f.yaml", 1.0, FAILED)),
    )
    assert seen.summary() == "1 passed, 1 failed; under way: second · host-device at step 1/3 (add c1)"


def test_skipped_runs_are_counted_and_never_under_way() -> None:
    seen = told((0, events.ScenarioSkipped("bridge", "bridge", "b.yaml", "no model")))
    assert seen.summary() == "0 passed, 0 failed, 1 skipped; none under way"
