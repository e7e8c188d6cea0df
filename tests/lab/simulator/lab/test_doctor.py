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
from simulator.errors import LabError
from simulator.lab import doctor, links, plugins
from simulator.model import BACKENDS, ECHOED, MADE, MOVED, RETURNED, TRAITS
from simulator.real import trial

WriteProgram: TypeAlias = Callable[[Path, str], Path]
WritePlugin: TypeAlias = Callable[[Path], Path]

UNSHARE = {"x86_64": 272, "aarch64": 97}  # the number of the system call
NAMESPACES = "user, mount, pid and network namespaces, fresh /proc, tmpfs"
TAKEN = "ENIs of the kind that runs take"
ENGINE = "an engine for --lab docker"


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
    return dict.fromkeys(TRAITS, "")


def diagnosed(attempt: doctor.Attempt = works, engine: doctor.Engine = lambda: None) -> list[doctor.Finding]:
    return doctor.diagnose(attempt, engine)


def finding(name: str) -> doctor.Finding:
    return next(found for found in diagnosed() if found.name == name)


# What it tries


def test_machine_that_runs_these_tests_has_all_that_a_lab_needs(cache: Path, write_plugin: WritePlugin) -> None:
    for name in plugins.PLUGINS:
        write_plugin(cache / name)
    found = {one.name: one for one in diagnosed(trial.attempt)}
    parts = ["links of the kind bridge", "raw ICMP sockets", "network namespaces with a name"]
    backends = [f"{kind} ENIs" for kind in BACKENDS]
    foreign = [f"plugin {name}" for name in plugins.PLUGINS]
    assert list(found) == [NAMESPACES, *parts, *backends, TAKEN, *foreign, ENGINE]
    assert [one for one in found.values() if one.required and not one.ok] == []
    assert [one.name for one in found.values() if not one.required] == [*backends, ENGINE]
    assert found["veth ENIs"].cause == (
        "can be made, move into a netns and back, answer an echo, come home when their netns ends"
    )
    assert found[TAKEN].cause.startswith("veth")


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
    found = finding("links of the kind bridge")
    assert (found.ok, found.cause, found.cure) == (
        False,
        "the kernel module bridge is not there (Operation not supported)",
        "sudo modprobe bridge",
    )


MUTE = {**dict.fromkeys(TRAITS, ""), ECHOED: "none from 10.64.0.1"}
STRAYS = {MADE: "", MOVED: "", ECHOED: "", RETURNED: "it was not back after 3 s"}
UNMADE = "Operation not supported"


@pytest.fixture
def kernel_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that names the kinds of link that can be made."""

    def choose(*kinds: str) -> None:
        monkeypatch.setattr(links, "refusals", lambda tried: {one: "" if one in kinds else UNMADE for one in tried})

    return choose


def backends(attempt: doctor.Attempt) -> list[str]:
    """The lines about ENIs, as they are shown."""
    return [line for one in diagnosed(attempt) if "ENIs" in one.name for line in str(one).splitlines()]


def test_one_backend_is_enough_and_needs_no_echo(kernel_with: Callable[..., None]) -> None:
    kernel_with("dummy")
    assert backends(lambda _backend, _scratch: MUTE) == [
        "fails (optional)  veth ENIs: cannot be made (Operation not supported)",
        "                  → sudo modprobe -a veth",
        "fails (optional)  macvlan ENIs: cannot be made (Operation not supported)",
        "                  → sudo modprobe -a veth macvlan",
        f"              ok  dummy ENIs: can {MADE}, {MOVED}, {RETURNED}; cannot {ECHOED} (none from 10.64.0.1)",
        "              ok  ENIs of the kind that runs take: dummy",
    ]


def test_backend_that_works_is_not_enough_if_runs_take_another(kernel_with: Callable[..., None]) -> None:
    kernel_with("veth", "macvlan")
    lines = backends(lambda backend, _scratch: STRAYS if backend == "veth" else dict.fromkeys(TRAITS, ""))
    assert lines[0] == (
        "fails (optional)  veth ENIs: can be made, move into a netns and back, answer an echo; "
        "cannot come home when their netns ends (it was not back after 3 s)"
    )
    assert lines[-2:] == [
        "          FAILED  ENIs of the kind that runs take: veth, which cannot do all it must",
        "                  → enim-lab run --backend macvlan",
    ]


def test_other_backends_that_work_are_named(kernel_with: Callable[..., None]) -> None:
    kernel_with(*BACKENDS)
    assert (
        backends(works)[-1]
        == "              ok  ENIs of the kind that runs take: veth; with --backend also macvlan, dummy"
    )


def test_kernel_without_any_link_for_an_eni_is_told_so(kernel_with: Callable[..., None]) -> None:
    kernel_with()
    assert backends(works)[-2:] == [
        "          FAILED  ENIs of the kind that runs take: none of these can be made",
        "                  → sudo modprobe -a veth",
    ]


def test_links_that_are_refused_for_another_reason_than_their_module_come_without_a_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links, "refusals", lambda tried: dict.fromkeys(tried, "Operation not permitted"))
    assert [line for line in backends(works) if "→" in line] == []


def end(_backend: str, _scratch: Path) -> dict[str, str]:
    os._exit(0)


def test_trial_that_gives_no_answer_is_a_finding(kernel_with: Callable[..., None]) -> None:
    kernel_with("veth")
    first, *_, last = backends(end)
    assert first == "fails (optional)  veth ENIs: cannot be tried (a lab that was started for a trial gave no answer)"
    assert last == "          FAILED  ENIs of the kind that runs take: veth, which cannot do all it must"


def test_engine_that_does_not_answer_is_optional() -> None:
    def refuse() -> None:
        raise LabError("no engine answers at its usual socket", "Start one")

    *_, last = diagnosed(works, refuse)
    assert str(last) == (
        f"fails (optional)  {ENGINE}: no engine answers at its usual socket\n                  → Start one"
    )


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
    assert finding("plugin host-device") == doctor.Finding(
        "plugin host-device", ok=True, required=True, cause=f"{binary} speaks 0.4.0, VERSION"
    )


def test_missing_plugin_comes_with_the_command_that_gets_it(cache: Path) -> None:
    assert finding("plugin host-device") == doctor.Finding(
        "plugin host-device", ok=False, required=True, cause="it is not installed", cure="enim-lab doctor --install"
    )


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n", "#!/no/such/interpreter\n"])
def test_plugin_that_does_not_answer_is_not_taken_for_one(
    program: str, cache: Path, write_program: WriteProgram
) -> None:
    binary = write_program(cache / "host-device", program)
    broken = finding("plugin host-device")
    assert (broken.ok, broken.required) == (False, True)
    assert broken.cause.startswith(f"{binary} does not answer VERSION: ")
    assert broken.cure == f"Remove {binary}, then run `enim-lab doctor --install`"
