"""What doctor finds on this machine, and on machines that refuse something; and how it gets host-device."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import syscalls
from simulator.errors import LabError
from simulator.lab import doctor

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

    def use(self, *, updated: bool = True, plugin: str = "host-device", reachable: bool = True) -> None:
        """Args: whether the lists are there already, what the package has, whether there is a network."""
        lists = self._directory / "lists"
        write_program(self._directory / "plugin", SPEAKS_CNI)
        lists.unlink(missing_ok=True)
        if updated:
            lists.touch()
        unpack = f"mkdir -p $target && cp {self._directory}/plugin $target/{plugin}"
        apt = f"""#!/bin/sh
            echo "$@" >>{self._log}
            for word; do
                case $word in
                    update) {"touch" if reachable else "false"} {lists}; exit ;;
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


def finding(name: str) -> doctor.Finding:
    return next(found for found in doctor.diagnose() if found.name == name)


# What it tries


def test_machine_that_runs_these_tests_has_all_that_a_lab_needs(cache: Path) -> None:
    write_program(cache / "host-device", SPEAKS_CNI)
    found = {one.name: one for one in doctor.diagnose()}
    assert sorted(found) == sorted(
        (
            NAMESPACES,
            "link kind bridge",
            "link kind dummy",
            "link kind veth",
            "raw ICMP sockets",
            "network namespaces with a name",
            "host-device",
        )
    )
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


def make_proc(directory: Path, settings: dict[str, str], seccomp: int = 0, mount_points: tuple[str, ...] = ()) -> Path:
    for switch, value in {"self/status": f"CapEff:\t0\nSeccomp:\t{seccomp}\nSeccomp_filters:\t2\n", **settings}.items():
        path = directory / switch
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(value)
    mounts = "".join(f"22 27 0:21 / {point} rw - proc proc rw\n" for point in ("/", "/proc", *mount_points))
    (directory / "self/mountinfo").write_text(mounts)
    return directory


@pytest.mark.parametrize(
    ("switch", "forbids", "cure"),
    [
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=10000"),
    ],
)
def test_switch_that_forbids_namespaces_is_named(switch: str, forbids: str, cure: str, tmp_path: Path) -> None:
    proc = make_proc(tmp_path, {f"sys/{switch}": f"{forbids}\n"})
    assert list(doctor._suspects(proc)) == [(f"{switch.replace('/', '.')} is {forbids}", cure)]


def test_switches_that_allow_namespaces_are_not_suspected(tmp_path: Path) -> None:
    allowed = {
        "sys/kernel/apparmor_restrict_unprivileged_userns": "0\n",
        "sys/kernel/unprivileged_userns_clone": "1\n",
        "sys/user/max_user_namespaces": "47000\n",
    }
    assert list(doctor._suspects(make_proc(tmp_path, allowed, mount_points=("/proc/sys/fs/binfmt_misc",)))) == []


def test_switch_that_only_root_may_read_is_passed_over(tmp_path: Path) -> None:
    proc = make_proc(tmp_path, {})
    (proc / "sys/kernel/apparmor_restrict_unprivileged_userns").mkdir(parents=True)  # unreadable, for root as well
    assert list(doctor._suspects(proc)) == []


@pytest.mark.parametrize(
    ("seccomp", "mount_points", "cause"),
    [
        (2, (), "a seccomp filter stands in the way, as in a container"),
        (0, ("/proc/kcore", "/proc/acpi"), "what is mounted on /proc/acpi stands in the way, as in a container"),
    ],
)
def test_container_is_named_with_the_options_that_open_it(
    seccomp: int, mount_points: tuple[str, ...], cause: str, tmp_path: Path
) -> None:
    ((said, cure),) = doctor._suspects(make_proc(tmp_path, {}, seccomp, mount_points))
    assert said == cause
    assert cure == (
        "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined "
        "--security-opt apparmor=unconfined"
    )


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
    doctor._unpack_as_user()
    assert doctor.find_host_device() == cache / "host-device"
    assert apt.verbs() == ["download"]
    assert [path.name for path in cache.parent.iterdir()] == ["bin"]  # nothing half done is left beside it


def test_ordinary_user_updates_lists_of_his_own_where_there_are_none(cache: Path, apt: Apt) -> None:
    apt.use(updated=False)
    doctor._unpack_as_user()
    assert doctor.find_host_device() == cache / "host-device"
    assert apt.verbs() == ["download", "update", "download"]


def test_two_users_of_one_cache_do_not_disturb_each_other(cache: Path, apt: Apt) -> None:
    doctor._unpack_as_user()
    before = cache.stat().st_ino
    doctor._unpack_as_user()
    assert cache.stat().st_ino == before


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


@pytest.mark.parametrize("install", [doctor._unpack_as_user, doctor._install_as_root])
def test_package_that_cannot_be_reached_is_said_in_the_words_of_apt(
    install: Callable[[], None], cache: Path, apt: Apt
) -> None:
    apt.use(updated=False, reachable=False)
    with pytest.raises(LabError, match="update -qq` failed") as raised:
        install()
    assert raised.value.cure == f"Install {doctor.PACKAGE} by hand"
    assert doctor.find_host_device() is None


def test_package_without_the_plugin_is_no_success(cache: Path, apt: Apt) -> None:
    apt.use(plugin="bridge")
    with pytest.raises(LabError, match="has no host-device in"):
        doctor._unpack_as_user()
    assert not cache.exists()


def test_cache_that_cannot_be_made_is_said(cache: Path, apt: Apt, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(LabError, match=f"{cache} cannot be made: Not a directory"):
        doctor._unpack_as_user()


def test_machine_without_apt_is_told_where_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="this machine has no apt-get") as raised:
        doctor.install_host_device(lambda _line: None)
    assert "containernetworking/plugins" in raised.value.cure


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
