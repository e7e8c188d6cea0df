"""Real NICs, of which the virtual machine has two, and namespaces to put them into. Nothing here runs anywhere else."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MARK = Path("/etc/enim-vm")  # only the initramfs has it
MACS = ("52:54:00:00:00:01", "52:54:00:00:00:02")
PATIENCE_S = 30.0  # software emulation is some ten times slower than a processor


def pytest_runtest_setup() -> None:
    if not MARK.exists():
        pytest.skip("moves the machine's own NICs: runs in a virtual machine, by `scripts/test -e vm`")


class Machine:
    """The machine's initial network namespace, by the ``ip`` program."""

    @staticmethod
    def ip(*arguments: str, netns: str = "") -> Any:
        inside = ["-netns", netns] if netns else []
        command = ["ip", *inside, "-json", "-details", *arguments]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        if ran.returncode != 0:
            raise OSError(f"{' '.join(arguments)}: {ran.stderr.strip()}")
        return json.loads(ran.stdout or "[]")

    def links(self, netns: str = "") -> dict[str, dict[str, Any]]:
        """What identifies each link, by its name, as ``ip`` shows it."""
        return {
            one["ifname"]: {
                "ifindex": one["ifindex"],
                "mac": one.get("address"),
                "mtu": one["mtu"],
                "alias": one.get("ifalias", ""),
                "altnames": sorted(one.get("altnames", [])),
                "up": "UP" in one["flags"],
                "addresses": [address["local"] for address in one["addr_info"]],
            }
            for one in self.ip("addr", netns=netns)
        }

    def nic(self, mac: str, netns: str = "") -> tuple[str, dict[str, Any]]:
        """A link by its MAC: its name, and what identifies it; ("", {}) if it is not there."""
        found = [(name, link) for name, link in self.links(netns).items() if link["mac"] == mac]
        return found[0] if found else ("", {})

    def add_netns(self, name: str) -> str:
        self.ip("netns", "add", name)
        return name

    def end_netns(self, name: str) -> None:
        """Delete it, and wait until the kernel has let go of it: it does so later, and by itself."""
        inode = Path("/run/netns", name).stat().st_ino
        self.ip("netns", "delete", name)
        self.until(lambda: not any(one["ns"] == inode for one in self._namespaces()))

    @staticmethod
    def _namespaces() -> list[dict[str, Any]]:
        listing = ["lsns", "--json", "--type", "net", "--output", "NS"]
        ran = subprocess.run(listing, check=True, capture_output=True, text=True)
        found: list[dict[str, Any]] = json.loads(ran.stdout or '{"namespaces": []}')["namespaces"]
        return found

    @staticmethod
    def until(look: Callable[[], Any]) -> Any:
        """What ``look`` gives once that is true; fails if that takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not (seen := look()):
            assert time.monotonic() < deadline, "the kernel has not done it"
            time.sleep(0.05)
        return seen


@pytest.fixture
def machine() -> Iterator[Machine]:
    """The NICs at home as nic0 and nic1, down; afterwards too, wherever a test has left them."""
    one = Machine()
    _reset(one)
    yield one
    for netns in Path("/run/netns").glob("*"):
        one.ip("netns", "delete", netns.name)
    for mac in MACS:
        one.until(lambda mac=mac: one.nic(mac)[0])
    _reset(one)


def _reset(machine: Machine) -> None:
    for name, link in machine.links().items():
        if name != "lo" and link["mac"] not in MACS:
            machine.ip("link", "delete", name)
    for number, mac in enumerate(MACS):
        name, link = machine.nic(mac)
        machine.ip("link", "set", name, "down")
        for altname in link["altnames"]:
            machine.ip("link", "property", "del", "dev", name, "altname", altname)
        machine.ip("link", "set", name, "name", f"reset{number}")
        machine.ip("link", "set", f"reset{number}", "mtu", "1500", "alias", "")
    for number in range(len(MACS)):
        machine.ip("link", "set", f"reset{number}", "name", f"nic{number}")
