"""The commands of docs/agent.md do what it says, with an agent of a lab."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.real import agent_process

TEXT = Path(__file__).parents[2].joinpath("docs/agent.md").read_text()
SHOW, WRITE = re.findall(r"```sh\n(curl .*?)\n```", TEXT, re.DOTALL)

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")


def play(scratch: Path) -> list[bytes]:
    agent = agent_process.AgentProcess(scratch, 2)
    agent.start()
    shown = []
    for command in (SHOW, f"{WRITE}; cat /tmp/enim.prom"):
        here = command.replace("/tmp/enim.sock", str(agent.socket)).replace("/tmp/", f"{scratch}/")
        shown.append(subprocess.run(["sh", "-c", here], check=True, capture_output=True).stdout)
    return shown


def test_curl_shows_the_metrics_and_writes_them_for_the_textfile_collector(
    in_lab: Callable[..., Any], figures: Callable[[bytes], dict[str, float]]
) -> None:
    shown, written = [figures(body) for body in in_lab(play)]
    asked = 'enim_agent_requests_total{method="GET",path="/v1/x-enim/metrics",status="200"}'
    assert shown.keys() == written.keys()
    assert (shown[asked], written[asked]) == (0, 1)
