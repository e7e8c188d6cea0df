import time

from simulator.real import clock


def test_clock_starts_at_the_wall_clock_and_runs_with_real_time() -> None:
    before_ns = time.time_ns()
    agent_clock = clock.Clock()
    first_ns = agent_clock.now_ns()
    assert before_ns <= first_ns + 1_000_000  # the two system clocks are read one after the other
    assert first_ns - before_ns < 5_000_000_000
    assert agent_clock.now_ns() >= first_ns


def test_clock_adds_what_it_is_advanced_by() -> None:
    agent_clock = clock.Clock()
    before_ns = agent_clock.now_ns()
    agent_clock.advance(3_600_000)
    assert 0 <= agent_clock.now_ns() - before_ns - 3_600_000_000_000 < 5_000_000_000
    assert agent_clock.offset_ns == 3_600_000_000_000


def test_clock_goes_on_after_a_restart_with_what_was_added_before() -> None:
    before = clock.Clock()
    before.advance(86_400_000)
    then_ns = before.now_ns()
    after = clock.Clock(before.offset_ns, then_ns)
    assert 0 <= after.now_ns() - then_ns < 5_000_000_000
    assert after.offset_ns == before.offset_ns


def test_clock_never_starts_before_a_time_on_record() -> None:
    on_record_ns = time.time_ns() + 3_600_000_000_000  # as if the wall clock had been set back by an hour
    agent_clock = clock.Clock(0, on_record_ns)
    assert 0 <= agent_clock.now_ns() - on_record_ns < 5_000_000_000


def test_wall_text_is_a_timestamp_in_utc() -> None:
    assert time.strptime(clock.wall_text(), "%Y-%m-%dT%H:%M:%SZ").tm_year >= 2024


def test_monotonic_ms_counts_milliseconds() -> None:
    before = clock.monotonic_ms()
    time.sleep(0.02)
    assert 20 <= clock.monotonic_ms() - before < 5_000
