"""EDGE: a lab for one question: it is started, answers, and is thrown away."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from simulator.errors import LabError
from simulator.lab import namespaces

ANSWER_TIMEOUT_S = 30

Job: TypeAlias = Callable[[Path], object]


class NoAnswer(LabError):
    """The lab was there, and its job ended without an answer or gave none in time."""


def ask(job: Job, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
    """What ``job``, given the scratch directory, returns in a fresh lab, as JSON hands it on.

    Raises:
        LabError: this machine cannot hold a lab.
        NoAnswer: the job ended without an answer, or gave none in time.
    """
    lab = namespaces.start(lambda channel, scratch: _answer(channel, job(scratch)))
    try:
        lab.channel.settimeout(timeout_s)
        with lab.channel.makefile("rb") as lines:
            line = lines.readline()
    except TimeoutError:
        line = b""
    finally:
        lab.close()
    if not line:
        raise NoAnswer("a lab that was started for a trial gave no answer")
    return json.loads(line)


def _answer(channel: socket.socket, value: object) -> None:
    channel.sendall(json.dumps(value).encode() + b"\n")
