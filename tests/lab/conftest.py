"""What tests in a lab share. These are plain functions: what a lab runs is handed to it whole."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.real import kernel


class Machine:
    """Looks at the kernel from beside the code that is tested: with the ``ip`` program, and by waiting."""

    patience_s = 5.0

    def ip(self, *arguments: str, netns: str = "") -> Any:
        inside = ["nsenter", f"--net={netns}"] if netns else []
        command = [*inside, "ip", "-json", "-details", *arguments]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        assert ran.returncode == 0, f"{' '.join(arguments)}: {ran.stderr}"
        return json.loads(ran.stdout or "[]")

    def show(self, name: str, netns: str = "") -> dict[str, Any]:
        """What identifies a link, as ``ip`` shows it; {} if there is none of that name."""
        shown: dict[str, Any] = next((one for one in self.ip("addr", netns=netns) if one.get("ifname") == name), {})
        if not shown:
            return {}
        return {
            "ifindex": shown["ifindex"],
            "mac": shown["address"],
            "mtu": shown["mtu"],
            "alias": shown.get("ifalias", ""),
            "altnames": sorted(shown.get("altnames", [])),
            "up": "UP" in shown["flags"],
            "addresses": [f"{one['local']}/{one['prefixlen']}" for one in shown["addr_info"] if one["scope"] != "link"],
        }

    def enis(self) -> dict[str, str]:
        """The ENIs at home, by MAC: their names."""
        return {link.mac: link.name for link in kernel.Kernel().links() if link.mac.startswith("02:e1:")}

    def orphans(self, parent: int = 1) -> list[int]:
        """Children of a process that live, by default of the lab's first one; but the caller."""
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        alive = [pid for pid in children if "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()]
        return [int(pid) for pid in alive if int(pid) != os.getpid()]

    def until(self, look: Callable[[], Any], wanted: Any) -> Any:
        """What ``look`` gives when it gives ``wanted``, or in the end."""
        deadline = time.monotonic() + self.patience_s
        while (seen := look()) != wanted and time.monotonic() < deadline:
            time.sleep(0.005)
        return seen


@pytest.fixture
def machine() -> Machine:
    return Machine()
