"""The house rules that no linter knows: a test file per module, sizes, EDGE docstrings, no traces of one machine."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted([*ROOT.glob("enim/**/*.py"), *ROOT.glob("simulator/**/*.py")])
SOURCES = sorted([*MODULES, *ROOT.glob("tests/**/*.py"), *ROOT.glob(".ci/*.py")])
MANIFEST = tomllib.loads((ROOT / "pyproject.toml").read_text())
TIERS = sorted(marker.split(":")[0] for marker in MANIFEST["tool"]["pytest"]["ini_options"]["markers"])

LINES_MAX = 400
FUNCTION_LINES_MAX = 70

# Module → why nothing in it could go wrong by itself.
WITHOUT_TEST = {
    "enim/effects.py": "declarations only",
    "enim/errors.py": "declarations only",
    "simulator/chain/calls.py": "a table, which tests/chain/enim/test_loaded_modules.py holds against the calls",
    "simulator/effects.py": "declarations only",
    "simulator/errors.py": "declarations only",
    "simulator/model.py": "declarations only",
    "simulator/report/events.py": "declarations only",
}

# Who imports one of these reaches out of the process, or takes what is not in its arguments.
OUTSIDE = {
    *("_socket", "ctypes", "fcntl", "multiprocessing", "pyroute2", "random", "selectors", "signal", "socket"),
    *("socketserver", "sqlite3", "subprocess", "threading", "time", "yaml"),
}

# Arithmetic on the text of addresses, which happens to live in the socket module.
PURE_NAMES = {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"}

MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|root|home/\w+|Users/\w+|opt/wheels)/|\.pyenv/versions")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names(paths: list[Path]) -> list[str]:
    return [name(path) for path in paths]


def published_files() -> list[Path]:
    """What git tracks or would; where git cannot tell (an archive, a foreign owner), all that is not hidden."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        text = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        hidden = re.compile(r"(^|/)(\.|__pycache__/)")
        return sorted(path for path in ROOT.rglob("*") if path.is_file() and not hidden.search(name(path)))
    return sorted(path for item in text.split("\0") if item and (path := ROOT / item).is_file())


def imported(tree: ast.Module) -> Iterator[str]:
    """The top-level package of every import statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not {alias.name for alias in node.names} <= PURE_NAMES:
            yield (node.module or "").partition(".")[0]


def test_every_module_has_a_test_file_that_mirrors_its_path() -> None:
    missing = []
    for path in MODULES:
        if path.name == "__init__.py" or name(path) in WITHOUT_TEST:
            continue
        mirror = path.relative_to(ROOT).with_name(f"test_{path.stem.strip('_')}.py")
        if not any((ROOT / "tests" / tier / mirror).is_file() for tier in TIERS):
            missing.append(f"{name(path)}: no tests/<tier>/{mirror}")
    assert missing == []


def test_every_tier_has_a_test() -> None:
    assert [tier for tier in TIERS if not any(ROOT.glob(f"tests/{tier}/**/test_*.py"))] == []


def test_every_tier_is_run_by_tox() -> None:
    tox = (ROOT / "tox.ini").read_text()
    assert [tier for tier in TIERS if not re.search(rf"posargs:[^}}]*\btests/{tier}\b", tox)] == []


def test_every_module_without_a_test_still_exists() -> None:
    assert [module for module in WITHOUT_TEST if not (ROOT / module).is_file()] == []


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_file_is_short_and_so_are_its_functions(path: Path) -> None:
    text = path.read_text()
    long_functions = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        if node.end_lineno - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert (len(text.splitlines()) <= LINES_MAX, long_functions) == (True, []), f"{len(text.splitlines())} lines"


@pytest.mark.parametrize("path", MODULES, ids=names(MODULES))
def test_module_that_reaches_outside_says_so_in_its_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text())
    doors = sorted(OUTSIDE & set(imported(tree)))
    docstring = ast.get_docstring(tree) or ""
    assert not doors or docstring.startswith("EDGE"), f"imports {', '.join(doors)}: {docstring.partition(chr(10))[0]!r}"


@pytest.mark.parametrize("path", SOURCES, ids=names(SOURCES))
def test_no_mock(path: Path) -> None:
    tree = ast.parse(path.read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert "mock" not in named | set(imported(tree))


def test_no_published_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in published_files():
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            if MACHINE_PATHS.search(line):
                found.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    assert found == []


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each command line in the fenced shell blocks of a Markdown text, one list per pipeline part."""
    for block in re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s[|&;]+\s|\s&$", line.removeprefix("$ ")):
                words = [word for word in part.split() if not re.match(r"\w+=", word)]
                if words and not words[0].startswith("#"):
                    yield words


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_command_of_a_document_exists(document: str) -> None:
    offered = {"cd", "crictl", "echo", "export", "git", "unshare", *MANIFEST["project"]["scripts"]}
    found = list(commands_of((ROOT / document).read_text()))
    assert found != []
    for words in found:
        if words[0].startswith("scripts/"):
            assert (ROOT / words[0]).stat().st_mode & 0o111, f"{words[0]} cannot be executed"
        else:
            assert words[0] in offered, " ".join(words)
        if words[0] == "enim-lab":
            asked = subprocess.run(
                [sys.executable, "-m", "simulator", words[1], "--help"], check=False, cwd=ROOT, capture_output=True
            )
            assert asked.returncode == 0, f"{' '.join(words)}: {asked.stderr.decode()}"
