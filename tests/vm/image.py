"""Makes what qemu boots: the part that seldom changes once, in a cache; this tree and what to run at every boot."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import initramfs
import packages

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILDER = ("image.py", "initramfs.py", "packages.py")
MODULES = ("virtio_pci", "virtio_net", "dummy", "veth", "bridge", "macvlan")
TREE = ("enim", "simulator", "scenarios", "tests", "pyproject.toml")
# Of a Debian, what no run reads.
NEVER_READ = (
    "usr/share/",
    "usr/lib/x86_64-linux-gnu/gconv/",
    "boot/",
    "lib/modules/",
    "usr/lib/modules/",
    "var/",
    "etc/",
)
NEVER_IMPORTED = ("test", "idlelib", "lib2to3", "ensurepip", "turtledemo", "pydoc_data", "tkinter")


@dataclass(frozen=True)
class Image:
    """What qemu boots."""

    kernel: Path
    initramfs: Path


def base(cache: Path, say: Callable[[str], None]) -> Image:
    """Kernel and userland, made when a package, a requirement or the builder has changed. Raises packages.Lacking."""
    what = packages.plan(ROOT, cache)
    builder = b"".join((HERE / name).read_bytes() for name in BUILDER)
    key = f"{what.key}-{hashlib.sha256(builder).hexdigest()[:8]}"
    made = Image(cache / f"base-{key}" / "vmlinuz", cache / f"base-{key}" / "base.cpio")
    if made.initramfs.is_file():
        return made
    say(f"making an initramfs with {what.kernel} from {len(what.files)} packages and {len(what.wheels)} requirements")
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        (work / "tree").mkdir()
        packages.fetch(what, cache, work / "tree")
        (work / "image").mkdir()
        write_base(work / "tree", work / "image")
        for old in cache.glob("base-*"):
            shutil.rmtree(old)
        (work / "image").rename(cache / f"base-{key}")
    return made


def write_base(tree: Path, image: Path) -> None:
    """The parts that this tree's changes leave alone."""
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    shutil.copy(kernel, image / "vmlinuz")
    (modules,) = [path for top in ("lib", "usr/lib") for path in (tree / top).glob("modules/*")]
    compile_python(tree, str(packages.python(tree).name), tree)
    with (image / "base.cpio").open("wb") as file:
        archive = initramfs.Archive(file)
        for directory in ("dev", "etc", "mnt", "proc", "run", "sys", "tmp", "home", "modules"):
            archive.add(directory, 0o040755)
        archive.add("dev/console", 0o020600, device=initramfs.CONSOLE)
        archive.add("etc/enim-vm", 0o100644)
        archive.add("etc/passwd", 0o100644, b"root:x:0:0::/:/bin/sh\nenim:x:1000:1000::/home/enim:/bin/sh\n")
        archive.add_tree(tree, keep=is_read)
        for top in ("bin", "sbin", "lib", "lib64"):  # from Debian 13 on, packages have them in usr only
            if not (tree / top).exists():
                archive.add(top, 0o120777, f"usr/{top}".encode())
        for number, module in enumerate(initramfs.load_order(modules, MODULES)):
            name = module.name.partition(".")[0]
            archive.add(f"modules/{number:02}-{name}.ko", 0o100644, initramfs.content(module))
        archive.close()


def is_read(path: str) -> bool:
    """Whether a file of the userland can be of use."""
    if path.startswith(NEVER_READ):
        return False
    parts = path.split("/")
    return not (path.startswith("usr/lib/python3") and len(parts) > 3 and parts[3] in NEVER_IMPORTED)


def compile_python(tree: Path, python: str, place: Path) -> None:
    """Compile all modules below ``place``, so that the slow machine need not; wherever they are put later."""
    directories = [str(tree / "usr/lib" / python), str(tree / "site")] if place == tree else [str(place)]
    how = ("-q", "--invalidation-mode", "unchecked-hash", "-s", str(place), "-p", "/")
    with contextlib.suppress(packages.Lacking):  # the standard library has tests that do not compile, on purpose
        packages.run_python(tree, "-m", "compileall", *how, *directories)


def with_tree(made: Image, work: Path, plan: list[dict[str, Any]]) -> Image:
    """The image to boot: the base, then this tree as it is now, then what to run."""
    whole = work / "initramfs"
    shutil.copy(made.initramfs, whole)
    with whole.open("ab") as file:
        archive = initramfs.Archive(file)
        archive.add("init", 0o100755, (HERE / "inside.py").read_bytes())
        archive.add("enim", 0o040755)
        for name in TREE:
            path = ROOT / name
            if path.is_dir():
                archive.add_tree(path, f"enim/{name}", keep=lambda within: "__pycache__" not in within)
            else:
                archive.add(f"enim/{name}", 0o100644, path.read_bytes())
        archive.add("enim/runs.json", 0o100644, json.dumps(plan).encode())
        archive.close()
    return Image(made.kernel, whole)
