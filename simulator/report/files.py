"""EDGE: the files that a user asks a run to write: what is wrong with one is said as of any other input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from simulator.errors import ScenarioError


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around whatever writes ``path``. Raises ScenarioError for an OSError: no folder, no permission, a full disk."""
    try:
        yield
    except OSError as error:
        raise ScenarioError(str(path), 0, 0, f"it cannot be written: {error.strerror}") from error
