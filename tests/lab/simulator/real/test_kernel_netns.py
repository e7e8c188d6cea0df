"""Watching the links, and making and ending namespaces, on the real kernel; K: facts of the incidents' list."""

from __future__ import annotations

import errno
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import KernelFault
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


# watch


def test_watch_calls_back_for_links_and_addresses_of_this_namespace_until_its_end(
    in_lab: InLab, pod: Any, machine: Any
) -> None:
    def watch(scratch: Path) -> dict[str, bool]:
        path = pod(scratch)
        changed = threading.Event()
        end = kernel.Kernel().watch(changed.set)

        def after(*arguments: str, netns: str = "", wait_s: float = 2.0) -> bool:
            changed.clear()
            machine.ip(*arguments, netns=netns)
            return changed.wait(wait_s)

        time.sleep(0.1)  # until all has been told of the pod's making
        seen = {
            "elsewhere": after("link", "set", "eth0", "mtu", "1400", netns=path, wait_s=0.05),
            "added": after("link", "add", "eni2", "type", "bridge"),
            "addressed": after("addr", "add", "10.64.0.10/24", "dev", "eni2"),
            "renamed": after("link", "set", "eni2", "name", "eni3"),
            "deleted": after("link", "del", "eni3"),
        }
        end()
        return {**seen, "after its end": after("link", "add", "eni2", "type", "bridge", wait_s=0.05)}

    assert in_lab(watch) == {
        "elsewhere": False,
        "added": True,
        "addressed": True,
        "renamed": True,
        "deleted": True,
        "after its end": False,
    }


# create and delete


@pytest.mark.parametrize(("accept_dad", "setting"), [(True, "1"), (False, "0")])
def test_create_netns_makes_one_with_lo_up(in_lab: InLab, machine: Any, accept_dad: bool, setting: str) -> None:
    def create(scratch: Path) -> tuple[list[str], str, bool]:
        own = Path("/proc/thread-self/ns/net").stat().st_ino
        path = str(scratch / "pod")
        kernel.create_netns(Path(path), accept_dad=accept_dad)
        switch = ["nsenter", f"--net={path}", "cat", "/proc/sys/net/ipv6/conf/default/accept_dad"]
        dad = subprocess.run(switch, capture_output=True, text=True, check=True).stdout.strip()
        return machine.show("lo", netns=path)["addresses"], dad, own == Path("/proc/thread-self/ns/net").stat().st_ino

    assert in_lab(create) == (["127.0.0.1/8", "::1/128"], setting, True)


def test_create_netns_where_something_is_already_leaves_that_alone(in_lab: InLab, pod: Any) -> None:
    def create(scratch: Path) -> dict[str, Any]:
        path = pod(scratch)
        file = scratch / "file"
        file.write_text("content")
        before = mountinfo()
        return {
            "on a namespace": fault_of(lambda: kernel.create_netns(Path(path), accept_dad=False))[1:],
            "on a file": fault_of(lambda: kernel.create_netns(file, accept_dad=False))[1:],
            "nowhere": fault_of(lambda: kernel.create_netns(scratch / "no/pod", accept_dad=False))[1],
            "file": file.read_text(),
            "links": len(kernel.Kernel().netns_links(path)),
            "mounts": mountinfo() == before,
        }

    assert in_lab(create) == {
        "on a namespace": (errno.EEXIST, "File exists"),
        "on a file": (errno.EEXIST, "File exists"),
        "nowhere": errno.ENOENT,
        "file": "content",
        "links": 1,
        "mounts": True,
    }


def test_create_netns_that_the_kernel_refuses_leaves_nothing(in_lab: InLab) -> None:
    def create(scratch: Path) -> tuple[Any, list[Path], bool]:
        before = mountinfo()
        subprocess.run(["mount", "-o", "remount,ro", "/proc"], check=True)  # so that it cannot set what it must
        fault = fault_of(lambda: kernel.create_netns(scratch / "pod", accept_dad=False))
        subprocess.run(["mount", "-o", "remount,rw", "/proc"], check=True)
        return fault[1:], sorted(scratch.iterdir()), mountinfo() == before

    assert in_lab(create) == ((errno.EROFS, "Read-only file system"), [], True)


def test_delete_netns_ends_the_namespace_and_its_veth(in_lab: InLab, pod: Any, machine: Any) -> None:
    def delete(scratch: Path) -> tuple[bool, list[Path], Any]:
        before = mountinfo()
        path = pod(scratch)
        kernel.delete_netns(Path(path))
        names = machine.until(lambda: [link.name for link in kernel.Kernel().links()], [])
        return before == mountinfo(), sorted(scratch.iterdir()), names

    assert in_lab(delete) == (True, [], [])  # K1


def test_delete_netns_of_a_namespace_that_a_process_holds_keeps_it_alive(in_lab: InLab, pod: Any, machine: Any) -> None:
    def delete(scratch: Path) -> tuple[list[str], Any]:
        path = pod(scratch)
        holder = subprocess.Popen(["nsenter", f"--net={path}", "sleep", "60"])
        machine.until(lambda: Path(f"/proc/{holder.pid}/ns/net").samefile(path), wanted=True)
        kernel.delete_netns(Path(path))
        held = [link.name for link in kernel.Kernel().netns_links(f"/proc/{holder.pid}/ns/net")]
        holder.kill()
        holder.wait()
        return held, machine.until(lambda: [link.name for link in kernel.Kernel().links()], [])

    assert in_lab(delete) == (["eth0"], [])  # K2


def test_delete_netns_of_what_is_none_is_a_fault(in_lab: InLab) -> None:
    def delete(scratch: Path) -> tuple[Any, Any, list[str]]:
        left_over = scratch / "left-over"
        left_over.touch()
        missing = fault_of(lambda: kernel.delete_netns(scratch / "gone"))
        return fault_of(lambda: kernel.delete_netns(left_over)), missing, [file.name for file in scratch.iterdir()]

    left_over, missing, files = in_lab(delete)
    assert left_over[1:] == (errno.EINVAL, "Invalid argument")
    assert missing[1:] == (errno.ENOENT, "No such file or directory")
    assert left_over[0].startswith("delete the network namespace /")
    assert files == ["left-over"]
