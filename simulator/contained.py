"""EDGE: a container of the docker lab from inside: its pid 1, which carries bytes and reaps, and the node as its child.

The runner is at the other end of standard input and output. Pid 1 ends at the end of either, and takes the node, its
agent, its hardware and every plugin with it, as the first process of a pid namespace does. What the node prints goes
to standard error.

An engine switches IPv6 off in a container without a network; a node has it on, as userns and machines have.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from pathlib import Path

from simulator.chain import install
from simulator.lab import plugins
from simulator.model import BACKENDS
from simulator.real import node

_REAP_INTERVAL_MS = 200
_IPV6_SWITCHES = tuple(Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6") for name in ("all", "default"))


def main() -> None:
    """Be the node that the arguments describe: the scratch directory, how many ENIs, what kind of link they are."""
    scratch, enis = Path(sys.argv[1]), int(sys.argv[2])
    (backend,) = (kind for kind in BACKENDS if kind == sys.argv[3])
    for switch in _IPV6_SWITCHES:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            switch.write_text("0")
    incoming, outgoing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        for descriptor in (incoming, outgoing, null):
            os.close(descriptor)
        ours.close()
        setup = node.NodeSetup(enis, install.node(), plugins.find(), backend)
        node.serve(theirs, scratch, setup)
        return
    theirs.close()
    carry(incoming, outgoing, ours)


def carry(incoming: int, outgoing: int, node_end: socket.socket) -> None:
    """Hand on bytes in both directions until one of them ends; reap orphans meanwhile."""
    poll = select.poll()
    for descriptor in (incoming, node_end.fileno()):
        poll.register(descriptor, select.POLLIN)
    with contextlib.suppress(BrokenPipeError, ConnectionError):  # the runner or the node is gone
        while True:
            for descriptor, _ in poll.poll(_REAP_INTERVAL_MS):
                data = os.read(descriptor, 65536)
                if not data:
                    return
                if descriptor == incoming:
                    node_end.sendall(data)
                else:
                    _write(outgoing, data)
            _reap()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


if __name__ == "__main__":
    main()
