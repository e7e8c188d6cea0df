"""EDGE: the agent of a node as a process: started, killed, made to die at a failpoint, and started again by whoever
supervises it.

Forked from the node, so that it is up in a few milliseconds; it runs the same code as ``enim-lab agent``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from simulator import syscalls
from simulator.errors import LabError, SimulatorError, WorldFault
from simulator.real import server


class AgentProcess:
    """At most one agent, and perhaps one in reserve that starts when it is gone.

    Args:
        directory: for its sockets, its state and its log.
        enis: how many ENIs the cloud has attached.
    """

    def __init__(self, directory: Path, enis: int) -> None:
        self.socket = directory / "agent.sock"
        self.control = directory / "control.sock"
        self._state = directory / "state.db"
        self._log = directory / "agent.log"
        self._enis = enis
        self._pid = 0
        self._reserve_pid = 0

    @property
    def pid(self) -> int:
        """The agent's pid, 0 if none runs."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG) != (0, 0):
            self._pid, self._reserve_pid = self._reserve_pid, 0
        return self._pid

    def start(self, after_ms: int = 0) -> None:
        """Start the agent, and return when it serves; with ``after_ms`` return at once, it starts later.

        Raises:
            WorldFault: it runs already.
            LabError: it did not start; what it said.
        """
        if self.pid:
            raise WorldFault("agent.start", 0, "the agent runs already")
        ready, tell_ready = os.pipe()
        self._pid = self._fork(tell_ready, lambda: time.sleep(after_ms / 1000))
        os.close(tell_ready)
        with os.fdopen(ready, "rb") as pipe:
            if after_ms or pipe.read() != b"":
                return
        self._end(self._pid)
        self._pid = 0
        said = self._log.read_text(errors="replace")[-500:].strip()
        raise LabError(f"the agent did not start: {said or 'it said nothing'}")

    def kill(self) -> None:
        """SIGKILL; return when it is gone. Raises WorldFault if none runs."""
        if not self.pid:
            raise WorldFault("agent.kill", 0, "the agent does not run")
        for pid in (self._pid, self._reserve_pid):
            if pid:
                self._end(pid)
        self._pid = self._reserve_pid = 0

    def keep_reserve(self, back_after_ms: int) -> None:
        """From now on another agent starts ``back_after_ms`` after this one is gone. Raises WorldFault if none runs."""
        if not self.pid or self._reserve_pid:
            raise WorldFault("agent.crash", 0, "the agent does not run, or is to crash already")
        running = os.pidfd_open(self._pid)

        def wait() -> None:
            select.select([running], [], [])
            time.sleep(back_after_ms / 1000)

        nobody, tell_ready = os.pipe()
        self._reserve_pid = self._fork(tell_ready, wait)
        for descriptor in (running, nobody, tell_ready):
            os.close(descriptor)

    @staticmethod
    def _end(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)  # a child that ended keeps its pid until it is waited for
        os.waitpid(pid, 0)

    def _fork(self, tell_ready: int, wait: Callable[[], None]) -> int:
        pid = os.fork()
        if pid == 0:
            self._be_agent(tell_ready, wait)
        return pid

    def _be_agent(self, tell_ready: int, wait: Callable[[], None]) -> None:
        status = 1
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            wait()
            syscalls.close_all_but(tell_ready)

            def ready() -> None:
                with contextlib.suppress(OSError):  # nobody waits for one that starts later
                    os.write(tell_ready, b"ready")
                os.close(tell_ready)

            server.run_agent(self.socket, self._state, self._enis, self.control, ready)
            status = 0
        except SimulatorError as error:
            os.write(2, f"{error}\n".encode())
        except BaseException:  # noqa: BLE001 - a forked process must not go on as its parent
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
