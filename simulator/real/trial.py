"""EDGE: tries fake ENIs of one backend, from inside a lab: what a run will need of them, each thing really done."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path

from enim import effects as plugin_effects
from enim import errors as plugin_errors
from enim import rtnetlink
from simulator.errors import KernelFault, SimulatorError
from simulator.model import ECHOED, MADE, MOVED, RETURNED, Backend, Eni, Link
from simulator.real import cloud, echo, kernel

_PATIENCE_S = 3.0
_NOTICED_S = 0.1  # a NIC that has moved is known to the hardware by then


def attempt(backend: Backend, scratch: Path) -> dict[str, str]:
    """Try one backend in a lab that has no ENIs yet, and is thrown away afterwards.

    Returns:
        For each of ``model.TRAITS``, in this order, why it does not hold, "" if it does. What comes after one that does
        not hold is not tried and left out, but an ENI that answers no echo can be all the others.
    """
    trial = _Trial(backend, scratch)
    found: dict[str, str] = {}
    for trait, step in ((MADE, trial.make), (MOVED, trial.move), (ECHOED, trial.echo), (RETURNED, trial.end)):
        found[trait] = _refusal(step)
        if found[trait] and trait != ECHOED:
            break
    return found


def _refusal(step: Callable[[], str]) -> str:
    try:
        return step()
    except SimulatorError as error:
        return str(error)
    except plugin_errors.KernelError as error:
        return f"{error.operation}: {error.text}"


class _Trial:
    """One ENI and the two namespaces that it goes to. Each step says why it failed, "" if it did not, or raises."""

    def __init__(self, backend: Backend, scratch: Path) -> None:
        self._backend = backend
        self._first, self._second = scratch / "first", scratch / "second"
        self._eni: Eni

    def make(self) -> str:
        (self._eni,) = cloud.attach(1, self._backend)
        return "" if self._at_home() else "it is not there"

    def move(self) -> str:
        kernel.create_netns(self._first, accept_dad=False)
        self._move_in(self._first)
        kernel.Kernel().move_home(str(self._first), self._eni.mac, self._eni.name)
        return "" if self._at_home() else "it did not come back"

    def echo(self) -> str:
        kernel.create_netns(self._second, accept_dad=False)
        self._move_in(self._second)
        addresses = (f"{self._eni.ipv4}/24", f"{self._eni.ipv6}/64")
        rtnetlink.configure(plugin_effects.Configure(str(self._second), "eth0", addresses, ()))
        gateways = (self._eni.subnet.gateway4, self._eni.subnet.gateway6)
        timeout_ms = int(_PATIENCE_S * 1000) // len(gateways)
        silent = [one for one in gateways if not echo.echo(str(self._second), one, timeout_ms)]
        return f"none from {', '.join(silent)}" if silent else ""

    def end(self) -> str:
        time.sleep(_NOTICED_S)
        kernel.delete_netns(self._second)
        return "" if _in_time(self._at_home) else f"it was not back after {_PATIENCE_S:.0f} s"

    def _move_in(self, netns: Path) -> None:
        for link in self._at_home():
            rtnetlink.move_in(plugin_effects.MoveIn(link.ifindex, str(netns), "eth0", ""))
            return
        raise KernelFault(f"move {self._eni.id} into {netns}", errno.ENODEV, "it is not at home")

    def _at_home(self) -> tuple[Link, ...]:
        return tuple(one for one in kernel.Kernel().links() if one.mac == self._eni.mac)


def _in_time(look: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
