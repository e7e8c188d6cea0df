"""PURE: expectations against what was seen. Every check answers with sentences, an empty list if all holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from simulator.chain import plan
from simulator.model import EniRecord, Snapshot
from simulator.scenario import schema

Resolve: TypeAlias = Callable[[str], str]


def answer(expected: schema.Expect | None, got: plan.Answer, eni: str, resolve: Resolve) -> list[str]:
    """What a verb ended with.

    Args:
        expected: of the step; without ``error`` the verb must succeed.
        got: what the runtime was told.
        eni: the ENI that an ADD gave, "" for none.
        resolve: puts the values of ``${…}`` into a text.
    """
    error = None if expected is None else expected.error
    if got.failure is not None:
        return [f"failed: {got.failure}"] if error is None else _error(error, got.failure)
    if error is not None:
        return [f"succeeded, but must fail with {error.model_dump(exclude_none=True)}"]
    if expected is None:
        return []
    problems = [] if expected.eni is None else _eni(expected.eni, eni, resolve)
    if expected.result is not None:
        problems += _subset(expected.result, got.result, "result", resolve)
    return problems


def state(expected: schema.Expect, snapshot: Snapshot, netns: Mapping[str, str], resolve: Resolve) -> list[str]:
    """What the agent says and what the kernel shows.

    Args:
        netns: container → path of its network namespace.
        resolve: puts the values of ``${…}`` into a text.
    """
    problems: list[str] = []
    if (expected.enis or expected.owner) and not snapshot.agent_running:
        return ["the agent does not run, so nothing is known of its ENIs"]
    counts = Counter(record.state for record in snapshot.records)
    for name, count in (expected.enis or {}).items():
        if counts[name] != count:
            problems.append(f"{count} ENIs must be {name}, but {counts[name]} are")
    for pod, container in (expected.owner or {}).items():
        holders = [record.attachment.container_id for record in _held_by(pod, snapshot.records) if record.attachment]
        if holders != ([] if container is None else [container]):
            problems.append(
                f"{pod} must be held by {container or 'nobody'}, but is by {', '.join(holders) or 'nobody'}"
            )
    for eni, link in (expected.links or {}).items():
        problems += _link(resolve(eni), link, snapshot, netns)
    return problems


def _link(eni: str, expected: schema.LinkIs, snapshot: Snapshot, netns: Mapping[str, str]) -> list[str]:
    macs = [record.eni.mac for record in snapshot.records if record.eni.id == eni]
    found = [link for links in snapshot.links.values() for link in links if link.mac in macs]
    if len(found) != 1:
        return [f"the kernel must show {eni} once, but shows it {len(found)} times"]
    where = "" if expected.in_ == "home" else netns[expected.in_]
    wanted = {"netns": where, **expected.model_dump(exclude_none=True, exclude={"in_"})}
    return [
        f"the kernel must show {eni} with {key} {value!r}, but shows {getattr(found[0], key)!r}"
        for key, value in wanted.items()
        if getattr(found[0], key) != value
    ]


def _held_by(pod: str, records: Sequence[EniRecord]) -> list[EniRecord]:
    return [record for record in records if record.owner == pod and record.state == "in_use"]


def _error(expected: schema.ErrorIs, got: plan.Failure) -> list[str]:
    problems = []
    if expected.code is not None and expected.code != got.code:
        problems.append(f"must fail with code {expected.code}, but failed: {got}")
    if expected.text is not None and expected.text not in f"{got.message} {got.details}":
        problems.append(f"must fail with a text that has {expected.text!r}, but failed: {got}")
    return problems


def _eni(expected: schema.EniIs, got: str, resolve: Resolve) -> list[str]:
    if expected.is_ is not None:
        wanted = resolve(expected.is_)
        return [] if got == wanted else [f"must get {wanted}, but got {got}"]
    unwanted = resolve(expected.not_ or "")
    return [f"must not get {unwanted}, but did"] if got == unwanted else []


def _subset(expected: Any, got: Any, place: str, resolve: Resolve) -> list[str]:
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return [f"{place} must be a mapping, but is {got!r}"]
        return [
            problem
            for key, value in expected.items()
            for problem in (
                _subset(value, got[key], f"{place}.{key}", resolve)
                if key in got
                else [f"{place} has no {key}; it is {dict(got)!r}"]
            )
        ]
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return [f"{place} must be a list of {len(expected)}, but is {got!r}"]
        pairs = enumerate(zip(expected, got, strict=True))
        return [problem for i, (want, has) in pairs for problem in _subset(want, has, f"{place}[{i}]", resolve)]
    wanted = resolve(expected) if isinstance(expected, str) else expected
    return [] if got == wanted else [f"{place} must be {wanted!r}, but is {got!r}"]
