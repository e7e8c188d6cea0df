from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import topology
from simulator.errors import CloudFault
from simulator.model import Link
from simulator.real import cloud, hardware_process, kernel

InLab = Callable[[Callable[[Path], Any]], Any]
ATTACH = "from simulator.real import cloud; print([eni.name for eni in cloud.attach(3)])"


def links() -> list[tuple[int, str]]:
    return [(link.ifindex, link.name) for link in kernel.Kernel().links()]


def test_attach_makes_the_first_enis_of_the_node(in_lab: InLab) -> None:
    enis, found = in_lab(lambda _: (cloud.attach(3), kernel.Kernel().links()))
    assert enis == topology.enis(3)
    assert found == tuple(Link(link.ifindex, eni.name, eni.mac, eni.mtu) for link, eni in zip(found, enis, strict=True))


def test_attach_again_makes_nothing_new_and_more_makes_what_is_missing(in_lab: InLab, machine: Any) -> None:
    def attach(_scratch: Path) -> list[Any]:
        seen = []
        for count in (2, 2, 4, 3):
            cloud.attach(count)
            seen.append(links())
        return [*seen, len(machine.orphans())]

    two, two_again, four, three, processes = in_lab(attach)
    assert [name for _, name in four] == ["eni1", "eni2", "eni3", "eni4"]
    assert (two_again, four[:2], three, processes) == (two, two, four, 1)


def test_attach_leaves_an_eni_alone_that_is_somewhere_else(in_lab: InLab, machine: Any) -> None:
    def attach(scratch: Path) -> tuple[list[str], list[str]]:
        cloud.attach(1)
        kernel.create_netns(scratch / "pod", accept_dad=False)
        machine.ip("link", "set", "eni1", "netns", str(scratch / "pod"), "name", "eth0")
        cloud.attach(2)
        inside = kernel.Kernel().netns_links(str(scratch / "pod"))
        return [name for _, name in links()], [link.name for link in inside]

    assert in_lab(attach) == (["eni2"], ["eth0"])


def test_no_enis_need_no_hardware(in_lab: InLab, machine: Any) -> None:
    assert in_lab(lambda _: (cloud.attach(0), links(), len(machine.orphans()))) == ((), [], 0)


def test_enis_outlive_whoever_attached_them(in_lab: InLab, machine: Any) -> None:
    def attach(scratch: Path) -> tuple[int, list[str], list[tuple[int, str]], Any]:
        starter = os.fork()
        if starter == 0:
            cloud.attach(1)
            os.kill(os.getpid(), signal.SIGKILL)
        _, status = os.waitpid(starter, 0)
        before = links()
        kernel.create_netns(scratch / "pod", accept_dad=False)
        machine.ip("link", "set", "eni1", "netns", str(scratch / "pod"))
        time.sleep(0.1)
        kernel.delete_netns(scratch / "pod")
        return status, before, machine.until(links, before)

    status, before, after = in_lab(attach)
    assert (status, [name for _, name in before]) == (signal.SIGKILL, ["eni1"])
    assert after == before


def test_hardware_holds_no_file_of_its_starter(in_lab: InLab, machine: Any) -> None:
    def attach(_scratch: Path) -> tuple[bytes, list[str]]:
        read, write = os.pipe()
        cloud.attach(1)
        os.close(write)
        (pid,) = machine.orphans()
        standard = [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in (0, 1, 2)]
        return os.read(read, 1), standard

    assert in_lab(attach) == (b"", ["/dev/null"] * 3)


def test_starters_at_once_get_one_hardware(in_lab: InLab, machine: Any) -> None:
    def attach(_scratch: Path) -> tuple[list[str], list[str], int]:
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", ATTACH], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            for _ in range(4)
        ]
        said = [starter.communicate()[0].strip() for starter in starters]
        return said, [name for _, name in links()], len(machine.orphans())

    assert in_lab(attach) == (["['eni1', 'eni2', 'eni3']"] * 4, ["eni1", "eni2", "eni3"], 1)


def test_starter_that_comes_between_the_bind_and_the_listen_of_another_waits(in_lab: InLab) -> None:
    def attach(_scratch: Path) -> str:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(hardware_process.ADDRESS)
            with pytest.raises(CloudFault) as caught:
                cloud.attach(1)
        return str(caught.value)

    assert in_lab(attach) == "attach ENIs: Connection refused"


def test_hardware_that_hangs_up_is_a_fault(in_lab: InLab) -> None:
    def attach(_scratch: Path) -> str:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(hardware_process.ADDRESS)
            other.listen()
            if os.fork() == 0:
                other.accept()[0].close()
                os._exit(0)
            with pytest.raises(CloudFault) as caught:
                cloud.attach(1)
        return str(caught.value)

    text = in_lab(attach)
    assert text in (
        "attach ENIs: the hardware process gave no answer",
        "attach ENIs: Connection reset by peer",
        "attach ENIs: Broken pipe",
    )


@pytest.mark.parametrize(
    "confinement",
    [
        ["setpriv", "--bounding-set=-all"],  # no right to anything
        ["setpriv", "--bounding-set=-net_admin"],  # none to links anywhere
        ["unshare", "--user", "--map-root-user"],  # none to the links of this network
    ],
    ids=["no capabilities", "no CAP_NET_ADMIN", "a foreign network"],
)
def test_process_that_may_make_no_links_is_told_the_cure(in_lab: InLab, confinement: list[str]) -> None:
    code = (
        "from simulator.errors import LabError\n"
        "from simulator.real import cloud\n"
        "try: cloud.attach(1)\n"
        "except LabError as error: print(error)\n"
    )

    def attach(_scratch: Path) -> tuple[str, str, list[tuple[int, str]]]:
        ran = subprocess.run([*confinement, sys.executable, "-c", code], check=False, capture_output=True, text=True)
        return ran.stdout, ran.stderr, links()

    stdout, stderr, found = in_lab(attach)
    assert (stderr, found) == ("", [])
    assert stdout.startswith("this process may not make links in this network namespace (make ")
    assert stdout.endswith("Make one of your own first: unshare --user --map-root-user --net --mount\n")
