"""What usually stands in the way of a lab, told from the kernel's words and from what /proc shows. Pure.

A machine often has several things that could forbid a namespace. The errno says which of them can have done it: a
limit answers ENOSPC, a switch, a filter, a confinement or a missing capability EPERM or EACCES, a kernel that lacks
the thing EINVAL.

Source: unshare(2), seccomp(2), namespaces(7), user_namespaces(7), capabilities(7); mount_too_revealing in the kernel's
fs/namespace.c.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

LIMITS = tuple(f"user.max_{kind}_namespaces" for kind in ("user", "net", "mnt", "pid", "ipc"))
# sysctl key → the value that forbids user namespaces to ordinary users, and the one that does not.
SWITCHES = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
}
_LIMIT = 10_000
_CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13}
_CAP_SYS_ADMIN = 21
_CONFINEMENTS = ("seccomp", "systempaths", "apparmor")
_HARMLESS_MOUNTS = ("/proc/sys/fs/binfmt_misc", "/proc/fs/nfsd")  # on directories that exist for nothing else


@dataclass(frozen=True, slots=True)
class Clues:
    """What the suspects are judged by.

    Args:
        refusal: what was refused; its end is the kernel's words for the errno.
        settings: sysctl key → value, of LIMITS and SWITCHES, as far as this machine shows them.
        status: the text of /proc/self/status.
        mountinfo: the text of /proc/self/mountinfo.
    """

    refusal: str
    settings: Mapping[str, str]
    status: str
    mountinfo: str


def explain(clues: Clues) -> Iterator[tuple[str, str]]:
    """Everything that can have led to this refusal, as ``(cause, cure)``; the likeliest first."""
    if _is(clues, errno.ENOSPC):
        for key in LIMITS:
            if clues.settings.get(key) == "0":
                yield f"{key} is 0", f"sudo sysctl -w {key}={_LIMIT}"
    elif _is(clues, errno.EINVAL) and "namespaces" in clues.refusal:
        cure = "Use a kernel with CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and CONFIG_IPC_NS"
        yield "this kernel was built without one of them", cure
    elif _is(clues, errno.EPERM, errno.EACCES):
        yield from _forbidden(clues)


def _forbidden(clues: Clues) -> Iterator[tuple[str, str]]:
    is_privileged = _has_capability(clues, _CAP_SYS_ADMIN)
    missing = [name for name, number in _CAPABILITIES.items() if not _has_capability(clues, number)]
    if is_privileged and missing:  # with SYS_ADMIN the lab makes no user namespace, in which it would have them all
        lacking = " and ".join(f"CAP_{name}" for name in missing)
        added = " ".join(f"--cap-add {name}" for name in missing)
        yield f"this process has CAP_SYS_ADMIN, but not {lacking}", f"docker run {added}"
    covers = _mounts_over_proc(clues)
    container = list(_confined(clues, covers))
    if covers:
        yield from container
    if not is_privileged:
        for key, (forbids, allows) in SWITCHES.items():
            if clues.settings.get(key) == forbids:
                yield f"{key} is {forbids}", f"sudo sysctl -w {key}={allows}"
    if not covers:
        yield from container
    if not is_privileged and "namespaces" in clues.refusal:  # a chroot cannot be seen from inside: so it comes last
        yield (
            "none of the usual settings forbids it, but a chroot always does",
            "Run it outside of the chroot, or as root",
        )


def _confined(clues: Clues, covers: list[str]) -> Iterator[tuple[str, str]]:
    cure = f"docker run {' '.join(f'--security-opt {one}=unconfined' for one in _CONFINEMENTS)}"
    if "\nSeccomp:\t2\n" in clues.status and _is(clues, errno.EPERM):
        yield "a seccomp filter stands in the way, as in a container", cure
    elif covers and (_is(clues, errno.EACCES) or "/proc" in clues.refusal):
        yield f"what is mounted on {covers[0]} stands in the way, as in a container", cure


def _mounts_over_proc(clues: Clues) -> list[str]:
    """What masks a part of /proc: then the kernel allows no fresh one to an ordinary user."""
    points = {line.split()[4] for line in clues.mountinfo.splitlines()}
    return sorted(one for one in points if one.startswith("/proc/") and one not in _HARMLESS_MOUNTS)


def _has_capability(clues: Clues, number: int) -> bool:
    effective = next((line for line in clues.status.splitlines() if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(effective.split()[1], 16) >> number & 1)


def _is(clues: Clues, *numbers: int) -> bool:
    return clues.refusal.endswith(tuple(os.strerror(number) for number in numbers))
