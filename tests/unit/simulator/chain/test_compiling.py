"""The compiled package is what a launcher loads, by this Python's own hand or asked as a program."""

import json
import marshal
import sys
from pathlib import Path

import pytest

from enim import addresses, loading
from simulator.chain import compiling

PACKAGE = Path(loading.__file__).parent
SOURCES = {file.stem: file.read_bytes() for file in sorted(PACKAGE.glob("*.py"))}


def made(sources, pieces=None):
    """The package, and what of the file is at a place."""
    compiled = compiling.compiled(sources, loading.HEAD_BYTES, pieces or {})
    modules, calls = marshal.loads(compiled.file[loading.HEAD_BYTES :])

    def at(place):
        return marshal.loads(compiled.file[place[0] : sum(place)])

    return at(modules), calls, at


def split(source):
    """The names that the core of a module defines, and those of each of its parts."""
    modules, _, at = made({"loading": b"", "one": source.encode()})
    core, parts = modules["one"]
    namespace = {}
    exec(at(core), namespace)
    by_part = {}
    for name, place in at(parts).items():
        by_part.setdefault(at(place).co_name, set()).add(name)
    return set(namespace) - {"__builtins__"}, by_part


def test_file_holds_every_module_without_docstrings_annotations_and_what_is_for_type_checkers():
    compiled = compiling.compiled(SOURCES, loading.HEAD_BYTES, {})
    assert (compiled.tag, compiled.version) == (sys.implementation.cache_tag, sys.hexversion >> 16)
    modules, _, at = made(SOURCES)
    assert set(modules) == set(SOURCES)
    core, parts = modules["addresses"]
    namespace = {"__name__": "addresses"}
    exec(at(core), namespace)
    exec(at(at(parts)["parse_prefix"]), namespace)
    parse_prefix = namespace["parse_prefix"]
    assert parse_prefix("192.0.2.1/24") == (4, 0xC0000201, 24)
    assert (namespace.get("__doc__"), parse_prefix.__doc__, parse_prefix.__annotations__) == (None, None, {})
    assert parse_prefix.__code__.co_filename == "enim/addresses.py"
    assert parse_prefix.__code__.co_firstlineno == addresses.parse_prefix.__code__.co_firstlineno
    assert "collections.abc" not in at(modules["process"][0]).co_names


def test_what_nobody_mentions_is_a_part_of_its_own_with_what_it_alone_mentions():
    source = "def a(): return b()\ndef b(): return c()\ndef c(): pass\nclass D: pass\n"
    assert split(source) == (set(), {"a": {"a", "b", "c"}, "D": {"D"}})


def test_what_several_parts_or_the_module_itself_mention_is_in_the_core_with_all_that_it_mentions():
    source = "def a(): return c()\ndef b(): return c()\ndef c(): return d()\ndef d(): pass\n"
    assert split(source) == ({"c", "d"}, {"a": {"a"}, "b": {"b"}})
    source = "def a(): return b()\ndef b(): pass\nTABLE = {1: a}\ndef c(given=TABLE): pass\n"
    assert split(source) == ({"a", "b", "TABLE"}, {"c": {"c"}})
    source = "class A: pass\nclass B(A): pass\nclass C(A): pass\n"
    assert split(source) == ({"A"}, {"B": {"B"}, "C": {"C"}})


def test_what_only_each_other_mentions_is_in_the_core():
    assert split("def a(): return b()\ndef b(): return a()\n") == ({"a", "b"}, {})


def test_what_another_module_asks_for_is_no_part_of_somebody_else():
    sources = {"loading": b"", "one": b"def a(): return b()\ndef b(): pass\n", "two": b"import one\ndef c(): one.b()\n"}
    modules, _, at = made(sources)
    assert at(modules["one"][0]).co_names == ("b",)
    assert list(at(modules["one"][1])) == ["a"]


def test_pieces_have_what_there_is_in_their_order():
    pieces = {"a call": [["one", "one.c", "gone"], ["one.a", "gone.b"]]}
    _, calls, at = made({"loading": b"", "one": b"def a(): pass\ndef c(): pass\n"}, pieces)
    assert [list(at(place)) for place in calls["a call"]] == [["one", "one.c"], ["one.a"]]


def test_part_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"bytes does not fit into 100"):
        compiling.compiled(SOURCES, 100, {})


def test_as_a_program_it_reads_and_prints_json(monkeypatch, capsys, tmp_path):
    file = tmp_path / "stdin"
    sources = {name: content.hex() for name, content in SOURCES.items()}
    file.write_text(json.dumps({"head_bytes": loading.HEAD_BYTES, "sources": sources, "calls": {}}))
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        compiling.main()
    told = json.loads(capsys.readouterr().out)
    made = compiling.compiled(SOURCES, loading.HEAD_BYTES, {})
    assert (told["tag"], told["version"], bytes.fromhex(told["file"])) == made
