"""What is counted of each request, and that what clients send cannot make it grow."""

import pytest

from simulator.agent import timings


def found(*requests: tuple[str, str, int, float]) -> timings.Timings:
    all_of_them = timings.Timings()
    for one in requests:
        all_of_them.note(*one)
    return all_of_them


def test_requests_are_told_apart_by_method_path_and_status() -> None:
    requests = found(("POST", "/v1/eni", 200, 0.25), ("POST", "/v1/eni", 200, 0.5), ("POST", "/v1/eni", 500, 0.125))
    durations = requests.durations()
    assert list(durations) == [("POST", "/v1/eni", 200), ("POST", "/v1/eni", 500)]
    assert (sum(durations["POST", "/v1/eni", 200].counts), durations["POST", "/v1/eni", 200].sum_s) == (2, 0.75)


@pytest.mark.parametrize(
    ("duration_s", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (30.0, 13), (30.1, 14), (1e9, 14), (-1.0, 0)]
)
def test_bound_belongs_to_its_bucket(duration_s: float, bucket: int) -> None:
    (durations,) = found(("GET", "/v1/healthz", 200, duration_s)).durations().values()
    assert [index for index, count in enumerate(durations.counts) if count] == [bucket]


@pytest.mark.parametrize("path", ["/", "", "/v1/eni/", "/v1/\udcff", '/"\n'])
def test_what_the_agent_does_not_serve_is_one_figure_whatever_it_is_called(path: str) -> None:
    assert list(found(("BREW", path, 404, 0.0)).durations()) == [("other", "other", 404)]


def test_durations_stay_as_they_were_told() -> None:
    requests = found(("GET", "/v1/healthz", 200, 0.0))
    before = requests.durations()
    requests.note("GET", "/v1/healthz", 200, 0.0)
    assert sum(before["GET", "/v1/healthz", 200].counts) == 1
