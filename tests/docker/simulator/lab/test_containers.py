"""Containers of a real engine: they end with their runner, are swept by their labels, and meet nobody else's."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.errors import LabError
from simulator.lab import containers, image

ROOT = Path(__file__).parents[4]
PATIENCE_S = 20.0


def until(true: Callable[[], object]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def sleeper(engine: containers.Engine, node_image: str, power: str, runner: str) -> containers.Container:
    labels = {**containers.labels(), containers.RUNNER: runner}
    return engine.start(node_image, ["sleep", "60"], power, labels)


def dead_runner() -> str:
    """A process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        pid, host = process.pid, containers.Runner.here().host
        return str(containers.Runner(host, pid, containers._started(pid)))


def test_sweep_takes_the_containers_of_dead_runners_and_of_all_only_if_told_so(
    engine: containers.Engine, node_image: str, power: str
) -> None:
    mine = sleeper(engine, node_image, power, str(containers.Runner.here()))
    orphan = sleeper(engine, node_image, power, dead_runner())
    both = set(engine.containers())
    assert len(both) >= 2
    engine.sweep(everything=False)
    assert len(engine.containers()) == len(both) - 1
    engine.sweep(everything=True)
    assert engine.containers() == {}
    for container in (mine, orphan):
        container.close()


def test_runner_that_is_killed_leaves_no_container(engine: containers.Engine, tmp_path: Path) -> None:
    file = tmp_path / "waits.yaml"
    steps = "steps:\n" + "  - eventually: {enis: {free: 2}, within: 60s}\n"
    file.write_text(f"name: waits\nsummary: it waits\nnode: {{enis: 1}}\nchain: exclusive-device\n{steps}")
    command = [sys.executable, "-m", "simulator", "run", "--lab", "docker", str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runner:
        assert until(lambda: _nodes_of(engine, runner.pid))  # what is only made and not started yet would stay
        runner.kill()
    assert until(lambda: not engine.containers())


def _nodes_of(engine: containers.Engine, pid: int) -> list[str]:
    """Containers with a node that run, of a runner or of a worker of it."""
    family = {pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())}
    running = engine._api.containers(filters={"status": "running"})
    nodes = [one["Id"] for one in running if one["Command"].startswith(" ".join(image.COMMAND))]
    return [one for one, runner in engine.containers().items() if runner.pid in family and one in nodes]


def test_two_runs_side_by_side_do_not_meet(engine: containers.Engine) -> None:
    command = [sys.executable, "-m", "simulator", "run", "--lab", "docker", "-k", "del-again", "scenarios"]
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    outputs = [run.communicate(timeout=50)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert engine.containers() == {}


def test_engine_that_does_not_answer_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(
        LabError, match=r"no Docker engine answers at unix:.* \(No such file or directory\)\."
    ) as raised:
        containers.Engine()
    assert "--lab userns" in raised.value.cure
    command = [sys.executable, "-m", "simulator", "run", "--lab", "docker", "scenarios"]
    ran = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert (ran.returncode, "no Docker engine answers at" in ran.stderr) == (3, True)


def test_image_that_is_not_there_is_said(engine: containers.Engine, power: str) -> None:
    with pytest.raises(LabError, match="the engine was asked to start a container of enim-node:none"):
        engine.start("enim-node:none", ["true"], power, containers.labels())


def test_runner_is_read_from_its_label_and_nobody_is_dead_who_is_elsewhere() -> None:
    here = containers.Runner.here()
    assert containers.Runner.read(str(here)) == here
    assert not here.is_dead()
    assert containers.Runner.read(dead_runner()).is_dead()
    assert not containers.Runner("another machine", 1, "1").is_dead()
    assert not containers.Runner.read("nonsense").is_dead()


def test_second_build_finds_everything_and_another_code_is_another_image(engine: containers.Engine) -> None:
    told: list[str] = []
    name = image.build(engine, told.append)
    assert told == [f"{name}: cached"]
