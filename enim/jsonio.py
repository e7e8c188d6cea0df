"""JSON in and out without the ``json`` package on the happy path: importing it costs as much as Python's start.

Rules: what the C scanner of CPython cannot read at once is given to ``json``, whose verdict counts; so the two never
disagree, and only bad input pays for the import. As in Go's decoder, NaN and Infinity, numbers beyond a double and
trailing data are errors, and bytes that are not UTF-8 become U+FFFD.

Source: CPython ``Lib/json/decoder.py`` and ``encoder.py``, which build ``_json``'s scanner and encoder the same way.
"""

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_WHITE_SPACE = " \t\n\r"
_INFINITE = (float("inf"), float("-inf"))


def loads(data: bytes) -> "Any":
    """Decode one JSON document.

    Raises:
        ValueError: with the reason and its place; also for nesting too deep to be read.
    """
    text = data.decode("utf-8", "replace").strip(_WHITE_SPACE)
    try:
        value, end = _scan(text, 0)
    except Exception:  # noqa: BLE001 -- also SystemError, which this scanner raises on some bad input before 3.12
        return _loads_slowly(text)
    if end != len(text):
        return _loads_slowly(text)
    return value


def dumps(value: object, *, sort_keys: bool = False) -> bytes:
    """Encode as UTF-8 in one line without spaces, keys in their own order unless ``sort_keys``.

    A lone surrogate, which UTF-8 has no bytes for, becomes U+FFFD.

    Raises:
        ValueError: NaN or Infinity, or a value that contains itself.
        TypeError: a value that JSON has no form for.
    """
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
    for name, value in mapping.items():
        if name.lower() == folded:
            return value
    return None


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


class _Settings:
    """What ``_json.make_scanner`` reads from a ``json.JSONDecoder``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = staticmethod(_finite)
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)


def _scanner(settings: "Any") -> "Any":
    return _json.make_scanner(settings)


_scan = _scanner(_Settings())


def _refuse_value(value: object) -> "Any":
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _encoder(*, sort_keys: bool) -> "Any":
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
