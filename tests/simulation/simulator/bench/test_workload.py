"""A scenario file as the workload, in memory."""

from pathlib import Path

from simulator import topology
from simulator.bench import workload
from simulator.scenario import load
from simulator.virtual.node import Node

SCENARIOS = Path(__file__).parents[4] / "scenarios"
FAILS = """\
name: fails
summary: it says what is not so
chain: exclusive-device
steps:
  - add: {pod: default/web-0, container: c1}
  - expect: {enis: {free: 7}}
"""


def test_every_add_and_del_of_the_file_is_measured() -> None:
    loaded = load.load(SCENARIOS / "everyday/pool-exhausted.yaml")
    played = workload.play(loaded, "exclusive-device", Node(topology.enis(1), 200_000))
    assert played.failed == ""
    assert [(one.verb, one.result) for one in played.measured] == [
        *(("ADD", "ok"), ("ADD", "code 11"), ("DEL", "ok"), ("DEL", "ok"), ("ADD", "ok")),
    ]
    assert [one.phases.work_ms for one in played.measured] == [0.4, 0.0, 0.0, 0.2, 0.4]


def test_a_file_that_fails_says_where_and_what_was_measured_counts(tmp_path: Path) -> None:
    file = tmp_path / "fails.yaml"
    file.write_text(FAILS)
    played = workload.play(load.load(file), "exclusive-device", Node(topology.enis(2)))
    assert played.failed == f"{file}:6: expect: 7 ENIs must be free, but 1 are"
    assert [one.verb for one in played.measured] == ["ADD"]
