"""What the agent remembers of its requests."""

from enim import wire
from simulator.model import Served
from simulator.real import served

ADD = wire.Request("POST", "/v1/eni", (("containerID", "c1"),))


def test_a_request_is_its_wait_and_its_work_and_is_told_once() -> None:
    log = served.Log()
    log.note(ADD, 100.0, 103.0, 110.0)
    assert log.take() == (Served("POST", "c1", 3.0, 7.0),)
    assert log.take() == ()


def test_only_the_latest_are_kept() -> None:
    log = served.Log()
    for number in range(served.KEPT_MAX + 1):
        log.note(ADD, 0.0, 0.0, float(number))
    taken = log.take()
    assert (len(taken), taken[0].work_ms) == (served.KEPT_MAX, 1.0)
