import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulator.errors import LabError
from simulator.real import listener

PATIENCE_S = 10.0


def shout(client: socket.socket, _accepted_ms: float) -> None:
    """Serve one connection: give back in capitals what comes, until the client has said all."""
    while data := client.recv(1024):
        client.sendall(data.upper())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sock"


Listen = Callable[..., listener.Listener]


@pytest.fixture
def listen() -> Iterator[Listen]:
    opened: list[listener.Listener] = []

    def start(
        path: Path, serve: Callable[[socket.socket, float], None] = shout, connections_max: int = 8
    ) -> listener.Listener:
        opened.append(listener.Listener(path, serve, connections_max))
        opened[-1].start()
        return opened[-1]

    yield start
    for one in opened:
        one.stop(grace_ms=0)


def connect(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE_S)
    client.connect(str(path))
    return client


def ask(path: Path) -> bytes:
    with connect(path) as client:
        client.sendall(b"hello")
        return client.recv(1024)


def leave_a_dead_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
        dead.listen()


def test_socket_has_mode_0660_whatever_the_umask(path: Path, listen: Listen) -> None:
    before = os.umask(0)
    try:
        listen(path)
    finally:
        os.umask(before)
    assert stat.filemode(path.stat().st_mode) == "srw-rw----"
    assert ask(path) == b"HELLO"


def test_missing_directory_is_made_with_mode_0775(tmp_path: Path, listen: Listen) -> None:
    before = os.umask(0o077)
    try:
        listen(tmp_path / "run" / "agent.sock")
    finally:
        os.umask(before)
    assert stat.filemode((tmp_path / "run").stat().st_mode) == "drwxrwxr-x"
    assert ask(tmp_path / "run" / "agent.sock") == b"HELLO"


def test_directory_that_exists_keeps_its_mode(tmp_path: Path, listen: Listen) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    listen(tmp_path / "run" / "agent.sock")
    assert stat.filemode((tmp_path / "run").stat().st_mode) == "drwx------"


def test_socket_of_a_dead_agent_is_replaced(path: Path, listen: Listen) -> None:
    leave_a_dead_socket(path)
    listen(path)
    assert ask(path) == b"HELLO"


def test_socket_of_a_live_agent_is_refused_and_goes_on_serving(path: Path, listen: Listen) -> None:
    listen(path)
    with pytest.raises(LabError, match=r"Another agent serves .*Stop it"):
        listener.Listener(path, shout)
    assert ask(path) == b"HELLO"


def test_socket_of_an_agent_that_hangs_is_refused_too(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hung:
        hung.bind(str(path))
        hung.listen(0)
        with connect(path), pytest.raises(LabError, match="Another agent serves"):  # its queue is full now
            listener.Listener(path, shout)


def test_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(LabError, match="is in the way"):
        listener.Listener(path, shout)
    assert path.read_text() == "precious"


def test_of_two_agents_that_start_at_once_on_a_dead_socket_one_is_refused(path: Path) -> None:
    for _ in range(20):
        leave_a_dead_socket(path)
        both = threading.Barrier(2)
        opened: list[listener.Listener] = []

        def start(both: threading.Barrier = both, opened: list[listener.Listener] = opened) -> None:
            both.wait(PATIENCE_S)
            try:
                opened.append(listener.Listener(path, shout))
            except LabError:
                return

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert len(opened) == 1
        opened[0].stop()


@pytest.mark.parametrize(
    ("name", "message"), [("x" * 120, "longer than 107 bytes"), ("file/agent.sock", "cannot be made: ")]
)
def test_path_that_no_socket_can_have_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=message):
        listener.Listener(tmp_path / name, shout)


def test_clients_are_served_at_the_same_time(path: Path, listen: Listen) -> None:
    listen(path)
    clients = [connect(path) for _ in range(8)]
    for client in reversed(clients):
        client.sendall(b"hello")
        assert client.recv(1024) == b"HELLO"
    for client in clients:
        client.close()


