"""PURE: expectations against what was seen. Every check answers with sentences, an empty list if all holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from simulator.chain import plan
from simulator.model import EniRecord, Link, Snapshot
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
        return [f"failed: {got.failure}"] if error is None else _error(error, got.failure, resolve)
    if error is not None:
        return [f"succeeded, but must fail with {error.model_dump(exclude_none=True)}"]
    if expected is None:
        return []
    problems = [] if expected.eni is None else _eni(expected.eni, eni, resolve)
    if expected.result is not None:
        problems += _subset(expected.result, got.result, "result", resolve)
    return problems


def state(
    expected: schema.Seen,
    snapshot: Snapshot,
    macs: Mapping[str, str],
    netns: Mapping[str, str],
    resolve: Resolve,
) -> list[str]:
    """What the agent says and what the kernel shows.

    Args:
        macs: ENI → MAC, by the cloud's list.
        netns: container → path of its network namespace.
        resolve: puts the values of ``${…}`` into a text.
    """
    problems: list[str] = []
    if snapshot.agent_running:
        problems += _enis(expected.enis or {}, snapshot.records)
        problems += _owners(expected.owner or {}, snapshot.records)
    elif expected.enis or expected.owner:
        problems.append("the agent does not run, so nothing is known of its ENIs")
    if expected.leases is not None and expected.leases != len(snapshot.leases):
        seen = ", ".join(f"{lease.address} of {lease.attachment}" for lease in snapshot.leases) or "none"
        problems.append(f"{expected.leases} addresses must be on host-local's record, but these are: {seen}")
    for reference, link in (expected.links or {}).items():
        eni = resolve(reference)
        found = [one for links in snapshot.links.values() for one in links if one.mac == macs.get(eni)]
        if len(found) == 1:
            problems += _link(eni, link, found[0], netns, resolve)
        else:
            problems.append(f"the kernel must show {eni} once, but shows it {len(found)} times")
    return problems


def _enis(expected: Mapping[schema.State, int], records: Sequence[EniRecord]) -> list[str]:
    counts = Counter(record.state for record in records)
    return [
        f"{count} ENIs must be {state}, but {counts[state]} are"
        for state, count in expected.items()
        if counts[state] != count
    ]


def _owners(expected: Mapping[str, str | None], records: Sequence[EniRecord]) -> list[str]:
    problems = []
    for pod, container in expected.items():
        held = [record for record in records if record.owner == pod and record.state == "in_use"]
        holders = [record.attachment.container_id for record in held if record.attachment]
        if holders != ([] if container is None else [container]):
            told = ", ".join(holders) or "nobody"
            problems.append(f"{pod} must be held by {container or 'nobody'}, but is by {told}")
    return problems


def _link(eni: str, expected: schema.LinkIs, found: Link, netns: Mapping[str, str], resolve: Resolve) -> list[str]:
    if expected.in_ != "home" and expected.in_ not in netns:
        return [f"{eni} must be in {expected.in_}, but no step has made that container"]
    wanted: dict[str, Any] = {"netns": "" if expected.in_ == "home" else netns[expected.in_]}
    for key, value in expected.model_dump(exclude_none=True, exclude={"in_"}).items():
        wanted[key] = resolve(value) if isinstance(value, str) else value
    return [
        f"the kernel must show {eni} with {key} {value!r}, but shows {getattr(found, key)!r}"
        for key, value in wanted.items()
        if getattr(found, key) != value
    ]


def _error(expected: schema.ErrorIs, got: plan.Failure, resolve: Resolve) -> list[str]:
    problems = []
    text = resolve(expected.text or "")
    if expected.code is not None and expected.code != got.code:
        problems.append(f"must fail with code {expected.code}, but failed: {got}")
    if text not in got.message and text not in got.details:
        problems.append(f"must fail with a text that has {text!r}, but failed: {got}")
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
    is_same = got == wanted and isinstance(got, bool) == isinstance(wanted, bool)  # Python has True == 1
    return [] if is_same else [f"{place} must be {wanted!r}, but is {got!r}"]
