"""HTTP/1.1 framing over bytes that have been collected so far: heads, bodies, chunks, percent-encoding.

Rules: no I/O; None means "not whole yet"; the bounds hold before anything is whole, so that no peer can make us collect
for ever. Repeated headers: the last one counts, but two lengths that differ are an error.

Source: RFC 9112 sections 2.2 (line ends), 6 (message body), 7.1 (chunks); RFC 3986 section 2 (percent-encoding).
"""

from enim import errors

HEAD_BYTES_MAX = 64 * 1024  # net/http allows 1 MiB, nginx 32 KiB; the heads of this API are below 1 KiB
BODY_BYTES_MAX = 1024 * 1024

_LENGTH_DIGITS_MAX = 12
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_TOKEN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_CHUNK_LINE_BYTES_MAX = 1024

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Pairs: TypeAlias = tuple[tuple[str, str], ...]


def last(pairs: "Pairs", name: str) -> str:
    """The last value for ``name``, "" if there is none."""
    for key, value in reversed(pairs):
        if key == name:
            return value
    return ""


def is_token(text: str) -> bool:
    """Is it a method or a header's name?"""
    return text != "" and set(text) <= _TOKEN


def is_decimal(text: str) -> bool:
    """Is it an unsigned decimal number of at most 12 digits?"""
    return text.isascii() and text.isdigit() and len(text) <= _LENGTH_DIGITS_MAX


def join_head(lines: list[str]) -> bytes:
    """Print the head of a message that ends its connection, or not, as its lines say.

    Raises:
        ValueError: a line that would end before its end.
    """
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a line end inside of a header")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def split_head(data: bytes, start: int = 0) -> "tuple[str, Pairs, int] | None":
    """Read the head at ``start``: its first line, the headers (names in lower case), and where the body starts."""
    origin = start
    while data[start : start + 2] == b"\r\n":
        start += 2
    end, mark = _head_end(data, start)
    if (end if end >= 0 else len(data)) - origin > HEAD_BYTES_MAX:
        raise errors.WireError(431, "the head is longer than 64 KiB")
    if end < 0:
        return None
    first_line, *lines = data[start:end].decode("latin-1").replace("\r\n", "\n").split("\n")
    return first_line, tuple(_header(line) for line in lines), end + len(mark)


def _head_end(data: bytes, start: int) -> tuple[int, bytes]:
    """Where the last line of a head ends, and what ends it: RFC 9112 2.2 lets a reader accept a bare line feed."""
    ends = [(data.find(mark, start), mark) for mark in (b"\r\n\r\n", b"\n\n", b"\n\r\n")]
    return min([end for end in ends if end[0] >= 0], default=(-1, b""))


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not is_token(name):
        raise errors.WireError(400, "malformed header")
    return name.lower(), value.strip(" \t")


def content_length(headers: "Pairs") -> "int | None":
    """The length that the headers state, None if none does.

    Raises:
        WireError: no number, two different ones, or more than 1 MiB.
    """
    stated = {value for name, value in headers if name == "content-length"}
    if not stated:
        return None
    text = stated.pop()
    if stated or not is_decimal(text) or last(headers, "transfer-encoding"):
        raise errors.WireError(400, "malformed Content-Length")
    return _bounded(int(text))


def is_chunked(headers: "Pairs") -> bool:
    """Is the body in chunks? Raises WireError for any other transfer encoding."""
    encoding = last(headers, "transfer-encoding").lower()
    if encoding not in ("", "chunked"):
        raise errors.WireError(501, "unknown transfer encoding")
    return encoding == "chunked"


def take(data: bytes, start: int, length: int) -> "tuple[bytes, int] | None":
    """The body of a known length, and where it ends."""
    end = start + length
    return (data[start:end], end) if len(data) >= end else None


def take_rest(data: bytes, start: int, *, closed: bool) -> "tuple[bytes, int] | None":
    """The body of an answer that ends with its connection."""
    _bounded(len(data) - start)
    return (data[start:], len(data)) if closed else None


def take_chunks(data: bytes, start: int) -> "tuple[bytes, int] | None":
    """The body in chunks, without its trailers, and where it ends."""
    parts: list[bytes] = []
    length = 0
    while True:
        line, start = _line(data, start)
        if line is None:
            return None
        digits = line.partition(b";")[0].strip().decode("latin-1")
        if not digits or len(digits) > _LENGTH_DIGITS_MAX or not set(digits) <= _HEX_DIGITS:
            raise errors.WireError(400, "malformed chunk")
        size = int(digits, 16)
        if size == 0:
            break
        length = _bounded(length + size)
        if len(data) < start + size + 2:
            return None
        if data[start + size : start + size + 2] != b"\r\n":
            raise errors.WireError(400, "malformed chunk")
        parts.append(data[start : start + size])
        start += size + 2
    trailers_start = start
    while line:  # the trailers, down to the empty line
        line, start = _line(data, start)
        if start - trailers_start > HEAD_BYTES_MAX:
            raise errors.WireError(431, "the trailers are longer than 64 KiB")
    return None if line is None else (b"".join(parts), start)


def _line(data: bytes, start: int) -> "tuple[bytes | None, int]":
    end = data.find(b"\r\n", start)
    if (end if end >= 0 else len(data)) - start > _CHUNK_LINE_BYTES_MAX:
        raise errors.WireError(400, "malformed chunk")
    return (data[start:end], end + 2) if end >= 0 else (None, start)


def _bounded(length: int) -> int:
    if length > BODY_BYTES_MAX:
        raise errors.WireError(413, "the body is longer than 1 MiB")
    return length


def quote(text: str, *, keep: str = "") -> str:
    """Percent-encode all but the unreserved characters of RFC 3986 and those of ``keep``."""
    data = text.encode("utf-8", "surrogateescape").replace(b"%", b"%25")
    for byte in set(data).difference(_UNRESERVED, keep.encode(), b"%"):
        data = data.replace(bytes((byte,)), b"%%%02X" % byte)
    return data.decode()


def unquote(text: str) -> str:
    """Undo percent-encoding.

    Raises:
        WireError: a ``%`` without two hexadecimal digits, or bytes that are not UTF-8.
    """
    first, *rest = text.split("%")
    data = bytearray(first.encode("latin-1"))
    for part in rest:
        if len(part) < 2 or not set(part[:2]) <= _HEX_DIGITS:
            raise errors.WireError(400, "malformed percent-encoding")
        data.append(int(part[:2], 16))
        data += part[2:].encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise errors.WireError(400, "the target is not UTF-8") from None


def split_target(target: str) -> "tuple[str, Pairs]":
    """Read a request's target: the decoded path and the decoded pairs of its query."""
    if target.startswith(("http://", "https://")):
        target = "/" + target.partition("//")[2].partition("/")[2]
    path, _, query = target.partition("#")[0].partition("?")
    if not path.startswith("/"):
        raise errors.WireError(400, "malformed request target")
    pairs = []
    for pair in query.split("&"):
        if pair:
            key, _, value = pair.partition("=")
            pairs.append((unquote(key.replace("+", " ")), unquote(value.replace("+", " "))))
    return unquote(path), tuple(pairs)
