"""The plugins on a node: put there, upgraded while they run, looked at, taken away. Real files, real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from enim import errors
from simulator import installation
from simulator.chain import execute, install
from simulator.errors import LabError
from simulator.model import PluginCall

VERSION = {"CNI_COMMAND": "VERSION"}


def run(plugin: Path) -> int:
    done = subprocess.run([plugin], env=VERSION, input=b"{}", capture_output=True, check=False)
    return 0 if done.returncode == 0 and b"supportedVersions" in done.stdout else 1


def test_what_was_put_there_runs_and_is_as_it_should_be(tmp_path: Path) -> None:
    directory = tmp_path / "opt/cni/bin"
    installation.put(directory, sys.executable)
    assert [run(directory / name) for name in installation.PLUGINS] == [0, 0]
    assert installation.problems(directory, sys.executable) == []
    assert sorted(path.name for path in directory.iterdir()) == [".enim", "enim", "exclusive-device"]


def test_every_difference_is_named(tmp_path: Path) -> None:
    installation.put(tmp_path, sys.executable)
    (tmp_path / "enim").write_text("#!/bin/sh\n")
    (tmp_path / "exclusive-device").chmod(0o644)
    next(tmp_path.glob(".enim/*/enim/wire.py")).unlink()
    found = installation.problems(tmp_path, sys.executable)
    assert [said.rpartition("/")[2] for said in found] == [
        "wire.py is not there",
        "enim is another one",
        "exclusive-device cannot be executed",
    ]


def test_interpreter_that_does_not_run_changes_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "bin"
    installation.put(directory, sys.executable)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho cpython 3 8 18\n")
    other.chmod(0o755)
    for python, said in (
        (tmp_path / "none", "there is no interpreter"),
        (other, "is Python 3.8.18, and the plugins need"),
    ):
        with pytest.raises(LabError, match=f"{said}.*a node without Python is not supported"):
            installation.put(directory, str(python))
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_plugins_get_any_python_from_the_oldest_on(tmp_path: Path, each_python: str) -> None:
    installation.put(tmp_path, each_python)
    assert [run(tmp_path / name) for name in installation.PLUGINS] == [0, 0]
    assert installation.problems(tmp_path) == installation.problems(tmp_path, each_python) == []
    is_own = os.path.realpath(each_python) == os.path.realpath(sys.executable)
    assert (installation.problems(tmp_path, sys.executable) == []) == is_own


@pytest.mark.parametrize("folder", ["plain", "with space"])
def test_interpreter_that_vanished_is_named(tmp_path: Path, folder: str) -> None:
    """A runtime reads what the kernel says of the start: that of the interpreter, though it names the plugin."""
    python = tmp_path / folder / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    directory = tmp_path / "bin"
    installation.put(directory, str(python))
    assert installation.problems(directory) == []
    python.unlink()
    started = execute.run(PluginCall("enim", VERSION, b"{}"), directory)
    if folder == "plain":
        assert (started.exit_code, started.stdout) == (execute.NOT_EXECUTABLE, b"")
        assert f"fork/exec {directory}/enim: No such file or directory" in started.stderr.decode()
    else:
        assert (started.exit_code, json.loads(started.stdout)["code"]) == (1, errors.IO_FAILURE)
        assert f"{python} or .enim/" in json.loads(started.stdout)["details"]
    assert installation.problems(directory) == [
        f"{directory / name} is for the interpreter {python}, which is not there; no call of it can start"
        for name in installation.PLUGINS
    ]
    assert installation.problems(directory, str(python)) == installation.problems(directory)
    installation.put(directory, sys.executable)
    assert installation.problems(directory) == []


def test_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match=r"cannot be written: File exists\. Name a --bin-dir$"):
        installation.put(tmp_path / "file", sys.executable)


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full before the package is whole."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount one")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_disk_that_is_full_is_said_and_nothing_is_left(tiny: Path) -> None:
    with pytest.raises(
        LabError, match=r"cannot be written: No space left on device\. Make room there, or name a --bin"
    ):
        installation.put(tiny, sys.executable)
    assert list(tiny.iterdir()) == []


def test_package_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    installation.put(tmp_path, sys.executable)
    os.chown(tmp_path / ".enim", 65534, -1)
    with pytest.raises(LabError, match=r"\.enim belongs to another user.*Take it away with --uninstall first"):
        installation.put(tmp_path, sys.executable)
    installation.remove(tmp_path)
    installation.put(tmp_path, sys.executable)


def test_package_that_no_launcher_names_is_removed_after_a_day(tmp_path: Path) -> None:
    installation.put(tmp_path, sys.executable)
    (used,) = (tmp_path / ".enim").iterdir()
    for name, age_s in (("old", 90_000), ("recent", 80_000)):
        package = tmp_path / ".enim" / name / "enim"
        package.mkdir(parents=True)
        os.utime(package, (0, time.time() - age_s))
    installation.put(tmp_path, sys.executable)
    assert {path.name for path in (tmp_path / ".enim").iterdir()} == {used.name, "recent"}


def test_package_of_an_old_installation_outlives_its_upgrade_by_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that has been started a moment before still looks for it."""
    bundle = install.bundle(sys.executable)
    home = next(path.split("/")[1] for path in bundle if path.startswith(install.PACKAGES))
    old = {
        path.replace(home, f"{home}-2"): text.replace(home.encode(), f"{home}-2".encode())
        for path, text in bundle.items()
    }
    monkeypatch.setattr(install, "bundle", lambda _python: old)
    installation.put(tmp_path, sys.executable)
    monkeypatch.undo()
    year_ago = time.time() - 365 * installation.PACKAGE_KEPT_S
    os.utime(tmp_path / ".enim" / f"{home}-2" / "enim", (0, year_ago))
    installation.put(tmp_path, sys.executable)
    assert sorted(path.name for path in (tmp_path / ".enim").iterdir()) == [home, f"{home}-2"]


