"""What the virtual machine is made of: Debian's packages by apt, without root, and wheels by pip; nothing is installed.

``apt-get`` is told that nothing is installed yet, so it names a package's whole closure, and is given directories of
our own, so it needs no rights and runs no hook (a kernel's would write to the boot loader).

Source: apt-get(8) ``--print-uris``, apt.conf(5) "Directories", pip's ``--platform``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

KERNEL = "linux-image-cloud-amd64"
USERLAND = ("python3", "iproute2", "util-linux", "mount", "coreutils", "dash", "kmod", "containernetworking-plugins")
TEST_LIBRARIES = ("pytest", "pytest-timeout")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")  # glibc 2.28 or older; Debian 12 has 2.36
TIMEOUT_S = 600
# A server that does not answer costs seconds, not the minutes of apt's own three retries.
APT = ("apt-get", "-qq", "-oAcquire::Retries=1", "-oAcquire::http::Timeout=10", "-oDebug::NoLocking=1")


class Lacking(Exception):
    """This machine cannot make the virtual machine: why, and what to do."""


@dataclass(frozen=True)
class Plan:
    """What will be had, before anything is.

    Args:
        apt: apt-get and the options with which it works here.
        kernel: the name of the kernel's real package.
        files: a line for each file: address, name, size, hash.
        wheels: what pip is asked for.
    """

    apt: tuple[str, ...]
    kernel: str
    files: tuple[str, ...]
    wheels: tuple[str, ...]

    @property
    def key(self) -> str:
        """Names the content; another one as soon as a package has a new version."""
        return hashlib.sha256("\n".join((*self.files, *self.wheels)).encode()).hexdigest()[:16]


def plan(root: Path, cache: Path) -> Plan:
    """Ask apt what there is. Args: the checkout; a directory of ours. Raises Lacking."""
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        if shutil.which(tool) is None:
            raise Lacking(
                f"the virtual machine is made of Debian's packages, and this machine has no {tool} ({package})"
            )
    apt = _options(cache)
    try:
        return _plan(root, apt)
    except Lacking:  # the machine has no lists of packages, or old ones: so lists of our own
        lists = cache / "apt/lists"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        apt = (*apt, f"-oDir::State::lists={lists}")
        _run(*apt, "update")
        return _plan(root, apt)


def _options(cache: Path) -> tuple[str, ...]:
    (cache / "apt/archives/partial").mkdir(parents=True, exist_ok=True)
    status = cache / "apt/status"
    status.write_text("")
    return (*APT, f"-oDir::State::status={status}", f"-oDir::Cache={cache / 'apt'}", "-oAPT::Sandbox::User=")


def _plan(root: Path, apt: tuple[str, ...]) -> Plan:
    architectures = _run("dpkg", "--print-architecture").strip()
    if architectures != "amd64":
        raise Lacking(f"the virtual machine is an amd64 one, and dpkg's architecture here is {architectures}")
    depends = _run("apt-cache", *(one for one in apt[1:] if one.startswith("-oDir")), "depends", KERNEL)
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise Lacking(f"apt knows no {KERNEL}. It is Debian's: this needs a Debian of amd64 (tried: 12)")
    files = _run(*apt, "install", "--print-uris", "--no-install-recommends", *USERLAND).splitlines()
    files += _run(*apt, "download", "--print-uris", found[1]).splitlines()
    return Plan(apt, found[1], tuple(files), _wheels(root))


def _wheels(root: Path) -> tuple[str, ...]:
    """The requirements of the product and of its tests, as pyproject.toml has them."""
    manifest = tomllib.loads((root / "pyproject.toml").read_text())
    tests = [one for one in manifest["dependency-groups"]["test"] if re.split(r"[<>=~!; ]", one)[0] in TEST_LIBRARIES]
    return (*manifest["project"]["dependencies"], *tests)


def fetch(what: Plan, cache: Path, tree: Path) -> None:
    """Get it all, unpacked into ``tree``: a Debian root, the kernel in ``boot``, wheels in ``site``. Raises Lacking."""
    with tempfile.TemporaryDirectory(dir=cache) as name:
        work = Path(name)
        (work / "archives/partial").mkdir(parents=True)
        apt = (*what.apt, f"-oDir::Cache={work}")
        _run(*apt, "install", "-y", "--download-only", "--no-install-recommends", *USERLAND)
        _run(*apt, "download", what.kernel, directory=work / "archives")
        for package in sorted((work / "archives").glob("*.deb")):
            _run("dpkg-deb", "-x", str(package), str(tree))
    platforms = (f"--platform={one}" for one in PLATFORMS)
    options = ("--quiet", "--disable-pip-version-check", "--no-compile", "--only-binary=:all:", "--implementation=cp")
    version = f"--python-version={python(tree).name.removeprefix('python')}"
    pip = (sys.executable, "-m", "pip", "install", *options, version, *platforms, f"--target={tree / 'site'}")
    _run(*pip, *what.wheels)


def python(tree: Path) -> Path:
    """The interpreter of an unpacked Debian."""
    return next(path for path in sorted((tree / "usr/bin").glob("python3.*")) if path.name.count("-") == 0)


def run_python(tree: Path, *arguments: str) -> str:
    """Run the unpacked interpreter on this machine, by its own loader and with its own libraries. Raises Lacking."""
    loader = next(
        path
        for path in (tree / "lib64/ld-linux-x86-64.so.2", tree / "usr/lib64/ld-linux-x86-64.so.2")
        if path.is_file()
    )
    libraries = ":".join(str(tree / one / "x86_64-linux-gnu") for one in ("lib", "usr/lib"))
    environment = {"PYTHONHOME": str(tree / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    return _run(str(loader), "--library-path", libraries, str(python(tree)), *arguments, environment=environment)


def _run(*command: str, directory: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a program; what it wrote. Raises Lacking with what it complained of."""
    shown = " ".join(word for word in command if not word.startswith("-"))[:200]
    try:
        ran = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Lacking(f"`{shown}` could not be run to its end: {error}") from error
    if ran.returncode != 0:
        raise Lacking(f"`{shown}` failed: {(ran.stderr or ran.stdout).strip()[-500:]}")
    return ran.stdout
