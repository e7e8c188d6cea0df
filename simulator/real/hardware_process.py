"""EDGE: the hardware as a process that outlives the agent: what it is asked, when it looks, and when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import time
from typing import Any

from simulator.errors import WorldFault
from simulator.model import Eni, EniId, Subnet
from simulator.real.hardware import Hardware

ADDRESS = "\0enim-hardware"  # abstract: its scope is the network namespace in which it was bound
REQUEST_BYTES_MAX = 1 << 16

RESYNC_MS = 1_000
IDLE_ROUNDS_MAX = 10

_RETRY_MS = 20  # after a race with a change that is still under way
_ANSWER_TIMEOUT_S = 1.0


def serve(
    listener: socket.socket, hardware: Hardware, resync_ms: int = RESYNC_MS, idle_rounds_max: int = IDLE_ROUNDS_MAX
) -> None:
    """Answer requests and bring lost ENIs back, until nobody needs the node's network any more.

    One request per connection: a line of JSON, ``{"enis": [...]}`` with ENIs as ``dataclasses.asdict`` gives them;
    the answer is ``{}`` when they all exist, else ``{"operation", "errno", "text"}``. What had happened to them before
    the request is known by then.

    Args:
        listener: accepts the connections.
        hardware: what is served.
        resync_ms: how often to look without being told to, and how long a round lasts in which nothing happens.
        idle_rounds_max: end after so many of them in a row in which nobody needed the hardware.
    """
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(hardware.changes, select.POLLIN)
    idle_rounds = 0
    while idle_rounds < idle_rounds_max:
        ready = {fd for fd, _ in poll.poll(resync_ms)}
        is_asked = listener.fileno() in ready
        hardware.hear()
        try:
            hardware.bring_back_the_lost(thorough=is_asked or not ready)
        except WorldFault:  # a race with a change that is still under way: the next round sees it
            time.sleep(_RETRY_MS / 1000)
        if is_asked:
            _answer(listener, hardware)
        idle_rounds = 0 if ready or hardware.is_needed() else idle_rounds + 1


def _answer(listener: socket.socket, hardware: Hardware) -> None:
    with contextlib.suppress(OSError):  # the client left, or there are no file descriptors left
        connection, _ = listener.accept()
        with connection:
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            if struct.unpack("3i", credentials)[1] == os.geteuid():
                connection.sendall(json.dumps(_carry_out(_line_from(connection), hardware)).encode() + b"\n")


def _line_from(connection: socket.socket) -> bytes:
    """What the client says up to a line's end; whoever is slow or wordy is cut off."""
    deadline = time.monotonic() + _ANSWER_TIMEOUT_S
    line = b""
    while not line.endswith(b"\n") and len(line) < REQUEST_BYTES_MAX:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(REQUEST_BYTES_MAX)
        if not part:
            break
        line += part
    return line


def _carry_out(line: bytes, hardware: Hardware) -> dict[str, Any]:
    try:
        hardware.ensure([eni_of(one) for one in json.loads(line)["enis"]])
    except WorldFault as fault:
        return {"operation": fault.operation, "errno": fault.errno, "text": fault.text}
    except Exception as error:  # noqa: BLE001 - whatever a request holds, the machine does not break over it
        return {"operation": "read the request", "errno": 0, "text": f"{type(error).__name__}: {error}"[:256]}
    return {}


def eni_of(value: Any) -> Eni:
    """An ENI from what ``dataclasses.asdict`` made of it. Raises KeyError or TypeError."""
    return Eni(**{**value, "id": EniId(value["id"]), "subnet": Subnet(**value["subnet"])})
