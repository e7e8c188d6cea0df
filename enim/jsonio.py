"""JSON in and out without the ``json`` package on the happy path: importing it costs as much as Python's start.

Rules: three readers, each of which gives what it does not understand to the next: this module's own, for documents
without escapes and fractions, as nearly all are; CPython's scanner in C, whose loading takes twice as long as reading
such a document; and ``json``, whose verdict counts. So they never disagree, and only odd input pays. As in Go's
decoder, NaN and Infinity, numbers beyond a double and trailing data are errors, and bytes that are not UTF-8 become
U+FFFD.

Source: RFC 8259; CPython ``Lib/json/decoder.py`` and ``encoder.py``, which build ``_json``'s scanner and encoder so.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_WHITE_SPACE = " \t\n\r"
_INFINITE = (float("inf"), float("-inf"))
_CLOSING = {"{": "}", "[": "]"}
_WORDS = (("true", True), ("false", False), ("null", None))
_PRINTED = {True: "true", False: "false", None: "null"}
_DIGITS = frozenset("0123456789")
_FRACTION = (".", "e", "E")


def loads(data: bytes) -> "Any":
    """Decode one JSON document.

    Raises:
        ValueError: with the reason and its place; also for nesting too deep to be read.
    """
    text = data.decode("utf-8", "replace").strip(_WHITE_SPACE)
    for scan in (_read, _scan):
        try:
            value, end = scan(text, 0)
        except Exception:  # noqa: BLE001 -- also SystemError, which CPython's raises on some bad input before 3.12
            end = -1
        if end == len(text):
            return value
    return _loads_slowly(text)


def dumps(value: object, *, sort_keys: bool = False) -> bytes:
    """Encode as UTF-8 in one line without spaces, keys in their own order unless ``sort_keys``.

    A lone surrogate, which UTF-8 has no bytes for, becomes U+FFFD.

    Raises:
        ValueError: NaN or Infinity, or a value that contains itself.
        TypeError: a value that JSON has no form for.
    """
    try:
        text = _print(value, sort_keys=sort_keys)
    except (ValueError, RecursionError):
        text = "".join(_encoder(sort_keys=sort_keys)(value, 0))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def member(mapping: "Mapping[str, Any]", key: str) -> "Any":
    """The value of ``key``, or of a key that differs only in case, or None: Go's decoder reads both.

    Several producers depend on that; contract A3 names them.
    """
    if key in mapping:
        return mapping[key]
    folded = key.lower()
    if folded in map(str.lower, mapping.keys()):
        return next(value for name, value in mapping.items() if name.lower() == folded)
    return None


def _read(text: str, start: int) -> "tuple[Any, int]":
    """The value at ``start``, and where it ends. Raises anything for what is not plain, which may be right even so."""
    while text[start] in _WHITE_SPACE:
        start += 1
    first = text[start]
    if first == '"':
        end = text.index('"', start + 1)
        value = text[start + 1 : end]
        if not value.isprintable() or "\\" in value:
            raise ValueError
        return value, end + 1
    if first in "{[":
        return _read_members(text, start, _CLOSING[first])
    for word, meaning in _WORDS:
        if text.startswith(word, start):
            return meaning, start + len(word)
    end = start + (first == "-")
    while end < len(text) and text[end] in _DIGITS:
        end += 1
    digits = text[start + (first == "-") : end]
    if not digits or (digits[0] == "0" and digits != "0") or text[end : end + 1] in _FRACTION:
        raise ValueError
    return int(text[start:end]), end


def _read_members(text: str, start: int, closing: str) -> "tuple[Any, int]":
    """The object or array that begins at ``start``."""
    pairs: dict[str, Any] = {}
    values: list[Any] = []
    place = start + 1
    while text[place] in _WHITE_SPACE:
        place += 1
    if text[place] == closing:
        return (values if closing == "]" else pairs), place + 1
    while True:
        value, place = _read(text, place)
        while text[place] in _WHITE_SPACE:
            place += 1
        if closing == "]":
            values.append(value)
        else:
            if text[place] != ":" or type(value) is not str:
                raise ValueError
            pairs[value], place = _read(text, place + 1)
            while text[place] in _WHITE_SPACE:
                place += 1
        if text[place] != ",":
            break
        place += 1
    if text[place] != closing:
        raise ValueError
    return (values if closing == "]" else pairs), place + 1


def _print(value: object, *, sort_keys: bool) -> str:
    """A plain value as text. Raises ValueError for one that is not plain, RecursionError for one without an end."""
    if type(value) is str:
        if not value.isprintable() or "\\" in value or '"' in value:
            raise ValueError
        return f'"{value}"'
    if value is True or value is False or value is None:
        return _PRINTED[value]
    if type(value) is int:
        return str(value)
    if type(value) is dict:
        pairs = sorted(value.items()) if sort_keys else value.items()
        return "{" + ",".join([f"{_print_key(key)}:{_print(part, sort_keys=sort_keys)}" for key, part in pairs]) + "}"
    if type(value) is list or type(value) is tuple:
        return "[" + ",".join([_print(part, sort_keys=sort_keys) for part in value]) + "]"
    raise ValueError


def _print_key(key: object) -> str:
    if type(key) is not str:
        raise ValueError
    return _print(key, sort_keys=False)


def _loads_slowly(text: str) -> "Any":
    import json  # noqa: PLC0415 -- see the module's docstring

    try:
        return json.loads(text, parse_float=_finite, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in _INFINITE:
        raise ValueError(f"{text[:40]} is beyond the range of a number")
    return value


def _scan(text: str, start: int) -> "tuple[Any, int]":
    import _json  # noqa: PLC0415 -- see the module's docstring

    class Settings:
        """What ``_json.make_scanner`` reads from a ``json.JSONDecoder``."""

        strict = True
        object_hook = None
        object_pairs_hook = None
        array_hook = None
        parse_float = staticmethod(_finite)
        parse_int = int
        parse_constant = staticmethod(_refuse_constant)

    make: Any = _json.make_scanner  # which wants a JSONDecoder, and takes what has its attributes
    found: tuple[Any, int] = make(Settings())(text, start)
    return found


def _refuse_value(value: object) -> "Any":
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _encoder(*, sort_keys: bool) -> "Any":
    import _json  # noqa: PLC0415 -- see the module's docstring

    skip_keys, allow_nan = False, False
    settings: Iterable[Any] = (
        {},
        _refuse_value,
        _json.encode_basestring,
        None,
        ":",
        ",",
        sort_keys,
        skip_keys,
        allow_nan,
    )
    return _json.make_encoder(*settings)
