"""The text is what Prometheus' own parser reads back."""

from collections.abc import Callable

import pytest

from simulator.agent import exposition
from simulator.agent.exposition import Family, Sample


def test_text_byte_for_byte() -> None:
    family = Family("enis", "gauge", "ENIs.", (Sample(2, (("state", "free"),)), Sample(0.5, (("state", "in_use"),))))
    assert exposition.text([family, Family("adds_total", "counter", "ADDs.", (Sample(3),))]) == (
        b'# HELP enis ENIs.\n# TYPE enis gauge\nenis{state="free"} 2\nenis{state="in_use"} 0.5\n'
        b"# HELP adds_total ADDs.\n# TYPE adds_total counter\nadds_total 3\n"
    )


def test_family_without_a_sample_is_left_out() -> None:
    assert exposition.text([Family("enis", "gauge", "ENIs.", ())]) == b""


def test_histogram_adds_its_buckets_up() -> None:
    samples = tuple(exposition.buckets((("path", "/"),), (0.001, 1.0), (2, 0, 1), 7.25))
    assert exposition.text([Family("took_seconds", "histogram", "Time.", samples)]).splitlines()[2:] == [
        b'took_seconds_bucket{path="/",le="0.001"} 2',
        b'took_seconds_bucket{path="/",le="1"} 2',
        b'took_seconds_bucket{path="/",le="+Inf"} 3',
        b'took_seconds_sum{path="/"} 7.25',
        b'took_seconds_count{path="/"} 3',
    ]


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\\nb", "a\nb", '\\"', "{},=", ""])
def test_label_is_read_back_as_it_was(figures: Callable[[bytes], dict[str, float]], value: str) -> None:
    text = exposition.text([Family("enis", "gauge", 'Says "it"\\\nso.', (Sample(1, (("of", value),)),))])
    assert figures(text) == {f'enis{{of="{value}"}}': 1.0}


@pytest.mark.parametrize("value", [0, 1e-05, 0.1 + 0.2, 1e300, 2**53, -3])
def test_number_is_read_back_as_it_was(figures: Callable[[bytes], dict[str, float]], value: float) -> None:
    assert figures(exposition.text([Family("enis", "gauge", "ENIs.", (Sample(value),))])) == {"enis": value}
