"""Framing: the details that test_wire does not reach through whole messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enim import errors, framing


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_unquote_undoes_quote(text):
    assert framing.unquote(framing.quote(text)) == text


def test_quote_keeps_bytes_that_are_not_utf8():
    assert framing.quote(b"/run/\xff".decode("utf-8", "surrogateescape"), keep="/") == "/run/%FF"


@pytest.mark.parametrize("text", ["%", "%4", "a%zzb", "%ff"])
def test_unquote_refuses_malformed_escapes(text):
    with pytest.raises(errors.WireError):
        framing.unquote(text)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_split_head_accepts_a_bare_line_feed(line_end):
    data = line_end.join([b"GET / HTTP/1.1", b"Host:", b"A:  b\t", b"", b"body"])
    first_line, headers, start = framing.split_head(data)
    assert (first_line, headers, data[start:]) == ("GET / HTTP/1.1", (("host", ""), ("a", "b")), b"body")


def test_split_head_skips_empty_lines_before_it():
    assert framing.split_head(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n")[0] == "GET / HTTP/1.1"


def test_split_head_refuses_to_collect_for_ever():
    assert framing.split_head(b"a" * framing.HEAD_BYTES_MAX) is None
    with pytest.raises(errors.WireError) as caught:
        framing.split_head(b"a" * (framing.HEAD_BYTES_MAX + 1))
    assert caught.value.status == 431


def test_content_length_accepts_a_repetition_but_no_contradiction():
    assert framing.content_length((("content-length", "5"), ("content-length", "5"))) == 5
    assert framing.content_length(()) is None
    with pytest.raises(errors.WireError):
        framing.content_length((("content-length", "5"), ("transfer-encoding", "chunked")))


def test_take_chunks_bounds_the_trailers():
    endless = b"0\r\n" + b"a: b\r\n" * 20_000
    with pytest.raises(errors.WireError) as caught:
        framing.take_chunks(endless, 0)
    assert caught.value.status == 431


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_take_chunks_joins_what_was_sent(parts):
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    assert framing.take_chunks(b"head" + data + b"next", 4) == (b"".join(parts), 4 + len(data))
