"""What the agent remembers of its requests."""

from enim import wire
from simulator.model import Served
from simulator.real import served

ADD = wire.Request("POST", "/v1/eni", (("containerID", "c1"),))


def test_a_request_is_its_wait_and_its_work_and_is_told_once() -> None:
    log = served.Log()
    log.note(ADD, 200, 100.0, 103.0, 110.0)
    assert log.take() == (Served("POST", "c1", 3.0, 7.0),)
    assert log.take() == ()


def test_all_are_summed_up_with_the_time_from_arrival_to_answer() -> None:
    log = served.Log()
    for status in (200, 200, 500):
        log.note(ADD, status, 100.0, 103.0, 110.0)
    assert log.take() != ()
    durations = log.durations()
    assert {key: (sum(one.counts), round(one.sum_s, 9)) for key, one in durations.items()} == {
        ("POST", "/v1/eni", 200): (2, 0.020),
        ("POST", "/v1/eni", 500): (1, 0.010),
    }


def test_only_the_latest_are_kept() -> None:
    log = served.Log()
    for number in range(served.KEPT_MAX + 1):
        log.note(ADD, 200, 0.0, 0.0, float(number))
    taken = log.take()
    assert (len(taken), taken[0].work_ms) == (served.KEPT_MAX, 1.0)
