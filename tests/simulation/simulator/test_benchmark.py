"""`enim-lab bench --lab sim`: the same options give the same bytes, and the file is written whole or not at all."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from simulator import benchmark, labs
from simulator.bench import screen
from simulator.errors import ScenarioError

SCENARIO = Path(__file__).parents[3] / "scenarios/leak/timer.yaml"


def bench(folder: Path, **options: object) -> tuple[str, bytes]:
    """What the command shows, and what it writes."""
    path = folder / "new" / "figures.json"
    with benchmark.json_file(path) as write:
        found, failures = benchmark.run(benchmark.Options(lab=labs.SIM, **options), lambda *_: None)
        write(found)
    assert failures == []
    console = Console(file=io.StringIO())
    screen.show(found, console)
    assert [one.name for one in path.parent.iterdir()] == ["figures.json"]
    return console.file.getvalue(), path.read_bytes()


@pytest.mark.parametrize("options", [{"count": 3}, {"count": 3, "concurrency": 4}, {"count": 2, "file": SCENARIO}])
def test_same_options_give_the_same_bytes(tmp_path: Path, options: dict[str, object]) -> None:
    assert bench(tmp_path / "one", **options) == bench(tmp_path / "two", **options)


def test_both_chains_in_every_state_of_the_pool(tmp_path: Path) -> None:
    shown, written = bench(tmp_path, count=2)
    document = json.loads(written)
    rows = [(row["state"], row["subject"], row["verb"], row["result"]) for row in document["rows"]]
    assert rows == [
        ("warm", "exclusive-device+enim", "ADD", "ok"),
        ("warm", "exclusive-device+enim", "DEL", "ok"),
        ("warm", "host-device+enim", "ADD", "ok"),
        ("warm", "host-device+enim", "DEL", "ok"),
        ("exhausted", "exclusive-device+enim", "ADD", "code 11"),
        ("exhausted", "exclusive-device+enim", "DEL", "ok"),
        ("exhausted", "host-device+enim", "ADD", "code 999"),
        ("exhausted", "host-device+enim", "DEL", "code 999"),
        ("reclaiming", "exclusive-device+enim", "ADD", "ok"),
        ("reclaiming", "exclusive-device+enim", "DEL", "ok"),
        ("reclaiming", "host-device+enim", "ADD", "ok"),
        ("reclaiming", "host-device+enim", "DEL", "code 999"),
    ]
    assert (document["time"], document["machine"]) == ("virtual", {})
    assert "milliseconds of virtual time, 1 at once" in shown
    assert [one["subject"] for one in document["left_out"]] == ["host-device+static", "ptp+host-local", "python3 -ISE"]


def test_one_chain_alone(tmp_path: Path) -> None:
    _, written = bench(tmp_path, count=1, chain="host-device")
    assert {row["subject"] for row in json.loads(written)["rows"]} == {"host-device+enim"}


def test_file_runs_in_its_chains_as_often_as_was_asked(tmp_path: Path) -> None:
    _, written = bench(tmp_path, count=3, file=SCENARIO)
    rows = json.loads(written)["rows"]
    assert [(row["state"], row["subject"], row["total_ms"]["count"]) for row in rows] == [
        ("add-without-del-timer", "exclusive-device", 9),
        ("add-without-del-timer", "host-device", 9),
    ]


def test_chain_that_the_file_does_not_have_is_an_error(tmp_path: Path) -> None:
    file = SCENARIO.parents[1] / "everyday/pool-exhausted.yaml"
    with pytest.raises(ScenarioError, match="it has no chain host-device, only exclusive-device"):
        bench(tmp_path, file=file, chain="host-device")


def test_measurement_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("old")

    def fails() -> None:
        with benchmark.json_file(path):
            benchmark.run(benchmark.Options(file=tmp_path / "no.yaml", lab=labs.SIM), lambda *_: None)

    with pytest.raises(ScenarioError):
        fails()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("figures.json", "old")]


def test_progress_is_told_of_every_round() -> None:
    told: list[tuple[str, int, int]] = []
    benchmark.run(benchmark.Options(lab=labs.SIM, count=2), lambda *one: told.append(one))
    assert told == [(state, done, 2) for state in ("warm", "exhausted", "reclaiming") for done in (0, 1, 2)]


def test_what_is_no_regular_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    found, _ = benchmark.run(benchmark.Options(lab=labs.SIM, count=1, file=SCENARIO), lambda *_: None)
    pipe, link, target = (tmp_path / name for name in ("pipe", "link", "target"))
    os.mkfifo(pipe)
    link.symlink_to(target)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for path in (pipe, link):
        with benchmark.json_file(path) as write:
            write(found)
    piped = os.read(reader, 1 << 16)
    os.close(reader)
    assert json.loads(piped)["rows"]
    assert target.read_bytes() == piped
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)


def test_device_without_room_is_said() -> None:
    found, _ = benchmark.run(benchmark.Options(lab=labs.SIM, count=1, file=SCENARIO), lambda *_: None)
    with (
        pytest.raises(ScenarioError, match="/dev/full: it cannot be written"),
        benchmark.json_file(Path("/dev/full")) as write,
    ):
        write(found)
