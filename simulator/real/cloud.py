"""EDGE: the cloud as the agent meets it: it attaches ENIs to this node.

They belong to the hardware process of this network namespace, which this module finds or starts.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import sys
import time
import traceback
from typing import Any

from simulator import syscalls, topology
from simulator.errors import CloudFault, LabError, WorldFault
from simulator.model import Backend, Eni
from simulator.real import hardware, hardware_process

_ANSWER_TIMEOUT_S = 30.0
_LISTEN_WAIT_S = 0.05


def attach(count: int, backend: Backend = hardware.VETH) -> tuple[Eni, ...]:
    """See to it that the first ``count`` ENIs of this node exist; what exists already is left as it is.

    Starts the hardware process of this network namespace if there is none. It outlives the caller. When this returns,
    the hardware knows what has become of those that existed: which name they have in a pod, say.

    Args:
        count: how many ENIs.
        backend: which kind of link they are, if the hardware process is started now; one that runs keeps its own.

    Raises:
        LabError: this process may not make links here.
        CloudFault: they could not be made.
    """
    enis = topology.enis(count)
    if not enis:
        return ()
    request = json.dumps({"enis": [dataclasses.asdict(eni) for eni in enis]}).encode() + b"\n"
    try:
        with _connect(hardware_process.ADDRESS, backend) as connection:
            connection.sendall(request)
            line = connection.makefile("rb").readline()
    except OSError as error:
        raise CloudFault("attach ENIs", error.errno or 0, error.strerror or str(error)) from error
    if not line:
        raise CloudFault("attach ENIs", 0, "the hardware process gave no answer")
    _raise_fault(json.loads(line))
    return enis


def _raise_fault(told: dict[str, Any]) -> None:
    """Raise what the hardware process says went wrong; nothing if it says {}."""
    if told.get("errno") in (errno.EPERM, errno.EACCES):
        raise LabError(
            f"this process may not make links in this network namespace ({told['operation']}: {told['text']})",
            "Make one of your own first: unshare --user --map-root-user --net --mount",
        )
    if told:
        raise CloudFault(told["operation"], told["errno"], told["text"])


def _connect(address: str, backend: Backend) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_ANSWER_TIMEOUT_S)
    try:
        try:
            connection.connect(address)
        except ConnectionRefusedError:
            _start(address, backend)
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _start(address: str, backend: Backend) -> None:
    """Fork the hardware process; return when it accepts connections. Of several at once, one forks."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            time.sleep(_LISTEN_WAIT_S)  # the other is between its bind and its listen
            return
        raise
    listener.listen()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.close(told)
                _be_hardware(listener, tell, backend)
        finally:
            os._exit(0)
    os.close(tell)
    listener.close()
    os.waitpid(pid, 0)
    with os.fdopen(told) as lines:
        line = lines.readline()
    if not line:
        raise CloudFault("start the hardware process", 0, "it ended at once")
    _raise_fault(json.loads(line))


def _be_hardware(listener: socket.socket, tell: int, backend: Backend) -> None:
    """The process's life: apart from its starter in everything."""
    null = os.open(os.devnull, os.O_RDWR)
    syscalls.close_all_but(listener.fileno(), tell, null)
    try:
        made = hardware.Hardware(backend)
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
    hardware_process.serve(listener, made)
