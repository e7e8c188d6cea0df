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
    assert files["enim"].startswith(b"#!/bin/sh\n")
    install.write(tmp_path / "bin", files)
    (tmp_path / "link").symlink_to("bin/enim")
    assert supported([tmp_path / "bin" / "enim"])[-1] == "1.1.0"
    assert supported(["./enim"], cwd=tmp_path / "bin")[-1] == "1.1.0"
    assert supported([tmp_path / "link"])[-1] == "1.1.0"


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
def test_a_symbolic_link_to_a_launcher_runs_it(tmp_path, plugin):
    install.write(tmp_path / "opt", install.bundle())
    for folder in ("bin", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bin" / plugin).symlink_to(f"../opt/{plugin}")
    (tmp_path / "elsewhere" / "another-name").symlink_to(f"../bin/{plugin}")
    assert supported([f"./{plugin}"], cwd=tmp_path / "bin")[-1] == "1.1.0"
    assert supported([tmp_path / "elsewhere" / "another-name"])[-1] == "1.1.0"


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
    folder = tmp_path / 'a "folder'
    install.write(folder, install.bundle())
    (compiled,) = folder.glob(".enim/*/plugins")
    if damage == "gone":
        compiled.unlink()
    else:
        compiled.write_bytes(b"" if damage == "empty" else bytes(range(256)) * 40)
    done = subprocess.run([folder / plugin], env={"CNI_COMMAND": "ADD"}, capture_output=True, check=False)
    shown = str(compiled).replace('"', "'")  # in JSON without a json package
    details = {
        "gone": f"[Errno 2] No such file or directory: /'{shown}/'",
        "empty": "EOF read where object expected",
        "rubbish": "bad marshal data (unknown type code)",
    }
    assert json.loads(done.stdout) == {
        "cniVersion": "1.1.0",
        "code": 5,
        "msg": "the plugin cannot be loaded; if a file is missing or damaged, install it anew",
        "details": details[damage],
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
