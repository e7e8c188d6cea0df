"""A package out of one file, in which a module is run when something of it is asked for."""

import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enim import loading

SOURCES = {
    "first": "from planted import second, third\nseen = ['first']\ndef main(): print(second.value, 'third' in seen)\n",
    "second": "from planted import first\nfirst.seen.append('second')\nvalue = 7\n",
    "third": "from planted import first\nfirst.seen.append('third')\n",
    "broken": "value = 1 // 0\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of ``SOURCES``, in a file as an installation has it, and a folder with one more module."""
    places, body = {}, b""
    for name, source in SOURCES.items():
        code = marshal.dumps(compile(source, name, "exec"))
        places[name] = (2 * loading.HEAD_BYTES + len(body), len(code))
        body += code
    file = tmp_path / "plugins"
    heads = (b"", marshal.dumps(places))
    file.write_bytes(b"".join(head.ljust(loading.HEAD_BYTES, b"\0") for head in heads) + body)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/beside.py").write_text("value = 8\n")
    descriptor = os.open(file, os.O_RDONLY)
    for name in ("planted", *(f"planted.{name}" for name in (*SOURCES, "beside", "none"))):
        monkeypatch.setitem(sys.modules, name, None)
        del sys.modules[name]
    yield loading.load(descriptor, str(tmp_path / "folder"), "planted")
    os.close(descriptor)


def test_module_is_run_when_something_of_it_is_asked_for_and_only_once(package):
    from planted import first, second, third  # noqa: PLC0415 -- there is no such package before

    assert list(first.seen) == ["first"]
    assert (second.value, second.value) == (7, 7)
    assert first.seen == ["first", "second"]
    assert type(third) is not type(sys)
    assert (sys.modules["planted.second"], package.second, type(second)) == (second, second, type(sys))


def test_module_that_lacks_what_is_asked_for_says_so(package):
    from planted import second  # noqa: PLC0415 -- as above

    with pytest.raises(AttributeError, match="nothing"):
        _ = second.nothing


def test_module_that_cannot_be_run_says_why(package):
    from planted import broken  # noqa: PLC0415 -- as above

    for _again in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = broken.value


def test_what_is_not_in_the_file_is_looked_for_in_the_folder(package):
    from planted import beside  # noqa: PLC0415 -- as above

    assert beside.value == 8
    with pytest.raises(ImportError):
        from planted import none  # noqa: F401, PLC0415 -- as above


def test_start_runs_main_and_nothing_that_main_does_not_use(package, tmp_path):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from enim import loading\n"
        "load = loading.load\n"
        "loading.load = lambda file, folder, name: load(file, folder, 'planted')\n"
        "loading.start(os.open(sys.argv[1], os.O_RDONLY), 'nowhere', 'first')\n"
    )
    command = [sys.executable, "-ISE", "-c", code, str(tmp_path / "plugins"), str(Path(loading.__file__).parents[1])]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "7 False\n"
