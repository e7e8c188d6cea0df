from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.errors import KernelFault
from simulator.real import echo, kernel

InLab = Callable[[Callable[[Path], Any]], Any]
GATEWAYS = ("10.64.0.1", "fd64::1")


@pytest.fixture
def pod(machine: Any) -> Callable[[Path], str]:
    """A function that makes a pod whose one neighbour is a gateway; it gives the pod's path."""

    def make(scratch: Path) -> str:
        path = scratch / "pod"
        kernel.create_netns(path, accept_dad=False)
        Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        machine.ip("link", "add", "gateway", "type", "veth", "peer", "name", "eth0", "netns", str(path))
        for netns, link, host in (("", "gateway", 1), (str(path), "eth0", 10)):
            machine.ip("addr", "add", f"10.64.0.{host}/24", "dev", link, netns=netns)
            machine.ip("addr", "add", f"fd64::{host:x}/64", "dev", link, netns=netns)
            machine.ip("link", "set", link, "up", netns=netns)
        return str(path)

    return make


def test_echo_is_answered_by_the_gateway_over_both_families(in_lab: InLab, pod: Any) -> None:
    def ask(scratch: Path) -> list[bool]:
        path = pod(scratch)
        return [echo.echo(path, gateway, 2_000) for gateway in GATEWAYS]

    assert in_lab(ask) == [True, True]


def test_echo_comes_from_inside_the_namespace(in_lab: InLab, pod: Any) -> None:
    def ask(scratch: Path) -> list[bool]:
        path = pod(scratch)
        return [echo.echo(path, "10.64.0.10", 1_000), echo.echo("/proc/self/ns/net", "10.64.0.1", 1_000)]

    assert in_lab(ask) == [True, True]


@pytest.mark.parametrize("destination", ["10.64.0.99", "fd64::99"])
def test_echo_that_nobody_answers_is_false_when_the_time_is_up(in_lab: InLab, pod: Any, destination: str) -> None:
    def ask(scratch: Path) -> tuple[bool, float]:
        path = pod(scratch)
        began = time.monotonic()
        return echo.echo(path, destination, 300), (time.monotonic() - began) * 1000

    answered, took_ms = in_lab(ask)
    assert answered is False
    assert 300 <= took_ms < 2_000


@pytest.mark.parametrize("destination", ["192.0.2.1", "2001:db8::1"])
def test_echo_without_a_route_is_false(in_lab: InLab, pod: Any, destination: str) -> None:
    assert in_lab(lambda scratch: echo.echo(pod(scratch), destination, 100)) is False


def test_echo_waits_for_a_route_that_comes_within_the_time(in_lab: InLab, pod: Any) -> None:
    def ask(scratch: Path) -> bool:
        path = pod(scratch)
        later = "sleep 0.1; ip link set eth0 up"
        subprocess.run(["nsenter", f"--net={path}", "ip", "link", "set", "eth0", "down"], check=True)
        helper = subprocess.Popen(["nsenter", f"--net={path}", "sh", "-c", later])
        answered = echo.echo(path, "10.64.0.1", 3_000)
        helper.wait()
        return answered

    assert in_lab(ask) is True


def test_answers_to_others_do_not_count(in_lab: InLab, pod: Any) -> None:
    """Whoever else pings from this namespace: a raw socket hears all answers."""

    def ask(scratch: Path) -> tuple[bool, bool]:
        path = pod(scratch)
        stop = scratch / "stop"
        busy = (
            "import sys, pathlib\n"
            "from simulator.real import echo\n"
            f"while not pathlib.Path({str(stop)!r}).exists(): assert echo.echo({path!r}, '10.64.0.1', 1000)\n"
        )
        other = subprocess.Popen([sys.executable, "-c", busy])
        answered = echo.echo(path, "10.64.0.99", 400)
        stop.touch()
        return answered, other.wait() == 0

    assert in_lab(ask) == (False, True)


@pytest.mark.parametrize(("kind", "number"), [("missing", errno.ENOENT), ("left-over", errno.EINVAL)])
def test_echo_from_what_is_no_namespace_is_a_fault(in_lab: InLab, kind: str, number: int) -> None:
    def ask(scratch: Path) -> tuple[str, int]:
        path = scratch / "pod"
        if kind == "left-over":
            path.touch()
        with pytest.raises(KernelFault) as caught:
            echo.echo(str(path), "10.64.0.1", 100)
        return str(caught.value).replace(str(scratch), ""), caught.value.errno

    text, got = in_lab(ask)
    assert text.startswith("open a raw socket in /pod: ")
    assert got == number


def test_echo_without_the_right_to_raw_sockets_is_a_fault(in_lab: InLab, pod: Any) -> None:
    code = (
        "import sys\n"
        "from simulator.errors import KernelFault\n"
        "from simulator.real import echo\n"
        "try: echo.echo(sys.argv[1], '10.64.0.1', 100)\n"
        "except KernelFault as fault: print(fault.errno, fault)\n"
    )

    def ask(scratch: Path) -> tuple[str, str]:
        command = ["setpriv", "--bounding-set=-net_raw", sys.executable, "-c", code, pod(scratch)]
        ran = subprocess.run(command, check=False, capture_output=True, text=True)
        return ran.stdout, ran.stderr

    stdout, stderr = in_lab(ask)
    assert stderr == ""
    assert stdout.startswith(f"{errno.EPERM} open a raw socket in /")
