"""Fake ENIs come back from a dead namespace as real NICs do; P: the facts of the incidents' list that a test shows."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import topology
from simulator.real import cloud, echo, hardware, hardware_process, kernel, links

InLab = Callable[[Callable[[Path], Any]], Any]
MAC = "02:e1:00:00:00:01"
RTMGRP_LINK = 0x1
A_WHILE_S = 0.1  # a pod lives longer than the hardware takes to notice that a NIC has moved


class Pod:
    """A pod's namespace with an ENI in it, under the name eth0, which is used."""

    def __init__(self, machine: Any, path: Path, nic: str = "eni1") -> None:
        self._machine = machine
        self.path = str(path)
        kernel.create_netns(path, accept_dad=False)
        machine.ip("link", "set", nic, "netns", self.path, "name", "eth0")

    def ip(self, *arguments: str) -> None:
        self._machine.ip(*arguments, netns=self.path)

    def use(self) -> int:
        self.ip("addr", "add", "10.64.0.10/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        return int(self._machine.show("eth0", netns=self.path)["ifindex"])

    def end(self) -> None:
        time.sleep(A_WHILE_S)
        kernel.delete_netns(Path(self.path))


@pytest.fixture(params=hardware.BACKENDS)
def backend(request: pytest.FixtureRequest, in_lab: InLab) -> str:
    """Each kind of link that an ENI can be, as far as this kernel has it."""
    kind = str(request.param)
    command = ["ip", "link", "add", "probe", "type", kind]
    if kind == hardware.MACVLAN:
        command = ["ip", "link", "add", "probe", "link", "below", "type", kind]
    below = ["ip", "link", "add", "below", "type", "veth", "peer", "far"]

    def make(_scratch: Path) -> str:
        for one in (below, command):
            ran = subprocess.run(one, check=False, capture_output=True, text=True)
        return ran.stderr.strip() or ran.stdout.strip() if ran.returncode else ""

    refused = in_lab(make)
    if refused:
        pytest.skip(f"this kernel has no {kind}: {refused}")
    return kind


@pytest.fixture
def start_pod(machine: Any) -> Callable[..., Pod]:
    return lambda scratch, name="pod", nic="eni1": Pod(machine, scratch / name, nic)


def start_hardware(resync_ms: int, backend: str) -> None:
    """Hardware with one ENI and short rounds."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(hardware_process.ADDRESS)
    listener.listen()
    if os.fork() == 0:
        made = hardware.Hardware(backend)
        made.ensure(topology.enis(1))
        hardware_process.serve(listener, made, resync_ms, idle_rounds_max=3)
        os._exit(0)
    listener.close()


def returned(machine: Any, mac: str = MAC) -> dict[str, Any]:
    """The NIC that came home, under which name ever, when it is there; {} if it does not come."""
    machine.until(lambda: mac in machine.enis(), wanted=True)
    name = machine.enis().get(mac, "")
    return {"name": name, **machine.show(name)} if name else {}


def test_nic_of_a_dead_namespace_comes_home_as_it_was_inside(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    def die(scratch: Path) -> tuple[int, Any, Any]:
        cloud.attach(1, backend)
        at_home = machine.show("eni1")["ifindex"]
        pod = start_pod(scratch)
        pod.ip("link", "set", "eth0", "mtu", "1400", "alias", "eni1")
        for altname in ("uplink", "fifteen-bytes-x"):
            pod.ip("link", "property", "add", "dev", "eth0", "altname", altname)
        assert pod.use() == at_home
        pod.end()
        return at_home, returned(machine), [link.name for link in kernel.Kernel().links()]

    ifindex, nic, names = in_lab(die)
    assert nic == {  # P1
        "name": "eth0",
        "ifindex": ifindex,
        "mac": MAC,
        "mtu": 1400,
        "alias": "eni1",
        "altnames": ["fifteen-bytes-x", "uplink"],
        "up": False,
        "addresses": [],
    }
    assert names == ["eth0"]


@pytest.mark.parametrize("taken_as", ["name", "altname"])
def test_nic_whose_name_is_taken_comes_home_as_dev_and_its_ifindex(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str, taken_as: str
) -> None:
    def die(scratch: Path) -> tuple[int, Any]:
        cloud.attach(2, backend)
        pod = start_pod(scratch)
        pod.ip("link", "set", "eth0", "alias", "eni1")
        pod.ip("link", "property", "add", "dev", "eth0", "altname", "uplink")
        ifindex = pod.use()
        how = ("name", "eth0") if taken_as == "name" else ("property", "add", "dev", "eni2", "altname", "eth0")
        machine.ip("link", *(("set", "eni2", *how) if taken_as == "name" else how))
        pod.end()
        return ifindex, returned(machine)

    ifindex, nic = in_lab(die)
    assert nic == {  # P2
        "name": f"dev{ifindex}",
        "ifindex": ifindex,
        "mac": MAC,
        "mtu": 1500,
        "alias": "eni1",
        "altnames": ["uplink"],
        "up": False,
        "addresses": [],
    }


def test_altname_that_is_taken_is_dropped_without_a_word(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    def die(scratch: Path) -> Any:
        cloud.attach(2, backend)
        pod = start_pod(scratch)
        for altname in ("uplink", "eni2", "other"):
            pod.ip("link", "property", "add", "dev", "eth0", "altname", altname)
        machine.ip("link", "property", "add", "dev", "eni2", "altname", "other")
        pod.use()
        pod.end()
        nic = returned(machine)
        return nic["name"], nic["altnames"]

    assert in_lab(die) == ("eth0", ["uplink"])  # P3


def test_nic_whose_ifindex_is_taken_gets_another(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    def die(scratch: Path) -> Any:
        cloud.attach(1, backend)
        pod = start_pod(scratch)
        ifindex = pod.use()
        machine.ip("link", "add", "thief", "index", str(ifindex), "type", "bridge")
        pod.end()
        nic = returned(machine)
        return nic["name"], nic["ifindex"] != ifindex

    assert in_lab(die) == ("eth0", True)


@pytest.mark.parametrize("taken", [["index"], ["index", "dev"]])
def test_nic_whose_name_and_ifindex_are_taken_is_called_for_the_index_it_had(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str, taken: list[str]
) -> None:
    """As net/core/dev.c does: the name is chosen before the move, the index in it; and if it is taken, ``dev%d``."""

    def die(scratch: Path) -> Any:
        cloud.attach(1, backend)
        pod = start_pod(scratch)
        ifindex = pod.use()
        machine.ip("link", "add", "eth0", "index", str(ifindex), "type", "bridge")
        if "dev" in taken:
            machine.ip("link", "add", f"dev{ifindex}", "type", "bridge")
        pod.end()
        nic = returned(machine)
        return nic["name"], f"dev{ifindex}", nic["ifindex"] != ifindex

    name, called_for_its_index, has_another = in_lab(die)
    assert (name, has_another) == ("dev0" if "dev" in taken else called_for_its_index, True)


def test_change_that_no_message_tells_is_found_by_looking(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    def die(scratch: Path) -> Any:
        start_hardware(50, backend)
        machine.until(lambda: list(machine.enis()), [MAC])
        pod = start_pod(scratch)
        time.sleep(A_WHILE_S)
        pod.ip("link", "set", "eth0", "alias", "changed while down")
        time.sleep(0.3)
        pod.end()
        return returned(machine)["alias"]

    assert in_lab(die) == "changed while down"


def test_nic_arrives_whole(in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str) -> None:
    """An agent that restores it at once must not be overtaken by what it was like in the pod."""

    def die(scratch: Path) -> tuple[str, tuple[str, ...], int]:
        cloud.attach(1, backend)
        pod = start_pod(scratch)
        pod.ip("link", "set", "eth0", "mtu", "1400", "alias", "eni1")
        pod.ip("link", "property", "add", "dev", "eth0", "altname", "uplink")
        pod.use()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as changes:
            changes.bind((0, RTMGRP_LINK))  # of the initial netns alone
            pod.end()
            while True:
                select.select([changes], [], [])
                for heard in links.hear(changes):
                    if heard.link.mac == MAC and not heard.is_gone:
                        return heard.link.alias, heard.link.altnames, heard.link.mtu

    assert in_lab(die) == ("eni1", ("uplink",), 1400)


def test_nic_that_came_home_is_connected(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    if backend == hardware.DUMMY:
        pytest.skip("a dummy ENI answers no echo")

    def die(scratch: Path) -> Any:
        (eni,) = cloud.attach(1, backend)
        pod = start_pod(scratch)
        pod.use()
        pod.end()
        name = returned(machine)["name"]
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")
        machine.ip("addr", "add", f"{eni.ipv4}/24", "dev", name)
        machine.ip("addr", "add", f"{eni.ipv6}/64", "dev", name)
        machine.ip("link", "set", name, "up")
        gateways = (eni.subnet.gateway4, eni.subnet.gateway6)
        return [echo.echo("/proc/self/ns/net", gateway, 3_000) for gateway in gateways]

    assert in_lab(die) == [True, True]


def test_eight_namespaces_that_die_at_once_lose_no_nic(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    def die(scratch: Path) -> tuple[list[str], list[str]]:
        enis = cloud.attach(8, backend)
        pods = [start_pod(scratch, eni.name, eni.name) for eni in enis]
        indexes = [pod.use() for pod in pods]
        time.sleep(A_WHILE_S)
        for pod in pods:
            kernel.delete_netns(Path(pod.path))
        machine.until(lambda: len(machine.enis()), 8)
        return sorted(machine.enis().values()), [f"dev{ifindex}" for ifindex in indexes]

    names, for_their_indexes = in_lab(die)
    assert "eth0" in names
    assert len([name for name in names if name in for_their_indexes]) == 7


def test_deleted_nic_comes_back(in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str) -> None:
    """A real one cannot be deleted; whoever deletes this one finds it again."""

    def delete(scratch: Path) -> list[Any]:
        cloud.attach(1, backend)
        before = machine.show("eni1")
        machine.ip("link", "del", "eni1")
        seen = [machine.until(lambda: machine.show("eni1"), before) == before]
        pod = start_pod(scratch)
        time.sleep(A_WHILE_S)
        pod.ip("link", "del", "eth0")
        return [*seen, returned(machine)["name"]]

    assert in_lab(delete) == [True, "eth0"]


def test_nic_comes_home_again_and_again(
    in_lab: InLab, machine: Any, start_pod: Callable[..., Pod], backend: str
) -> None:
    def die(scratch: Path) -> list[str]:
        cloud.attach(1, backend)
        names = []
        for number in range(3):
            pod = start_pod(scratch, f"pod{number}")
            pod.ip("link", "set", "eth0", "name", f"eth{number}")
            pod.end()
            names.append(returned(machine)["name"])
            machine.ip("link", "set", names[-1], "name", "eni1")
        return names

    assert in_lab(die) == ["eth0", "eth1", "eth2"]
