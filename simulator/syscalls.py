"""EDGE: the Linux system calls that Python 3.11 lacks. Imported only after a lab has been chosen.

Source: unshare(2), setns(2), mount(2), umount2(2), prctl(2), close_range(2).
"""

from __future__ import annotations

import ctypes
import gc
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, call: str) -> None:
    if result != 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), call)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces. Raises OSError."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace that ``fd`` refers to. Raises OSError (EINVAL: no such kind)."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system; "" stands for NULL. Raises OSError."""
    result = _libc.mount(
        source.encode() or None,
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _checked(result, f"mount {target}")


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    """Unmount; lazily unless ``flags`` says otherwise. Raises OSError."""
    _checked(_libc.umount2(target.encode(), flags), f"umount {target}")


def die_with_parent(signal: int) -> None:
    """Ask the kernel to send ``signal`` to this process when the thread that forked it ends. Raises OSError."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0), "prctl")


def close_all_but(*kept: int) -> None:
    """Close the files from 3 on that a forked process has inherited, but for these.

    What its Python objects take for open is not any more. So none of them may be collected from now on: it would close
    whatever has got the number since.
    """
    gc.freeze()
    first = 3
    for fd in sorted(kept):
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
