"""What a driver needs around it, played: an agent, a kernel and a journal that do what they are told. And a pod."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from enim import wire
from simulator.effects import Effect, Flow, NetnsView, Now, WaitForChange
from simulator.errors import KernelFault, StoreFault
from simulator.model import EniRecord, Link
from simulator.real import clock, driver, kernel


class HomeKernel:
    """A node without pods: every link is at home, and restoring one works."""

    def __init__(self, *links: Link) -> None:
        self.by_ifindex = {link.ifindex: link for link in links}
        self.callbacks: list[Callable[[], None]] = []
        self.moves: list[tuple[str, str, str]] = []
        self.fault: KernelFault | None = None

    def links(self) -> tuple[Link, ...]:
        if self.fault:
            raise self.fault
        return tuple(self.by_ifindex.values())

    def inspect(self, path: str, mac: str) -> NetnsView:
        return NetnsView(f"4:{len(path)}", None)

    def move_home(self, path: str, mac: str, name: str) -> None:
        self.moves.append((path, mac, name))

    def restore(self, ifindex: int, name: str, mtu: int) -> None:
        link = self.by_ifindex[ifindex]
        self.by_ifindex[ifindex] = Link(ifindex, name, link.mac, mtu)
        self.change()

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)

    def change(self) -> None:
        for callback in list(self.callbacks):
            callback()


class MemoryJournal:
    """Keeps events; can be told to refuse."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.offset_ns = 0
        self.is_full = False

    def append(self, events: Any, clock_ns: int = 0) -> None:
        if self.is_full:
            raise StoreFault("append", 28, "disk full")
        self.events += events

    def save_clock_offset(self, offset_ns: int) -> None:
        if self.is_full:
            raise StoreFault("save the clock", 28, "disk full")
        self.offset_ns = offset_ns


class ScriptedAgent:
    """An agent whose flow in the background is given, and which answers a request with its path."""

    adds_in_flight = 0

    def __init__(self, background: Callable[[], Flow[None]] | None = None) -> None:
        self._background = background

    def handle(self, request: wire.Request) -> Flow[wire.Reply]:
        yield Now()
        return wire.Reply(200, request.path.encode())

    def reconcile(self) -> Flow[None]:
        if self._background is None:
            yield WaitForChange(None)
        else:
            yield from self._background()

    def records(self) -> tuple[EniRecord, ...]:
        return ()


class Stage:
    """All of it in one place, for tests in several files."""

    Kernel = HomeKernel
    Journal = MemoryJournal

    @staticmethod
    def driver(
        background: Callable[[], Flow[None]] | None = None,
        kernel: HomeKernel | None = None,
        journal: Any = None,
        **more: Any,
    ) -> driver.Driver:
        journal = MemoryJournal() if journal is None else journal
        return driver.Driver(ScriptedAgent(background), kernel or HomeKernel(), journal, clock.Clock(), **more)

    @staticmethod
    def asking(*wanted: Effect) -> Flow[list[Any]]:
        """A flow that yields these effects and answers with their outcomes."""
        answers = []
        for effect in wanted:
            answer = yield effect
            answers.append(answer)
        return answers


@pytest.fixture
def stage() -> type[Stage]:
    return Stage


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as executor:
        yield executor


@pytest.fixture
def pod(machine: Any) -> Callable[..., str]:
    """A function that makes a pod's namespace with a NIC in it, and gives its path."""

    def make(scratch: Path, name: str = "eth0", mac: str = "02:00:00:00:00:01") -> str:
        path = scratch / "pod"
        kernel.create_netns(path, accept_dad=False)
        machine.ip("link", "add", "eni1", "address", mac, "type", "veth", "peer", "name", "far1")
        machine.ip("link", "set", "eni1", "netns", str(path), "name", name)
        return str(path)

    return make
