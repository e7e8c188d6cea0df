"""EDGE: a unix socket that listens: its file, and one thread for each connection.

- Some threads wait for clients, so that one that comes need not wait for a thread to be made, or for another to hand
  it on.
- The file of a dead agent is replaced, that of a live one never, and a file that is no socket never. Between the look
  and the bind the directory is locked, so that of two agents that start at once one is refused.
- Mode 0660, set before anybody can connect; a parent directory that has to be made is 0775 (contract C1).
- The number of connections is bounded: who comes later waits in the kernel's queue. Each one's time is bounded too
  (``connection``), so the queue moves.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from simulator import errors
from simulator.real import clock, connection

CONNECTIONS_MAX = 256
BACKLOG = 1024  # a client that does not wait is refused (EAGAIN) beyond it; bounded by net.core.somaxconn (4096)
SPARE_THREADS = 4  # that wait for clients
GRACE_MS = 2_000.0  # for requests that are being handled when the agent is told to end

_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path without its final zero, unix(7)
_PROBE_TIMEOUT_S = 1.0
_OUT_OF_FILES_PAUSE_S = 0.1


class Listener:
    """A listening socket at ``path``; clients may connect at once, and are served from ``start`` on.

    Args:
        serve: serves one connection, on its own thread; must not raise. It is told when that was accepted, by the
            machine's monotonic clock in ms.

    Raises:
        LabError: another agent serves there, something else is in the way, or the socket cannot be made.
    """

    def __init__(
        self, path: Path, serve: Callable[[socket.socket, float], None], connections_max: int = CONNECTIONS_MAX
    ) -> None:
        self._path = path
        self._serve = serve
        self._connections_max = connections_max
        self._lock = threading.Lock()
        self._waiting_count = 0  # threads that wait for a client
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._stopped = False
        self._socket = _listen(path)
        self._identity = _identity(path)

    def start(self) -> None:
        """Begin to accept connections, in the background."""
        with self._lock:
            for _ in range(min(SPARE_THREADS, self._connections_max)):
                self._add_thread()

    def stop(self, grace_ms: float = GRACE_MS) -> None:
        """Remove the socket, and wait up to ``grace_ms`` for requests that have come to be answered."""
        if _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        with self._lock:
            self._stopped = True
            threads = list(self._clients)
            for client in self._clients.values():
                _shut_down(client, socket.SHUT_RD)
        _shut_down(self._socket, socket.SHUT_RDWR)  # ends every accept()
        self._socket.close()
        deadline_ms = clock.monotonic_ms() + grace_ms
        for thread in threads:
            thread.join(max(0.0, deadline_ms - clock.monotonic_ms()) / 1000)

    def _add_thread(self) -> None:
        """With the lock held."""
        thread = threading.Thread(target=self._accept, name=f"serve {self._path.name}", daemon=True)
        self._waiting_count += 1
        try:
            thread.start()
        except RuntimeError as error:  # no more threads; clients wait for those that there are
            self._waiting_count -= 1
            connection.log(f"accept: {error}")

    def _accept(self) -> None:
        """Serve one client after the other, as long as there are not too many threads that wait for one."""
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError as error:
                if self._stopped:
                    return
                connection.log(f"accept: {error}")
                threading.Event().wait(_OUT_OF_FILES_PAUSE_S)  # out of file descriptors: some will be closed soon
                continue
            accepted_ms = clock.monotonic_ms()
            self._begin(client)
            try:
                self._serve(client, accepted_ms)
            except Exception:  # noqa: BLE001 - a bug that one client meets must not cost the thread that the next one needs
                connection.log(traceback.format_exc())
            if self._end(client):
                return

    def _begin(self, client: socket.socket) -> None:
        with self._lock:
            self._clients[threading.current_thread()] = client
            self._waiting_count -= 1
            if self._stopped:
                _shut_down(client, socket.SHUT_RD)
            elif not self._waiting_count and len(self._clients) < self._connections_max:
                self._add_thread()

    def _end(self, client: socket.socket) -> bool:
        """Whether this thread is one too many."""
        with self._lock:
            del self._clients[threading.current_thread()]
            client.close()
            is_spare = self._waiting_count >= SPARE_THREADS
            self._waiting_count += not is_spare
            return is_spare


def _listen(path: Path) -> socket.socket:
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise errors.LabError(
            f"The socket path {path} is longer than {_PATH_BYTES_MAX} bytes",
            "The kernel allows no more; name a shorter one.",
        )
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_directory(path.parent)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            _clear(path)
            server.bind(os.fspath(path))
            path.chmod(0o660)
            server.listen(BACKLOG)
        finally:
            os.close(directory)
    except OSError as error:
        server.close()
        raise errors.LabError(
            f"The socket {path} cannot be made: {error.strerror or error}", "Name another one."
        ) from error
    except errors.LabError:
        server.close()
        raise
    return server


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o775)


def _clear(path: Path) -> None:
    """Remove the socket that a dead agent left. Raises ``LabError`` if what is there is something else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise errors.LabError(f"{path} is in the way: it is no socket", "Move it away, or name another socket.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        outcome = probe.connect_ex(os.fspath(path))
    if outcome == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif outcome in (0, errno.EAGAIN):
        raise errors.LabError(f"Another agent serves {path}", "Stop it, or name another socket.")
    elif outcome != errno.ENOENT:
        raise OSError(outcome, os.strerror(outcome))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _shut_down(connected: socket.socket, how: int) -> None:
    try:
        connected.shutdown(how)
    except OSError:
        return  # the other side was faster
