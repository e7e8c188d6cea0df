"""jsonio agrees with the json package on everything, save what Go's decoder refuses."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enim import jsonio

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
CLEAN_TEXT = st.characters(exclude_categories=["Cs"])


def verdict(loads, data):
    try:
        return repr(loads(data))
    except ValueError as error:
        return str(error)


@given(DOCUMENTS, st.booleans())
def test_loads_reads_what_json_prints(document, ascii_only):
    text = json.dumps(document, ensure_ascii=ascii_only)
    assert jsonio.loads(text.encode("utf-8", "replace")) == json.loads(text.encode("utf-8", "replace"))


@given(st.text(CLEAN_TEXT, max_size=30))
def test_loads_agrees_with_json_on_any_text(text):
    ours = verdict(jsonio.loads, text.encode())
    assert ours == verdict(json.loads, text.strip(" \t\r\n")) or "Infinity" in text or "NaN" in text


@given(DOCUMENTS, st.integers(0, 200), st.sampled_from(['"', "{", "]", ",", "\\", "\x00", "9", "-", "e"]))
def test_loads_agrees_with_json_on_damaged_documents(document, place, damage):
    text = json.dumps(document)
    place %= len(text)
    damaged = text[:place] + damage + text[place + 1 :]
    ours = verdict(jsonio.loads, damaged.encode())
    assert ours == verdict(json.loads, damaged.strip(" \t\r\n")) or "beyond the range" in ours


@given(DOCUMENTS)
def test_dumps_prints_what_json_prints(document):
    expected = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    assert jsonio.dumps(document) == expected.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


@given(DOCUMENTS)
def test_loads_undoes_dumps(document):
    clean = json.loads(jsonio.dumps(document))
    assert jsonio.loads(jsonio.dumps(clean)) == clean


def test_dumps_keeps_the_order_of_keys_or_sorts_them_at_every_depth():
    value = {"b": {"d": 1, "c": 2}, "a": [{"f": 1, "e": 2}]}
    assert jsonio.dumps(value) == b'{"b":{"d":1,"c":2},"a":[{"f":1,"e":2}]}'
    assert jsonio.dumps(value, sort_keys=True) == b'{"a":[{"e":2,"f":1}],"b":{"c":2,"d":1}}'


def test_dumps_replaces_a_lone_surrogate():
    assert jsonio.dumps("a\udcffb") == '"a\ufffdb"'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_dumps_refuses_what_is_not_json(value):
    with pytest.raises(ValueError, match="Out of range"):
        jsonio.dumps([value])


def test_dumps_refuses_a_value_without_a_form_and_one_that_contains_itself():
    with pytest.raises(TypeError, match="set"):
        jsonio.dumps({"a": set()})
    value = []
    value.append(value)
    with pytest.raises(ValueError, match="Circular"):
        jsonio.dumps(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  ",
        b"nope",
        b"NaN",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b"1e999",
        b"[-1e999]",
        b"{} {}",
        b"{}x",
        b"{'a':1}",
        b'{"a":1,}',
        b"[1,]",
        b'"\x00"',
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"9" * 5000,
    ],
)
def test_loads_refuses_what_go_refuses(data):
    with pytest.raises(ValueError):
        jsonio.loads(data)


def test_loads_replaces_bytes_that_are_not_utf8():
    assert jsonio.loads(b'{"a":"\xff"}') == {"a": "\ufffd"}


def test_loads_ignores_white_space_around_the_document():
    assert jsonio.loads(b" \r\n\t{} \n") == {}


def test_member_prefers_the_exact_key_and_else_takes_any_case():
    assert jsonio.member({"Name": 1, "name": 2}, "name") == 2
    assert jsonio.member({"CNIVersion": "0.4.0"}, "cniVersion") == "0.4.0"
    assert jsonio.member({"other": 1}, "name") is None


def test_loads_and_dumps_need_no_json_package():
    code = "import sys; from enim import jsonio; jsonio.dumps(jsonio.loads(b'[1.5]')); sys.exit('json' in sys.modules)"
    assert subprocess.run([sys.executable, "-S", "-c", code], check=False).returncode == 0
