"""The set-up of ``scripts/``, on machines that lack things: few tools in PATH, a fake uv and pip, no network."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("awk", "cat", "chmod", "dirname", "find", "flock", "head", "mkdir", "mv", "readlink", "rm", "sh", "sort")

PYTHON_WITHOUT_VENV = f"""#!/bin/sh
case "$*" in *ensurepip*) exit 1 ;; esac
exec {sys.executable} "$@"
"""

PYTHON_3_9 = """#!/bin/sh
case "$*" in *"version_info <"*) exit 1 ;; esac
echo /usr/bin/python3 3 9
"""

# Makes an environment whose pip writes an enim-lab that records its arguments, or fails while there is a file "broken".
UV = f"""#!/bin/sh
for made; do :; done
mkdir -p "$made/bin"
cat >"$made/bin/python" <<'END'
#!/bin/sh
case "$*" in
*"-m pip install"*)
    here=$(dirname "$0")
    echo pip >>"$here/../../log"
    [ ! -e "$here/../../broken" ] || exit 1
    printf '%s\\n' '#!/bin/sh' 'echo "enim-lab $*" >>"$(dirname "$0")/../../log"' \\
        '[ "$1" != run ] || exit 7' >"$here/enim-lab"
    chmod +x "$here/enim-lab" ;;
*) exec {sys.executable} "$@" ;;
esac
END
chmod +x "$made/bin/python"
"""


class Machine:
    """A checkout in ``tree`` and a machine whose PATH is ``path``."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "a checkout"
        self.path = folder / "bin"
        self.path.mkdir()
        shutil.copytree(ROOT / "scripts", self.tree / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.tree)
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.path / tool).symlink_to(found)

    def provide(self, tool: str, text: str) -> None:
        (self.path / tool).write_text(text)
        (self.path / tool).chmod(0o755)

    def run(
        self, *arguments: str, script: str = "run-scenarios", cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        command = [self.tree / "scripts" / script, *arguments]
        environment = {"PATH": str(self.path), **environment}
        return subprocess.run(
            command, check=False, cwd=cwd or self.tree, env=environment, capture_output=True, text=True, timeout=30
        )

    def log(self) -> list[str]:
        """What was run since the last look."""
        file = self.tree / "log"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def machine_with_uv(machine: Machine) -> Machine:
    machine.provide("python3", PYTHON_WITHOUT_VENV)
    machine.provide("uv", UV)
    return machine


RUN = ["enim-lab doctor --install", "enim-lab run scenarios"]


def test_setup_without_python_says_what_to_install(machine: Machine) -> None:
    outcome = machine.run()
    assert (outcome.returncode, "Python 3.11 or newer is needed (no python3 was found)" in outcome.stderr) == (3, True)


def test_setup_with_an_old_python_names_its_version(machine: Machine) -> None:
    machine.provide("python3", PYTHON_3_9)
    outcome = machine.run()
    assert (outcome.returncode, "Python 3.11 or newer is needed (python3 is 3.9)" in outcome.stderr) == (3, True)


def test_setup_without_venv_says_what_to_install(machine: Machine) -> None:
    machine.provide("python3", PYTHON_WITHOUT_VENV)
    outcome = machine.run()
    assert (outcome.returncode, "Install one of python3-venv" in outcome.stderr) == (3, True)
    assert not (machine.tree / ".venv").exists()


def test_whole_suite_without_ip_says_what_to_install(machine_with_uv: Machine) -> None:
    outcome = machine_with_uv.run(script="test")
    assert (outcome.returncode, "apt-get install iproute2" in outcome.stderr) == (3, True)


def test_run_scenarios_passes_arguments_and_status_on(machine_with_uv: Machine) -> None:
    outcome = machine_with_uv.run("-k", "two words")
    assert outcome.returncode == 7, outcome.stderr
    assert machine_with_uv.log() == ["pip", "enim-lab doctor --install", "enim-lab run scenarios -k two words"]


def test_run_scenarios_from_elsewhere_names_the_checkout(machine_with_uv: Machine, tmp_path: Path) -> None:
    machine_with_uv.run(cwd=tmp_path)
    assert machine_with_uv.log()[-1] == f"enim-lab run {machine_with_uv.tree.resolve()}/scenarios"


def test_setup_reuses_a_whole_environment(machine_with_uv: Machine) -> None:
    machine_with_uv.run()
    machine_with_uv.log()
    outcome = machine_with_uv.run()
    assert (machine_with_uv.log(), outcome.stderr) == (RUN, "")


def test_setup_does_not_trust_an_interrupted_one(machine_with_uv: Machine) -> None:
    (machine_with_uv.tree / "broken").touch()
    assert machine_with_uv.run().returncode == 3
    (machine_with_uv.tree / "broken").unlink()
    assert machine_with_uv.log() == ["pip"]
    machine_with_uv.run()
    assert machine_with_uv.log() == ["pip", *RUN]


@pytest.mark.parametrize(
    ("before", "after", "log"),
    [("click>=8.1", "click>=8.2", ["pip", *RUN]), ("line-length = 120", "line-length = 121", RUN)],
    ids=["a dependency", "a linter's setting"],
)
def test_setup_follows_the_dependency_list_only(
    machine_with_uv: Machine, before: str, after: str, log: list[str]
) -> None:
    machine_with_uv.run()
    machine_with_uv.log()
    manifest = machine_with_uv.tree / "pyproject.toml"
    assert before in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(before, after))
    machine_with_uv.run()
    assert machine_with_uv.log() == log


