"""EDGE: one round trip on the agent's unix socket, with a deadline.

Rules: before the connection stands, a failure is ``Unreachable`` and nothing was sent; after it, a failure is
``Interrupted``, because the agent may have read the request whatever we saw.

Source: unix(7): on a socket that does not wait, connect answers EAGAIN when the backlog is full.
"""

import time
from _socket import AF_UNIX, SOCK_STREAM
from _socket import socket as new_socket
from _socket import timeout as TimedOut  # noqa: N812 -- TimeoutError itself, but in Python 3.9

from enim import effects, errors, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 65536


def round_trip(effect: effects.Request, meanwhile: "Callable[[], None] | None" = None) -> wire.Reply:
    """Send the request, read the whole answer.

    Args:
        meanwhile: what can be done while the agent is at work; called once, when the request has been sent.

    Raises:
        Unreachable: no connection.
        Interrupted: no whole answer within ``timeout_ms``, or one that is not HTTP.
    """
    deadline = time.monotonic() + effect.timeout_ms / 1000
    try:
        connection = _connect(effect.socket, effect.timeout_ms / 1000)
    except OSError as error:
        raise errors.Unreachable(error.errno or 0, error.strerror or str(error)) from None
    except ValueError as error:  # a path with a NUL, or one that no file system can have
        raise errors.Unreachable(0, str(error)) from None
    try:
        data = wire.encode_request(effect.request)  # not before: the agent comes to the connection meanwhile
        try:
            _send(connection, data)
            if meanwhile is not None:
                meanwhile()
            return _receive(connection, deadline)
        except OSError as error:
            raise errors.Interrupted(error.strerror or str(error)) from None
        except errors.WireError as error:
            raise errors.Interrupted(error.text) from None
    finally:
        connection.close()


def _connect(path: str, timeout_s: float) -> new_socket:
    connection = new_socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _send(connection: new_socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except BrokenPipeError:
        pass  # the agent may have answered before it hung up


def _receive(connection: new_socket, deadline: float) -> wire.Reply:
    received = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise errors.Interrupted("the deadline has passed")
        connection.settimeout(left)
        try:
            part = connection.recv(READ_BYTES)
        except TimedOut:
            raise errors.Interrupted("the deadline has passed") from None
        received += part
        reply = wire.decode_reply(received, closed=not part)
        if reply is not None:
            return reply
