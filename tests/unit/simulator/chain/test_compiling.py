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


def test_file_holds_every_module_without_docstrings_and_annotations():
    made = compiling.compiled(SOURCES, loading.HEAD_BYTES)
    assert (made.tag, made.version) == (sys.implementation.cache_tag, sys.hexversion >> 16)
    places = marshal.loads(made.file[loading.HEAD_BYTES :])
    assert set(places) == set(SOURCES)
    offset, length = places["addresses"]
    code = marshal.loads(made.file[offset : offset + length])
    namespace = {"__name__": "addresses"}
    exec(code, namespace)
    parse_prefix = namespace["parse_prefix"]
    assert parse_prefix("192.0.2.1/24") == (4, 0xC0000201, 24)
    assert (namespace.get("__doc__"), parse_prefix.__doc__, parse_prefix.__annotations__) == (None, None, {})
    assert code.co_filename == "enim/addresses.py"
    assert parse_prefix.__code__.co_firstlineno == addresses.parse_prefix.__code__.co_firstlineno


def test_part_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"bytes does not fit into 100"):
        compiling.compiled(SOURCES, 100)


def test_as_a_program_it_reads_and_prints_json(monkeypatch, capsys, tmp_path):
    file = tmp_path / "stdin"
    sources = {name: content.hex() for name, content in SOURCES.items()}
    file.write_text(json.dumps({"head_bytes": loading.HEAD_BYTES, "sources": sources}))
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        compiling.main()
    told = json.loads(capsys.readouterr().out)
    made = compiling.compiled(SOURCES, loading.HEAD_BYTES)
    assert (told["tag"], told["version"], bytes.fromhex(told["file"])) == made
