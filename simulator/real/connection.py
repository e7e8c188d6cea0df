"""EDGE: one client's connection to a unix socket of the agent: HTTP/1.1 requests, one after the other.

- The protocol is ``enim.wire``'s. Here are the socket, its time limits, and what HTTP leaves to a server: keep-alive,
  pipelining, ``Connection: close``, ``Expect: 100-continue``, clients that are slow, half-closed or gone.
- A request that has been read whole is handled to its end, whatever becomes of the client (contract C5).
- What breaks the protocol is answered with ``{"code","message"}``, then the connection ends.
- An exception out of the handler is 500 with a fixed sentence as ``text/plain`` (contract C2); its traceback is logged.
"""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Callable

from enim import errors, framing, wire
from simulator.agent import api
from simulator.real import clock

READ_TIMEOUT_MS = (
    10_000.0  # for a whole request, and for the time between two; the real agent's TCP listener has 60 s (C1)
)
LINGER_MS = 1_000.0

_REQUEST_BYTES_MAX = wire.HEAD_BYTES_MAX + 2 * wire.BODY_BYTES_MAX  # chunks may take as much again as what is in them
_READ_BYTES = 64 * 1024
_LOG_FIELD_MAX = 128
_PANIC = wire.Reply(500, b"The agent failed on this request; its log says how.\n", "text/plain")


class NoAnswer(Exception):
    """Raised by a handler whose work was given up: the client is told nothing, as if the agent had died."""


class Connection:
    """One accepted connection.

    Args:
        client: the connected socket; whoever made it closes it.
        handle: answers one request; anything that it raises but ``NoAnswer`` is a bug.
        panicked: told of such a bug after the client was.
        served: told of each request before its answer is sent: the answer's status, when the request arrived, and when
            its handling began, monotonic ms. What it raises is logged, and costs the client nothing.
        accepted_ms: when the client was accepted, which is when its first request arrived.
        read_timeout_ms: for a request to come whole, and for the client to take an answer.
    """

    def __init__(
        self,
        client: socket.socket,
        handle: Callable[[wire.Request], wire.Reply],
        panicked: Callable[[Exception], None],
        read_timeout_ms: float = READ_TIMEOUT_MS,
        *,
        served: Callable[[wire.Request, int, float, float], None] = lambda *_: None,
        accepted_ms: float | None = None,
    ) -> None:
        self._client = client
        self._handle = handle
        self._panicked = panicked
        self._read_timeout_ms = read_timeout_ms
        self._served = served
        self._accepted_ms = accepted_ms
        self._data = b""  # what has been received and is not yet part of a request

    def serve(self) -> None:
        """Answer requests until either side ends the connection. Never raises for what the client does."""
        try:
            while self._serve_one():
                pass
        except (OSError, NoAnswer):
            return  # the client is gone, or will be told by the end of the connection

    def _serve_one(self) -> bool:
        """Answer the next request; whether there may be another."""
        try:
            received = self._receive()
        except errors.WireError as error:
            log(f"- - - {error.status} {_printable(error.text)}")
            self._send(wire.encode_reply(api.fault(error.status, error.text), close=True))
            self._linger()
            return False
        if received is None:
            return False
        request, goes_on = received
        began_ms = clock.monotonic_ms()
        arrived_ms, self._accepted_ms = self._accepted_ms or began_ms, None
        reply, bug = self._answer(request)
        try:
            encoded = wire.encode_reply(reply, close=not goes_on)
            self._tell(request, reply.status, arrived_ms, began_ms)
            self._send(encoded.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if request.method == "HEAD" else encoded)
        finally:
            _log_request(request, reply.status, clock.monotonic_ms() - began_ms)
            if bug is not None:
                self._panicked(bug)
        return goes_on

    def _answer(self, request: wire.Request) -> tuple[wire.Reply, Exception | None]:
        try:
            return self._handle(request), None
        except NoAnswer:
            raise
        except Exception as bug:  # noqa: BLE001 - one request's bug must not take the others' answers away
            log(traceback.format_exc())
            return _PANIC, bug

    def _tell(self, request: wire.Request, status: int, arrived_ms: float, began_ms: float) -> None:
        try:
            self._served(request, status, arrived_ms, began_ms)
        except Exception:  # noqa: BLE001 - the answer is ready, and whoever only looks on must not cost it
            log(traceback.format_exc())

    def _receive(self) -> tuple[wire.Request, bool] | None:
        """The next request, and whether the client wants another; None if the client has said all it had to say.

        Raises:
            WireError: it broke the protocol, took too long, or stopped half-way.
        """
        deadline_ms = clock.monotonic_ms() + self._read_timeout_ms
        is_continued = False
        while (decoded := wire.decode_request(self._data)) is None:
            if len(self._data) > _REQUEST_BYTES_MAX:
                raise errors.WireError(413, "the request is longer than 2 MiB")
            if not is_continued and _expects_continue(self._data):
                self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
                is_continued = True
            more = self._read(deadline_ms)
            if more is None and self._data:
                raise errors.WireError(408, "the request did not come whole in time")
            if not more:
                if self._data.strip(b"\r\n"):
                    raise errors.WireError(400, "the request ended before it was whole")
                return None
            self._data += more
        request, size = decoded
        goes_on = _goes_on(self._data)
        self._data = self._data[size:]
        return request, goes_on

    def _read(self, deadline_ms: float) -> bytes | None:
        """What comes next, b"" at the end, None if nothing came in time."""
        left_ms = deadline_ms - clock.monotonic_ms()
        if left_ms <= 0:
            return None
        self._client.settimeout(left_ms / 1000)
        try:
            return self._client.recv(_READ_BYTES)
        except TimeoutError:
            return None

    def _send(self, data: bytes) -> None:
        self._client.settimeout(self._read_timeout_ms / 1000)
        self._client.sendall(data)

    def _linger(self) -> None:
        """Let a client that is still sending come to read the answer: closed at once, it would see only a reset."""
        self._client.shutdown(socket.SHUT_WR)
        deadline_ms = clock.monotonic_ms() + LINGER_MS
        while self._read(deadline_ms):
            pass


def log(text: str) -> None:
    """Write a line to stderr, which is the agent's log; with the time in front."""
    try:
        sys.stderr.write(f"{clock.wall_text()} {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # nobody reads the log any more; that must not stop the agent


def _log_request(request: wire.Request, status: int, duration_ms: float) -> None:
    named = (request.method, request.parameter("owner"), request.parameter("containerID"))
    if named[1:] == ("", ""):
        named = (request.method, request.path, "")
    fields = " ".join(_printable(field) or "-" for field in named)
    log(f"{fields} {status} {duration_ms:.1f} ms")


def _printable(text: str) -> str:
    """A client's text, such that it cannot forge a line of the log or steer a terminal."""
    return text.encode("unicode_escape").decode()[:_LOG_FIELD_MAX]


def _expects_continue(data: bytes) -> bool:
    head = framing.split_head(data)
    return head is not None and framing.last(head[1], "expect").lower() == "100-continue"


def _goes_on(data: bytes) -> bool:
    """Whether the client leaves the connection open after the request in front: HTTP/1.1, unless it says otherwise."""
    head = framing.split_head(data)
    if head is None or not head[0].endswith(" HTTP/1.1"):
        return False
    options = framing.last(head[1], "connection").lower().split(",")
    return "close" not in [option.strip() for option in options]