def test_client_beyond_the_bound_waits_until_another_has_gone(path: Path, listen: Listen) -> None:
    listen(path, connections_max=2)
    first, second, third = (connect(path) for _ in range(3))
    for client in (first, second):
        client.sendall(b"hello")
        assert client.recv(1024) == b"HELLO"
    third.sendall(b"hello")
    third.settimeout(0.1)
    with pytest.raises(TimeoutError):
        third.recv(1024)
    first.close()
    third.settimeout(PATIENCE_S)
    assert third.recv(1024) == b"HELLO"
    second.close()
    third.close()


def test_stop_removes_the_socket_and_ends_the_connections_that_wait(path: Path, listen: Listen) -> None:
    one = listen(path)
    client = connect(path)
    client.sendall(b"hello")
    assert client.recv(1024) == b"HELLO"
    one.stop()
    assert not path.exists()
    assert client.recv(1024) == b""
    client.close()


def test_stop_waits_for_a_request_that_has_come(path: Path, listen: Listen) -> None:
    come, go_on = threading.Event(), threading.Event()

    def serve(client: socket.socket, _accepted_ms: float) -> None:
        while client.recv(1024):
            come.set()
            assert go_on.wait(PATIENCE_S)
            client.sendall(b"done")

    one = listen(path, serve)
    client = connect(path)
    client.sendall(b"hello")
    assert come.wait(PATIENCE_S)
    stopping = threading.Thread(target=one.stop, args=(PATIENCE_S * 1000,))
    stopping.start()
    while path.exists():
        pass
    go_on.set()
    assert client.recv(1024) == b"done"
    stopping.join(PATIENCE_S)
    assert not stopping.is_alive()
    client.close()


def test_stop_gives_up_waiting_after_its_grace(path: Path, listen: Listen) -> None:
    go_on = threading.Event()
    one = listen(path, lambda client, _: (client.recv(1), go_on.wait(PATIENCE_S)))
    client = connect(path)
    client.sendall(b"hello")
    one.stop(grace_ms=50)
    assert not path.exists()
    go_on.set()
    client.close()


def test_stop_leaves_the_socket_of_a_successor_alone(path: Path, listen: Listen) -> None:
    old = listen(path)
    path.unlink()
    listen(path)
    old.stop()
    assert ask(path) == b"HELLO"


def test_stop_of_a_listener_that_never_started_removes_its_socket(path: Path) -> None:
    listener.Listener(path, shout).stop()
    assert not path.exists()


def test_more_clients_than_threads_wait_are_served_at_once(path: Path, listen: Listen) -> None:
    """Each client here is answered only when all of them have come; afterwards few threads go on to wait."""
    count = 3 * listener.SPARE_THREADS
    together = threading.Barrier(count)

    def serve(client: socket.socket, _accepted_ms: float) -> None:
        together.wait(PATIENCE_S)
        client.sendall(b"all")

    listen(path, serve, connections_max=count)
    clients = [connect(path) for _ in range(count)]
    assert [client.recv(3) for client in clients] == [b"all"] * count
    assert [client.recv(1) for client in clients] == [b""] * count
    deadline_s = time.monotonic() + PATIENCE_S
    while (left := sum(one.name == f"serve {path.name}" for one in threading.enumerate())) > listener.SPARE_THREADS:
        assert time.monotonic() < deadline_s
    assert left == listener.SPARE_THREADS
    for client in clients:
        client.close()


def test_bug_that_clients_meet_costs_no_thread(path: Path, listen: Listen, capsys: pytest.CaptureFixture[str]) -> None:
    def serve(client: socket.socket, _accepted_ms: float) -> None:
        if client.recv(1) == b"!":
            raise ZeroDivisionError("of the test")
        client.sendall(b"fine")

    listen(path, serve, connections_max=listener.SPARE_THREADS)
    for _ in range(2 * listener.SPARE_THREADS):
        with connect(path) as client:
            client.sendall(b"!")
            assert client.recv(1) == b""
    with connect(path) as client:
        client.sendall(b"?")
        assert client.recv(4) == b"fine"
    assert capsys.readouterr().err.count("ZeroDivisionError: of the test") == 2 * listener.SPARE_THREADS
