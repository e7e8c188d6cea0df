"""Who is suspected when the kernel refuses something, on machines of all sorts."""

from __future__ import annotations

import pytest

from simulator.lab import causes

NAMESPACES = "the kernel refuses user, mount, pid and network namespaces"
NOT_PERMITTED, NO_SPACE = "Operation not permitted", "No space left on device"
APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"
CLONE = "kernel.unprivileged_userns_clone"
ORDINARY_USER, ROOT = 0, 0x1FFFFFFFFFF
SYS_ADMIN, NET_ADMIN, NET_RAW = 1 << 21, 1 << 12, 1 << 13
OPEN_CONTAINER = (
    "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined "
    "--security-opt apparmor=unconfined"
)
CHROOT = ("none of the usual settings forbids it, but a chroot always does", "Run it outside of the chroot, or as root")


def suspects(
    refusal: str,
    settings: dict[str, str] | None = None,
    capabilities: int = ORDINARY_USER,
    seccomp: int = 0,
    mount_points: tuple[str, ...] = (),
) -> list[tuple[str, str]]:
    status = f"Name:\tpython\nCapEff:\t{capabilities:016x}\nSeccomp:\t{seccomp}\nSeccomp_filters:\t2\n"
    mounts = "".join(f"22 27 0:21 / {point} rw - proc proc rw\n" for point in ("/", "/proc", *mount_points))
    found = list(causes.explain(causes.Clues(refusal, settings or {}, status, mounts)))
    return [one for one in found if one != CHROOT]


@pytest.mark.parametrize(
    ("key", "forbids", "cure"),
    [(APPARMOR, "1", f"sudo sysctl -w {APPARMOR}=0"), (CLONE, "0", f"sudo sysctl -w {CLONE}=1")],
)
def test_switch_that_forbids_namespaces_is_named(key: str, forbids: str, cure: str) -> None:
    assert suspects(f"{NAMESPACES}: {NOT_PERMITTED}", {key: forbids}) == [(f"{key} is {forbids}", cure)]


@pytest.mark.parametrize("key", causes.LIMITS)
def test_limit_of_none_is_named(key: str) -> None:
    settings = {**dict.fromkeys(causes.LIMITS, "47000"), key: "0"}
    assert suspects(f"{NAMESPACES}: {NO_SPACE}", settings) == [(f"{key} is 0", f"sudo sysctl -w {key}=10000")]


def test_switches_that_allow_namespaces_are_not_suspected() -> None:
    allowed = {APPARMOR: "0", CLONE: "1", **dict.fromkeys(causes.LIMITS, "47000")}
    assert suspects(f"{NAMESPACES}: {NOT_PERMITTED}", allowed) == []


def test_mounts_that_every_machine_may_have_on_proc_are_not_suspected() -> None:
    harmless = ("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd")
    assert suspects(f"mount /proc: {NOT_PERMITTED}", mount_points=harmless) == []


def test_errno_clears_those_who_cannot_have_done_it() -> None:
    everything = {APPARMOR: "1", CLONE: "0", **dict.fromkeys(causes.LIMITS, "0")}
    by_limit = suspects(f"{NAMESPACES}: {NO_SPACE}", everything, seccomp=2, mount_points=("/proc/kcore",))
    by_permission = suspects(f"{NAMESPACES}: {NOT_PERMITTED}", everything)
    by_other = suspects("the kernel refuses another process: Resource temporarily unavailable", everything, seccomp=2)
    assert [cause for cause, _ in by_limit] == [f"{key} is 0" for key in causes.LIMITS]
    assert [cause for cause, _ in by_permission] == [f"{APPARMOR} is 1", f"{CLONE} is 0"]
    assert by_other == []


def test_switches_for_ordinary_users_do_not_concern_root() -> None:
    assert suspects(f"{NAMESPACES}: {NOT_PERMITTED}", {APPARMOR: "1", CLONE: "0"}, ROOT) == []


@pytest.mark.parametrize(
    ("refusal", "seccomp", "mount_points", "cause"),
    [
        (f"{NAMESPACES}: {NOT_PERMITTED}", 2, (), "a seccomp filter stands"),
        (f"{NAMESPACES}: {NOT_PERMITTED}", 2, ("/proc/kcore",), "a seccomp filter stands"),
        (f"mount /proc: {NOT_PERMITTED}", 0, ("/proc/kcore", "/proc/acpi"), "what is mounted on /proc/acpi stands"),
        ("mount /: Permission denied", 2, ("/proc/acpi",), "what is mounted on /proc/acpi stands"),
    ],
)
def test_container_is_named_with_the_options_that_open_it(
    refusal: str, seccomp: int, mount_points: tuple[str, ...], cause: str
) -> None:
    found = suspects(refusal, seccomp=seccomp, mount_points=mount_points)
    assert found == [(f"{cause} in the way, as in a container", OPEN_CONTAINER)]


def test_masked_proc_does_not_forbid_what_is_not_proc() -> None:
    assert suspects(f"{NAMESPACES}: {NOT_PERMITTED}", mount_points=("/proc/acpi",)) == []


def test_in_a_container_its_own_walls_come_before_the_switches_of_the_machine() -> None:
    inside = suspects(f"{NAMESPACES}: {NOT_PERMITTED}", {APPARMOR: "1"}, seccomp=2, mount_points=("/proc/acpi",))
    outside = suspects(f"{NAMESPACES}: {NOT_PERMITTED}", {APPARMOR: "1"}, seccomp=2)
    assert [cause.split()[0] for cause, _ in inside] == ["a", APPARMOR]
    assert [cause.split()[0] for cause, _ in outside] == [APPARMOR, "a"]


@pytest.mark.parametrize(
    ("capabilities", "lacking", "cure"),
    [
        (SYS_ADMIN, "CAP_NET_ADMIN and CAP_NET_RAW", "docker run --cap-add NET_ADMIN --cap-add NET_RAW"),
        (SYS_ADMIN | NET_RAW, "CAP_NET_ADMIN", "docker run --cap-add NET_ADMIN"),
    ],
)
def test_root_with_half_the_capabilities_is_told_which_are_missing(capabilities: int, lacking: str, cure: str) -> None:
    found = suspects(f"the kernel refuses to set lo up: {NOT_PERMITTED}", capabilities=capabilities)
    assert found == [(f"this process has CAP_SYS_ADMIN, but not {lacking}", cure)]


def test_kernel_without_namespaces_is_named() -> None:
    ((cause, cure),) = suspects(f"{NAMESPACES}: Invalid argument")
    assert cause == "this kernel was built without one of them"
    assert "CONFIG_USER_NS" in cure
    assert suspects("mount /proc: Invalid argument") == []


def test_chroot_is_suspected_when_nobody_else_is_left() -> None:
    clues = causes.Clues(f"{NAMESPACES}: {NOT_PERMITTED}", {CLONE: "0"}, "CapEff:\t0\n", "")
    assert [cause for cause, _ in causes.explain(clues)] == [f"{CLONE} is 0", CHROOT[0]]
