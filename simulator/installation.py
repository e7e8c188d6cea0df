"""EDGE: the plugins on a node: put there, looked at, taken away.

Rules: nothing that is there is touched before a copy of the new plugins has answered VERSION, and nothing of others
ever. The package comes before the launchers, and the launchers before the conflist; each file is whole or not there.
What a running plugin may still load is left where it is: a package that no launcher names is removed a day later, by
the next installation, and so is what a killed one has left unfinished.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path

from simulator.chain import conflist, execute, install, interpreter
from simulator.errors import LabError
from simulator.model import PluginCall

BIN_DIRECTORY = Path("/opt/cni/bin")  # where every runtime looks
PLUGINS = ("enim", "exclusive-device")
PACKAGE_KEPT_S = 24 * 3600.0

_PACKAGE = re.compile(rb"/\.enim/([A-Za-z0-9._-]+)")
_UNFINISHED = f"{install.UNFINISHED}*"
_VERSION = PluginCall("", {"CNI_COMMAND": "VERSION"}, b'{"cniVersion":"1.1.0"}', timeout_ms=10_000)


def put(directory: Path, python: str) -> None:
    """Install, or upgrade while plugins run.

    Args:
        directory: the CNI bin directory; made if it is not there.
        python: the interpreter that the plugins get, as ``interpreter.find`` wants it.

    Raises:
        LabError: it cannot be written, something of others has one of the names, or the plugins do not run with this
            interpreter; then nothing has changed.
    """
    python = interpreter.find(python)
    files = install.bundle(python)
    try:
        for path in foreign(directory):
            raise LabError(f"{path} is there already, and no plugin of enim-lab's", "Move it away, or name a --bin-dir")
        _refuse_others_packages(directory / install.PACKAGES)
        install.make_folder(directory)
        with tempfile.TemporaryDirectory(dir=directory, prefix=install.UNFINISHED) as trial:
            install.write(Path(trial), files)
            _refuse_broken(Path(trial), python)
        _mark_as_used(directory)
        install.write(directory, files)
        _mark_as_used(directory)
        _prune(directory)
    except OSError as error:
        raise LabError(f"{directory} cannot be written: {error.strerror}", _cure(error, "a --bin-dir")) from error


def _refuse_others_packages(packages: Path) -> None:
    """Whoever owns the folder could change what root runs."""
    if packages.is_dir() and packages.stat().st_uid not in (0, os.geteuid()):
        text = f"{packages} belongs to another user, who could change there what the plugins do"
        raise LabError(text, "Take it away with --uninstall first, or name a --bin-dir")


def clean_up_at_sigterm() -> None:
    """From now on SIGTERM ends this process with what it writes undone; call it from the main thread."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def foreign(directory: Path) -> list[Path]:
    """What has one of our names there and is not ours: no launcher, a link, a folder. Raises OSError."""
    launchers = [directory / name for name in PLUGINS]
    found = [path for path in launchers if os.path.lexists(path) and not _is_own(path)]
    packages = directory / install.PACKAGES
    is_own = packages.is_dir() and not packages.is_symlink()
    return found if is_own or not os.path.lexists(packages) else [*found, packages]


