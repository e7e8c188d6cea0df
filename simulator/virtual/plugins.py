"""Plugin processes in memory: the shipped flows of enim and exclusive-device, the model of host-device.

All run with the world's own handlers.

A process is a flow that reads its environment and stdin, prints to a list, and ends with an exit code. As on a real
node SIGKILL ends one process only: a delegate lives on, and finds nobody who reads what it prints.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

from enim import addresses, answers, config, effects, errors, exclusive_verbs, result, verbs
from simulator.chain import models, moves
from simulator.errors import KernelFault
from simulator.model import Link, PluginCall, PluginOutcome
from simulator.virtual import kernel
from simulator.virtual.driver import Driver, Handlers, Pending, Process
from simulator.virtual.network import NS_PER_MS, Network

Commands: TypeAlias = Mapping[str, Callable[[config.Config], Generator[effects.Effect, Any, None]]]
Main: TypeAlias = Callable[[Mapping[str, str], bytes], Generator[effects.Effect, Any, int]]

NOT_FOUND = 127  # exit code of a plugin that is not there
KILLED = -9


class Run:
    """One plugin process: on its way, ended or killed."""

    def __init__(self, call: PluginCall, started_ns: int) -> None:
        self.call = call
        self.process: Process | None = None
        self.is_killed = False
        self.has_reader = True  # of its stdout
        self.children: list[Run] = []
        self.stdout: list[bytes] = []
        self.stderr: list[str] = []
        self.handles: list[str] = []  # of the namespaces that it has opened
        self._started_ns = started_ns

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.process is not None and self.process.is_alive

    @property
    def is_tree_alive(self) -> bool:
        """Whether it, or a process that it started, has not ended."""
        return self.is_alive or any(child.is_tree_alive for child in self.children)

    @property
    def exit_code(self) -> int:
        """How it ended."""
        if self.process is None:
            return NOT_FOUND
        return KILLED if self.is_killed else int(self.process.result())

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.is_alive:
            self.is_killed = True
            self.process.kill()

    def outcome(self, now_ns: int, *, timed_out: bool = False) -> PluginOutcome:
        """What its parent sees of it."""
        stderr = "".join(f"{line}\n" for line in self.stderr).encode()
        duration_ms = (now_ns - self._started_ns) / NS_PER_MS
        return PluginOutcome(self.call, self.exit_code, b"".join(self.stdout), stderr, duration_ms, timed_out)


class Plugins:
    """The CNI bin directory of a node, and the processes that it starts.

    Args:
        files: what is in the directory; ``PLUGINS`` if nothing else is wanted.
    """

    def __init__(
        self, driver: Driver, links: kernel.Kernel, network: Network, files: Mapping[str, Main] | None = None
    ) -> None:
        self._files = PLUGINS if files is None else files
        self._driver = driver
        self._kernel = links
        self._network = network
        self._runs: list[Run] = []

    @property
    def running_count(self) -> int:
        """How many plugin processes have not ended."""
        return sum(run.is_alive for run in self._runs)

    def start(self, call: PluginCall) -> Run:
        """Start a process; it does nothing before time goes on."""
        run = Run(call, self._driver.now_ns)
        main = self._files.get(call.plugin)
        if main is None:
            run.stderr.append(f'failed to find plugin "{call.plugin}"')
            return run
        flow = main({**call.environment, "CNI_PATH": "/opt/cni/bin"}, call.stdin)
        handlers = {**self._handlers(run), **self._host_device_handlers(run)}
        run.process = self._driver.start(f"{call.plugin} {call.environment.get('CNI_COMMAND')}", flow, handlers)
        for ends in (run.process.on_end, run.process.on_kill):
            ends.append(lambda: self._close(run))
        self._runs = [*(one for one in self._runs if one.is_alive), run]
        return run

    def _handlers(self, run: Run) -> Handlers:
        return {
            effects.Now: lambda _, pending: pending.succeed(self._driver.now_ns // NS_PER_MS),
            effects.Sleep: lambda one, pending: pending.succeed(None, one.ms * NS_PER_MS),
            effects.Request: self._network.request,
            effects.OwnNetns: lambda one, pending: pending.succeed(one.path == kernel.HOME),
            effects.NetnsAlive: lambda one, pending: pending.succeed(self._kernel.is_netns(one.path)),
            effects.FindLink: _calling(self._find_link),
            effects.DeviceName: lambda _, pending: pending.succeed(""),  # no link here lies on a bus
            effects.MoveIn: _calling(self._move_in),
            effects.Configure: _calling(self._configure),
            effects.MoveOut: _calling(self._move_out),
            effects.Addresses: _calling(self._addresses),
            effects.Delegate: lambda one, pending: self._delegate(run, one, pending),
            effects.Print: lambda one, pending: _print(run, one, pending),
            effects.Log: lambda one, pending: _log(run, one, pending),
        }

    def _host_device_handlers(self, run: Run) -> Handlers:
        return {
            moves.OpenNetns: _calling(lambda one: self._open(run, one.path)),
            moves.OpenTemporary: _calling(lambda _: self._open(run, None)),
            moves.Close: _calling(lambda one: self._close(run, one.netns)),
            moves.Look: _calling(self._look),
            moves.Move: _calling(self._move),
            moves.Change: _calling(self._change),
        }

    def _open(self, run: Run, path: str | None) -> str:
        handle = self._kernel.open_netns(path)
        run.handles.append(handle)
        return handle

    def _close(self, run: Run, *handles: str) -> None:
        """Let go of these, or of all that the process holds."""
        for handle in handles or tuple(run.handles):
            run.handles.remove(handle)
            self._kernel.delete_netns(handle)

    def _look(self, one: moves.Look) -> Link | None:
        for link in self._kernel.links(one.netns):
            if one.name in ("", link.name, *link.altnames) and one.mac in ("", link.mac):
                return link
        return None

    def _move(self, one: moves.Move) -> None:
        link = self._indexed(one.ifindex, one.source)
        self._kernel.move(link.ifindex, one.source, one.target, link.name)

    def _change(self, one: moves.Change) -> None:
        link = self._indexed(one.ifindex, one.netns)
        self._kernel.change(link.name, one.netns, **{one.attribute: one.value})

    def _indexed(self, ifindex: int, netns: str) -> Link:
        link = next((link for link in self._kernel.links(netns) if link.ifindex == ifindex), None)
        if link is None:
            raise KernelFault(f"find {ifindex}", errno.ENODEV, os.strerror(errno.ENODEV))
        return link

    def _delegate(self, caller: Run, effect: effects.Delegate, pending: Pending) -> None:
        environment = {**caller.call.environment, "CNI_COMMAND": effect.command}
        child = self.start(PluginCall(effect.plugin, environment, effect.stdin))
        if child.process is None:
            text = f"the IPAM plugin {effect.plugin} cannot be started"
            pending.fail(errors.CniError(errors.DELEGATE_FAILURE, text))
            return
        caller.children.append(child)
        child.stderr = caller.stderr

        def tell() -> None:
            pending.succeed((child.exit_code, b"".join(child.stdout)))

        child.process.on_end.append(tell)
        if caller.process is not None:
            caller.process.on_kill.append(lambda: setattr(child, "has_reader", False))

    def _find_link(self, wanted: effects.FindLink) -> effects.Link | None:
        for link in self._kernel.links(wanted.netns):
            is_wanted = (
                wanted.ifindex in (0, link.ifindex)
                and wanted.mac in ("", link.mac)
                and wanted.name in ("", link.name, *link.altnames)
            )
            if is_wanted:
                return effects.Link(link.ifindex, link.name, link.mac, link.alias)
        return None

    def _move_in(self, one: effects.MoveIn) -> int:
        return self._kernel.move(one.ifindex, kernel.HOME, one.netns, one.ifname, one.alias)

    def _configure(self, one: effects.Configure) -> None:
        self._kernel.change(one.ifname, one.netns, addresses=one.addresses, up=True)
        on_link: list[Any] = [ipaddress.ip_interface(text).network for text in one.addresses]
        for dst, gateway, attributes in one.routes:
            if not gateway and attributes.get("table", 0) in (0, result.MAIN_TABLE):
                on_link.append(ipaddress.ip_network(dst))
            elif gateway and not any(ipaddress.ip_address(gateway) in network for network in on_link):
                number = errno.EHOSTUNREACH if ":" in gateway else errno.ENETUNREACH
                raise KernelFault(f"add a route to {dst} via {gateway}", number, os.strerror(number))

    def _addresses(self, one: effects.Addresses) -> frozenset[tuple[int, int, int]]:
        for link in self._kernel.links(one.netns):
            if link.name == one.ifname:
                return frozenset(addresses.parse_prefix(text) for text in link.addresses)
        raise KernelFault(f"look at {one.ifname} in {one.netns}", errno.ENODEV, "it is not there")

    def _move_out(self, one: effects.MoveOut) -> bool:
        link = next((link for link in self._kernel.links(one.netns) if link.name == one.ifname), None)
        if link is None:
            return False
        self._kernel.move_out(link.name, one.netns, one.name)
        return True


def _main(verbs: Commands, versions: tuple[str, ...]) -> Main:
    """A plugin from its start to its exit code, as ``enim.process`` does it on a real node."""

    def main(environment: Mapping[str, str], stdin: bytes) -> Generator[effects.Effect, Any, int]:
        try:
            checked = config.read(environment, stdin, versions=versions, commands=tuple(verbs))
            yield from verbs[checked.command](checked)
        except errors.CniError as error:
            failure = error
        else:
            return 0
        label, command = answers.error_version(stdin, versions), environment.get("CNI_COMMAND", "")
        try:
            yield effects.Print(answers.error(failure, label, command))
        except errors.CniError:
            return 1
        return 1

    return main


def _print(run: Run, effect: effects.Print, pending: Pending) -> None:
    if run.has_reader:
        run.stdout.append(effect.data)
        pending.succeed()
    else:
        pending.fail(errors.CniError(errors.IO_FAILURE, "the result cannot be printed", os.strerror(errno.EPIPE)))


def _log(run: Run, effect: effects.Log, pending: Pending) -> None:
    run.stderr.append(effect.text)
    pending.succeed()


def _calling(call: Callable[[Any], Any]) -> Callable[[Any, Pending], None]:
    """A handler that answers with what a call on the kernel gives, or with its failure."""

    def handle(effect: Any, pending: Pending) -> None:
        try:
            outcome = call(effect)
        except KernelFault as fault:
            pending.fail(errors.KernelError(fault.operation, fault.errno, fault.text))
        else:
            pending.succeed(outcome)

    return handle


# File name → the process that it is.
PLUGINS: Mapping[str, Main] = {
    "enim": _main(verbs.COMMANDS, config.VERSIONS),
    "exclusive-device": _main(exclusive_verbs.COMMANDS, config.WITH_INTERFACES),
    "host-device": lambda environment, stdin: models.main(environment, stdin, models.DEBIAN),
    "host-device-1.9": lambda environment, stdin: models.main(environment, stdin, models.NEWEST),
}
