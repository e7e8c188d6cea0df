"""What an installation consists of, without running it."""

import os
import sys

import pytest

from simulator.chain import install


def package_of(files):
    return {path.split("/", 2)[2] for path in files if path.startswith(f"{install.PACKAGES}/")}


def test_bundle_has_two_launchers_and_the_package_compiled():
    files = install.bundle()
    assert [path for path in files if "/" not in path] == ["enim", "exclusive-device"]
    assert {"plugins", "enim/wire.py", "enim/__init__.py"} <= package_of(files)
    sources = [path for path in files if path.endswith(".py")]
    assert len(sources) + 3 == len(files)


def test_bundle_is_the_same_every_time():
    first, second = install.bundle(), install.bundle()
    assert list(first) == list(second)
    assert [path for path in first if first[path] != second[path]] == []


def test_bundle_names_the_interpreter_absolutely_and_without_site():
    first_line = install.bundle()["enim"].splitlines()[0].decode()
    assert first_line == f"#!{os.path.realpath(sys.executable)} -ISE"
    assert len(install.bundle()["enim"].splitlines()) == 9  # its lines are compiled at every start


def test_bundle_replaces_the_interpreter_of_a_virtual_environment(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(os.path.realpath(sys.executable))
    assert install.bundle(str(link))["enim"] == install.bundle()["enim"]


@pytest.mark.parametrize("path", ["/opt/no-such-python", "/a b/it's {odd} $HOME/python", f"/{'x' * 130}/python3"])
def test_interpreter_of_a_launcher_is_the_one_that_it_was_made_for(path):
    launcher = install.bare(path)["bare-python"]
    assert launcher.startswith(f"#!{path} ".encode()) == (path == "/opt/no-such-python")
    assert install.interpreter_of(launcher) == path


@pytest.mark.parametrize(
    "other", [b"", b"\x7fELF\0", b"#!/bin/sh\n", b"#!/bin/sh\nexec 'x\n", b"#!/usr/bin/python3\n", b"\xff"]
)
def test_interpreter_of_another_program_is_none(other):
    assert install.interpreter_of(other) == ""


def test_write_makes_only_the_launchers_executable_and_leaves_nothing_else(tmp_path):
    files = install.bundle()
    install.write(tmp_path / "bin", files)
    install.write(tmp_path / "bin", files)
    written = {
        str(path.relative_to(tmp_path / "bin")): path for path in (tmp_path / "bin").rglob("*") if path.is_file()
    }
    assert {path: file.read_bytes() for path, file in written.items()} == files
    modes = {path: file.stat().st_mode & 0o777 for path, file in written.items()}
    assert modes == {path: 0o644 if "/" in path else 0o755 for path in files}


def test_write_that_fails_leaves_no_temporary_file(tmp_path):
    (tmp_path / "enim").mkdir()
    with pytest.raises(OSError, match="directory"):
        install.write(tmp_path, {"enim": b"#!/bin/sh\n"})
    assert list(tmp_path.iterdir()) == [tmp_path / "enim"]


def test_write_that_fails_at_the_package_leaves_the_launchers_as_they_were(tmp_path):
    """Or they would start what is not there; an upgrade meets plugins that start all the time."""
    install.write(tmp_path, {"enim": b"#!/old"})
    (tmp_path / ".enim").touch()
    with pytest.raises(FileExistsError):
        install.write(tmp_path, {"enim": b"#!/new", ".enim/new/plugins": b""})
    assert (tmp_path / "enim").read_bytes() == b"#!/old"


def test_write_leaves_a_file_that_somebody_reads_as_it_is(tmp_path):
    """It gives the name to another one, which is whole and executable from the first moment on."""
    install.write(tmp_path, {"enim": b"#!/old"})
    with (tmp_path / "enim").open("rb") as opened:
        install.write(tmp_path, {"enim": b"#!/new"})
        assert opened.read() == b"#!/old"
    assert (tmp_path / "enim").read_bytes() == b"#!/new"


def test_bare_program_starts_as_a_plugin_does_and_does_nothing():
    ((name, content),) = install.bare().items()
    assert name == "bare-python"
    assert content.splitlines() == [install.bundle()["enim"].splitlines()[0]]
