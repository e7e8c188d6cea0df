"""What doctor finds on this machine, and on machines that refuse something; and how it gets host-device."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import syscalls
from simulator.errors import LabError
from simulator.lab import doctor

UNSHARE = {"x86_64": 272, "aarch64": 97}  # the number of the system call
NAMESPACES = "user, mount, pid and network namespaces, fresh /proc, tmpfs"
SPEAKS_CNI = (
    '#!/bin/sh\necho "{\\"cniVersion\\": \\"1.0.0\\", \\"supportedVersions\\": [\\"0.4.0\\", \\"$CNI_COMMAND\\"]}"\n'
)


def write_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an ordinary user's host-device goes; and no other one is on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNI_PATH", raising=False)
    monkeypatch.setattr(doctor, "SYSTEM_DIRECTORIES", (str(tmp_path / "usr/lib/cni"),))
    return tmp_path / "cache/enim/cni/bin"


@pytest.fixture
def apt(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    return Apt(tmp_path / "apt", monkeypatch)


class Apt:
    """A Debian of our own: ``apt-get`` and ``dpkg-deb`` that know one package, once its list has been updated."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = directory / "log"
        self._directory = directory
        monkeypatch.setenv("PATH", f"{directory}/bin:/usr/bin:/bin")
        self.use()

    def use(
        self,
        *,
        updated: bool = True,
        plugin: str = "host-device",
        reachable: bool = True,
        broken_source: bool = False,
    ) -> None:
        """Args: are the lists there already, what has the package, is there a network, does another source fail?"""
        lists = self._directory / "lists"
        write_program(self._directory / "plugin", SPEAKS_CNI)
        lists.unlink(missing_ok=True)
        if updated:
            lists.touch()
        unpack = f"mkdir -p $target && cp {self._directory}/plugin $target/{plugin}"
        # An update without a network is a success to apt-get, one with a source that is no archive a failure.
        update = f"touch {lists}" if reachable else 'echo "W: no route to the archive" >&2'
        apt = f"""#!/bin/sh
            echo "$@" >>{self._log}
            for word; do
                case $word in
                    update) {update}; exit {100 if broken_source else 0} ;;
                    install|download) [ -e {lists} ] || {{ echo "E: Unable to locate package" >&2; exit 100; }} ;;
                esac
                case $word in
                    install) target={doctor.SYSTEM_DIRECTORIES[0]}; {unpack} ;;
                    download) touch plugins_1_amd64.deb ;;
                esac
            done
        """
        write_program(self._directory / "bin/apt-get", apt)
        dpkg = f"#!/bin/sh\ntarget=$3/{doctor.SYSTEM_DIRECTORIES[0]}\n{unpack}\n"
        write_program(self._directory / "bin/dpkg-deb", dpkg)

    def verbs(self) -> list[str]:
        """What apt-get was asked to do, in order."""
        known = ("update", "download", "install")
        return [next(word for word in line.split() if word in known) for line in self._log.read_text().splitlines()]


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


def finding(name: str) -> doctor.Finding:
    return next(found for found in doctor.diagnose() if found.name == name)


# What it tries


def test_machine_that_runs_these_tests_has_all_that_a_lab_needs(cache: Path) -> None:
    write_program(cache / "host-device", SPEAKS_CNI)
    found = {one.name: one for one in doctor.diagnose()}
    links = [f"link kind {kind}" for kind in ("veth", "bridge", "dummy")]
    assert list(found) == [NAMESPACES, *links, "raw ICMP sockets", "network namespaces with a name", "host-device"]
    assert [one for one in found.values() if one.required and not one.ok] == []
    assert [one.name for one in found.values() if not one.required] == ["link kind dummy"]


def test_trying_leaves_nothing_on_the_machine(cache: Path) -> None:
    before = (sorted(Path("/sys/class/net").iterdir()), Path("/proc/self/mountinfo").read_text())
    doctor.diagnose()
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
    make_link = doctor._make_link
    monkeypatch.setattr(doctor, "_make_link", lambda name, kind: make_link(name, f"no-{kind}"))
    kinds = {one.name: (one.ok, one.cause, one.cure) for one in doctor.diagnose() if one.name.startswith("link kind")}
    assert kinds == {
        f"link kind {kind}": (
            False,
            f"the kernel module {kind} is not there (Operation not supported)",
            f"sudo modprobe {kind}",
        )
        for kind in ("veth", "bridge", "dummy")
    }


