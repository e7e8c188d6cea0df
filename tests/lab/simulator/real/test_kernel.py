"""The links of a lab on the real kernel; K, P: the facts of the incidents' list that a test shows."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.effects import NetnsView
from simulator.errors import KernelFault
from simulator.model import Link
from simulator.real import kernel

InLab = Callable[[Callable[[Path], Any]], Any]
MAC = "02:00:00:00:00:01"
LONGEST = "fifteen-bytes-x"  # IFNAMSIZ - 1


def fault_of(action: Callable[[], Any]) -> tuple[str, int, str]:
    try:
        action()
    except KernelFault as fault:
        return fault.operation, fault.errno, fault.text
    return "nothing failed", 0, ""


def mountinfo() -> str:
    return Path("/proc/self/mountinfo").read_text()


# links


def test_links_shows_all_but_lo_by_rising_ifindex(in_lab: InLab, machine: Any) -> None:
    def look(_scratch: Path) -> tuple[Link, ...]:
        machine.ip("link", "add", "eni1", "index", "9", "address", MAC, "mtu", "1400", "type", "bridge")
        machine.ip("link", "add", "eni2", "index", "7", "address", "02:00:00:00:00:02", "type", "bridge")
        machine.ip("link", "set", "eni1", "alias", "spare")
        for altname in ("second", "first"):
            machine.ip("link", "property", "add", "dev", "eni1", "altname", altname)
        for address in ("10.64.0.10/24", "10.64.0.11/32", "fd64::a/64"):
            machine.ip("addr", "add", address, "dev", "eni1")
        machine.ip("link", "set", "eni1", "up")
        return kernel.Kernel().links()

    assert in_lab(look) == (
        Link(7, "eni2", "02:00:00:00:00:02", 1500),
        Link(
            9,
            "eni1",
            MAC,
            1400,
            alias="spare",
            altnames=("first", "second"),
            addresses=("10.64.0.10/24", "10.64.0.11/32", "fd64::a/64"),
            up=True,
        ),
    )


def test_netns_links_shows_those_of_a_namespace(in_lab: InLab, pod: Callable[..., str]) -> None:
    def look(scratch: Path) -> tuple[str, tuple[Link, ...], list[str]]:
        path = pod(scratch, LONGEST)
        return path, kernel.Kernel().netns_links(path), [link.name for link in kernel.Kernel().links()]

    path, inside, at_home = in_lab(look)
    assert [(link.name, link.mac, link.netns) for link in inside] == [(LONGEST, MAC, path)]
    assert at_home == ["far1"]


# inspect


def test_inspect_of_a_live_namespace_tells_which_it_is_and_finds_the_nic(in_lab: InLab, pod: Any) -> None:
    def look(scratch: Path) -> dict[str, Any]:
        path = pod(scratch)
        other = scratch / "other"
        other.symlink_to(path)
        status = Path(path).stat()
        one = kernel.Kernel()
        return {
            "path": path,
            "identity": f"{status.st_dev}:{status.st_ino}",
            "found": one.inspect(path, MAC),
            "of another NIC": one.inspect(path, "02:00:00:00:00:99"),
            "by another path": one.inspect(str(other), MAC).identity,
        }

    seen = in_lab(look)
    found = seen["found"]
    assert (found.identity, found.link.name, found.link.netns) == (seen["identity"], "eth0", seen["path"])
    assert seen["of another NIC"] == NetnsView(seen["identity"], None)
    assert seen["by another path"] == seen["identity"]


def test_inspect_of_what_is_no_network_namespace_names_none(in_lab: InLab, pod: Any) -> None:
    def look(scratch: Path) -> list[str]:
        left_over = pod(scratch)
        subprocess.run(["umount", left_over], check=True)
        os.mkfifo(scratch / "fifo")
        (scratch / "file").touch()
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(scratch / "socket"))
        paths = (left_over, *(f"{scratch}/{name}" for name in ("fifo", "file", "file/below", "gone", "socket", "")))
        others = ("/proc/self/ns/mnt", "/dev/null", "", "nul\0byte")
        return [path for path in (*paths, *others) if kernel.Kernel().inspect(path, MAC) != NetnsView("", None)]

    assert in_lab(look) == []


def test_inspect_that_cannot_look_is_a_fault_and_not_a_dead_namespace(in_lab: InLab, pod: Any) -> None:
    def look(scratch: Path) -> list[tuple[str, int, str]]:
        path = pod(scratch)
        loop = scratch / "loop"
        loop.symlink_to(loop)
        faults = [fault_of(lambda: kernel.Kernel().inspect(str(loop), MAC))]
        lowest_free = os.dup(0)
        os.close(lowest_free)
        for more in range(3):
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + more, 4096))
            faults.append(fault_of(lambda: kernel.Kernel().inspect(path, MAC)))
        return faults

    (of_loop, *of_full_table) = in_lab(look)
    assert of_loop[1] == errno.ELOOP
    assert {number for _, number, _ in of_full_table} == {errno.EMFILE}


# move_home


def test_move_home_gives_the_name_and_takes_the_alias(in_lab: InLab, pod: Any, machine: Any) -> None:
    def move(scratch: Path) -> tuple[Any, Any]:
        path = pod(scratch)
        machine.ip("link", "set", "eth0", "alias", "eni1", netns=path)
        machine.ip("addr", "add", "10.64.0.10/24", "dev", "eth0", netns=path)
        machine.ip("link", "set", "eth0", "up", netns=path)
        before = machine.show("eth0", netns=path)["ifindex"]
        kernel.Kernel().move_home(path, MAC, "eni1")
        return before, machine.show("eni1")

    before, home = in_lab(move)
    assert home == {  # K7, K8: down, and without addresses; K10: the ifindex stays
        "ifindex": before,
        "mac": MAC,
        "mtu": 1500,
        "alias": "",
        "altnames": [],
        "up": False,
        "addresses": [],
    }


@pytest.mark.parametrize("taken_as", ["name", "altname"])
def test_move_home_takes_another_name_if_the_wanted_one_is_taken(
    in_lab: InLab, pod: Any, machine: Any, taken_as: str
) -> None:
    def move(scratch: Path) -> list[tuple[str, str]]:
        path = pod(scratch)
        if taken_as == "name":
            machine.ip("link", "add", "eni1", "address", "02:00:00:00:00:99", "type", "bridge")
        else:
            machine.ip("link", "property", "add", "dev", "far1", "altname", "eni1")
        kernel.Kernel().move_home(path, MAC, "eni1")
        return [link.name for link in kernel.Kernel().links() if link.mac == MAC]

    assert in_lab(move) == ["dev0"]


def test_move_home_drops_an_altname_that_is_taken_at_home(in_lab: InLab, pod: Any, machine: Any) -> None:
    """K5: else it would bar the way whatever the name."""

    def move(scratch: Path) -> tuple[str, ...]:
        path = pod(scratch)
        for altname in ("far1", "eni1", "kept"):
            machine.ip("link", "property", "add", "dev", "eth0", "altname", altname, netns=path)
        kernel.Kernel().move_home(path, MAC, "eni1")
        return next(link.altnames for link in kernel.Kernel().links() if link.mac == MAC)

    assert in_lab(move) == ("kept",)


def test_move_home_of_what_is_not_there_is_a_fault(in_lab: InLab, pod: Any) -> None:
    def move(scratch: Path) -> list[tuple[str, int, str]]:
        path = pod(scratch)
        left_over = scratch / "left-over"
        left_over.touch()
        home = kernel.Kernel()
        return [
            fault_of(lambda: home.move_home(path, "02:00:00:00:00:99", "eni1")),
            fault_of(lambda: home.move_home(str(left_over), MAC, "eni1")),
            fault_of(lambda: home.move_home(str(scratch / "gone"), MAC, "eni1")),
        ]

    missing, dead, gone = in_lab(move)
    assert missing[0].startswith("move 02:00:00:00:00:99 home from /")
    assert missing[1:] == (errno.ENODEV, "it is not there")
    assert dead[1:] == (errno.EINVAL, "Invalid argument")
    assert gone[1:] == (errno.ENOENT, "No such file or directory")


# restore


def test_restore_gives_a_link_its_identity_back(in_lab: InLab, machine: Any) -> None:
    def restore(_scratch: Path) -> tuple[int, Any]:
        machine.ip("link", "add", "eth0", "address", MAC, "mtu", "1400", "type", "bridge")
        machine.ip("link", "set", "eth0", "alias", "eni1", "up")
        for altname in ("eni1", LONGEST):  # its own altname does not bar its name
            machine.ip("link", "property", "add", "dev", "eth0", "altname", altname)
        for address in ("10.64.0.10/24", "fd64::a/64"):
            machine.ip("addr", "add", address, "dev", "eth0")
        (link,) = kernel.Kernel().links()
        kernel.Kernel().restore(link.ifindex, "eni1", 1500)
        kernel.Kernel().restore(link.ifindex, "eni1", 1500)
        return link.ifindex, kernel.Kernel().links()

    ifindex, links = in_lab(restore)
    assert links == (Link(ifindex, "eni1", MAC, 1500),)


@pytest.mark.parametrize("taken_as", ["name", "altname"])
def test_restore_onto_a_taken_name_is_a_fault_and_the_rest_is_done(in_lab: InLab, machine: Any, taken_as: str) -> None:
    def restore(_scratch: Path) -> tuple[Any, Link]:
        machine.ip("link", "add", "eth0", "address", MAC, "mtu", "1400", "type", "bridge")
        machine.ip("link", "set", "eth0", "alias", "eni1", "up")
        machine.ip("link", "property", "add", "dev", "eth0", "altname", "other")
        machine.ip("link", "add", "eni1" if taken_as == "name" else "thief", "type", "bridge")
        if taken_as == "altname":
            machine.ip("link", "property", "add", "dev", "thief", "altname", "eni1")
        index = next(link.ifindex for link in kernel.Kernel().links() if link.mac == MAC)
        fault = fault_of(lambda: kernel.Kernel().restore(index, "eni1", 1500))
        return fault, next(link for link in kernel.Kernel().links() if link.mac == MAC)

    fault, link = in_lab(restore)
    assert fault == ("restore eni1", errno.EEXIST, "File exists")
    assert link == Link(link.ifindex, "eth0", MAC, 1500)


def test_restore_of_a_link_that_is_gone_is_a_fault(in_lab: InLab) -> None:
    fault = in_lab(lambda _: fault_of(lambda: kernel.Kernel().restore(77, "eni1", 1500)))
    assert fault == ("restore eni1", errno.ENODEV, "no link has the index 77")


def test_name_of_sixteen_bytes_is_a_fault(in_lab: InLab, machine: Any) -> None:
    def restore(_scratch: Path) -> tuple[Any, Any, list[str]]:
        machine.ip("link", "add", "eth0", "type", "bridge")
        (link,) = kernel.Kernel().links()
        too_long = fault_of(lambda: kernel.Kernel().restore(link.ifindex, f"{LONGEST}y", 1500))
        longest = fault_of(lambda: kernel.Kernel().restore(link.ifindex, LONGEST, 1500))
        return too_long, longest, [one.name for one in kernel.Kernel().links()]

    too_long, longest, names = in_lab(restore)
    assert too_long[1] in (errno.ERANGE, errno.EINVAL)
    assert (longest[0], names) == ("nothing failed", [LONGEST])