def test_what_a_killed_installation_left_is_removed_a_day_later(tmp_path: Path) -> None:
    installation.put(tmp_path, sys.executable)
    (package,) = (tmp_path / ".enim").iterdir()
    (tmp_path / ".enim/notes").write_text("somebody's")
    (tmp_path / ".enim/half").mkdir()
    for folder in (tmp_path, package, package / "enim"):
        for name, age_s in (("old", 90_000), ("recent", 80_000)):
            left = folder / f".enim-unfinished-{name}"
            left.touch()
            os.utime(left, (0, time.time() - age_s))
    trial = tmp_path / ".enim-unfinished-trial"
    shutil.copytree(package, trial)
    os.utime(trial, (0, time.time() - 90_000))
    installation.put(tmp_path, sys.executable)
    assert [path.name for path in tmp_path.rglob(".enim-unfinished-*")] == [".enim-unfinished-recent"] * 3
    assert {path.name for path in (tmp_path / ".enim").iterdir()} == {package.name, "notes", "half"}


@pytest.mark.parametrize("name", ["enim", "exclusive-device", ".enim"])
@pytest.mark.parametrize("kind", ["program", "folder", "link", "dangling"])
def test_what_is_not_ours_is_neither_replaced_nor_removed(tmp_path: Path, name: str, kind: str) -> None:
    """Such as the checkout of this project, which has a folder ``enim``."""
    directory, target = tmp_path / "bin", tmp_path / "target"
    directory.mkdir()
    theirs = directory / name
    if kind == "program":
        shutil.copy("/bin/true", theirs)
    elif kind == "folder":
        (theirs if name != ".enim" else target).mkdir()
    if kind == "link":
        target.mkdir()
        (target / "file").touch()
    if not os.path.lexists(theirs):
        theirs.symlink_to(target)
    before = theirs.lstat()
    with pytest.raises(LabError, match=f"{theirs} is there already, and no plugin of enim-lab's. Move it away"):
        installation.put(directory, sys.executable)
    assert installation.remove(directory) == []
    assert installation.foreign(directory) == [theirs]
    assert [(path, path.lstat().st_ino) for path in directory.iterdir()] == [(theirs, before.st_ino)]
    assert (target / "file").exists() == (kind == "link")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_installation_that_is_ended_leaves_nothing(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """It waits for an interpreter that does not answer, while its copy is there to be tried."""
    python, trial = tmp_path / "python", tmp_path / "bin"
    python.write_text(f'#!/bin/sh\n[ "$1" = -ISE ] && exec sleep 60\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    command = [sys.executable, "-m", "simulator", "install", "--bin-dir", trial, "--python", python]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(trial.glob(".enim-unfinished-*/exclusive-device")):
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(20) == status
    assert list(trial.iterdir()) == []


def test_launcher_that_a_power_cut_has_emptied_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "enim").touch()
    installation.put(tmp_path, sys.executable)
    assert installation.problems(tmp_path) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_everybody_can_read_an_installation_and_only_its_owner_write_whatever_the_umask(
    tmp_path: Path, umask: int
) -> None:
    usual = os.umask(umask)
    try:
        installation.put(tmp_path / "cni/bin", sys.executable)
        installation.write_conflist(tmp_path / "net.d/1.conflist", "exclusive-device", "podnet", "")
    finally:
        os.umask(usual)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    launchers = {tmp_path / "cni/bin" / name for name in installation.PLUGINS}
    assert modes == {path: 0o755 if path.is_dir() or path in launchers else 0o644 for path in modes}


def test_check_of_what_cannot_be_read_says_so(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read everything")
    installation.put(tmp_path, sys.executable)
    (tmp_path / ".enim").chmod(0)
    try:
        with pytest.raises(LabError, match=r"cannot be read: Permission denied\. Run it as root"):
            installation.problems(tmp_path)
    finally:
        (tmp_path / ".enim").chmod(0o755)


def test_uninstall_leaves_what_is_not_ours(tmp_path: Path) -> None:
    installation.put(tmp_path, sys.executable)
    shutil.copy("/bin/true", tmp_path / "bridge")
    removed = installation.remove(tmp_path)
    assert [path.name for path in removed] == ["enim", "exclusive-device", ".enim"]
    assert [path.name for path in tmp_path.iterdir()] == ["bridge"]
    assert installation.remove(tmp_path) == []


def test_conflist_is_written_for_either_chain_and_never_over_another(tmp_path: Path) -> None:
    file = tmp_path / "net.d/10-enim.conflist"
    installation.write_conflist(file, "exclusive-device", "podnet", "/run/agent.sock")
    (plugin,) = json.loads(file.read_text())["plugins"]
    capabilities = {"deviceID": True, "ipRanges": True, "ips": True, "mac": True}
    ipam = {"type": "enim", "socket": "/run/agent.sock"}
    assert plugin == {"type": "exclusive-device", "ipam": ipam, "capabilities": capabilities}
    before = file.stat()
    installation.write_conflist(file, "exclusive-device", "podnet", "/run/agent.sock")
    assert file.stat().st_ino == before.st_ino
    with pytest.raises(LabError, match="is there already, and is another one"):
        installation.write_conflist(file, "host-device", "podnet", "")
    file.write_bytes(b"\xff")
    with pytest.raises(LabError, match="is there already, and is another one"):
        installation.write_conflist(file, "host-device", "podnet", "")
    file.unlink()
    file.symlink_to("/dev/null")
    with pytest.raises(LabError, match="is there already, and is another one"):
        installation.write_conflist(file, "host-device", "podnet", "")
    file.unlink()
    installation.write_conflist(file, "host-device", "podnet", "")
    (plugin,) = json.loads(file.read_text())["plugins"]
    assert plugin == {"type": "host-device", "ipam": {"type": "enim"}, "capabilities": capabilities}


CHANGES = {
    "another network": b'{"cniVersion": "1.0.0", "name": "n", "plugins": []}',
    "no JSON": b"\xff",
    "no object": b"[]",
    "nothing": b"",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", CHANGES.values(), ids=CHANGES)
def test_conflist_of_others_is_named_and_left(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "10-enim.conflist"
    file.write_bytes(content)
    said = installation.conflist_problems(file, "exclusive-device", "podnet", "")
    assert said
    assert all(one.startswith(f"{file}: ") for one in said)
    assert installation.remove_conflist(file, None, None, None) != ""
    assert file.read_bytes() == content


@pytest.mark.parametrize("kind", ["link", "dangling", "folder", "pipe"])
def test_conflist_that_is_no_file_is_named_and_left(tmp_path: Path, kind: str) -> None:
    file, target = tmp_path / "10-enim.conflist", tmp_path / "target"
    if kind == "link":
        installation.write_conflist(target, "exclusive-device", "podnet", "")
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(target)
    problems = installation.conflist_problems(file, "exclusive-device", "podnet", "")
    assert problems == [f"{file}: it is no regular file"]
    assert installation.remove_conflist(file, None, None, None) == "it is no regular file"
    assert os.path.lexists(file)


@pytest.mark.parametrize("chain", ["exclusive-device", "host-device"])
@pytest.mark.parametrize("socket", ["", "/run/agent.sock"])
def test_conflist_that_was_written_is_well_and_is_removed_whatever_was_chosen_then(
    tmp_path: Path, chain: str, socket: str
) -> None:
    file = tmp_path / "10-enim.conflist"
    assert installation.conflist_problems(file, chain, "n", socket) == [f"{file}: it is not there"]
    installation.write_conflist(file, chain, "n", socket)
    assert installation.conflist_problems(file, chain, "n", socket) == []
    assert installation.remove_conflist(file, None, None, None) == ""
    assert list(tmp_path.iterdir()) == []


def test_conflist_where_no_folder_can_be_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file/10-enim.conflist"
    assert installation.conflist_problems(below, "exclusive-device", "n", "") == [f"{below}: it is not there"]
    assert installation.remove_conflist(below, None, None, None) == "it is not there"


def test_conflist_that_cannot_be_looked_at_is_said(tmp_path: Path) -> None:
    name = tmp_path / ("x" * 256)
    with pytest.raises(LabError, match="cannot be read: File name too long"):
        installation.conflist_problems(name, "exclusive-device", "n", "")
    with pytest.raises(LabError, match="cannot be removed: File name too long"):
        installation.remove_conflist(name, None, None, None)
