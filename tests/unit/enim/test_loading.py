"""A package out of one file, in which a module is run when something of it is asked for."""

import marshal
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enim import loading
from simulator.chain import compiling

SOURCES = {
    "loading": "",
    "first": "from planted import second, third\nseen = ['first']\ndef main(): print(second.value, 'third' in seen)\n",
    "second": "from planted import first\nfirst.seen.append('second')\nvalue = 7\n",
    "third": "from planted import first\nfirst.seen.append('third')\n",
    "broken": "value = 1 // 0\n",
    "parted": "count = []\ndef one(): return two() + len(count)\ndef two(): return 2\ndef other(): return 5\n",
    "late": "from planted import parted\nparted.count.append(1)\nclass Kind: pass\n",
}
PIECES = [["first", "parted"], ["second", "parted.one"]]


@pytest.fixture
def file(tmp_path):
    """A package of ``SOURCES``, in a file as an installation has it."""
    sources = {name: source.encode() for name, source in SOURCES.items()}
    made = compiling.compiled(sources, loading.HEAD_BYTES, {"a call": PIECES})
    (tmp_path / "plugins").write_bytes(made.file)
    return tmp_path / "plugins"


@pytest.fixture(params=["", "a call"])
def package(file, monkeypatch, request):
    """The package, loaded for some call, or for one of which the file has pieces."""
    monkeypatch.setitem(sys.modules, "planted", None)
    descriptor = os.open(file, os.O_RDONLY)
    yield loading.load(descriptor, "planted", request.param)
    os.close(descriptor)


def test_module_is_run_when_something_of_it_is_asked_for_and_only_once(package):
    from planted import first, second, third  # noqa: PLC0415 -- there is no such package before

    assert list(first.seen) == ["first"]
    assert (second.value, second.value) == (7, 7)
    assert first.seen == ["first", "second"]
    assert "first" not in vars(third)
    assert package.second is second


def test_module_that_lacks_what_is_asked_for_says_so(package):
    from planted import second  # noqa: PLC0415 -- as above

    with pytest.raises(AttributeError, match="nothing"):
        _ = second.nothing


def test_module_that_cannot_be_run_says_why(package):
    from planted import broken  # noqa: PLC0415 -- as above

    for _again in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = broken.value


def test_part_is_run_when_it_is_asked_for_and_only_once(package):
    from planted import late, parted  # noqa: PLC0415 -- as above

    assert late.Kind is late.Kind
    assert {"one", "two", "other"} & set(vars(parted)) == set()
    assert parted.one() == 3
    assert {"one", "two", "other"} & set(vars(parted)) == {"one", "two"}  # nobody but one mentions two
    assert (parted.other(), parted.one is parted.one) == (5, True)


def test_pieces_of_a_call_are_read_one_after_the_other(file, monkeypatch):
    data = file.read_bytes()
    (offset, length), pieces = marshal.loads(data[loading.HEAD_BYTES :])
    late = marshal.loads(data[offset : offset + length])["late"]
    read = []
    monkeypatch.setattr(loading.posix, "pread", lambda *given: read.append(given) or os.pread(*given))
    monkeypatch.setitem(sys.modules, "planted", None)
    descriptor = os.open(file, os.O_RDONLY)
    package = loading.load(descriptor, "planted", "a call")
    _ = package.first.seen, package.parted.count
    first, second = pieces["a call"]
    assert [given[2] for given in read] == [loading.HEAD_BYTES, first[0]]
    _ = package.second.value, package.parted.one
    assert [given[2] for given in read[2:]] == [second[0]]
    _ = package.third
    assert len(read) == 3
    assert package.late.Kind
    assert [given[2] for given in read[3:]] == [offset, late[0][0], offset, late[1][0], read[-1][2]]
    os.close(descriptor)


def test_module_that_there_is_not_is_missed_when_it_is_used(package):
    from planted import none  # noqa: PLC0415 -- as above

    for _again in range(2):
        with pytest.raises(KeyError, match="none"):
            _ = none.value
    assert package.none


def test_start_runs_main_and_nothing_that_main_does_not_use(file):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); from enim import loading\n"
        "load = loading.load\n"
        "loading.load = lambda file, name, call: load(file, 'planted', call)\n"
        "loading.start(os.open(sys.argv[1], os.O_RDONLY), 'first')\n"
    )
    command = [sys.executable, "-ISE", "-c", code, str(file), str(Path(loading.__file__).parents[1])]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "7 False\n"
