"""EDGE: the cloud as the agent meets it: it attaches ENIs to this node.

They belong to the hardware process of this network namespace, which this module finds or starts.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
import traceback

from simulator import topology
from simulator.errors import CloudFault, LabError, WorldFault
from simulator.model import Eni
from simulator.real import hardware

_ANSWER_TIMEOUT_S = 30.0
_EPERM, _EACCES = 1, 13


def attach(count: int) -> tuple[Eni, ...]:
    """See to it that the first ``count`` ENIs of this node exist; what exists already is left as it is.

    Starts the hardware process of this network namespace if there is none. It outlives the caller.

    Raises:
        LabError: this process may not make links here.
        CloudFault: they could not be made.
    """
    enis = topology.enis(count)
    if not enis:
        return ()
    with _connect(hardware.ADDRESS) as connection:
        connection.sendall(json.dumps({"enis": [dataclasses.asdict(eni) for eni in enis]}).encode() + b"\n")
        line = connection.makefile("rb").readline()
    if not line:
        raise CloudFault("attach ENIs", 0, "the hardware process gave no answer")
    fault = json.loads(line)
    if fault:
        raise CloudFault(fault["operation"], fault["errno"], fault["text"])
    return enis


def _connect(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_TIMEOUT_S)
    try:
        connection.connect(address)
    except ConnectionRefusedError:
        _start(address)
        connection.connect(address)
    return connection


def _start(address: str) -> None:
    """Fork the hardware process; return when it accepts connections."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.close(told)
                _be_hardware(listener, tell)
        finally:
            os._exit(0)
    os.close(tell)
    listener.close()
    os.waitpid(pid, 0)
    with os.fdopen(told) as lines:
        line = lines.readline()
    if not line:
        raise CloudFault("start the hardware process", 0, "it ended at once")
    fault = json.loads(line)
    if fault.get("errno") in (_EPERM, _EACCES):
        raise LabError(
            f"this process may not make links in this network namespace ({fault['text']})",
            "Make one of your own first: unshare --user --map-root-user --net --mount",
        )
    if fault:
        raise CloudFault(fault["operation"], fault["errno"], fault["text"])


def _be_hardware(listener: socket.socket, tell: int) -> None:
    """The process's life: apart from its starter in everything."""
    null = os.open(os.devnull, os.O_RDWR)
    first = 3
    for fd in sorted((listener.fileno(), tell, null)):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
    try:
        made = hardware.Hardware()
    except WorldFault as fault:
        os.write(
            tell, json.dumps({"operation": fault.operation, "errno": fault.errno, "text": fault.text}).encode() + b"\n"
        )
        return
    except Exception:  # noqa: BLE001 - a forked process must not go on as its parent
        traceback.print_exc()
        return
    os.write(tell, b"{}\n")
    os.close(tell)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    sys.stderr.flush()
    hardware.serve(listener, made)
