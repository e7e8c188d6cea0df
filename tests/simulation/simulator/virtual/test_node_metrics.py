"""The metrics of an agent against what runtime and plugins did, in virtual time."""

from collections.abc import Callable
from typing import Any


def grown(before: dict[str, float], after: dict[str, float]) -> Callable[..., float]:
    """By how much a figure has grown: ``grown("refusals_total", reason="no_free_eni")``."""

    def by(name: str, **labels: str) -> float:
        pairs = ",".join(f'{label}="{value}"' for label, value in labels.items())
        key = f"enim_agent_{name}{{{pairs}}}" if pairs else f"enim_agent_{name}"
        return after[key] - before.get(key, 0)

    return by


def test_counters_are_what_the_plugins_were_told(make_lab: Any) -> None:
    lab = make_lab(2)
    before = lab.figures()

    assert lab.add("c1", "default/web-1") == "eni-1"
    assert lab.add("c2", "default/web-2") == "eni-2"
    assert "no available ENI" in lab.add("c3", "default/web-3")
    assert lab.delete("c1", "default/web-1") == ""
    lab.node.pause(3_000)
    assert lab.add("c4", "default/web-2") == "eni-1"  # a newer sandbox of c2's pod
    lab.node.pause(5_000)

    by = grown(before, lab.figures())
    assert (by("allocations_total"), by("releases_total"), by("superseded_total")) == (3, 1, 1)
    assert by("refusals_total", reason="no_free_eni") == 1
    assert by("evidence_actions_total", action="reclaimed") == 1
    assert [by("enis", state=state) for state in ("free", "in_use")] == [-1, 1]
    granted = by("requests_total", method="POST", path="/v1/eni", status="200")
    refused = by("requests_total", method="POST", path="/v1/eni", status="500")
    assert (granted, refused) == (3, 1)
    assert by("request_duration_seconds_count", method="POST", path="/v1/eni") == 4
    lab.assert_figures_agree(journal_before=0)


def test_time_that_an_add_takes_is_in_its_bucket_to_the_nanosecond(make_lab: Any) -> None:
    lab = make_lab(1, sync_ns=20_000_000)  # an ADD writes to the journal twice
    before = lab.figures()
    assert lab.add("c1") == "eni-1"
    by = grown(before, lab.figures())
    verb = {"method": "POST", "path": "/v1/eni"}
    assert round(by("request_duration_seconds_sum", **verb), 9) == 0.040
    assert [by("request_duration_seconds_bucket", **verb, le=bound) for bound in ("0.025", "0.05")] == [0, 1]


def test_counters_begin_anew_with_an_agent_and_gauges_go_on(make_lab: Any) -> None:
    lab = make_lab(2)
    assert lab.add("c1") == "eni-1"
    before = len(lab.node.store.read())
    lab.node.kill_agent()
    lab.node.start_agent()
    lab.node.pause(100)

    found = lab.figures()
    assert (found["enim_agent_allocations_total"], found['enim_agent_enis{state="in_use"}']) == (0, 1)
    lab.assert_figures_agree(before)
