"""``enim-lab install``, the real program: what it says, its exit statuses, and which options it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def install(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulator", "install", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_install_check_and_uninstall(tmp_path: Path) -> None:
    to = ("--bin-dir", tmp_path / "bin")
    missing = install(*to, "--check")
    assert (missing.returncode, "bin/enim is not there" in missing.stdout) == (1, True)
    installed = install(*to, "--conflist", tmp_path / "net.d/10-enim.conflist")
    assert (installed.returncode, installed.stderr) == (0, "")
    assert installed.stdout.splitlines() == [
        f"installed enim and exclusive-device in {tmp_path}/bin",
        f"wrote {tmp_path}/net.d/10-enim.conflist",
    ]
    assert install(*to, "--check").returncode == 0
    assert install(*to, "--uninstall").stdout.count("removed ") == 3
    both = install(*to, "--check", "--uninstall")
    assert (both.returncode, "do not go together" in both.stderr) == (2, True)
    refused = install("--bin-dir", "/proc/no/bin")
    assert (refused.returncode, "cannot be written" in refused.stderr) == (3, True)


def test_uninstall_says_what_it_leaves(tmp_path: Path) -> None:
    (tmp_path / "enim").mkdir()
    ran = install("--bin-dir", tmp_path, "--uninstall")
    assert (ran.returncode, ran.stdout) == (0, f"nothing of enim is in {tmp_path}\n")
    assert ran.stderr == f"left {tmp_path}/enim, which is no plugin of enim-lab's\n"


@pytest.mark.parametrize(
    "option",
    [
        *(("--network", "a b"), ("--network", ""), ("--socket", "agent.sock"), ("--socket", "/" + 107 * "x")),
        *(("--socket", ""), ("--chain", "bridge"), ("--chain", ""), ("--conflist", ""), ("--conflist", "/proc")),
        *(("--bin-dir", ""), ("--bin-dir", "/proc/version"), ("--python", "")),
    ],
)
@pytest.mark.parametrize("way", [(), ("--check",), ("--uninstall",)])
def test_install_refuses_what_cannot_be_meant(tmp_path: Path, option: tuple[str, str], way: tuple[str, ...]) -> None:
    to = ("--bin-dir", tmp_path / "bin", "--conflist", tmp_path / "1.conflist")
    ran = install(*to, *way, *option)
    assert (ran.returncode, ran.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert f"Invalid value for '{option[0]}'" in ran.stderr


@pytest.mark.parametrize(
    "option", [("--network", "podnet"), ("--socket", "/run/enim.sock"), ("--chain", "exclusive-device")]
)
@pytest.mark.parametrize("way", [(), ("--check",), ("--uninstall",)])
def test_install_wants_a_file_for_what_only_a_conflist_has(
    tmp_path: Path, option: tuple[str, str], way: tuple[str, ...]
) -> None:
    ran = install("--bin-dir", tmp_path / "bin", *way, *option)
    assert (ran.returncode, ran.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert f"{option[0]} is for a conflist; name its file with --conflist" in ran.stderr


def test_check_and_uninstall_look_at_the_conflist_too(tmp_path: Path) -> None:
    file = tmp_path / "net.d/10-enim.conflist"
    to = ("--bin-dir", tmp_path / "bin", "--conflist", file)
    install(*to, "--socket", "/run/a.sock")
    assert install(*to, "--socket", "/run/a.sock", "--check").returncode == 0
    others = install(*to, "--network", "other", "--socket", "/run/b.sock", "--check")
    assert (others.returncode, others.stderr) == (1, "")
    assert others.stdout.splitlines() == [
        f'{file}: name is "podnet", an installation writes "other"',
        f'{file}: plugins[0].ipam.socket is "/run/a.sock", an installation writes "/run/b.sock"',
    ]
    left = install(*to, "--network", "other", "--uninstall")
    assert (left.returncode, left.stdout.count("removed "), file.exists()) == (0, 3, True)
    assert left.stderr == f'did not remove {file}: name is "podnet", an installation writes "other"\n'
    removed = install(*to, "--uninstall")
    assert (removed.returncode, removed.stderr, file.exists()) == (0, "", False)
    assert removed.stdout == f"removed {file}\nnothing of enim is in {tmp_path}/bin\n"
    missing = install(*to, "--uninstall")
    assert (missing.returncode, missing.stdout) == (0, f"nothing of enim is in {tmp_path}/bin\n")
    assert missing.stderr == f"did not remove {file}: it is not there\n"
