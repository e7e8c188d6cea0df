import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from enim import wire
from simulator.agent import api
from simulator.errors import InvariantBroken
from simulator.real import connection

PATIENCE_S = 10.0
# What the real agent's Go client sends: an empty Host, sorted keys, no body (contract C1).
GO_POST = (
    b"POST /v1/eni?containerID=c1&netns=%2Fvar%2Frun%2Fnetns%2Fn1&owner=ns%2Fpod HTTP/1.1\r\n"
    b"Host: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\nAccept: application/json\r\n\r\n"
)
CLOSE_POST = GO_POST.replace(b"Host: ", b"Connection: close\r\nHost: ")


def echo(request: wire.Request) -> wire.Reply:
    """Say what was understood."""
    text = f"{request.method} {request.path} {request.parameter('owner')} {request.body.decode()}"
    return wire.Reply(200, text.encode(), "application/json")


Connect = Callable[..., socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connect a raw client to a Connection on a thread of its own."""
    with contextlib.ExitStack() as stack:

        def start(
            handle: Callable[[wire.Request], wire.Reply] = echo,
            panicked: Callable[[Exception], None] = lambda bug: None,
            read_timeout_ms: float = 5_000,
            served: Callable[[wire.Request, int, float, float], None] = lambda *_: None,
        ) -> socket.socket:
            client, server = socket.socketpair()
            client.settimeout(PATIENCE_S)

            def serve() -> None:
                with server:
                    connection.Connection(server, handle, panicked, read_timeout_ms, served=served).serve()

            thread = threading.Thread(target=serve)
            stack.callback(thread.join, PATIENCE_S)
            stack.enter_context(client)
            thread.start()
            return client

        yield start


def read_until_close(client: socket.socket) -> bytes:
    data = b""
    while more := client.recv(65536):
        data += more
    return data


def read_answer(client: socket.socket) -> bytes:
    """Read one whole answer of a connection that stays open."""
    data = b""
    while wire.decode_reply(data, closed=False) is None:
        data += client.recv(65536)
    return data


def exchange(client: socket.socket, *parts: bytes) -> bytes:
    """Send, say that there is no more, read to the end."""
    for part in parts:
        client.sendall(part)
    client.shutdown(socket.SHUT_WR)
    return read_until_close(client)


def test_request_of_the_go_client_is_answered_byte_for_byte(connect: Connect) -> None:
    assert exchange(connect(), CLOSE_POST) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\nConnection: close\r\n\r\n"
        b"POST /v1/eni ns/pod "
    )


def test_success_without_a_body_has_no_content_type(connect: Connect) -> None:
    answer = exchange(connect(lambda request: wire.Reply(200)), CLOSE_POST)
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def test_half_closed_client_gets_its_answer(connect: Connect) -> None:
    assert exchange(connect(), GO_POST).endswith(b"POST /v1/eni ns/pod ")


def test_connection_stays_open_for_the_next_request(connect: Connect) -> None:
    client = connect()
    for _ in range(3):
        client.sendall(GO_POST)
        assert read_answer(client) == (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\nConnection: keep-alive\r\n\r\n"
            b"POST /v1/eni ns/pod "
        )


def test_pipelined_requests_are_answered_in_order(connect: Connect) -> None:
    second = GO_POST.replace(b"ns%2Fpod", b"ns%2Fother")
    answers = exchange(connect(), GO_POST + second + b"\r\n" + GO_POST)
    assert re.findall(rb"ns/\w+", answers) == [b"ns/pod", b"ns/other", b"ns/pod"]


@pytest.mark.parametrize("ask", [b"Connection: close", b"Connection: keep-alive, Close"])
def test_connection_ends_when_the_client_wants_it(connect: Connect, ask: bytes) -> None:
    client = connect()
    client.sendall(GO_POST.replace(b"Host: ", ask + b"\r\nHost: "))
    assert b"Connection: close\r\n" in read_until_close(client)


def test_http_1_0_is_one_request_per_connection(connect: Connect) -> None:
    client = connect()
    client.sendall(b"GET /v1/healthz HTTP/1.0\r\n\r\n")
    assert read_until_close(client).endswith(b"GET /v1/healthz  ")


def test_head_is_answered_without_a_body(connect: Connect) -> None:
    answer = exchange(connect(), b"HEAD /v1/healthz HTTP/1.1\r\nHost:\r\n\r\n")
    assert answer.endswith(b"\r\nContent-Length: 18\r\nConnection: keep-alive\r\n\r\n")


def test_request_may_come_in_single_bytes(connect: Connect) -> None:
    answer = exchange(connect(), *(CLOSE_POST[index : index + 1] for index in range(len(CLOSE_POST))))
    assert answer.endswith(b"POST /v1/eni ns/pod ")


def test_client_that_waits_for_100_continue_is_told_once_and_then_answered(connect: Connect) -> None:
    client = connect()
    client.sendall(
        b"POST /v1/eni HTTP/1.1\r\nHost:\r\nExpect: 100-Continue\r\nContent-Type: application/json\r\n"
        b"Content-Length: 4\r\nConnection: close\r\n\r\n"
    )
    assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.sendall(b"{")
    client.settimeout(0.05)
    with pytest.raises(TimeoutError):
        client.recv(65536)
    client.settimeout(PATIENCE_S)
    client.sendall(b'"":')
    answer = read_until_close(client)
    assert (answer.count(b"HTTP/1.1"), answer[-3:]) == (1, b'"":')


def test_client_that_sends_its_body_at_once_is_not_told_to_continue(connect: Connect) -> None:
    request = b"POST /v1/eni HTTP/1.1\r\nHost:\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}"
    assert b"100 Continue" not in exchange(connect(), request)


def test_chunked_body_is_understood(connect: Connect) -> None:
    request = b"POST /v1/eni HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert exchange(connect(), request).endswith(b"abcde")


@pytest.mark.parametrize(
    ("garbage", "status", "message"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "malformed request line"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, "malformed request line"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "unknown protocol version 'HTTP/2.0'"),
        (b"GET /%zz HTTP/1.1\r\n\r\n", 400, "malformed percent-encoding"),
        (b"POST /v1/eni HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400, "malformed Content-Length"),
        (b"POST /v1/eni HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413, "the body is longer than 1 MiB"),
        (b"POST /v1/eni HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", 400, "the request ended before it was whole"),
        (b"POST /v1/eni HTT", 400, "the request ended before it was whole"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431, "the head is longer than 64 KiB"),
    ],
)
def test_what_is_no_request_gets_code_and_message_and_the_connection_ends(
    connect: Connect, garbage: bytes, status: int, message: str
) -> None:
    head, _, body = exchange(connect(), garbage).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Type: application/json\r\n" in head
    assert head.endswith(b"\r\nConnection: close")
    assert body == b'{"code":%d,"message":"%s"}' % (status, message.encode())


def test_client_that_never_stops_sending_reads_why_it_was_refused(connect: Connect) -> None:
    client = connect()
    client.sendall(b"POST /v1/eni HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 500_000)
    assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_chunks_that_are_mostly_padding_are_bounded(connect: Connect) -> None:
    client = connect()
    padding = (b"1;" + b"x" * 1000 + b"\r\na\r\n") * 3000
    client.sendall(b"POST /v1/eni HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + padding)
    assert client.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_client_that_says_nothing_is_let_go(connect: Connect) -> None:
    assert read_until_close(connect(read_timeout_ms=50)) == b""


def test_client_that_is_too_slow_is_told_so(connect: Connect) -> None:
    client = connect(read_timeout_ms=200)
    client.sendall(GO_POST[:50])
    answer = read_until_close(client)
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")


def test_time_for_a_request_does_not_begin_anew_with_every_byte(connect: Connect) -> None:
    client = connect(read_timeout_ms=300)
    answered = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            for byte in GO_POST * 100:
                client.sendall(bytes([byte]))
                if answered.wait(0.02):
                    return

    thread = threading.Thread(target=trickle)
    thread.start()
    assert client.recv(65536).startswith(b"HTTP/1.1 408 ")
    answered.set()
    thread.join(PATIENCE_S)


def test_idle_client_is_let_go_without_a_word_after_its_answer(connect: Connect) -> None:
    client = connect(read_timeout_ms=100)
    client.sendall(GO_POST)
    assert read_until_close(client).count(b"HTTP/1.1 ") == 1


def test_exception_is_500_with_a_fixed_sentence_and_is_reported(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    bug = InvariantBroken("two owners <secret>")
    reported: list[Exception] = []

    def handle(request: wire.Request) -> wire.Reply:
        raise bug

    answer = exchange(connect(handle, reported.append), CLOSE_POST)
    assert answer == (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 52\r\n"
        b"Connection: close\r\n\r\nThe agent failed on this request; its log says how.\n"
    )
    assert reported == [bug]
    assert "two owners <secret>" in capsys.readouterr().err


def test_handler_that_gives_up_leaves_the_client_without_an_answer(connect: Connect) -> None:
    def handle(request: wire.Request) -> wire.Reply:
        raise connection.NoAnswer

    assert exchange(connect(handle), GO_POST) == b""


def test_request_is_handled_to_its_end_when_the_client_is_gone(connect: Connect) -> None:
    handling, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def handle(request: wire.Request) -> wire.Reply:
        handling.set()
        assert go_on.wait(PATIENCE_S)
        done.set()
        return wire.Reply(200, b"x" * 1_000_000)

    client = connect(handle)
    client.sendall(GO_POST)
    assert handling.wait(PATIENCE_S)
    client.close()
    go_on.set()
    assert done.wait(PATIENCE_S)


def test_client_that_does_not_read_is_let_go(connect: Connect) -> None:
    client = connect(lambda request: wire.Reply(200, b"x" * 8_000_000), read_timeout_ms=100)
    client.sendall(GO_POST * 2)
    received = 0
    threading.Event().wait(0.3)
    with contextlib.suppress(ConnectionResetError):
        received = len(read_until_close(client))
    assert received < 8_000_000


def test_every_request_is_one_line_in_the_log_that_a_client_cannot_forge(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = CLOSE_POST.replace(b"ns%2Fpod", b"ns%2Fp%0A2026%1B%5B2J" + b"o" * 200)
    exchange(connect(), forged)
    exchange(connect(), b"GET /v1/healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 2
    assert re.fullmatch(r"\S+Z POST ns/p\\n2026\\x1b\[2Jo+ c1 200 \d+\.\d ms", lines[0])
    assert len(lines[0]) < 250
    assert re.fullmatch(r"\S+Z GET /v1/healthz - 200 \d+\.\d ms", lines[1])


def test_who_looks_on_is_told_of_every_answer_before_its_client(connect: Connect) -> None:
    told: list[tuple[str, int]] = []

    def handle(request: wire.Request) -> wire.Reply:
        if request.method == "POST":
            raise KeyError("netns")
        return wire.Reply(404)

    client = connect(handle, served=lambda request, status, *_: told.append((request.method, status)))
    exchange(client, b"GET / HTTP/1.1\r\n\r\n" + CLOSE_POST)
    assert told == [("GET", 404), ("POST", 500)]


def test_who_looks_on_and_fails_costs_no_client_its_answer(
    connect: Connect, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    assert exchange(connect(served=fail), CLOSE_POST).endswith(b"POST /v1/eni ns/pod ")
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, b"BREW\r\n\r\n"),
        (408, b"GET /v1/healthz HTTP/1.1\r\n"),
        (413, b"GET / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000),
        (501, b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (505, b"GET / HTTP/3.0\r\n\r\n"),
    ],
)
def test_break_of_http_is_answered_as_the_openapi_document_says_of_every_operation(
    connect: Connect, assert_documented: Callable[..., None], status: int, sent: bytes
) -> None:
    client = connect(read_timeout_ms=100)
    client.sendall(sent)
    reply = wire.decode_reply(read_until_close(client), closed=True)
    assert reply is not None
    assert reply.status == status
    for path, methods in api.METHODS.items():
        for method in methods:
            assert_documented(method, path, reply, "default")


def test_bug_is_answered_as_the_openapi_document_says_of_every_operation(
    connect: Connect, assert_documented: Callable[..., None]
) -> None:
    def handle(request: wire.Request) -> wire.Reply:
        raise KeyError("netns")

    reply = wire.decode_reply(exchange(connect(handle), CLOSE_POST), closed=True)
    for path, methods in api.METHODS.items():
        for method in methods:
            assert_documented(method, path, reply)