def test_setup_notices_that_the_interpreter_is_gone(machine_with_uv: Machine) -> None:
    machine_with_uv.run()
    machine_with_uv.log()
    (machine_with_uv.tree / ".venv/bin/python").unlink()
    machine_with_uv.run()
    assert machine_with_uv.log() == ["pip", *RUN]


NOT_ROOT = "#!/bin/sh\necho 1000\n"
GO = """#!/bin/sh
case "$*" in *crictl*) exit 1 ;; esac
echo "$PWD: go $*" >>"$LOG"
"""


def test_install_drivers_says_what_cannot_be_had(machine: Machine) -> None:
    machine.provide("id", NOT_ROOT)
    outcome = machine.run(script="install-drivers")
    assert outcome.returncode == 0
    assert "not installed, as only root can, with apt-get: containerd" in outcome.stderr
    assert "there is no go, so neither cnitool nor crictl nor the newest host-device" in outcome.stderr


def test_install_drivers_builds_each_in_the_cache_whatever_becomes_of_another(machine: Machine, tmp_path: Path) -> None:
    machine.provide("id", NOT_ROOT)
    machine.provide("timeout", '#!/bin/sh\nshift\nexec "$@"\n')
    machine.provide("go", GO.replace("$LOG", str(tmp_path / "log")))
    outcome = machine.run(script="install-drivers", XDG_CACHE_HOME=str(tmp_path))
    assert outcome.returncode == 0
    assert "go install sigs.k8s.io/cri-tools/cmd/crictl@latest failed" in outcome.stderr
    assert (tmp_path / "log").read_text().splitlines() == [
        f"{tmp_path}/enim/drivers: go install github.com/containernetworking/{module}@latest"
        for module in ("cni/cnitool", "plugins/plugins/main/host-device")
    ]


@pytest.mark.parametrize(
    ("environment", "cure"),
    [
        ({}, "Set XDG_CACHE_HOME to an absolute path."),
        ({"HOME": ""}, "Set XDG_CACHE_HOME to an absolute path."),
        ({"XDG_CACHE_HOME": "cache"}, "Set XDG_CACHE_HOME to an absolute path."),
        ({"HOME": "/proc"}, "Set XDG_CACHE_HOME to a directory of yours."),
    ],
)
def test_install_drivers_says_where_it_cannot_build(machine: Machine, environment: dict[str, str], cure: str) -> None:
    machine.provide("id", NOT_ROOT)
    machine.provide("go", GO)
    outcome = machine.run(script="install-drivers", **environment)
    assert (outcome.returncode, outcome.stderr.splitlines()[-1].endswith(cure)) == (3, True), outcome.stderr
    assert sorted(path.name for path in machine.tree.iterdir()) == ["pyproject.toml", "scripts"]


KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
needs_keys = pytest.mark.skipif(not KEYRING.exists(), reason=f"there is no {KEYRING}")
APT_GET = """#!/bin/sh
echo "$*" >>"$LOG"
for option; do case $option in -oDir::Cache=*) : >"${option#*=}/archives/python.deb" ;; esac done
"""
# Unpacks a root whose loader runs scripts, whose patchelf says what it does, and whose Python is one of version 3.99.
DPKG_DEB = """#!/bin/sh
mkdir -p "$3/usr/bin" "$3/usr/lib64"
cd "$3/usr"
: >lib64/libc.so.6
printf '%s\\n' '#!/bin/sh' 'shift 2' 'exec "$@"' >lib64/ld-linux-fake.so.2
printf '%s\\n' '#!/bin/sh' 'echo "patchelf $*" >>"$LOG"' >bin/patchelf
printf '%s\\n' '#!/bin/sh' 'echo 3 99' >bin/python3.99
chmod +x bin/* lib64/*
"""
HAS_BAD_PYTHON = DPKG_DEB.replace("$LOG", "/dev/null").replace("echo 3 99", '[ "$2" = -m ]')


@pytest.fixture
def machine_with_apt(machine: Machine, tmp_path: Path) -> Machine:
    machine.provide("dpkg", "#!/bin/sh\necho fake64\n")
    machine.provide("dpkg-deb", DPKG_DEB.replace("$LOG", str(tmp_path / "log")))
    machine.provide("apt-get", APT_GET.replace("$LOG", str(tmp_path / "log")))
    machine.provide("apt-cache", "#!/bin/sh\necho Package: python3.99\n")
    return machine


@pytest.mark.parametrize("arguments", [(), ("3",), ("2.7",), ("3.x",), ("python3.99",), ("3.99/..",)])
def test_install_python_wants_a_version(machine: Machine, arguments: tuple[str, ...]) -> None:
    outcome = machine.run(*arguments, script="install-python")
    assert (outcome.returncode, "such as 3.14" in outcome.stderr) == (2, True), outcome


