"""EDGE: a node whose plugins are killed at a moment of our choice, as a World of the scenario runner."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kill_steps import LOOKING, SYSLOG, Group

from enim import netlink
from simulator.chain import execute, install, trace
from simulator.lab import plugins
from simulator.model import PluginCall, PluginOutcome
from simulator.real import node
from simulator.scenario import run

LOOK_MS, PARTS = 20, 20
PATIENCE_S = 2.0
STEP_S = 0.001
TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
WHOLE_LINE = re.compile(
    rb'(<\d+>.{15} [a-z-]+\[\d+\]: )?(time=%b level=.* msg=.*|\{"time":"%b","level":.*"msg":.*\})\n' % (TIME, TIME)
)
DEVICES = ("full", "null", "random", "urandom", "zero")


class TracedNode(node.Node):
    """A World in this very process, which can run a plugin under another program the next time it is called."""

    def __init__(self, scratch: Path, bundle: dict[str, bytes]) -> None:
        self._packaged = plugins.find()
        super().__init__(node.NodeSetup(2, bundle, self._packaged), scratch)
        self._logs = scratch / "strace"
        self._logs.mkdir()
        self._armed: dict[str, Callable[[PluginCall], PluginOutcome]] = {}
        self._group = Group("", "")
        self._system_log: socket.socket | None = None
        self._logged: list[bytes] = []
        self._changed = ""  # what a plugin that may only look has changed
        self._began = time.monotonic()
        self._residents = residents()

    def pause(self, ms: int) -> None:
        time.sleep(ms / 1000)

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self._began) * 1000

    def create_netns(self, name: str, *, dad: bool) -> str:
        """Without IPv6, as runtimes leave it for pods that have none: so ADD has to write to the kernel's settings."""
        path = super().create_netns(name, dad=dad)
        with netlink.Channel(path) as inside:
            disable = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
            netlink.inside(inside.descriptor, lambda: disable.write_text("1"))
        return path

    def advance_clock(self, ms: int) -> None:
        """A long time in parts: the agent may count from when it sees something, and for that it must get to look."""
        if ms <= run.SETTLE_MS:
            super().advance_clock(ms)
            return
        for _ in range(PARTS):
            super().advance_clock(ms // PARTS)
            self.pause(LOOK_MS)
            if all(record.state == "free" for record in self.snapshot().records):
                return  # there is nothing left that it could wait for

    def belong_to(self, group: Group) -> None:
        """From now on this group's plugins are called."""
        self._group = group
        if group.chain == "host-device":
            (self._bin / group.chain).unlink()
            (self._bin / group.chain).symlink_to(group.newest or self._packaged[group.chain])
        if group.log == SYSLOG and self._system_log is None:
            self._system_log = system_log(self._logs.parent / "dev")

    def wrong(self) -> str:
        """What the runner's own auditor does not see, "" for nothing."""
        return self._changed or self._left_over() or self._broken_log()

    def _left_over(self) -> str:
        """Processes and network namespaces that were not there at first, "" for none."""
        deadline = time.monotonic() + PATIENCE_S
        while (now := residents()) != self._residents and time.monotonic() < deadline:
            time.sleep(0.01)
        return "" if now == self._residents else f"at first there were {self._residents}, then {now}"

    def put_under(self, verb: str, *command: str) -> None:
        """The next run of a plugin with this verb is one of ``command`` with its path."""
        self._armed[verb] = lambda call: execute.run(call, self._bin, command)

    def look_on(
        self, group: Group, verb: str, options: Sequence[str] = (), on_stop: Callable[[str], int] | None = None
    ) -> None:
        """Trace the next run of the group's plugin with this verb; with the right options, kill it.

        Args:
            on_stop: told of the log whenever the plugin has stopped, it says what to send it: a signal, 0 for none.
        """
        command = trace.strace(str(self._fresh_log(verb)), options)

        def run_it(call: PluginCall) -> PluginOutcome:
            if group.plugin == group.chain:
                return execute.run(call, self._bin, command)
            with self._in_front_of(group.plugin, command):
                return execute.run(call, self._bin)

        self._armed[verb] = run_it if on_stop is None else lambda call: self._in_steps(run_it, call, on_stop)

    def _in_steps(
        self, run_it: Callable[[PluginCall], PluginOutcome], call: PluginCall, on_stop: Callable[[str], int]
    ) -> PluginOutcome:
        log = self._log(call.environment["CNI_COMMAND"])
        with ThreadPoolExecutor(1) as beside:
            ran = beside.submit(run_it, call)
            seen = 0
            while not ran.done():
                time.sleep(STEP_S)
                text = log.read_text() if log.exists() else ""
                text = text[: text.rfind("\n") + 1]
                stops = trace.stops(text)
                if len(stops) > seen:
                    seen = len(stops)
                    go_on(stops[-1], on_stop(text))
            return ran.result()

    def has_called(self, verb: str) -> bool:
        """Whether the run that was prepared has been."""
        return verb not in self._armed

    def log(self, verb: str) -> str:
        """What strace wrote of the process that was traced with this verb."""
        return self._log(verb).read_text()

    def execute(self, call: PluginCall) -> PluginOutcome:
        verb = call.environment["CNI_COMMAND"]
        netconf = {**json.loads(call.stdin), **self._group.netconf(str(self._logs))}
        call = dataclasses.replace(call, stdin=json.dumps(netconf).encode())
        self._read_system_log()
        if verb not in self._armed:
            return super().execute(call)
        before = self._portrait(verb)
        outcome = self._armed.pop(verb)(call)
        after = self._portrait(verb)
        if after != before:
            self._changed = f"before {verb} there were {before}, then {after}"
        return outcome

    def _portrait(self, verb: str) -> list[Any]:
        """What a verb that only looks must leave as it is: records, links with their addresses, routes of pods."""
        if verb not in LOOKING:
            return []
        now = self.snapshot()
        return [now.records, now.links, [made_routes(netns) for netns in now.links if netns]]

    def _read_system_log(self) -> None:
        with contextlib.suppress(BlockingIOError):  # there is no more
            while self._system_log:
                self._logged.append(self._system_log.recv(65536) + b"\n")

    def _broken_log(self) -> str:
        """A line of the log that is not whole."""
        self._read_system_log()
        file = self._logs / "enim.log"
        for line in [*self._logged, *(file.read_bytes() if file.exists() else b"").splitlines(keepends=True)]:
            if not WHOLE_LINE.fullmatch(line) or len(re.findall(TIME, line)) > 1:
                return f"the log has a line that is not whole: {line!r}"
        return ""

    def _log(self, verb: str) -> Path:
        return self._logs / f"{verb}.log"

    def _fresh_log(self, verb: str) -> Path:
        self._log(verb).unlink(missing_ok=True)
        return self._log(verb)

    @contextlib.contextmanager
    def _in_front_of(self, plugin: str, command: Sequence[str]) -> Iterator[None]:
        """A program of the plugin's name that runs it under ``command``, once: its parent may call it again."""
        binary, aside, once = self._bin / plugin, self._bin / f"{plugin}-itself", self._logs / "once"
        binary.rename(aside)
        script = f"#!/bin/sh\nmkdir {once} 2>/dev/null || exec {aside}\nexec {shlex.join(command)} {aside}\n"
        install.write(self._bin, {plugin: script.encode()})
        try:
            yield
        finally:
            aside.replace(binary)
            once.rmdir()


def residents() -> tuple[list[str], int]:
    """The programs that run in the lab, and how many network namespaces they are in, or hold open."""
    programs, namespaces = [], set()
    nsfs = Path("/proc/self/ns/net").stat().st_dev
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ends just now
            command = (process / "cmdline").read_text().replace("\0", " ").strip()
            programs += [command] if command else []  # a zombie has none
            for file in (process / "ns/net", *(process / "fd").iterdir()):
                with contextlib.suppress(OSError):  # it is closed just now
                    held = file.stat()
                    namespaces |= {held.st_ino} if held.st_dev == nsfs else set()
    return sorted(programs), len(namespaces)


def go_on(thread: int, number: int) -> None:
    """Send a process that has stopped a signal, 0 for none, and let it go on. It may have ended by itself."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        status = Path(f"/proc/{thread}/status").read_text()
        process = int(status.partition("\nTgid:")[2].split()[0])
        os.kill(process, number)
        if number != signal.SIGKILL:
            os.kill(process, signal.SIGCONT)


def made_routes(netns: str) -> list[Any]:
    """All routes in a network namespace but the kernel's own, which come when an address has been probed."""
    ask = ["nsenter", f"--net={netns}", "ip", "-json", "-details", "route", "show", "table", "all"]
    shown = json.loads(subprocess.run(ask, check=True, capture_output=True, text=True).stdout)
    return [route for route in shown if route["protocol"] != "kernel"]


def system_log(directory: Path) -> socket.socket:
    """Replace the lab's /dev by this directory, where somebody reads the system's log; it has the usual devices."""
    directory.mkdir()
    for name in DEVICES:
        (directory / name).touch()
        subprocess.run(["mount", "--bind", f"/dev/{name}", directory / name], check=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.setblocking(False)
    listener.bind(str(directory / "log"))
    subprocess.run(["mount", "--rbind", directory, "/dev"], check=True)
    return listener
