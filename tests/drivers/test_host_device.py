"""Two releases of host-device, the packaged and the newest: all scenarios, and what DEL, STATUS and GC do in each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simulator.model import PluginOutcome

ROOT = Path(__file__).parents[2]
IN_USE, FREE = {"eni1": "in_use"}, {"eni1": "free"}


def said(outcome: PluginOutcome) -> tuple[int, str]:
    """Exit code, and the message of an error."""
    return outcome.exit_code, json.loads(outcome.stdout)["msg"] if outcome.exit_code else ""


@pytest.fixture
def pod(node: Any, host_device: Path) -> Any:
    """A function that starts the node with one pod on it; its network namespace."""

    def start() -> Path:
        node.install(host_device)
        node.start_agent(enis=1)
        node.write_conflist("host-device", "1.0.0", device="eni1")
        netns = node.create_netns()
        added = node.call("host-device", "ADD", netns)
        assert added.exit_code == 0, added.stdout
        assert node.requests() == ["POST"]
        return netns

    return start


@pytest.mark.timeout(120)
def test_every_scenario_on_host_device_passes_with_the_newest(newest: Path) -> None:
    command = [sys.executable, "-m", "simulator", "run", "--bin-dir", newest.parent, "-k", "host-device"]
    ran = subprocess.run(
        [*command, "scenarios", "tests/drivers/scenarios"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "passed host-device-1-1-0" in ran.stdout


def test_del_without_a_netns_succeeds_and_enim_never_hears_of_it(node: Any, pod: Any) -> None:
    netns = pod()

    assert said(node.call("host-device", "DEL", "")) == (0, "")

    assert (node.requests(), node.enis()) == ([], IN_USE)
    assert list(node.links(netns)) == ["eth0"]


def test_del_of_a_netns_that_is_gone_fails_and_enim_never_hears_of_it(node: Any, pod: Any) -> None:
    netns = pod()
    node.delete_netns(netns)

    code, message = said(node.call("host-device", "DEL", netns))

    assert (code, message.startswith(f'failed to open netns "{netns}"')) == (1, True), message
    assert (node.requests(), node.enis()) == ([], IN_USE)


def test_del_tells_enim_and_fails_when_no_nic_is_left(node: Any, pod: Any) -> None:
    netns = pod()

    first, again = (said(node.call("host-device", "DEL", netns)) for _ in range(2))

    assert (first, again[0]) == ((0, ""), 1)
    assert again[1].startswith('failed to find "eth0"')
    assert again[1].endswith("Link not found")  # containerd takes an error with these words for a success
    assert node.requests() == ["DELETE", "DELETE"]
    node.until(node.enis, FREE)


def test_newest_hands_status_on_and_gc_not(node: Any, newest: Path) -> None:
    node.install(newest)
    node.write_conflist("host-device", "1.1.0")
    down = node.call("host-device", "STATUS", "")
    assert json.loads(down.stdout)["code"] == 50
    node.start_agent(enis=1)

    assert said(node.call("host-device", "STATUS", "")) == (0, "")
    assert node.requests() == ["GET"]
    assert said(node.call("host-device", "GC", "")) == (0, "")
    assert node.requests() == []


@pytest.mark.parametrize("verb", ["STATUS", "GC"])
def test_packaged_of_cni_1_0_knows_neither_status_nor_gc(node: Any, packaged: Path, verb: str) -> None:
    node.install(packaged)
    node.write_conflist("host-device", "1.0.0", device="eni1")
    if b"1.1.0" in node.call("host-device", "VERSION", "").stdout:
        pytest.skip("this machine's packaged host-device is of CNI 1.1.0: see the newest")
    assert said(node.call("host-device", verb, "")) == (1, f"unknown CNI_COMMAND: {verb}")
