"""Where the plugins of others are found, and how they are got."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from simulator.errors import LabError
from simulator.lab import doctor, plugins

WriteProgram: TypeAlias = Callable[[Path, str], Path]
WritePlugin: TypeAlias = Callable[[Path], Path]


def test_plugin_is_looked_for_in_the_cache_the_system_and_then_cni_path(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_plugin: WritePlugin
) -> None:
    monkeypatch.setenv("CNI_PATH", f"relative:{tmp_path}/empty:{tmp_path}/named")
    assert plugins.find().get("host-device") is None
    for directory in (tmp_path / "named", tmp_path / "usr/lib/cni", cache):
        binary = write_plugin(directory / "host-device")
        assert plugins.find().get("host-device") == binary
    first = write_plugin(tmp_path / "first/host-device")
    assert plugins.find(first=tmp_path / "first").get("host-device") == first
    assert plugins.find(first=tmp_path / "empty").get("host-device") == binary


def test_other_plugins_are_found_when_they_are_asked_for(cache: Path, write_plugin: WritePlugin) -> None:
    binary = write_plugin(cache / "tuning")
    assert "tuning" not in plugins.find()
    assert plugins.find("tuning", "no-such-one") == {"tuning": binary}


def test_file_that_cannot_be_executed_is_no_plugin(cache: Path, write_plugin: WritePlugin) -> None:
    write_plugin(cache / "host-device").chmod(0o644)
    assert plugins.find().get("host-device") is None


# Getting it


def test_ordinary_user_gets_the_package_into_the_cache(cache: Path, apt: Any) -> None:
    plugins._unpack_as_user(cache)
    assert plugins.find().get("host-device") == cache / "host-device"
    assert apt.verbs() == ["download"]
    assert [path.name for path in cache.parent.iterdir()] == ["bin"]  # nothing half done is left beside it


def test_ordinary_user_updates_lists_of_his_own_where_there_are_none(cache: Path, apt: Any) -> None:
    apt.use(updated=False)
    plugins._unpack_as_user(cache)
    assert plugins.find().get("host-device") == cache / "host-device"
    assert apt.verbs() == ["download", "update", "download"]


def test_two_users_of_one_cache_do_not_disturb_each_other(cache: Path, apt: Any) -> None:
    plugins._unpack_as_user(cache)
    with (cache / "host-device").open() as running:
        whole = running.read()
        running.seek(0)
        plugins._unpack_as_user(cache)
        assert running.read() == whole
    assert {path.name for path in cache.iterdir()} == set(plugins.PLUGINS)


def test_half_a_plugin_in_the_cache_is_replaced(cache: Path, apt: Any, write_program: WriteProgram) -> None:
    write_program(cache / "host-device", "half").chmod(0o644)
    plugins._unpack_as_user(cache)
    assert doctor._try_plugin(cache / "host-device").ok


def test_root_installs_the_package_and_updates_the_lists_only_if_need_be(cache: Path, apt: Any) -> None:
    for updated, verbs in ((True, ["install"]), (False, ["install", "update", "install"])):
        apt.use(updated=updated)
        plugins._install_as_root()
        assert apt.verbs()[-len(verbs) :] == verbs
    assert plugins.find().get("host-device") == Path(plugins.SYSTEM_DIRECTORIES[0]) / "host-device"


def test_install_reports_what_it_does_and_where_the_plugin_is(cache: Path, apt: Any) -> None:
    said: list[str] = []
    binaries = plugins.install(said.append)
    assert binaries == plugins.find()
    assert list(binaries) == list(plugins.PLUGINS)
    assert len(said) == 1
    assert plugins.PACKAGE in said[0]


@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_package_that_cannot_be_reached_is_said_in_the_words_of_apt(user: str, cache: Path, apt: Any) -> None:
    apt.use(updated=False, reachable=False)
    with pytest.raises(
        LabError, match=r"Unable to locate package; .* before that: W: no route to the archive"
    ) as raised:
        plugins._install_as_root() if user == "root" else plugins._unpack_as_user(cache)
    assert str(cache) not in raised.value.cause  # no path that is gone by then
    assert f"sudo apt-get install {plugins.PACKAGE}" in raised.value.cure
    assert plugins.find().get("host-device") is None


@pytest.mark.parametrize("user", ["root", "ordinary"])
def test_source_that_is_broken_does_not_matter_if_another_has_the_package(user: str, cache: Path, apt: Any) -> None:
    apt.use(updated=False, broken_source=True)
    plugins._install_as_root() if user == "root" else plugins._unpack_as_user(cache)
    assert plugins.find().get("host-device") is not None


def test_package_without_the_plugin_is_no_success(cache: Path, apt: Any) -> None:
    apt.use(has=("bridge", "loopback"))
    with pytest.raises(LabError, match="has no host-device, bridge, ptp, host-local, static in"):
        plugins._unpack_as_user(cache)
    assert not cache.exists()


def test_cache_that_cannot_be_made_is_said(cache: Path, apt: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(LabError, match=f"{cache} cannot be made: Not a directory") as raised:
        plugins._unpack_as_user(cache)
    assert "XDG_CACHE_HOME" in raised.value.cure


@pytest.mark.parametrize("home", ["~", "relative"])  # "~" is what a uid without a name has
def test_user_without_a_home_has_no_cache_and_is_told_so(
    home: str, cache: Path, apt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert plugins.find().get("host-device") is None
    with pytest.raises(LabError, match="no home directory") as raised:
        plugins.install(lambda _line: None)
    assert raised.value.cure.startswith("export XDG_CACHE_HOME=")


def test_machine_without_apt_is_told_where_to_get_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="this machine has no apt-get") as raised:
        plugins.install(lambda _line: None)
    assert "containernetworking/plugins" in raised.value.cure
    assert "apt-get" not in raised.value.cure


def test_apt_that_does_not_end_is_stopped(
    apt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_program: WriteProgram
) -> None:
    write_program(tmp_path / "apt/bin/apt-get", "#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(plugins, "_APT_TIMEOUT_S", 0.1)
    with pytest.raises(LabError, match=r"`apt-get update` took longer than 0\.1 s"):
        plugins._run("apt-get", "update")


def test_warnings_of_hooks_are_not_taken_for_those_of_apt() -> None:
    said = "rm: cannot remove '/var/cache/apt': Permission denied\nE: The repository has no Release file.\n\n"
    assert plugins._complaints(said) == "E: The repository has no Release file."
    assert plugins._complaints("dpkg-deb: error: no archive\n") == "dpkg-deb: error: no archive"


def test_apt_that_does_not_end_well_is_cut_short_in_the_message(
    apt: Any, tmp_path: Path, write_program: WriteProgram
) -> None:
    write_program(tmp_path / "apt/bin/apt-get", "#!/bin/sh\nseq 1000\nexit 3\n")
    with pytest.raises(LabError, match="`apt-get update` failed") as raised:
        plugins._run("apt-get", "update")
    assert raised.value.cause.endswith("999\n1000")
    assert len(raised.value.cause) < 600


@pytest.mark.parametrize("name", plugins.PLUGINS)
def test_real_plugin_speaks_cni(name: str) -> None:
    binary = plugins.find().get(name)
    if binary is None:
        pytest.skip(f"{name} is not installed; `enim-lab doctor --install` gets it")
    asked = subprocess.run([binary], env={"CNI_COMMAND": "VERSION"}, input=b"{}", capture_output=True, check=True)
    assert b"supportedVersions" in asked.stdout
