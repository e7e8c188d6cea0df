"""EDGE: the agent's second, private API, for a lab: what it believes, and its clock. No client of the agent ever sees
it.

``GET /served`` → ``{"served": [Served as JSON, …]}``: of the requests that were answered since this was last asked.
``GET /state`` → ``{"clock_ms": int, "adds_in_flight": int, "records": [EniRecord as JSON, …]}``
``POST /clock?advance_ms=N`` → ``{"clock_ms": int}``: adds N milliseconds (decimal, at most 12 digits) to the clock.
``POST /crash?at=FAILPOINT`` → ``{"at": FAILPOINT}``: the process kills itself when it comes to that failpoint.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from enim import framing, wire
from simulator import errors
from simulator.agent import api, failpoints
from simulator.real import driver, served

NS_PER_MS = 1_000_000


def handle(agent: driver.Driver, log: served.Log, request: wire.Request) -> wire.Reply:
    """Answer one request to the control socket. ``log``: of the requests to the public one."""
    if (request.method, request.path) == ("GET", "/served"):
        return _json({"served": [dataclasses.asdict(one) for one in log.take()]})
    route = _ROUTES.get(request.path)
    if route is None:
        return api.fault(404, f"path {request.path} was not found")
    method, answer = route
    if request.method != method:
        return api.fault(405, f"method {request.method} is not allowed, but [{method}] are")
    return answer(agent, request)


def _state(agent: driver.Driver, _request: wire.Request) -> wire.Reply:
    records, adds_in_flight, clock_ns = agent.state()
    records_json = [dataclasses.asdict(record) for record in records]
    return _json({"clock_ms": clock_ns // NS_PER_MS, "adds_in_flight": adds_in_flight, "records": records_json})


def _clock(agent: driver.Driver, request: wire.Request) -> wire.Reply:
    text = request.parameter("advance_ms")
    if not framing.is_decimal(text):
        return api.fault(400, f"advance_ms is {text[:20]!r}, not a number of milliseconds from 0 on")
    try:
        clock_ns = agent.advance(int(text))
    except errors.StoreFault as fault:
        return api.error(500, str(fault))
    return _json({"clock_ms": clock_ns // NS_PER_MS})


def _crash(agent: driver.Driver, request: wire.Request) -> wire.Reply:
    failpoint = request.parameter("at")
    if failpoint not in failpoints.FAILPOINTS:
        return api.fault(400, f"at is {failpoint[:20]!r}, not one of {', '.join(failpoints.FAILPOINTS)}")
    agent.crash_at(failpoint, lambda: os.kill(os.getpid(), signal.SIGKILL))
    return _json({"at": failpoint})


_ROUTES: Mapping[str, tuple[str, Callable[[driver.Driver, wire.Request], wire.Reply]]] = {
    "/state": ("GET", _state),
    "/clock": ("POST", _clock),
    "/crash": ("POST", _crash),
}


def _json(value: Any) -> wire.Reply:
    return wire.Reply(200, json.dumps(value).encode() + b"\n", api.JSON)
