"""What is compiled is what Python itself would load, and stays so."""

import json
import marshal
import sys
from importlib.util import MAGIC_NUMBER, cache_from_source

from simulator.chain import compiling

SOURCES = {"package/one.py": b"VALUE = 6 * 7\n", "package/two.py": "TEXT = 'ä'\n".encode()}


def test_each_source_has_a_compiled_form_with_the_header_of_this_python():
    files = compiling.compiled(SOURCES)
    assert list(files) == [cache_from_source(path, optimization="") for path in SOURCES]
    for content in files.values():
        assert (content[:4], int.from_bytes(content[4:8], "little")) == (MAGIC_NUMBER, 0b01)  # PEP 552: unchecked
    names = {}
    exec(marshal.loads(next(iter(files.values()))[16:]), names)
    assert names["VALUE"] == 42


def test_as_a_program_it_reads_and_prints_json(monkeypatch, capsys, tmp_path):
    file = tmp_path / "stdin"
    file.write_text(json.dumps({path: content.hex() for path, content in SOURCES.items()}))
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        compiling.main()
    assert list(json.loads(capsys.readouterr().out)) == list(compiling.compiled(SOURCES))
