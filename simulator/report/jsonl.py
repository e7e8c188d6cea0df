"""A run as JSON lines: every event, in order, with everything it knows. In virtual time the same run gives the same
bytes.

Each line is an object with ``event`` (the record's name) and its fields; bytes are text, with what is not UTF-8
replaced.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from simulator.report import events, files


class TraceReport:
    """Writes ``path`` as events come. Use it in a ``with`` statement. Raises ScenarioError if it cannot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with files.writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8", newline="\n")

    def __enter__(self) -> TraceReport:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _place: TracebackType | None
    ) -> None:
        with files.writing(self._path):
            self._file.close()

    def __call__(self, event: events.Event) -> None:
        """Take the next event of the run."""
        line = {"event": type(event).__name__, **_plain(event)}
        with files.writing(self._path):
            self._file.write(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n")


def _plain(value: Any) -> Any:
    """What JSON can say of a record."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return round(value, 3)
    return value
