"""A node of one's own: a test that takes the fixture ``node`` runs whole in a child process, in new namespaces.

As root the child gets its own network and mount namespace; an ordinary user's gets a user namespace besides. What the
test makes ends with the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator import syscalls
from simulator.chain import install


class Node:
    """NICs (veth pairs, whose far ends are up and named ``far-…``) and pods' network namespaces."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def enter(self) -> None:
        uid, gid = os.geteuid(), os.getegid()
        syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if uid else 0))
        if uid:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("tmpfs", str(self.directory), "tmpfs")

    def create_netns(self, name: str = "pod", *, dad: bool = False) -> str:
        path = self.directory / name
        path.touch()
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.mount("/proc/thread-self/ns/net", str(path), flags=syscalls.MS_BIND)
        if not dad:
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        syscalls.setns(home, syscalls.CLONE_NEWNET)
        os.close(home)
        return str(path)

    @contextlib.contextmanager
    def within(self, netns: str) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        target = os.open(netns or "/proc/thread-self/ns/net", os.O_RDONLY)
        syscalls.setns(target, syscalls.CLONE_NEWNET)
        try:
            yield
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
            os.close(home)
            os.close(target)

    def ip(self, *arguments: str, netns: str = "") -> Any:
        with self.within(netns):
            done = subprocess.run(["ip", "-json", "-details", *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"ip {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout or "[]")

    def create_nic(self, name: str = "eni1", mac: str = "02:00:00:00:00:01", *, up: bool = False) -> int:
        """Make a NIC; return its index."""
        self.ip("link", "add", name, "address", mac, "type", "veth", "peer", "name", f"far-{name}")
        self.ip("link", "set", f"far-{name}", "up")
        if up:
            self.ip("link", "set", name, "up")
        return int(self.show(name)["ifindex"])

    def show(self, name: str, netns: str = "") -> dict[str, Any]:
        """A link as ``ip`` shows it, with its addresses; {} if there is none of that name."""
        return next((link for link in self.ip("address", netns=netns) if link.get("ifname") == name), {})

    def names(self, netns: str = "") -> list[str]:
        """The links but lo and the far ends of the NICs, sorted."""
        found = [str(link["ifname"]) for link in self.ip("link", netns=netns) if link]
        return sorted(name for name in found if name != "lo" and not name.startswith("far-"))


@pytest.fixture(scope="session")
def plugins(python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CNI bin directory with both plugins; for every Python in turn if ENIM_EVERY_PYTHON is set."""
    directory = tmp_path_factory.mktemp("bin")
    install.write(directory, install.bundle(python))
    return directory


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    node = pyfuncitem.funcargs.get("node")
    if not isinstance(node, Node):
        return None
    report = _run_in_child(pyfuncitem, node)
    if report.startswith("skip "):
        pytest.skip(report.removeprefix("skip "))
    if report:
        pytest.fail(report, pytrace=False)
    return True


def _run_in_child(item: pytest.Function, node: Node) -> str:
    """What went wrong there, "" for nothing."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        try:
            os.write(sending, _outcome(item, node).encode("utf-8", "replace")[:60000])
        finally:
            os._exit(0)
    os.close(sending)
    try:
        with os.fdopen(receiving, "rb") as pipe:
            report = pipe.read().decode()
        status = os.waitpid(child, 0)[1]
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return report or (f"the child ended with status {status}" if status else "")


def _outcome(item: pytest.Function, node: Node) -> str:
    try:
        node.enter()
    except OSError as error:
        return f"skip no namespaces of one's own here: {error}"
    try:
        names = item._fixtureinfo.argnames
        item.obj(**{name: item.funcargs[name] for name in names})
    except BaseException:  # noqa: BLE001 -- the parent reports it
        return traceback.format_exc()
    return ""
