"""What is compiled is what Python itself would make of the sources, less what no call looks at."""

import json
import marshal
import sys

from enim import loading
from simulator.chain import compiling

ONE = '''"""Docs."""
VALUE: "int" = 6 * 7
later: int

def f(x: int = 1) -> int:
    """More."""
    return x
'''
SOURCES = {
    "package/loading.py": b"seen = []\ndef start(*given): seen.append(given)\n",
    "package/one.py": ONE.encode(),
    "package/two.py": "class Two:\n    'ä'\n".encode(),
}


def run(name):
    """The names of a module that was compiled."""
    (content,) = compiling.compiled(SOURCES).values()
    offset, length = marshal.loads(content[compiling.HEAD_BYTES :])[name]
    code = marshal.loads(content[offset : offset + length])
    names = {"__name__": name}
    exec(code, names)
    return names, code


def test_file_is_named_for_the_interpreter_that_made_it():
    assert list(compiling.compiled(SOURCES)) == [f"plugins.{sys.implementation.cache_tag}"]


def test_every_module_is_in_it_without_docstrings_and_annotations():
    names, code = run("one")
    assert (names["VALUE"], names["f"]()) == (42, 1)
    assert (names.get("__doc__"), names["f"].__doc__, names["f"].__annotations__) == (None, None, {})
    assert (code.co_filename, names["f"].__code__.co_firstlineno) == ("package/one.py", 5)
    assert "__annotations__" not in names
    assert run("two")[0]["Two"].__doc__ is None


def test_its_head_starts_a_plugin():
    assert compiling.HEAD_BYTES == loading.HEAD_BYTES
    (content,) = compiling.compiled(SOURCES).values()
    names = {"file": 7, "home": "/home", "first": "one"}
    exec(marshal.loads(content), names)
    assert names["seen"] == [(7, "/home/enim", "one")]


def test_as_a_program_it_reads_and_prints_json(monkeypatch, capsys, tmp_path):
    file = tmp_path / "stdin"
    file.write_text(json.dumps({path: content.hex() for path, content in SOURCES.items()}))
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        compiling.main()
    assert list(json.loads(capsys.readouterr().out)) == list(compiling.compiled(SOURCES))