def test_probe_that_ends_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_S", 0.05)
    for probe in (lambda _channel, _scratch: None, lambda channel, _scratch: channel.recv(1)):
        monkeypatch.setattr(doctor, "_probe", probe)
        assert finding("the parts of a lab").cause == "the probe gave no answer"


def test_advice_to_ask_the_doctor_is_not_given_by_the_doctor() -> None:
    cure = "Run `enim-lab doctor`: it names what stands in the way"
    puzzling = doctor.Finding(NAMESPACES, ok=False, required=True, cause="no more processes", cure=cure)
    assert doctor._explained(puzzling) == doctor.Finding(NAMESPACES, ok=False, required=True, cause="no more processes")


def test_other_kernel_than_linux_is_all_there_is_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    (found,) = doctor.diagnose()
    assert (found.name, found.ok, found.cure) == ("Linux", False, "enim-lab run --lab sim")


# The plugin


def test_plugin_is_asked_for_its_versions(cache: Path) -> None:
    binary = write_program(cache / "host-device", SPEAKS_CNI)
    assert finding("host-device") == doctor.Finding(
        "host-device", ok=True, required=True, cause=f"{binary} speaks 0.4.0, VERSION"
    )


def test_missing_plugin_comes_with_the_command_that_gets_it(cache: Path) -> None:
    assert finding("host-device") == doctor.Finding(
        "host-device", ok=False, required=True, cause="the plugin is not installed", cure="enim-lab doctor --install"
    )


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho hello\n", "#!/no/such/interpreter\n"])
def test_plugin_that_does_not_answer_is_not_taken_for_one(program: str, cache: Path) -> None:
    binary = write_program(cache / "host-device", program)
    broken = finding("host-device")
    assert (broken.ok, broken.required) == (False, True)
    assert broken.cause.startswith(f"{binary} does not answer VERSION: ")
    assert broken.cure == f"Remove {binary}, then run `enim-lab doctor --install`"


