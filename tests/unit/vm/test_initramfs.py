"""The virtual machine's initramfs: the bytes of its archive, and the order of its kernel modules."""

from __future__ import annotations

import importlib.util
import io
import lzma
import stat
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def initramfs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("initramfs", Path(__file__).parents[2] / "vm/initramfs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def members(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Read newc: path → mode and content."""
    found, at = {}, 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * index : at + 14 + 8 * index], 16) for index in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 109 + name_size].decode()
        begins = -(-(at + 110 + name_size) // 4) * 4
        found[name] = (mode, archive[begins : begins + size])
        at = -(-(begins + size) // 4) * 4
    return found


def test_archive_of_a_tree_has_its_files_links_and_directories(initramfs: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"odd")
    (tmp_path / "a/left-out").touch()
    (tmp_path / "link").symlink_to("a/file")
    written = io.BytesIO()
    archive = initramfs.Archive(written)
    archive.add_tree(tmp_path, "top", keep=lambda path: path != "a/left-out")
    archive.close()
    seen = members(written.getvalue())
    assert {name: (stat.S_IFMT(mode), content) for name, (mode, content) in seen.items()} == {
        "top": (stat.S_IFDIR, b""),
        "top/a": (stat.S_IFDIR, b""),
        "top/a/file": (stat.S_IFREG, b"odd"),
        "top/link": (stat.S_IFLNK, b"a/file"),
        "TRAILER!!!": (0, b""),
    }


def test_modules_come_after_what_they_need_and_unpacked(initramfs: ModuleType, tmp_path: Path) -> None:
    for name, needs in (("bridge", "stp,llc"), ("stp", "llc"), ("llc", ""), ("net-failover", "")):
        (tmp_path / f"{name}.ko").write_bytes(b"\0depends=" + needs.encode() + b"\0")
    (tmp_path / "virtio_net.ko.xz").write_bytes(lzma.compress(b"\0depends=net_failover\0"))
    order = initramfs.load_order(tmp_path, ("bridge", "virtio_net", "built_in"))
    assert [path.name for path in order] == ["llc.ko", "stp.ko", "bridge.ko", "net-failover.ko", "virtio_net.ko.xz"]
    assert initramfs.content(order[-1]) == b"\0depends=net_failover\0"
