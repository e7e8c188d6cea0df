"""EDGE: the plugins of containernetworking that a lab runs beside ours: where they are, and how to get them.

Debian's and Ubuntu's package has them all. An ordinary user gets it unpacked into a cache of his own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from simulator.errors import LabError

PLUGINS = ("host-device", "bridge", "ptp", "host-local", "static")
PACKAGE = "containernetworking-plugins"
SYSTEM_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_FROM_RELEASE = (
    f"put {', '.join(PLUGINS)} from a release on https://github.com/containernetworking/plugins/releases "
    f"into {SYSTEM_DIRECTORIES[0]}"
)
_BY_HAND = f"Run `sudo apt-get install {PACKAGE}`, or {_FROM_RELEASE}"
_OTHER_CACHE = "export XDG_CACHE_HOME=/a/directory/of/yours"

_APT_TIMEOUT_S = 600
_COMPLAINTS_MAX = 500
# A server that does not answer costs seconds, not the minutes of apt's own three retries.
_IMPATIENT = ("-oAcquire::Retries=1", "-oAcquire::http::Timeout=10", "-oAcquire::https::Timeout=10")


def find(*more: str, first: Path | None = None) -> dict[str, Path]:
    """The binaries that are there, by their names.

    Args:
        more: names of others to look for.
        first: a directory to look into before all others.
    """
    found = {name: _find(name, first) for name in (*PLUGINS, *more)}
    return {name: binary for name, binary in found.items() if binary is not None}


def missing() -> list[str]:
    """The names of those that are not there."""
    found = find()
    return [name for name in PLUGINS if name not in found]


def _find(name: str, first: Path | None) -> Path | None:
    """One binary: in ``first``, the user's cache, the usual CNI directories, or CNI_PATH; None if there is none."""
    named = [Path(part) for part in os.environ.get("CNI_PATH", "").split(":") if part.startswith("/")]
    best = [directory for directory in (first, _cache()) if directory]
    for directory in (*best, *map(Path, SYSTEM_DIRECTORIES), *named):
        binary = directory / name
        with contextlib.suppress(OSError):  # another user's cache, by a HOME that su or sudo has left
            if binary.is_file() and os.access(binary, os.X_OK):
                return binary
    return None


def _cache() -> Path | None:
    """Where an ordinary user's plugins go; None for a user who has no home directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        with contextlib.suppress(RuntimeError):  # a uid without a name, as in many containers
            base = str(Path("~/.cache").expanduser())
    return Path(base) / "enim/cni/bin" if base.startswith("/") else None


def install(report: Callable[[str], None]) -> dict[str, Path]:
    """Get them from Debian's or Ubuntu's package: as root with apt, else unpacked into the user's cache.

    Args:
        report: told what is done, a line at a time.

    Returns:
        where each is now.

    Raises:
        LabError: it could not be had here, with what apt said.
    """
    if shutil.which("apt-get") is None:
        raise LabError(
            f"{', '.join(PLUGINS)} come from the package {PACKAGE}, and this machine has no apt-get",
            f"Install that package with this machine's own tool, or {_FROM_RELEASE}",
        )
    cache = _cache()
    if os.geteuid() == 0:
        report(f"installing {PACKAGE} with apt-get")
        _install_as_root()
    elif cache is None:
        raise LabError("there is no home directory to keep plugins in", _OTHER_CACHE)
    else:
        report(f"unpacking {PACKAGE} into {cache}")
        _unpack_as_user(cache)
    if missing():
        raise LabError(f"the package {PACKAGE} has no {', '.join(missing())} in {', '.join(SYSTEM_DIRECTORIES)}")
    return find()


def _install_as_root() -> None:
    install = ("apt-get", *_IMPATIENT, "install", "-y", "-qq", "--no-install-recommends", PACKAGE)
    _get(install, ("apt-get", *_IMPATIENT, "update", "-qq"), install)


def _unpack_as_user(cache: Path) -> None:
    """Get it beside the cache, where it takes its place when it is whole. Raises LabError."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as name:
            binaries = _unpack(_download(Path(name)), Path(name) / "root")
            cache.mkdir(exist_ok=True)
            for binary in binaries:
                binary.replace(cache / binary.name)
    except OSError as error:
        raise LabError(f"{cache} cannot be made: {error.strerror}", _OTHER_CACHE) from error


def _download(work: Path) -> Path:
    """The package's file, in ``work``. Raises LabError."""
    # Without root the machine's own lists cannot be renewed: so a private copy of them.
    own = (f"-oDir::State={work}/state", f"-oDir::Cache={work}/cache", "-oDir::State::status=/var/lib/dpkg/status")
    (work / "state/lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    download = ("download", "-qq", PACKAGE)
    apt = ("apt-get", *_IMPATIENT)
    _get((*apt, *download), (*apt, *own, "update", "-qq"), (*apt, *own, *download), work)
    found = sorted(work.glob("*.deb"))
    if not found:
        raise LabError(f"apt-get downloaded no {PACKAGE}", _BY_HAND)
    return found[0]


def _unpack(package: Path, root: Path) -> list[Path]:
    """Unpack a package; return the plugins in it. Raises LabError."""
    _run("dpkg-deb", "-x", str(package), str(root))
    for directory in SYSTEM_DIRECTORIES:
        binaries = [root / directory.lstrip("/") / name for name in PLUGINS]
        if all(binary.is_file() for binary in binaries):
            return binaries
    raise LabError(f"the package {PACKAGE} has no {', '.join(PLUGINS)} in {', '.join(SYSTEM_DIRECTORIES)}", _BY_HAND)


def _get(
    first: tuple[str, ...], update: tuple[str, ...], again: tuple[str, ...], directory: Path | None = None
) -> None:
    """Run ``first``; if it fails, renew the lists of packages and run ``again``. Raises LabError.

    Only the end counts: one of a machine's many sources may be broken and the package come from another. And apt-get
    calls an update in which nothing could be reached a success, with warnings: so these belong to the cause.
    """
    with contextlib.suppress(LabError):  # the lists are missing or old
        _run(*first, directory=directory)
        return
    try:
        complaints = _run(*update, directory=directory)
    except LabError as error:
        complaints = error.cause
    try:
        _run(*again, directory=directory)
    except LabError as error:
        cause = f"{error.cause}; and the update of its lists before that: {complaints}" if complaints else error.cause
        raise LabError(cause, error.cure) from error


def _run(*command: str, directory: Path | None = None) -> str:
    """Run a program that changes what is installed; return its complaints. Raises LabError with them."""
    shown = " ".join(word for word in command if not word.startswith("-"))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ran = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{shown}` took longer than {_APT_TIMEOUT_S} s", _BY_HAND) from error
    except OSError as error:
        raise LabError(f"`{shown}` could not be run: {error.strerror}", _BY_HAND) from error
    complaints = _complaints(ran.stderr)
    if ran.returncode != 0:
        raise LabError(f"`{shown}` failed: {complaints or ran.stdout.strip()[-_COMPLAINTS_MAX:]}", _BY_HAND)
    return complaints


def _complaints(stderr: str) -> str:
    """The errors and warnings in what apt-get said, without what its hooks and the shell say; all if it has none."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(("E: ", "W: "))]
    return "; ".join(marked or lines)[:_COMPLAINTS_MAX]
