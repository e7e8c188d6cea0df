"""Every Python that the plugins run on compiles and loads all of the package without a warning."""

import errno
import json
import os
import subprocess
from pathlib import Path

import fuzz_plain

FUZZ = int(os.environ.get("ENIM_FUZZ", "15000")) // 10
PACKAGE = Path(__file__).parents[3] / "enim"
LOAD = """
import importlib, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module("enim." + name)
"""
WHICH = """
import json, sys
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from enim import namespaces, netlink
setns = netlink._find_setns()
try:
    setns(0, namespaces.CLONE_NEWNET)
except OSError as error:
    print(json.dumps([sys.version_info >= (3, 12), "_ctypes" in sys.modules, error.errno]))
"""


def run(python, *arguments):
    command = [python, "-W", "error", *arguments]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def test_package_compiles_without_a_warning(each_python, tmp_path):
    script = "import compileall, sys; sys.exit(not compileall.compile_dir(sys.argv[1], force=True, quiet=1))"
    package = tmp_path / "enim"
    package.mkdir()
    for source in PACKAGE.glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    done = run(each_python, "-c", script, str(package))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(list(package.glob("__pycache__/*.pyc"))) == len(list(PACKAGE.glob("*.py")))


def test_every_module_is_loaded_without_a_warning(each_python):
    names = sorted(source.stem for source in PACKAGE.glob("*.py") if source.stem != "__init__")
    done = run(each_python, "-IS", "-c", LOAD, str(PACKAGE.parent), *names)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_namespaces_are_entered_through_posix_where_that_can_do_it(each_python):
    done = run(each_python, "-IS", "-c", WHICH, str(PACKAGE.parent))
    assert (done.returncode, done.stderr) == (0, "")
    has_posix, took_ctypes, number = json.loads(done.stdout)
    assert (took_ctypes, number) == (not has_posix, errno.EINVAL)


def test_fuzzed_calls_end_well(each_python):
    """A share of what tests/simulation/enim/test_fuzz.py plays; the interpreters differ in how they read bad JSON."""
    fuzz = [fuzz_plain.__file__, str(FUZZ), "7"]
    environment = {"PYTHONPATH": str(PACKAGE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([each_python, "-W", "error", *fuzz], check=False, capture_output=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
