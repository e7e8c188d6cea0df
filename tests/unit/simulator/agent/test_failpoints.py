"""Where an agent can be made to die: by the events that it journals there."""

import pytest

from simulator.agent import failpoints, pool


def test_failpoint_is_a_kind_of_event_that_the_pool_knows() -> None:
    known = {kind for _, kind in pool.TRANSITIONS}
    assert {point.kind for point in failpoints.FAILPOINTS.values()} - known == set()


@pytest.mark.parametrize(
    ("name", "kinds", "is_reached"),
    [
        ("add.A1", ["reserved"], True),
        ("add.A1", ["acknowledged"], False),
        ("add.A2", ["withdrawn", "reserved"], True),
        ("add.reply", ["superseded", "acknowledged"], True),
        ("del.D2", ["released"], True),
        ("del.D2", [], False),
        ("", ["reserved", "released"], False),
        ("add.A9", ["reserved"], False),
    ],
)
def test_failpoint_is_reached_by_its_own_kind_only(name: str, kinds: list[str], is_reached: bool) -> None:
    assert failpoints.is_reached(name, [{"kind": kind} for kind in kinds]) == is_reached


def test_failpoints_before_and_after_differ_in_what_the_next_start_finds() -> None:
    durable = {name: point.is_durable for name, point in failpoints.FAILPOINTS.items()}
    assert durable == {"add.A1": False, "add.A2": True, "add.reply": True, "del.D1": False, "del.D2": True}