def test_plugin_is_looked_for_in_the_cache_the_system_and_then_cni_path(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_PATH", f"relative:{tmp_path}/empty:{tmp_path}/named")
    assert doctor.find_host_device() is None
    for directory in (tmp_path / "named", tmp_path / "usr/lib/cni", cache):
        binary = write_program(directory / "host-device", SPEAKS_CNI)
        assert doctor.find_host_device() == binary


def test_file_that_cannot_be_executed_is_no_plugin(cache: Path) -> None:
    write_program(cache / "host-device", SPEAKS_CNI).chmod(0o644)
    assert doctor.find_host_device() is None


# Getting it


def test_ordinary_user_gets_the_package_into_the_cache(cache: Path, apt: Apt) -> None:
    doctor._unpack_as_user(cache)
    assert doctor.find_host_device() == cache / "host-device"
    assert apt.verbs() == ["download"]
    assert [path.name for path in cache.parent.iterdir()] == ["bin"]  # nothing half done is left beside it


def test_ordinary_user_updates_lists_of_his_own_where_there_are_none(cache: Path, apt: Apt) -> None:
    apt.use(updated=False)
    doctor._unpack_as_user(cache)
    assert doctor.find_host_device() == cache / "host-device"
    assert apt.verbs() == ["download", "update", "download"]


def test_two_users_of_one_cache_do_not_disturb_each_other(cache: Path, apt: Apt) -> None:
    doctor._unpack_as_user(cache)
    with (cache / "host-device").open() as running:
        doctor._unpack_as_user(cache)
        assert running.read() == SPEAKS_CNI
    assert [path.name for path in cache.iterdir()] == ["host-device"]


def test_half_a_plugin_in_the_cache_is_replaced(cache: Path, apt: Apt) -> None:
    write_program(cache / "host-device", "half").chmod(0o644)
    doctor._unpack_as_user(cache)
    assert doctor._try_plugin(cache / "host-device").ok


def test_root_installs_the_package_and_updates_the_lists_only_if_need_be(cache: Path, apt: Apt) -> None:
    for updated, verbs in ((True, ["install"]), (False, ["install", "update", "install"])):
        apt.use(updated=updated)
        doctor._install_as_root()
        assert apt.verbs()[-len(verbs) :] == verbs
    assert doctor.find_host_device() == Path(doctor.SYSTEM_DIRECTORIES[0]) / "host-device"


def test_install_reports_what_it_does_and_where_the_plugin_is(cache: Path, apt: Apt) -> None:
    said: list[str] = []
    binary = doctor.install_host_device(said.append)
    assert binary == doctor.find_host_device()
    assert len(said) == 1
    assert doctor.PACKAGE in said[0]


@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_package_that_cannot_be_reached_is_said_in_the_words_of_apt(user: str, cache: Path, apt: Apt) -> None:
    apt.use(updated=False, reachable=False)
    with pytest.raises(
        LabError, match=r"Unable to locate package; .* before that: W: no route to the archive"
    ) as raised:
        doctor._install_as_root() if user == "root" else doctor._unpack_as_user(cache)
    assert str(cache) not in raised.value.cause  # no path that is gone by then
    assert f"sudo apt-get install {doctor.PACKAGE}" in raised.value.cure
    assert doctor.find_host_device() is None


@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_source_that_is_broken_does_not_matter_if_another_has_the_package(user: str, cache: Path, apt: Apt) -> None:
    apt.use(updated=False, broken_source=True)
    doctor._install_as_root() if user == "root" else doctor._unpack_as_user(cache)
    assert doctor.find_host_device() is not None


def test_package_without_the_plugin_is_no_success(cache: Path, apt: Apt) -> None:
    apt.use(plugin="bridge")
    with pytest.raises(LabError, match="has no host-device in"):
        doctor._unpack_as_user(cache)
    assert not cache.exists()


def test_cache_that_cannot_be_made_is_said(cache: Path, apt: Apt, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(LabError, match=f"{cache}/host-device cannot be made: Not a directory") as raised:
        doctor._unpack_as_user(cache)
    assert "XDG_CACHE_HOME" in raised.value.cure


@pytest.mark.parametrize("home", ["~", "relative"])  # "~" is what a uid without a name has
def test_user_without_a_home_has_no_cache_and_is_told_so(
    home: str, cache: Path, apt: Apt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert doctor.find_host_device() is None
    with pytest.raises(LabError, match="no home directory") as raised:
        doctor.install_host_device(lambda _line: None)
    assert raised.value.cure.startswith("export XDG_CACHE_HOME=")


def test_machine_without_apt_is_told_where_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="this machine has no apt-get") as raised:
        doctor.install_host_device(lambda _line: None)
    assert "containernetworking/plugins" in raised.value.cure
    assert "apt-get" not in raised.value.cure


def test_apt_that_does_not_end_is_stopped(apt: Apt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_program(tmp_path / "apt/bin/apt-get", "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(doctor, "_APT_TIMEOUT_S", 0.1)
    with pytest.raises(LabError, match=r"`apt-get update` took longer than 0\.1 s"):
        doctor._run("apt-get", "update")


def test_warnings_of_hooks_are_not_taken_for_those_of_apt() -> None:
    said = "rm: cannot remove '/var/cache/apt': Permission denied\nE: The repository has no Release file.\n\n"
    assert doctor._complaints(said) == "E: The repository has no Release file."
    assert doctor._complaints("dpkg-deb: error: no archive\n") == "dpkg-deb: error: no archive"


def test_apt_that_does_not_end_well_is_cut_short_in_the_message(apt: Apt, tmp_path: Path) -> None:
    write_program(tmp_path / "apt/bin/apt-get", "#!/bin/sh\nseq 1000\nexit 3\n")
    with pytest.raises(LabError, match="`apt-get update` failed") as raised:
        doctor._run("apt-get", "update")
    assert raised.value.cause.endswith("999\n1000")
    assert len(raised.value.cause) < 600


def test_real_host_device_speaks_cni() -> None:
    binary = doctor.find_host_device()
    if binary is None:
        pytest.skip("host-device is not installed; `enim-lab doctor --install` gets it")
    asked = subprocess.run([binary], env={"CNI_COMMAND": "VERSION"}, input=b"{}", capture_output=True, check=True)
    assert b"supportedVersions" in asked.stdout
