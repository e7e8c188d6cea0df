"""The initramfs as bytes: a cpio archive (newc), and the order in which kernel modules are loaded.

The kernel takes several archives one after the other as one, so what seldom changes is archived once.

Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst; modinfo(8) "depends".
"""

from __future__ import annotations

import lzma
import os
import re
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

TRAILER = "TRAILER!!!"
CONSOLE = (5, 1)  # major, minor of /dev/console: without it the first process has no output


class Archive:
    """Writes members to an open file. All belongs to root and no time is kept: equal content gives equal bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inode = 0

    def add(self, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        """One member. Args: its path without a leading slash; its mode with the kind of file; a link's target."""
        self._inode += 1
        path = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._write(header + path)
        self._write(content)

    def add_tree(self, tree: Path, place: str = "", keep: Callable[[str], bool] = lambda _: True) -> None:
        """All of a directory, at ``place``, but what ``keep`` says no to by its path within."""
        if place:
            self.add(place, stat.S_IFDIR | 0o755)
        for path in sorted(tree.rglob("*")):
            within = path.relative_to(tree).as_posix()
            if not keep(within):
                continue
            mode, name = path.lstat().st_mode, f"{place}/{within}".lstrip("/")
            if stat.S_ISLNK(mode):
                self.add(name, mode, os.fsencode(path.readlink()))
            elif stat.S_ISDIR(mode):
                self.add(name, stat.S_IFDIR | 0o755)
            elif stat.S_ISREG(mode):
                # What only root may read on a disk, a set-uid mount for example, is of no use otherwise.
                self.add(name, mode | 0o444, path.read_bytes())

    def close(self) -> None:
        """The end of this archive; another one may follow it in the same file."""
        self.add(TRAILER, 0)

    def _write(self, content: bytes) -> None:
        self._file.write(content + bytes(-len(content) % 4))


def load_order(modules: Path, wanted: Iterable[str]) -> list[Path]:
    """The files of the wanted modules and of all that they depend on, each after what it needs.

    Args:
        modules: the kernel's ``/lib/modules/VERSION``.
        wanted: names; one that the kernel has built in is left out.
    """
    files = {_name(path): path for path in sorted(modules.rglob("*.ko*"))}
    order: dict[str, Path] = {}

    def need(name: str) -> None:
        if name in files and name not in order:
            for needed in depends(content(files[name])):
                need(needed)
            order[name] = files[name]

    for name in wanted:
        need(name)
    return list(order.values())


def _name(module: Path) -> str:
    return module.name.partition(".")[0].replace("-", "_")


def depends(module: bytes) -> list[str]:
    """The modules that this one says it needs."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in found[1].decode().split(",") if name] if found else []


def content(module: Path) -> bytes:
    """A module, decompressed."""
    raw = module.read_bytes()
    return lzma.decompress(raw) if module.suffix == ".xz" else raw
