"""PURE: how host-device moves a NIC into a pod and out again, request by request, and what it says when one fails.

The moves of 1.1.1 undo nothing on the way in; those of 1.9.1 go by way of a temporary namespace and undo what fails.

- Each yield is one request to the kernel, so that a kill can come between any two, as on a real node.
- A namespace that has been opened lives until it is closed or the process ends, whatever becomes of its path.

Source: containernetworking plugins v1.1.1 and v1.9.1, ``host-device.go`` moveLinkIn and moveLinkOut; contract B3.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

from enim import effects, errors
from simulator.model import Link

Steps: TypeAlias = Generator[effects.Effect, Any, Any]

HOME = ""  # the handle of the plugin's own namespace


@dataclass(frozen=True, slots=True)
class OpenNetns(effects.Effect):
    """Outcome: a handle (str) of the namespace at ``path``. Failure: ``KernelError``, EINVAL if it names none."""

    path: str


@dataclass(frozen=True, slots=True)
class OpenTemporary(effects.Effect):
    """Outcome: the handle (str) of a new namespace without a path. Failure: ``KernelError``."""


@dataclass(frozen=True, slots=True)
class Close(effects.Effect):
    """Let go of a namespace; it may end. Outcome: None. Never fails."""

    netns: str


@dataclass(frozen=True, slots=True)
class Look(effects.Effect):
    """Outcome: the ``model.Link`` with this name or altname, or this MAC, or None. Failure: ``KernelError``."""

    netns: str
    name: str = ""
    mac: str = ""


@dataclass(frozen=True, slots=True)
class Move(effects.Effect):
    """Move a link to another namespace, under its name. Outcome: None. Failure: ``KernelError``; it has not moved."""

    ifindex: int
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Change(effects.Effect):
    """Change one attribute of a link: ``name``, ``alias`` ("" clears it) or ``up``.

    Outcome: None. Failure: ``KernelError``; nothing has changed.
    """

    ifindex: int
    netns: str
    attribute: str
    value: str | bool


def move_in(device: Link, pod: str, ifname: str) -> Steps:
    """1.1.1: move, then make it what it should be; nothing is undone."""
    host, inside = quoted(device.name), quoted(ifname)
    yield from attempt(Move(device.ifindex, HOME, pod), "")
    index = (yield from look(pod, device.name, f"failed to find {host}")).ifindex
    yield from attempt(Change(index, pod, "up", value=False), f"failed to set {host} down")
    yield from attempt(Change(index, pod, "alias", device.name), f"failed to set alias to {host}")
    yield from attempt(Change(index, pod, "name", ifname), f"failed to rename device {host} to {inside}")
    yield from attempt(Change(index, pod, "up", value=True), f"failed to set {inside} up")
    return (yield from look(pod, ifname, f"failed to find {inside}"))


def move_out(pod: str, ifname: str) -> Steps:
    """1.1.1: rename it in the pod, then move it; the alias stays. If that fails it gets its name back."""
    inside = quoted(ifname)
    link: Link = yield from look(pod, ifname, f"failed to find {inside}")
    host, index = quoted(link.alias), link.ifindex
    yield from attempt(Change(index, pod, "up", value=False), f"failed to set {inside} down")
    try:
        text = f"failed to restore {inside} to original name {host}"
        yield from attempt(Change(index, pod, "name", link.alias), text)
        yield from attempt(Move(index, pod, HOME), f"failed to move {host} to host netns")
    except errors.CniError:
        yield from ignoring(attempt(Change(index, pod, "name", ifname), ""))
        if link.up:
            yield from ignoring(attempt(Change(index, pod, "up", value=True), ""))
        raise


def move_in_by_way(device: Link, pod: str, ifname: str) -> Steps:
    """1.9.1: through a temporary namespace, where it gets its name and alias; undone if it fails."""
    way = yield from attempt(OpenTemporary(), "failed to create tempNS")
    try:
        yield from attempt(Move(device.ifindex, HOME, way), f"failed to move {quoted(device.name)} to tempNS")
        link = yield from _pass_in(device.name, way, pod, ifname)
    except errors.CniError:
        if device.up:
            yield from ignoring(_set_up(HOME, device.name))
        yield Close(way)
        raise
    yield Close(way)
    return link


def _pass_in(name: str, way: str, pod: str, ifname: str) -> Steps:
    host, inside = quoted(name), quoted(ifname)
    index = (yield from look(way, name, f"failed to find {host} in tempNS")).ifindex
    yield from _all_or_none(
        Move(index, way, HOME),
        (Change(index, way, "name", ifname), f"failed to rename host device {host} to {inside}"),
        Change(index, way, "name", name),
        (Change(index, way, "alias", name), f"failed to set alias to {host}"),
        Change(index, way, "alias", ""),
        (Move(index, way, pod), f"failed to move {inside} (host: {host}) to container NS"),
    )
    try:
        link: Link = yield from look(pod, ifname, f"failed to find {inside} in container NS")
        yield from attempt(Change(link.ifindex, pod, "up", value=True), f"failed to set {inside} up")
    except errors.CniError:
        yield from ignoring(_take_back(name, way, pod, ifname))
        raise
    return link


def _take_back(name: str, way: str, pod: str, ifname: str) -> Steps:
    """Out of the pod again; only what is back in the temporary namespace can be brought home."""
    index = (yield from look(pod, ifname, "")).ifindex
    yield from ignoring(attempt(Move(index, pod, way), ""))
    index = (yield from look(way, ifname, "")).ifindex
    for effect in (Change(index, way, "alias", ""), Change(index, way, "name", name), Move(index, way, HOME)):
        yield from ignoring(attempt(effect, ""))


def move_out_by_way(pod: str, ifname: str) -> Steps:
    """1.9.1: through a temporary namespace, where it loses name and alias; undone if it fails."""
    way = yield from attempt(OpenTemporary(), "failed to create tempNS")
    was_up = False
    try:
        link: Link = yield from look(pod, ifname, f"failed to find {quoted(ifname)} in containerNS")
        was_up = link.up
        if not link.alias:
            raise error(f"failed to find original ifname for {quoted(ifname)} (alias is not set)")
        yield from attempt(Move(link.ifindex, pod, way), f"failed to move {quoted(ifname)} to tempNS")
        yield from _pass_out(way, pod, ifname)
    except errors.CniError:
        if was_up:
            yield from ignoring(_set_up(pod, ifname))
        yield Close(way)
        raise
    yield Close(way)


def _pass_out(way: str, pod: str, ifname: str) -> Steps:
    link: Link = yield from look(way, ifname, f"failed to find {quoted(ifname)} in tempNS")
    index, name, host = link.ifindex, link.alias, quoted(link.alias)
    yield from _all_or_none(
        Move(index, way, pod),
        (Change(index, way, "name", name), f"failed to rename device {quoted(ifname)} to {host}"),
        Change(index, way, "name", ifname),
        (Change(index, way, "alias", ""), f"failed to unset alias of {host}"),
        Change(index, way, "alias", name),
        (Move(index, way, HOME), f"failed to move {host} to hostNS"),
    )


def _all_or_none(*steps: effects.Effect | tuple[effects.Effect, str]) -> Steps:
    """Carry out the pairs of effect and text. When one fails, the lone effects before it undo, the last one first."""
    undo: list[effects.Effect] = []
    for step in steps:
        if isinstance(step, effects.Effect):
            undo.insert(0, step)
            continue
        try:
            yield from attempt(*step)
        except errors.CniError:
            for effect in undo:
                yield from ignoring(attempt(effect, ""))
            raise


def look(netns: str, name: str, text: str) -> Steps:
    """The link with this name or altname; without it, the error begins with ``text``."""
    link = yield from attempt(Look(netns, name), text)
    if link is None:
        raise error(f"{text}: Link not found")
    return link


def _set_up(netns: str, name: str) -> Steps:
    link: Link = yield from look(netns, name, "")
    yield from attempt(Change(link.ifindex, netns, "up", value=True), "")


def attempt(effect: effects.Effect, text: str) -> Steps:
    """An effect whose failure is reported as Go's ``fmt.Errorf("<text>: %v", err)``."""
    try:
        return (yield effect)
    except errors.KernelError as refusal:
        raise error(f"{text}: {words(refusal)}" if text else words(refusal)) from None


def ignoring(steps: Steps) -> Steps:
    """What is done whatever comes of it; the first error is the one that is reported."""
    with contextlib.suppress(errors.CniError):
        yield from steps


def error(text: str) -> errors.CniError:
    """Every plain error of Go has this code."""
    return errors.CniError(errors.INTERNAL, text)


def words(refusal: errors.KernelError) -> str:
    """Go's errno texts are those of libc, in lower case."""
    return refusal.text.lower()


def quoted(text: str) -> str:
    """Go's ``%q``."""
    return json.dumps(text, ensure_ascii=False)
