from __future__ import annotations

import errno
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator import syscalls

InLab = Callable[[Callable[[Path], Any]], Any]


def status_of(life: Callable[[], None]) -> int:
    """How a forked process ended that led this life: 0, or the number of the signal."""
    pid = os.fork()
    if pid == 0:
        try:
            life()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def test_unshare_and_setns_go_into_a_namespace_and_back(in_lab: InLab) -> None:
    def go(_scratch: Path) -> list[bool]:
        own = Path("/proc/thread-self/ns/net")
        before = own.stat().st_ino
        with own.open() as home:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            inside = own.stat().st_ino
            syscalls.setns(home.fileno(), syscalls.CLONE_NEWNET)
        return [inside != before, own.stat().st_ino == before]

    assert in_lab(go) == [True, True]


def test_setns_into_what_is_no_such_namespace_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="setns") as caught:
        syscalls.setns(file.fileno(), syscalls.CLONE_NEWNET)
    assert caught.value.errno == errno.EINVAL


def test_mount_and_unmount(in_lab: InLab) -> None:
    def mount(scratch: Path) -> list[bool]:
        syscalls.mount("enim", str(scratch), "tmpfs", syscalls.MS_NOSUID, "mode=0700")
        (scratch / "file").touch()
        seen = [(scratch / "file").exists(), scratch.stat().st_mode & 0o777 == 0o700]
        syscalls.unmount(str(scratch))
        return [*seen, (scratch / "file").exists()]

    assert in_lab(mount) == [True, True, False]


def test_error_names_the_mount_that_failed(in_lab: InLab) -> None:
    def mount(scratch: Path) -> list[tuple[int | None, str]]:
        errors = []
        for call in (
            lambda: syscalls.mount("x", f"{scratch}/gone", "tmpfs"),
            lambda: syscalls.unmount(f"{scratch}/gone"),
        ):
            with pytest.raises(OSError, match="No such file") as caught:
                call()
            errors.append((caught.value.errno, str(caught.value.filename).replace(str(scratch), "")))
        return errors

    assert in_lab(mount) == [(errno.ENOENT, "mount /gone"), (errno.ENOENT, "umount /gone")]


def test_die_with_parent_ends_a_process_whose_parent_ended(in_lab: InLab) -> None:
    def orphan(_scratch: Path) -> bytes:
        told, tell = os.pipe()

        def life() -> None:
            armed, arm = os.pipe()
            if os.fork() == 0:
                syscalls.die_with_parent(signal.SIGKILL)
                os.write(arm, b"x")
                signal.pause()
            os.read(armed, 1)

        assert status_of(life) == 0
        os.close(tell)
        return os.read(told, 1)  # ends when the orphan, which holds the pipe, is dead

    assert in_lab(orphan) == b""


def test_close_all_but_keeps_what_is_named_and_the_first_three() -> None:
    receiving, sending = os.pipe()
    others = [os.dup(receiving) for _ in range(5)]

    def life() -> None:
        syscalls.close_all_but(sending, others[2])
        files = sorted(int(file.name) for file in Path("/proc/self/fd").iterdir() if file.exists())
        os.write(sending, f"{[fd for fd in files if fd > 2] == sorted((sending, others[2]))}".encode())

    status_of(life)
    assert os.read(receiving, 100) == b"True"
    for fd in (receiving, sending, *others):
        os.close(fd)


def test_close_all_but_makes_the_garbage_of_before_harmless() -> None:
    """Else a file object that is collected later closes whatever has got its number since."""
    receiving, sending = os.pipe()

    def life() -> None:
        gc.disable()
        garbage: list[Any] = [os.fdopen(os.dup(receiving), "rb")]
        number = garbage[0].fileno()
        garbage.append(garbage)
        del garbage
        syscalls.close_all_but(sending)
        os.dup2(sending, number)
        gc.collect()
        os.write(number, b"still open")

    status_of(life)
    os.close(sending)
    assert os.read(receiving, 100) == b"still open"
    os.close(receiving)
