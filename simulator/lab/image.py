"""EDGE: the image of a node of the docker lab, made without a registry where none can be reached.

Two layers, each named for its content, so that whatever exists already is right:

- the base, ``enim-node-base``: Debian with python3 and the plugins of containernetworking, from a Dockerfile where its
  own base can be pulled, else from a root that debootstrap makes from Debian's packages;
- the node, ``enim-node``: pyroute2 as it is installed here, and this very code, both compiled. The runner and the node
  are the same code, since what they send each other are pickled values.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import enim
from simulator.errors import LabError

if TYPE_CHECKING:
    from simulator.lab import containers

Tell: TypeAlias = Callable[[str], None]

BASE_REPOSITORY, REPOSITORY = "enim-node-base", "enim-node"
COMMAND = ("python3", "-m", "simulator.contained")
LINKS = ("python3", "-m", "simulator.lab.links")

_DEBIAN, _SUITE = ("debian", "bookworm-slim"), "bookworm"
_PACKAGES = ("python3", "containernetworking-plugins")
_DISTRIBUTIONS = ("pyroute2",)  # all that a node imports beside the standard library; pure Python
_DEBOOTSTRAP = ("debootstrap", "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE)
_LISTS = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")

_BASE_DOCKERFILE = f"""FROM {":".join(_DEBIAN)}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends {" ".join(_PACKAGES)} && \\
    rm -rf /var/lib/apt/lists/*
"""
_COMPILE = "RUN python3 -m compileall -q --invalidation-mode unchecked-hash"
_DOCKERFILE = f"""FROM {BASE_REPOSITORY}:@BASE@
COPY site /opt/enim/site
{_COMPILE} /opt/enim/site
COPY code /opt/enim/code
{_COMPILE} /opt/enim/code
ENV PYTHONPATH=/opt/enim/code:/opt/enim/site PYTHONDONTWRITEBYTECODE=1
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of, and so its names.

    Args:
        base: tag of the base.
        node: tag of the node's image.
        files: the build context of the node's image, path → content.
    """

    base: str
    node: str
    files: Mapping[str, bytes]

    @property
    def image(self) -> str:
        """The node's image."""
        return f"{REPOSITORY}:{self.node}"


def recipe() -> Recipe:
    """The recipe of this code's image.

    Raises:
        LabError: a library that the node needs is not pure Python here.
    """
    base = _digest({"Dockerfile": _BASE_DOCKERFILE.encode(), "debootstrap": " ".join(_DEBOOTSTRAP).encode()})
    packages = Path(next(iter(enim.__path__))).parent
    files = {"Dockerfile": _DOCKERFILE.replace("@BASE@", base).encode()}
    for package in ("enim", "simulator"):
        for path in sorted((packages / package).rglob("*.py")):
            files[f"code/{path.relative_to(packages)}"] = path.read_bytes()
    for name in _DISTRIBUTIONS:
        files |= {f"site/{path}": content for path, content in _distribution(name).items()}
    return Recipe(base, _digest(files), files)


def build(engine: containers.Engine, tell: Tell) -> str:
    """See to it that the engine has the node's image, and return its name.

    Args:
        tell: told what is done, a line at a time.

    Raises:
        LabError: it cannot be made here.
    """
    wanted = recipe()
    if engine.has(wanted.image):
        tell(f"{wanted.image}: cached")
        return wanted.image
    base = f"{BASE_REPOSITORY}:{wanted.base}"
    if engine.has(base):
        tell(f"{base}: cached")
    else:
        _build_base(engine, wanted.base, tell)
    tell(f"{wanted.image}: building")
    engine.build(archive(wanted.files), wanted.image, tell, "none")
    tell(f"{wanted.image}: built")
    return wanted.image


def ensure(engine: containers.Engine, tell: Tell) -> str:
    """``build`` that says nothing if there is nothing to do."""
    image = recipe().image
    return image if engine.has(image) else build(engine, tell)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A tar archive whose bytes depend on the files only, so that the engine's cache recognises them."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size = len(files[path])
            entry.mode = 0o644
            tar.addfile(entry, io.BytesIO(files[path]))
    return data.getvalue()


def _build_base(engine: containers.Engine, tag: str, tell: Tell) -> None:
    debian = ":".join(_DEBIAN)
    try:
        if not engine.has(debian):
            tell(f"{BASE_REPOSITORY}:{tag}: pulling {debian}")
            engine.pull(*_DEBIAN)
    except LabError as error:
        tell(f"{debian} cannot be pulled ({error.cause})")
        _debootstrap(engine, tag, tell)
    else:
        tell(f"{BASE_REPOSITORY}:{tag}: building from {debian}")
        engine.build(archive({"Dockerfile": _BASE_DOCKERFILE.encode()}), f"{BASE_REPOSITORY}:{tag}", tell, "host")


def _debootstrap(engine: containers.Engine, tag: str, tell: Tell) -> None:
    """Make the base from Debian's packages. Raises LabError."""
    if os.geteuid() != 0:
        raise LabError("the base image can only be made from Debian's packages by root", "sudo enim-lab image build")
    if shutil.which("debootstrap") is None:
        if shutil.which("apt-get") is None:
            raise LabError("debootstrap is not installed", "Install it with this machine's own tool")
        tell("installing debootstrap with apt-get")
        _run("apt-get", "update", "-qq", tell=None)
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "debootstrap", tell=None)
    tell(f"{BASE_REPOSITORY}:{tag}: making it from Debian's packages with debootstrap; this takes a minute")
    with tempfile.TemporaryDirectory(prefix="enim-image-") as name:
        root, packed = Path(name) / "root", Path(name) / "root.tar"
        _run(*_DEBOOTSTRAP, str(root), tell=tell)
        with tarfile.open(packed, "w") as tar:
            tar.add(root, ".", filter=_wanted)
        tell(f"{BASE_REPOSITORY}:{tag}: importing {packed.stat().st_size >> 20} MiB")
        engine.import_root(packed, BASE_REPOSITORY, tag)


def _wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leaves out what no node reads; the directories stay."""
    path = entry.name.removeprefix("./")
    inside = any(path.startswith(f"{directory}/") for directory in _LISTS)
    return None if inside and not entry.isdir() else entry


def _run(*command: str, tell: Tell | None) -> None:
    """Run a program, hand on its lines; with None they are only kept for the error. Raises LabError."""
    last: list[str] = []
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace",
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-4:], line.strip()]
            if tell is not None:
                tell(line.strip())
    if process.returncode != 0:
        raise LabError(
            f"`{' '.join(command[:2])}` failed: {'; '.join(last)[-500:]}",
            "It needs Debian's packages: can this machine reach them?",
        )


def _distribution(name: str) -> dict[str, bytes]:
    """The modules of an installed library, path → content. Raises LabError if it has any that are no Python."""
    files = {}
    for path in importlib.metadata.files(name) or ():
        if path.suffix in {".so", ".pyd"}:
            raise LabError(f"{name} has modules for this interpreter only ({path})")
        if path.suffix == ".py" and ".." not in path.parts:
            files[str(path)] = Path(str(path.locate())).read_bytes()
    if not files:
        raise LabError(
            f"{name} is not installed as a wheel is", f"{sys.executable} -m pip install --force-reinstall {name}"
        )
    return files


def _digest(files: Mapping[str, bytes]) -> str:
    """12 hex digits that stand for the files' paths and contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path}\0{len(files[path])}\0".encode() + files[path])
    return digest.hexdigest()[:12]
