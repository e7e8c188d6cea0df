"""What doctor finds on this machine, and on machines that refuse something."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from simulator import syscalls
from simulator.lab import doctor, links, plugins
from simulator.model import BACKENDS
from simulator.real import trial

WriteProgram: TypeAlias = Callable[[Path, str], Path]
WritePlugin: TypeAlias = Callable[[Path], Path]

UNSHARE = {"x86_64": 272, "aarch64": 97}  # the number of the system call
NAMESPACES = "user, mount, pid and network namespaces, fresh /proc, tmpfs"


def forbid_unshare() -> None:
    """Filter unshare(2) out of this process and its children, as docker does. Source: seccomp(2), linux/filter.h."""
    program = (
        struct.pack("=HBBI", 0x20, 0, 0, 0)  # load the number of the system call
        + struct.pack("=HBBI", 0x15, 0, 1, UNSHARE[platform.machine()])  # is it unshare?
        + struct.pack("=HBBI", 0x06, 0, 0, 0x00050000 | errno.EPERM)  # then it fails
        + struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # else it may go on
    )
    memory = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", 4, ctypes.addressof(memory))
    libc = ctypes.CDLL(None)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    assert libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0
    assert libc.prctl(set_seccomp, filter_mode, header, 0, 0) == 0


def works(_backend: str, _scratch: Path) -> dict[str, str]:
    """For tests of the rest."""
    return {"made": ""}


def diagnosed(attempt: doctor.Attempt = works) -> list[doctor.Finding]:
    return doctor.diagnose(attempt)


def finding(name: str) -> doctor.Finding:
    return next(found for found in diagnosed() if found.name == name)


# What it tries


def test_machine_that_runs_these_tests_has_all_that_a_lab_needs(cache: Path, write_plugin: WritePlugin) -> None:
    for name in plugins.PLUGINS:
        write_plugin(cache / name)
    found = {one.name: one for one in diagnosed(trial.attempt)}
    parts = ["link kind bridge", "raw ICMP sockets", "network namespaces with a name"]
    backends = [*(f"{kind} ENIs" for kind in BACKENDS), "a backend for ENIs"]
    assert list(found) == [NAMESPACES, *parts, *backends, *plugins.PLUGINS]
    assert [one for one in found.values() if one.required and not one.ok] == []
    assert [one.name for one in found.values() if not one.required] == [f"{kind} ENIs" for kind in BACKENDS]
    assert found["veth ENIs"].cause == (
        "made yes; moved into a netns and back yes; home when its netns ended yes; answers an echo yes"
    )
    assert found["a backend for ENIs"].cause.startswith("veth")


def test_trying_leaves_nothing_on_the_machine(cache: Path) -> None:
    before = (sorted(Path("/sys/class/net").iterdir()), Path("/proc/self/mountinfo").read_text())
    diagnosed(trial.attempt)
    assert (sorted(Path("/sys/class/net").iterdir()), Path("/proc/self/mountinfo").read_text()) == before


def test_refused_namespaces_come_with_the_switch_and_the_command(in_lab: Callable[..., Any]) -> None:
    def refuse(_scratch: Path) -> tuple[str, str]:
        syscalls.unshare(syscalls.CLONE_NEWUSER)  # its limits are its own: nothing outside changes
        Path("/proc/self/uid_map").write_text("0 0 1")
        Path("/proc/sys/user/max_net_namespaces").write_text("0")
        refused = finding(NAMESPACES)
        assert (refused.ok, refused.required) == (False, True)
        return refused.cause, refused.cure

    cause, cure = in_lab(refuse)
    assert cause.startswith("the kernel refuses ")
    assert cause.endswith("; user.max_net_namespaces is 0")
    assert cure == "sudo sysctl -w user.max_net_namespaces=10000"


def test_masked_proc_is_named_with_the_options_that_open_it(in_lab: Callable[..., Any]) -> None:
    def mask(_scratch: Path) -> tuple[str, str]:
        syscalls.mount("mask", "/proc/tty", "tmpfs")
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)  # as docker does: the mask cannot be taken off
        Path("/proc/self/uid_map").write_text("0 0 1")
        refused = finding(NAMESPACES)
        return refused.cause, refused.cure

    cause, cure = in_lab(mask)
    assert cause == (
        "the kernel refuses mount /proc: Operation not permitted; "
        "what is mounted on /proc/tty stands in the way, as in a container"
    )
    assert cure.startswith("docker run --security-opt ")


@pytest.mark.skipif(platform.machine() not in UNSHARE, reason="the filter knows x86-64 and arm64 only")
def test_seccomp_filter_is_named_with_the_options_that_open_it(in_lab: Callable[..., Any]) -> None:
    def filter_out(_scratch: Path) -> tuple[str, str]:
        forbid_unshare()
        refused = finding(NAMESPACES)
        return refused.cause, refused.cure

    cause, cure = in_lab(filter_out)
    assert cause == (
        "the kernel refuses user, mount, pid and network namespaces: Operation not permitted; "
        "a seccomp filter stands in the way, as in a container"
    )
    assert cure.startswith("docker run --security-opt seccomp=unconfined ")


def test_settings_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "kernel/apparmor_restrict_unprivileged_userns").mkdir(parents=True)  # unreadable, for root as well
    (tmp_path / "kernel/unprivileged_userns_clone").write_text("1\n")
    assert doctor._settings(tmp_path) == {"kernel.unprivileged_userns_clone": "1"}


def test_unknown_link_kind_comes_with_the_module_that_has_it(
    in_lab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = links.make
    monkeypatch.setattr(links, "make", lambda name, kind: make(name, f"no-{kind}"))
    found = finding("link kind bridge")
    assert (found.ok, found.cause, found.cure) == (
        False,
        "the kernel module bridge is not there (Operation not supported)",
        "sudo modprobe bridge",
    )


def test_one_backend_is_enough_and_needs_no_echo() -> None:
    def attempt(backend: str, _scratch: Path) -> dict[str, str]:
        if backend != "dummy":
            return {"made": "make eni-1: Operation not supported"}
        return {"made": "", "moved": "", "home": "", "answers an echo": "none from 10.64.0.1"}

    assert [one for one in diagnosed(attempt) if "ENIs" in one.name] == [
        *(
            doctor.Finding(
                f"{kind} ENIs",
                ok=False,
                required=False,
                cause="made no (make eni-1: Operation not supported)",
                cure=f"sudo modprobe {kind}",
            )
            for kind in ("veth", "macvlan")
        ),
        doctor.Finding(
            "dummy ENIs",
            ok=True,
            required=False,
            cause="made yes; moved yes; home yes; answers an echo no (none from 10.64.0.1)",
        ),
        doctor.Finding("a backend for ENIs", ok=True, required=True, cause="dummy", cure="sudo modprobe veth"),
    ]


def end(_backend: str, _scratch: Path) -> dict[str, str]:
    os._exit(0)


@pytest.mark.parametrize("attempt", [end, lambda _backend, _scratch: {"made": "", "moved": "it did not come back"}])
def test_machine_without_a_backend_that_works_holds_no_lab(attempt: doctor.Attempt) -> None:
    assert [
        (one.name, one.cause) for one in diagnosed(attempt) if one.required and not one.ok and "ENI" in one.name
    ] == [("a backend for ENIs", "none of these works")]


def test_probe_that_ends_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_S", 0.05)
    for probe in (lambda _scratch: os._exit(0), lambda _scratch: time.sleep(60)):
        monkeypatch.setattr(doctor, "_probe", probe)
        assert finding("the parts of a lab").cause == "the probe gave no answer"


def test_advice_to_ask_the_doctor_is_not_given_by_the_doctor() -> None:
    cure = "Run `enim-lab doctor`: it names what stands in the way"
    puzzling = doctor.Finding(NAMESPACES, ok=False, required=True, cause="no more processes", cure=cure)
    assert doctor._explained(puzzling) == doctor.Finding(NAMESPACES, ok=False, required=True, cause="no more processes")


def test_other_kernel_than_linux_is_all_there_is_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    (found,) = diagnosed()
    assert (found.name, found.ok, found.cure) == ("Linux", False, "enim-lab run --lab sim")


# The plugin


def test_plugin_is_asked_for_its_versions(cache: Path, write_plugin: WritePlugin) -> None:
    binary = write_plugin(cache / "host-device")
    assert finding("host-device") == doctor.Finding(
        "host-device", ok=True, required=True, cause=f"{binary} speaks 0.4.0, VERSION"
    )


def test_missing_plugin_comes_with_the_command_that_gets_it(cache: Path) -> None:
    assert finding("host-device") == doctor.Finding(
        "host-device", ok=False, required=True, cause="the plugin is not installed", cure="enim-lab doctor --install"
    )


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n", "#!/no/such/interpreter\n"])
def test_plugin_that_does_not_answer_is_not_taken_for_one(
    program: str, cache: Path, write_program: WriteProgram
) -> None:
    binary = write_program(cache / "host-device", program)
    broken = finding("host-device")
    assert (broken.ok, broken.required) == (False, True)
    assert broken.cause.startswith(f"{binary} does not answer VERSION: ")
    assert broken.cure == f"Remove {binary}, then run `enim-lab doctor --install`"
