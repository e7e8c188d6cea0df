"""The first process of a node's container: it carries bytes both ways, ends with either end, and reaps orphans."""

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PROGRAM = """
import os, socket, sys
from simulator import contained
if os.fork() == 0:
    os._exit(0)
contained.carry(0, 1, socket.socket(fileno=int(sys.argv[1])))
"""


@contextlib.contextmanager
def carrier() -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """A process that carries between its standard streams and a socket, whose other end is the node's."""
    node_end, node = socket.socketpair()
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM, str(node_end.fileno())]
    with node_end, node, subprocess.Popen(command, stdin=pipe, stdout=pipe, pass_fds=[node_end.fileno()]) as process:
        node_end.close()
        yield process, node
        process.kill()


def test_bytes_go_both_ways_whole() -> None:
    with carrier() as (process, node):
        assert process.stdin is not None
        assert process.stdout is not None
        sent = bytes(range(256)) * 4096
        sender = threading.Thread(target=lambda: (process.stdin.write(sent), process.stdin.flush()))  # type: ignore[union-attr]
        sender.start()
        received = b""
        while len(received) < len(sent):
            received += node.recv(65536)
        sender.join()
        assert received == sent
        node.sendall(b"answer")
        assert process.stdout.read1(100) == b"answer"  # type: ignore[attr-defined]


def test_it_ends_with_the_runner() -> None:
    with carrier() as (process, _node):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_it_ends_with_the_node() -> None:
    with carrier() as (process, node):
        node.close()
        assert process.wait(10) == 0


def test_orphans_are_reaped() -> None:
    with carrier() as (process, _node):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + 10
        while not children.read_text() and time.monotonic() < deadline:
            time.sleep(0.005)  # it has not forked yet
        while children.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
