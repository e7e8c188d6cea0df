"""One round trip over a real unix socket, and every way in which it can go wrong."""

import contextlib
import errno
import socket
import threading

import pytest

from enim import effects, errors, transport, wire

ANSWER = wire.encode_reply(wire.Reply(200, b"{}", "application/json"))


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        server.settimeout(10)
        yield server


def ask(path, timeout_ms=5_000, body=b""):
    return transport.round_trip(effects.Request(str(path), wire.Request("POST", "/v1/eni", body=body), timeout_ms))


def serve(listener, *parts, read=True):
    """Answer one connection with ``parts`` in a thread, then close it."""

    def run():
        connection, _ = listener.accept()
        with connection:
            received = b""
            while read and wire.decode_request(received) is None:
                received += connection.recv(65536)
            for part in parts:
                connection.sendall(part)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize(
    "parts",
    [
        (ANSWER,),
        tuple(ANSWER[index : index + 1] for index in range(len(ANSWER))),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b"{}"),
    ],
)
def test_round_trip_reads_the_whole_answer(listener, parts):
    thread = serve(listener, *parts)
    assert ask(listener.getsockname()).body == b"{}"
    thread.join()


def test_round_trip_leaves_the_time_until_the_answer_to_the_caller(listener):
    """The agent here has the whole request, and answers only when the caller has done something else."""
    is_done = threading.Event()

    def run():
        connection, _ = listener.accept()
        with connection:
            while wire.decode_request(connection.recv(65536)) is None:
                pass
            assert is_done.wait(10)
            connection.sendall(ANSWER)

    thread = threading.Thread(target=run)
    thread.start()
    request = effects.Request(listener.getsockname(), wire.Request("POST", "/v1/eni"), 5_000)
    assert transport.round_trip(request, is_done.set).status == 200
    thread.join()


def test_round_trip_reads_an_answer_that_came_before_the_request_was_read(listener):
    thread = serve(listener, wire.encode_reply(wire.Reply(413)), read=False)
    with contextlib.suppress(errors.Interrupted):  # the kernel may throw the answer away with the unread request
        assert ask(listener.getsockname(), body=b"x" * 1_000_000).status == 413
    thread.join()


def test_round_trip_without_a_socket_or_without_a_listener_sent_nothing(tmp_path):
    with pytest.raises(errors.Unreachable) as caught:
        ask(tmp_path / "none")
    assert caught.value.errno == errno.ENOENT
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        with pytest.raises(errors.Unreachable) as caught:
            ask(tmp_path / "s")
    assert caught.value.errno == errno.ECONNREFUSED


def test_round_trip_does_not_wait_for_a_full_backlog(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(str(tmp_path / "s"))
        server.listen(0)
        first.connect(str(tmp_path / "s"))
        with pytest.raises(errors.Unreachable) as caught:
            ask(tmp_path / "s")
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize("path", ["/" + "x" * 200, "/a\0b", "/\ud800"])
def test_round_trip_with_an_impossible_path_sent_nothing(path):
    with pytest.raises(errors.Unreachable):
        ask(path)


def test_round_trip_ends_at_the_deadline_even_if_bytes_keep_coming(listener):
    stop = threading.Event()

    def trickle():
        connection, _ = listener.accept()
        with connection:
            while not stop.wait(0.02):
                try:
                    connection.sendall(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    with pytest.raises(errors.Interrupted, match="deadline"):
        ask(listener.getsockname(), timeout_ms=150)
    stop.set()
    thread.join()


def test_round_trip_with_a_silent_agent_ends_at_the_deadline(listener):
    with pytest.raises(errors.Interrupted, match="deadline"):
        ask(listener.getsockname(), timeout_ms=50)


@pytest.mark.parametrize("parts", [(), (ANSWER[:30],), (b"SSH-2.0\r\n\r\n",), (b"HTTP/1.1 200 OK\r\nBroken\r\n\r\n",)])
def test_round_trip_without_a_whole_answer_has_an_unknown_outcome(listener, parts):
    thread = serve(listener, *parts)
    with pytest.raises(errors.Interrupted):
        ask(listener.getsockname())
    thread.join()
