"""exclusive-device runs the enim of its own installation in its own process, and every other one as the process it is.

Who asks the agent is told by the kernel: SO_PEERCRED of the connection (unix(7)).
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from enim import wire
from simulator.chain import install

MAC = "02:00:00:00:00:01"


class Agent(threading.Thread):
    """Grants the NIC ``eni1``; keeps the method of each request and the process that sent it."""

    def __init__(self, path: Path, ifindex: int) -> None:
        super().__init__(daemon=True)
        self.requests: list[tuple[str, int]] = []
        self.status = 200
        ipv4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
        ipv4 |= {"master-mac": MAC, "interface-number": str(ifindex)}
        self.granted = json.dumps({"address": {"ipv4": "192.0.2.10"}, "ipv4": ipv4}).encode()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.start()

    def run(self) -> None:
        while True:
            connection, _ = self.listener.accept()
            with connection:
                pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
                received = b""
                while (decoded := wire.decode_request(received)) is None:
                    received += connection.recv(65536)
                self.requests.append((decoded[0].method, pid))
                body = self.granted if decoded[0].method == "POST" and self.status == 200 else b'"no"'
                connection.sendall(wire.encode_reply(wire.Reply(self.status, body, "application/json")))


class Pod:
    def __init__(self, node, bin_directory: Path) -> None:
        self.node = node
        self.bin = bin_directory
        self.netns = node.create_netns()
        self.agent = Agent(node.directory / "agent.sock", node.create_nic("eni1", MAC))

    def run(self, command, path=None, start=(), **netconf):
        """The process id of exclusive-device, its exit code, stdout and stderr."""
        ipam = {"type": "enim", "socket": str(self.node.directory / "agent.sock")}
        document = {"cniVersion": "1.1.0", "name": "n", "type": "exclusive-device", "ipam": ipam, **netconf}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(path or self.bin),
        }
        pipe = subprocess.PIPE
        command = [*start, self.bin / "exclusive-device"]
        started = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        stdout, stderr = started.communicate(json.dumps(document).encode())
        return started.pid, started.returncode, stdout, stderr

    def is_in_process(self, command="ADD", path=None, **netconf) -> bool:
        pid, code, stdout, stderr = self.run(command, path, **netconf)
        assert (code, stderr) == (0, b""), stdout
        return self.agent.requests[-1] == ("POST" if command == "ADD" else "DELETE", pid)


def test_enim_of_the_same_installation_runs_in_the_same_process(node, plugins):
    pod = Pod(node, plugins)
    assert [pod.is_in_process("ADD"), pod.is_in_process("DEL")] == [True, True]


def test_delegate_exec_makes_it_a_process_of_its_own(node, plugins):
    pod = Pod(node, plugins)
    assert [pod.is_in_process(command, delegate="exec") for command in ("ADD", "DEL")] == [False, False]


def test_same_directory_by_another_path_is_the_same_installation(node, plugins):
    link = node.directory / "linked"
    link.symlink_to(plugins)
    assert Pod(node, plugins).is_in_process("ADD", path=f"/nonexistent:{link}/")


def test_launchers_for_sh_are_of_one_installation_too(node, tmp_path):
    interpreter = tmp_path / "with space" / "python"
    interpreter.parent.mkdir()
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    install.write(tmp_path / "bin", install.bundle(str(interpreter)))
    pod = Pod(node, tmp_path / "bin")
    assert (tmp_path / "bin/enim").read_bytes().startswith(b"#!/bin/sh\n")
    assert [pod.is_in_process("ADD"), pod.is_in_process("DEL")] == [True, True]
    assert not pod.is_in_process("ADD", delegate="exec")


def test_a_delegate_s_end_is_known_though_the_caller_ignores_the_ends_of_children(node, plugins):
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    start = (sys.executable, "-c", ignoring)
    pod = Pod(node, plugins)
    assert [pod.run(command, start=start, delegate="exec")[1:4:2] for command in ("ADD", "DEL")] == [(0, b"")] * 2


def test_links_to_both_launchers_are_the_same_installation(node, plugins, tmp_path):
    for name in ("enim", "exclusive-device"):
        (tmp_path / name).symlink_to(plugins / name)
    assert Pod(node, tmp_path).is_in_process("ADD")


@pytest.mark.parametrize("other", ["copy", "older", "script"])
def test_another_enim_is_a_process_of_its_own(node, plugins, tmp_path, other):
    directory = tmp_path / "bin"
    shutil.copytree(plugins, directory)
    path = directory
    if other == "copy":
        path = tmp_path / "other"
        shutil.copytree(plugins, path)
    elif other == "older":  # an upgrade has replaced one of the two launchers so far
        text = (directory / "enim").read_text()
        folder = next(one.name for one in (directory / ".enim").iterdir())
        (directory / ".enim" / f"{folder}-old").symlink_to(folder)
        (directory / "enim").write_text(text.replace(folder, f"{folder}-old"))
    else:
        (directory / "enim").write_text(f"#!/bin/sh\nexec {plugins}/enim\n")
    assert not Pod(node, directory).is_in_process("ADD", path=path)


def test_errors_and_what_is_undone_are_the_same_both_ways(node, plugins):
    pod = Pod(node, plugins)
    pod.agent.status = 500
    seen = []
    for delegate in ("", "exec"):
        del pod.agent.requests[:]
        _, code, stdout, stderr = pod.run("ADD", delegate=delegate)
        seen.append((code, stdout, stderr, [method for method, _ in pod.agent.requests]))
    assert seen[0] == seen[1]
    assert json.loads(seen[0][1])["code"] == 11
    assert os.path.lexists(pod.netns)
