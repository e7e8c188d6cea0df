"""The loop that drives a flow. What a whole process does is in tests/chain/enim/test_main.py."""

import pytest

from enim import effects, errors, process


def test_drive_sends_outcomes_and_returns_what_the_flow_returns():
    def flow():
        first = yield effects.Now()
        yield effects.Sleep(first)
        return first + 1

    slept = []
    handlers = {"Now": lambda _: 41, "Sleep": lambda effect: slept.append(effect.ms)}
    assert (process.drive(flow(), handlers), slept) == (42, [41])


def test_drive_throws_failures_into_the_flow_at_the_yield():
    def flow():
        try:
            yield effects.Print(b"result")
        except BrokenPipeError:
            return (yield effects.Now())

    def fail(_):
        raise BrokenPipeError

    assert process.drive(flow(), {"Print": fail, "Now": lambda _: 7}) == 7


def test_drive_lets_pass_what_the_flow_does_not_catch():
    def flow():
        yield effects.Now()
        raise errors.CniError(11, "down")

    with pytest.raises(errors.CniError, match="down"):
        process.drive(flow(), {"Now": lambda _: 0})


def test_drive_reports_an_effect_that_nobody_carries_out_to_the_flow():
    def flow():
        yield effects.Now()

    with pytest.raises(KeyError):
        process.drive(flow(), {})


def test_handlers_are_there_for_every_effect_of_enim():
    assert set(process.HANDLERS) == {
        "Now",
        "Sleep",
        "Request",
        "OwnNetns",
        "NetnsAlive",
        "FindLink",
        "DeviceName",
        "Print",
        "Log",
    }
