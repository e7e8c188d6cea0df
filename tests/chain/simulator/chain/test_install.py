"""Installed launchers run: from a plain path, from an awkward one, from anywhere, with nothing in the environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.chain import install


def supported(command, **options):
    done = subprocess.run(
        command, check=True, capture_output=True, env={"CNI_COMMAND": "VERSION"}, input=b"", **options
    )
    return json.loads(done.stdout)["supportedVersions"]


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
@pytest.mark.parametrize("folder", ["bin", 'a bin\'s {odd} "folder" $HOME'])
def test_a_launcher_runs(tmp_path, plugin, folder):
    install.write(tmp_path / folder, install.bundle())
    assert supported([tmp_path / folder / plugin])[-1] == "1.1.0"
    assert supported([f"./{plugin}"], cwd=tmp_path / folder)[-1] == "1.1.0"


@pytest.mark.parametrize("folder", ["it's {odd} $HOME", "x" * 130])
def test_a_launcher_runs_through_sh_if_no_shebang_can_name_the_interpreter(tmp_path, folder):
    interpreter = tmp_path / folder / "python"
    interpreter.parent.mkdir()
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    files = install.bundle(str(interpreter))
    assert files["enim"].startswith(b"#!/bin/sh\nexec ")
    install.write(tmp_path / "bin", files)
    assert supported([tmp_path / "bin" / "enim"])[-1] == "1.1.0"
    assert supported(["./enim"], cwd=tmp_path / "bin")[-1] == "1.1.0"


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
def test_an_interpreter_of_another_version_runs_the_sources_and_writes_nothing_beside_them(tmp_path, plugin):
    files = install.bundle()
    version = f"{sys.hexversion >> 16:#x}".encode()
    files[plugin] = files[plugin].replace(version, b"0x207")
    (compiled,) = (path for path in files if path.endswith("/plugins"))
    files[compiled] = b"of another version"
    install.write(tmp_path, files)
    assert supported([tmp_path / plugin])[-1] == "1.1.0"
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(files)


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
@pytest.mark.parametrize("damage", ["gone", "empty", "rubbish"])
def test_a_launcher_whose_package_cannot_be_loaded_says_so_in_cnis_words(tmp_path, plugin, damage):
    """Such as between an uninstallation and the runtime's next call, or after a power cut."""
    install.write(tmp_path, install.bundle())
    (compiled,) = tmp_path.glob(".enim/*/plugins")
    if damage == "gone":
        compiled.unlink()
    else:
        compiled.write_bytes(b"" if damage == "empty" else bytes(range(256)) * 40)
    done = subprocess.run([tmp_path / plugin], env={"CNI_COMMAND": "ADD"}, capture_output=True, check=False)
    details = {"gone": "No such file or directory", "empty": "EOFError", "rubbish": "ValueError"}[damage]
    assert json.loads(done.stdout) == {
        "cniVersion": "1.1.0",
        "code": 5,
        "msg": f"this plugin cannot be loaded from {compiled.parent.relative_to(tmp_path)}: install it anew",
        "details": details,
    }
    assert (done.returncode, done.stderr) == (1, b"")


def test_bundle_is_the_same_in_every_process_whatever_it_has_loaded():
    """Or ``--check`` would find another file than the one that was installed."""
    script = "from simulator.chain import install; print(install.bundle()['{}'].hex())"
    files = install.bundle()
    (compiled,) = (path for path in files if path.endswith("/plugins"))
    command = [sys.executable, "-c", script.format(compiled)]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[4], text=True)
    assert bytes.fromhex(done.stdout) == files[compiled]
