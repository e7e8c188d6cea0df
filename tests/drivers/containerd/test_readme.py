"""The README's way from the installation to a pod on containerd goes as it is printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

README = Path(__file__).parents[3].joinpath("README.md").read_text()
COMMANDS, NETWORK = re.search(r"## On a real node\n.*?```sh\n(.*?)```\n.*?`(\{.*?\})`", README, re.DOTALL).groups()


def test_readme_takes_a_reader_from_the_installation_to_a_pod_and_back(
    node: Any, containerd: Any, crictl: Path
) -> None:
    containerd.start()
    programs = f"{Path(sys.executable).parent}:{crictl.parent}:{os.environ['PATH']}"

    with (node.scratch / "printed").open("w+") as printed:  # no pipe: the agent outlives the commands
        ran = subprocess.run(
            ["sh", "-ec", COMMANDS], check=False, cwd=node.scratch, env={**os.environ, "PATH": programs}, stdout=printed
        )
        printed.seek(0)
        lines = printed.read().splitlines()

    assert ran.returncode == 0
    (network,) = (line for line in lines if line.startswith("{"))
    assert json.loads(network) == json.loads(NETWORK)
    assert containerd.pods() == []
    node.until(lambda: sorted(node.links()), ["eni1", "eni2"])
