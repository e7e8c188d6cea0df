"""The README's example runs as printed, against the README's own agent command."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

README = Path(__file__).parents[2].joinpath("README.md").read_text()
COMMANDS = re.search(r"```sh\nunshare [^\n]*\n(.*?)```", README, re.DOTALL)[1].splitlines()
PRINTED = re.search(r"```json\n(.*?)\n```", README, re.DOTALL)[1]


def commands_in(scratch: Path) -> tuple[str, str, str]:
    """The agent's command, the variable, and the example, with their files in ``scratch``."""
    agent, variable, example = (command.replace("/tmp/", f"{scratch}/") for command in COMMANDS)
    return agent.removesuffix(" &"), variable, example


def play(scratch: Path) -> dict[str, Any]:
    agent_command, variable, example = commands_in(scratch)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    agent = subprocess.Popen(["sh", "-c", f"exec {agent_command}"], env=environment)
    deadline = time.monotonic() + 10
    answer: dict[str, Any] = {}
    while time.monotonic() < deadline:  # as long as the agent is not up yet, enim waits; it has to see its NICs first
        ran = subprocess.run(["sh", "-c", f"{variable}; {example}"], env=environment, capture_output=True, check=False)
        answer = {"status": ran.returncode, "stdout": ran.stdout.decode(), "stderr": ran.stderr.decode()}
        if ran.returncode == 0:
            break
    agent.terminate()
    agent.wait()
    return answer


def test_readme_example_prints_what_the_readme_prints(in_lab: Callable[..., Any]) -> None:
    answer = in_lab(play)
    assert (answer["status"], answer["stderr"]) == (0, "")
    assert json.loads(answer["stdout"]) == json.loads(PRINTED)