def test_install_python_leaves_it_at_one_that_is_there(machine: Machine, tmp_path: Path) -> None:
    machine.provide("python3.99", "#!/bin/sh\necho 3 99\n")
    outcome = machine.run("3.99", script="install-python", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (outcome.returncode, outcome.stderr.split()[-1]) == (0, f"{machine.path}/python3.99")
    assert not (tmp_path / "cache").exists()


def test_install_python_without_apt_says_what_is_missing(machine: Machine) -> None:
    outcome = machine.run("3.99", script="install-python", HOME="/proc")
    assert (outcome.returncode, "there is no Python 3.99" in outcome.stderr) == (3, True)
    assert outcome.stderr.endswith("this machine has no apt-get\n")


@needs_keys
def test_install_python_puts_it_where_the_tests_look(
    machine_with_apt: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    target = cache / "enim/python/3.99"
    (cache / "enim/python/3.99.unfinished/root/left by a kill").mkdir(parents=True)
    outcome = machine_with_apt.run("3.99", script="install-python", XDG_CACHE_HOME=str(cache))
    assert outcome.returncode == 0, outcome.stderr
    assert [line.split(" /")[0] for line in (tmp_path / "log").read_text().splitlines() if "patchelf -" in line] == [
        "patchelf --force-rpath --set-rpath",
        "patchelf --set-interpreter",
    ]
    assert f"--set-interpreter {target}/usr/lib64/ld-linux-fake.so.2 " in (tmp_path / "log").read_text()
    assert [path.name for path in target.parent.iterdir()] == ["3.99"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    found_python = runpy.run_path(str(ROOT / "tests/conftest.py"))["found_python"]
    assert found_python(99) == outcome.stderr.split()[-1] == f"{target}/usr/bin/python3.99"


@needs_keys
@pytest.mark.parametrize(
    ("tool", "text", "says"),
    [
        ("apt-get", "#!/bin/sh\nexit 100\n", "http://deb.debian.org/debian cannot be read, see above"),
        ("apt-cache", "#!/bin/sh\nexit 100\n", "Debian has none for fake64; looked in testing unstable stable"),
        ("dpkg-deb", "#!/bin/sh\nexit 2\n", "its packages cannot be unpacked, see above"),
        ("dpkg-deb", HAS_BAD_PYTHON, "that of Debian does not run here, see above"),
    ],
    ids=["no network", "no such version", "a bad package", "a Python that does not run"],
)
def test_install_python_says_why_it_cannot_and_leaves_nothing(
    machine_with_apt: Machine, tmp_path: Path, tool: str, text: str, says: str
) -> None:
    machine_with_apt.provide(tool, text)
    outcome = machine_with_apt.run("3.99", script="install-python", XDG_CACHE_HOME=str(tmp_path))
    assert (outcome.returncode, says in outcome.stderr) == (3, True), outcome.stderr
    assert list((tmp_path / "enim/python").iterdir()) == []


@needs_keys
@pytest.mark.parametrize(
    ("environment", "cure"),
    [
        ({}, "Set XDG_CACHE_HOME to an absolute path."),
        ({"XDG_CACHE_HOME": "cache"}, "Set XDG_CACHE_HOME to an absolute path."),
        ({"HOME": "/proc"}, "Set XDG_CACHE_HOME to a directory of yours."),
    ],
)
def test_install_python_says_where_it_cannot_put_it(
    machine_with_apt: Machine, environment: dict[str, str], cure: str
) -> None:
    outcome = machine_with_apt.run("3.99", script="install-python", **environment)
    assert (outcome.returncode, outcome.stderr.splitlines()[-1].endswith(cure)) == (3, True), outcome.stderr


def test_the_whole_check_says_what_a_bare_machine_lacks_and_leaves_nothing(machine: Machine) -> None:
    shutil.copytree(ROOT / ".ci", machine.tree / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    for tool in ("bash", "env", "timeout"):
        (machine.path / tool).symlink_to(str(shutil.which(tool)))
    machine.provide("id", NOT_ROOT)
    before = {path.name for path in machine.tree.iterdir()}
    outcome = machine.run(script="../.ci/run")
    assert outcome.returncode == 1
    summary = outcome.stdout.partition("=== summary")[2].splitlines()[1:]
    assert [line.split(":")[0] for line in summary] == [
        "not installed, as this machine has no apt-get",
        "FAILED",
        "scenarios as a fresh user",
        "SKIPPED the docker lab",
        "FAILED",
        "SKIPPED the virtual machine",
        "no table of results",
    ]
    assert "Python 3.11 or newer is needed" in outcome.stderr
    assert ".ci/run: line" not in outcome.stderr
    assert {path.name for path in machine.tree.iterdir()} - before == {".tox"}


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "says"),
    [
        ((), {}, 3, "vm: SKIPPED: there is no qemu-system-x86_64: install it"),
        (("--junit", "/proc/x"), {}, 3, "/proc/x: No such file or directory. Set --junit to a directory of yours"),
        ((), {"HOME": "/proc"}, 3, "/proc/.cache: No such file or directory. Set XDG_CACHE_HOME to a directory"),
        (("-k", "nothing"), {}, 2, "-k nothing: no run has this in its name, of doctor, real NICs,"),
    ],
)
def test_the_virtual_machines_runner_says_what_it_lacks(
    machine: Machine, arguments: tuple[str, ...], environment: dict[str, str], status: int, says: str
) -> None:
    if environment:
        machine.provide("qemu-system-x86_64", "#!/bin/sh\nexit 1\n")
    command = [sys.executable, ROOT / "tests/vm/boot.py", *arguments]
    outcome = subprocess.run(
        command, check=False, env={"PATH": str(machine.path), **environment}, capture_output=True, text=True, timeout=30
    )
    assert (outcome.returncode, says in outcome.stdout + outcome.stderr) == (status, True), outcome
    assert "Traceback" not in outcome.stderr
