"""EDGE: tries fake ENIs of one backend, from inside a lab: what a run will need of them, each thing really done."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from enim import effects as plugin_effects
from enim import errors as plugin_errors
from enim import rtnetlink
from simulator.errors import SimulatorError
from simulator.model import Backend, Eni, Link
from simulator.real import cloud, echo, kernel

MADE, MOVED, RETURNED, ECHOES = "made", "moved into a netns and back", "home when its netns ended", "answers an echo"
TRAITS = (MADE, MOVED, RETURNED, ECHOES)
_PATIENCE_S = 3.0
_NOTICED_S = 0.1  # a NIC that has moved is known to the hardware by then


def attempt(backend: Backend, scratch: Path) -> dict[str, str]:
    """Try one backend in a lab that has no ENIs yet, and is thrown away afterwards.

    Returns:
        For each of ``TRAITS``, in this order, why it does not hold, "" if it does; what comes after one without which
        it cannot be tried is left out.
    """
    found: dict[str, str] = {}
    try:
        (eni,) = cloud.attach(1, backend)
        found[MADE] = ""
        found.update(_used(eni, scratch))  # what came before an error stays
    except SimulatorError as error:
        found[_next(found)] = str(error)
    except plugin_errors.KernelError as error:
        found[_next(found)] = f"{error.operation}: {error.text}"
    return found


def _next(found: Collection[str]) -> str:
    return next(trait for trait in TRAITS if trait not in found)


def _used(eni: Eni, scratch: Path) -> Iterator[tuple[str, str]]:
    first, second = scratch / "first", scratch / "second"
    for path in (first, second):
        kernel.create_netns(path, accept_dad=False)
    _move_in(eni, first)
    kernel.Kernel().move_home(str(first), eni.mac, eni.name)
    yield MOVED, "" if _at_home(eni) else "it did not come back"
    _move_in(eni, second)
    addresses = (f"{eni.ipv4}/24", f"{eni.ipv6}/64")
    rtnetlink.configure(plugin_effects.Configure(str(second), "eth0", addresses, ()))
    gateways = (eni.subnet.gateway4, eni.subnet.gateway6)
    silent = [one for one in gateways if not echo.echo(str(second), one, int(_PATIENCE_S * 1000) // len(gateways))]
    time.sleep(_NOTICED_S)
    kernel.delete_netns(second)
    yield RETURNED, "" if _in_time(lambda: _at_home(eni)) else f"it was not back after {_PATIENCE_S:.0f} s"
    yield ECHOES, f"none from {', '.join(silent)}" if silent else ""


def _move_in(eni: Eni, netns: Path) -> None:
    (link,) = _at_home(eni)
    rtnetlink.move_in(plugin_effects.MoveIn(link.ifindex, str(netns), "eth0", ""))


def _at_home(eni: Eni) -> tuple[Link, ...]:
    return tuple(one for one in kernel.Kernel().links() if one.mac == eni.mac)


def _in_time(look: Callable[[], object]) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
