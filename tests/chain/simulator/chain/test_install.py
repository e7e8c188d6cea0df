"""Installed launchers run: from a plain path, from an awkward one, from anywhere, with nothing in the environment."""

import json
import subprocess
import sys

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
