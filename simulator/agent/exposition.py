"""PURE: metrics as Prometheus reads them: its text format, version 0.0.4.

Source: prometheus.io/docs/instrumenting/exposition_formats (the format), practices/naming (names and units).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

CONTENT_TYPE = "text/plain; version=0.0.4"

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: ``suffix`` follows the family's name, "" but in a histogram."""

    value: float
    labels: Labels = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name with its unit, what it says in one sentence, and a sample for each set of labels."""

    name: str
    kind: Kind
    says: str
    samples: tuple[Sample, ...]


def buckets(labels: Labels, bounds: Sequence[float], counts: Sequence[int], total: float) -> Iterator[Sample]:
    """The samples of a histogram.

    Args:
        bounds: upper bounds, ascending.
        counts: so many fell between each bound and the one before; the last is for those above all bounds.
        total: their sum.
    """
    assert len(counts) == len(bounds) + 1
    so_far = 0
    for bound, count in zip((*map(_number, bounds), "+Inf"), counts, strict=True):
        so_far += count
        yield Sample(so_far, (*labels, ("le", bound)), "_bucket")
    yield Sample(total, labels, "_sum")
    yield Sample(so_far, labels, "_count")


def text(families: Iterable[Family]) -> bytes:
    """Print them; a family without a sample is left out."""
    return "".join(line for family in families if family.samples for line in _lines(family)).encode()


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.says)}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for sample in family.samples:
        pairs = ",".join(f'{name}="{_quoted(value)}"' for name, value in sample.labels)
        labels = f"{{{pairs}}}" if pairs else ""
        yield f"{family.name}{sample.suffix}{labels} {_number(sample.value)}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(value: str) -> str:
    return _escaped(value).replace('"', r"\"")
