"""The hardware as a process: what it takes from clients, and when it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import syscalls, topology
from simulator.errors import CloudFault
from simulator.real import cloud, hardware, hardware_process, kernel

InLab = Callable[[Callable[[Path], Any]], Any]


def start_hardware(resync_ms: int) -> None:
    """Hardware with one ENI and short rounds."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(hardware_process.ADDRESS)
    listener.listen()
    if os.fork() == 0:
        made = hardware.Hardware()
        made.ensure(topology.enis(1))
        hardware_process.serve(listener, made, resync_ms, idle_rounds_max=3)
        os._exit(0)
    listener.close()


def say(text: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(hardware_process.ADDRESS)
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        return client.makefile("rb").read()


ENI = dataclasses.asdict(topology.enis(9)[8])


def eni(**changes: Any) -> bytes:
    """A request for an ENI that is as it should be but for the changes."""
    return json.dumps({"enis": [{**ENI, **changes}]}).encode() + b"\n"


GARBAGE = {
    "nothing": b"",
    "no JSON": b"GET / HTTP/1.1\r\n\r\n",
    "no text": b"\xff\xfe\n",
    "no object": b"[]\n",
    "half a request": b'{"enis": [',
    "no list": b'{"enis": 5}\n',
    "no ENI": b'{"enis": [{}]}\n',
    "deep": b"[" * 5_000 + b"\n",
    "long": b"x" * (2 * hardware_process.REQUEST_BYTES_MAX),
    "a MAC that is a number": eni(mac=5),
    "a MAC that is none": eni(mac="x"),
    "a name that is too long": eni(name="x" * 16),
    "a subnet that is none": eni(subnet={**ENI["subnet"], "cidr4": "x", "gateway4": "10.9.9.1"}),
    "a gateway that is none": eni(subnet={**ENI["subnet"], "gateway4": "x"}),
}


def test_garbage_gets_a_fault_for_an_answer_and_changes_nothing(in_lab: InLab, machine: Any) -> None:
    def talk(_scratch: Path) -> tuple[dict[str, bytes], list[str], list[str]]:
        cloud.attach(1)
        answers = {}
        for name, text in GARBAGE.items():
            try:
                answers[name] = say(text)
            except OSError as error:  # it hung up on us
                answers[name] = str(error).encode()
        cloud.attach(2)
        before = list(machine.enis().values())
        cloud.attach(9)
        return answers, before, list(machine.enis().values())

    answers, two, nine = in_lab(talk)
    assert [name for name, answer in answers.items() if answer == b"{}\n"] == []
    assert (two, nine) == (["eni1", "eni2"], [f"eni{number}" for number in range(1, 10)])


def test_client_that_goes_away_does_no_harm(in_lab: InLab, machine: Any) -> None:
    def leave(_scratch: Path) -> list[str]:
        cloud.attach(1)
        request = json.dumps({"enis": [dataclasses.asdict(eni) for eni in topology.enis(3)]}).encode() + b"\n"
        for text in (b"", b'{"enis', request):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(hardware_process.ADDRESS)
                client.sendall(text)
        cloud.attach(3)
        return list(machine.enis().values())

    assert in_lab(leave) == ["eni1", "eni2", "eni3"]


def test_eni_that_cannot_be_made_is_a_fault_and_leaves_nothing(in_lab: InLab, machine: Any) -> None:
    def attach(_scratch: Path) -> tuple[Any, list[str], list[str]]:
        machine.ip("link", "add", "eni1", "type", "bridge")
        with pytest.raises(CloudFault) as caught:
            cloud.attach(1)
        fault = caught.value
        links = [link.name for link in kernel.Kernel().links()]
        machine.ip("link", "del", "eni1")
        cloud.attach(1)
        return (fault.operation, fault.text), links, list(machine.enis().values())

    assert in_lab(attach) == (("make eni-1", "File exists"), ["eni1"], ["eni1"])


def counts(machine, *holders: Callable[[], None]) -> list[int]:
    """Start hardware in a netns of its own, where ``holders`` are called; how many run with a process, and without."""
    told, tell = os.pipe()
    if os.fork() == 0:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        for hold in holders:
            hold()
        start_hardware(resync_ms=10)
        time.sleep(0.3)
        os.write(tell, bytes([len(machine.orphans(os.getpid()))]))
        os._exit(0)
    os.close(tell)
    during = os.read(told, 1)[0]
    os.wait()
    time.sleep(0.3)
    return [during, machine.until(lambda: len(machine.orphans()), len(holders))]


def test_hardware_ends_when_no_process_is_left_in_its_node(in_lab: InLab, machine: Any) -> None:
    assert in_lab(lambda _: counts(machine)) == [1, 0]


def test_hardware_goes_on_as_long_as_a_file_holds_its_node(in_lab: InLab, machine: Any) -> None:
    def hold(scratch: Path) -> tuple[list[int], list[int]]:
        file = scratch / "node"
        file.touch()
        mount = ("/proc/thread-self/ns/net", str(file), "", syscalls.MS_BIND)
        seen = counts(machine, lambda: syscalls.mount(*mount))
        syscalls.unmount(str(file))
        return seen, machine.until(machine.orphans, [])

    assert in_lab(hold) == ([1, 1], [])


def test_hardware_that_is_killed_takes_its_enis_with_it_and_can_be_started_again(in_lab: InLab, machine: Any) -> None:
    def kill(_scratch: Path) -> tuple[Any, list[str]]:
        cloud.attach(2)
        for pid in machine.orphans():
            os.kill(pid, signal.SIGKILL)
        gone = machine.until(machine.enis, {})
        cloud.attach(2)
        return gone, list(machine.enis().values())

    assert in_lab(kill) == ({}, ["eni1", "eni2"])


def test_hardware_that_has_answered_knows_what_a_nic_is_like_in_its_pod(in_lab: InLab, machine: Any) -> None:
    def die(scratch: Path) -> Any:
        cloud.attach(1)
        (hardware_pid,) = machine.orphans()
        pod = scratch / "pod"
        kernel.create_netns(pod, accept_dad=False)
        os.kill(hardware_pid, signal.SIGSTOP)
        machine.ip("link", "set", "eni1", "netns", str(pod), "name", "eth0")
        if os.fork() == 0:
            time.sleep(0.1)
            os.kill(hardware_pid, signal.SIGCONT)
            os._exit(0)
        cloud.attach(1)
        kernel.delete_netns(pod)
        os.wait()
        return machine.until(lambda: list(machine.enis().values()), ["eth0"])

    assert in_lab(die) == ["eth0"]