def _is_own(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    return not content or install.is_launcher(content)  # a power cut may leave an empty one


def problems(directory: Path, python: str = "") -> list[str]:
    """What is not as ``put`` would leave it; sentences.

    Args:
        directory: the CNI bin directory.
        python: the interpreter that the plugins should have; "" means the one that they have.

    Raises:
        LabError: something cannot be read.
    """
    try:
        return _problems(directory, python)
    except OSError as error:
        text = f"{error.filename or directory} cannot be read: {error.strerror}"
        raise LabError(text, "Run it as root") from error


def _problems(directory: Path, python: str) -> list[str]:
    named = {name: install.interpreter_of(_content(directory / name)) for name in PLUGINS}
    lost = [
        f"{directory / name} is for the interpreter {path}, which is not there; no call of it can start"
        for name, path in named.items()
        if path and not os.access(path, os.X_OK)
    ]
    if lost:
        return lost
    try:
        wanted = install.bundle(interpreter.find(python or named[PLUGINS[0]] or sys.executable))
    except LabError as error:
        return [str(error)]
    found = []
    for path, content in wanted.items():
        file = directory / path
        if not file.is_file():
            found.append(f"{file} is not there")
        elif file.read_bytes() != content:
            found.append(f"{file} is another one")
        elif "/" not in path and not os.access(file, os.X_OK):
            found.append(f"{file} cannot be executed")
    return found or [f"{directory / name}: {said}" for name in PLUGINS if (said := _failure(directory, name))]


def _content(file: Path) -> bytes:
    return file.read_bytes() if file.is_file() else b""


def remove(directory: Path) -> list[Path]:
    """Take the plugins away, launchers first, but nothing ``foreign``; what was removed. Raises LabError."""
    removed = []
    try:
        others = foreign(directory)
        for path in (
            *(directory / name for name in PLUGINS),
            directory / install.PACKAGES,
            *directory.glob(_UNFINISHED),
        ):
            if path in others or not os.path.lexists(path):
                continue
            _remove(path)
            removed.append(path)
    except OSError as error:
        text = f"{error.filename or directory} cannot be removed: {error.strerror}"
        raise LabError(text, "Run it as root") from error
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def write_conflist(file: Path, chain: str, name: str, socket: str) -> None:
    """Write a network configuration list for one of the two upper plugins, if there is none.

    Args:
        file: where.
        chain: as for ``conflist.text``, as are the others.

    Raises:
        LabError: it cannot be written, or there is another one.
    """
    content = conflist.text(chain, name, socket)
    try:
        if os.path.lexists(file):
            if not _is_no_file(file) and file.read_bytes() == content:
                return
            raise LabError(f"{file} is there already, and is another one", "Remove it, or name another file")
        install.write(file.parent, {f"./{file.name}": content})
    except OSError as error:
        raise LabError(f"{file} cannot be written: {error.strerror}", _cure(error, "another file")) from error


def conflist_problems(file: Path, chain: str, name: str, socket: str) -> list[str]:
    """What is not as ``write_conflist`` would leave it; sentences. Raises LabError."""
    try:
        wrong = _is_no_file(file)
        said = [wrong] if wrong else conflist.differences(file.read_bytes(), conflist.text(chain, name, socket))
    except OSError as error:
        raise LabError(f"{file} cannot be read: {error.strerror}", _cure(error, "another file")) from error
    return [f"{file}: {one}" for one in said]


def remove_conflist(file: Path, chain: str | None, name: str | None, socket: str | None) -> str:
    """Take a conflist away that ``write_conflist`` has written, and nobody changed since.

    Args:
        file: where it is.
        chain: what it was written for, as are the others; None stands for anything.

    Returns:
        Why it was left, a sentence; "" if it was removed.

    Raises:
        LabError: it cannot be read or removed.
    """
    try:
        if wrong := _is_no_file(file):
            return wrong
        found = file.read_bytes()
        said = conflist.differences(found, conflist.nearest(found, chain=chain, name=name, socket=socket))
        if not said:
            file.unlink()
    except OSError as error:
        raise LabError(f"{file} cannot be removed: {error.strerror}", _cure(error, "another file")) from error
    return "; ".join(said)


def _is_no_file(path: Path) -> str:
    """Why this is no plain file, "" if it is one. Raises OSError."""
    try:
        return "" if stat.S_ISREG(path.lstat().st_mode) else "it is no regular file"
    except (FileNotFoundError, NotADirectoryError):
        return "it is not there"


def _cure(error: OSError, other: str) -> str:
    first = {errno.EACCES: "Run it as root", errno.EPERM: "Run it as root", errno.ENOSPC: "Make room there"}
    return f"{first[error.errno]}, or name {other}" if error.errno in first else f"Name {other}"


def _refuse_broken(directory: Path, python: str) -> None:
    for name in PLUGINS:
        if said := _failure(directory, name):
            cure = "Name another interpreter with --python, or a --bin-dir that is not mounted noexec"
            raise LabError(f"{name} does not run with {python}: {said}", cure)


def _failure(directory: Path, name: str) -> str:
    """Why a plugin does not answer VERSION; "" if it does."""
    outcome = execute.run(PluginCall(name, _VERSION.environment, _VERSION.stdin, _VERSION.timeout_ms), directory)
    if outcome.exit_code == 0 and b'"supportedVersions"' in outcome.stdout:
        return ""
    said = (outcome.stderr or outcome.stdout).decode(errors="replace").strip()
    return (said.splitlines() or [f"exit code {outcome.exit_code}"])[-1][:256]


def _mark_as_used(directory: Path) -> None:
    """From now on the packages that the launchers name are kept for a day."""
    for name in PLUGINS:
        for match in _PACKAGE.findall(_content(directory / name)):
            with contextlib.suppress(FileNotFoundError):  # it was taken away by hand
                os.utime(_marker(directory / install.PACKAGES / match.decode()))


def _marker(package: Path) -> Path:
    return package / "enim"


def _prune(directory: Path) -> None:
    """Remove the packages that no launcher has named for a day, and what was left unfinished that long ago."""
    packages = directory / install.PACKAGES
    markers = {path: _marker(path) for path in packages.iterdir() if _marker(path).is_dir()}
    unfinished = (*directory.glob(_UNFINISHED), *packages.glob(f"**/{_UNFINISHED}"))
    for path, marker in [*markers.items(), *((path, path) for path in unfinished)]:
        with contextlib.suppress(OSError):  # another installation removes it, too
            if time.time() - marker.stat().st_mtime > PACKAGE_KEPT_S:
                _remove(path)
