"""PURE: what the steps of a scenario speak of must be there by then: containers, their outputs, ENIs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from simulator import topology
from simulator.scenario import schema
from simulator.scenario.document import Document, Place, did_you_mean

REFERENCE = re.compile(r"\$\{([^}]*)\}")
OUTPUTS = ("eni", "mac", "netns", "ipv4", "ipv6")

Text: TypeAlias = tuple[Place, bool, str]  # its place, whether it is the key there, the text


def check(document: Document, scenario: schema.Scenario, value: Mapping[str, Any]) -> None:
    """Every container that a step names, and every ``${container.output}``, was made by an earlier step.

    Raises:
        ScenarioError: one was not, or a step names an ENI that the node does not have.
    """
    checker = _Checker(document, tuple(eni.id for eni in topology.enis(scenario.node.enis)))
    checker.texts({key: one for key, one in value.items() if key not in ("steps", "finally")}, ())
    for part, steps in (("steps", scenario.steps), ("finally", scenario.finally_)):
        for index, step in enumerate(steps):
            checker.step(step, value[part][index], (part, index))


class _Checker:
    """What the steps so far have made.

    Args:
        document: the file.
        enis: the ids of the node's ENIs.
    """

    def __init__(self, document: Document, enis: tuple[str, ...]) -> None:
        self._document = document
        self._enis = enis
        self._pods: dict[str, str] = {}  # of containers that an ADD has made
        self._ghosts: set[str] = set()  # containers that only a DEL has named

    def step(self, step: schema.Step, value: Mapping[str, Any], place: Place) -> None:
        for where, container in _containers(step):
            self._known((*place, *where), container)
        for where, eni in _enis(step):
            self._known_eni((*place, *where), eni)
        if step.add is not None:
            self.texts(value["add"], (*place, "add"))
            self._one_pod((*place, "add", "pod"), step.add.container, step.add.pod)
        elif step.delete is not None and step.delete.pod is not None:
            self._ghost((*place, "del", "pod"), step.delete.container)
        self.texts(value, place)

    def texts(self, value: Any, place: Place) -> None:
        """The references in every text of a value."""
        for where, is_key, text in _texts(value, place):
            for reference in REFERENCE.findall(text):
                self._reference(where, is_key, reference)
            if "${" in REFERENCE.sub("", text):
                self._refuse(where, is_key, f"`{text}`: `${{` without `}}`")

    def _one_pod(self, place: Place, container: str, pod: str) -> None:
        known = self._pods.setdefault(container, pod)
        if known != pod:
            raise self._document.error(place, f"container `{container}` is of pod `{known}` since an earlier step")

    def _ghost(self, place: Place, container: str) -> None:
        if container in self._pods:
            message = f"`pod` is for a container that no step has added, and one has added `{container}`"
            raise self._document.key_error(place, message)
        self._ghosts.add(container)

    def _known(self, place: Place, container: str) -> None:
        if container not in self._pods and container not in self._ghosts:
            raise self._document.error(place, self._no_such(container))

    def _known_eni(self, place: Place, eni: str) -> None:
        if "${" not in eni and eni not in self._enis:
            has = f"its ENIs are {self._enis[0]} to {self._enis[-1]}" if self._enis else "it has no ENI"
            raise self._document.key_error(place, f"the node has no `{eni}`: {has}")

    def _reference(self, place: Place, is_key: bool, reference: str) -> None:  # noqa: FBT001 - a part of the place
        container, _, output = reference.partition(".")
        problem = ""
        if container not in self._pods and container not in self._ghosts:
            problem = self._no_such(container)
        elif output not in OUTPUTS:
            problem = f"a container has no `{output}`{did_you_mean(output, OUTPUTS)}"
        if problem:
            self._refuse(place, is_key, f"`${{{reference}}}`: {problem}")

    def _refuse(self, place: Place, is_key: bool, message: str) -> None:  # noqa: FBT001 - a part of the place
        raise (self._document.key_error if is_key else self._document.error)(place, message)

    def _no_such(self, container: str) -> str:
        made = [*self._pods, *sorted(self._ghosts)]
        hint = did_you_mean(container, made).replace("known are", "made so far:")
        return f"no earlier step made a container `{container}`{hint}"


def _containers(step: schema.Step) -> Iterator[tuple[Place, str]]:
    """The containers that a step takes for granted."""
    if step.delete is not None and step.delete.pod is None:
        yield ("del", "container"), step.delete.container
    for key, verb in (("echo", step.echo), ("check", step.check)):
        if verb is not None:
            yield (key, "container"), verb.container
    for key, name in (("netns.delete", step.netns_delete), ("runtime.forget", step.runtime_forget)):
        if name is not None:
            yield (key,), name
    for index, container in enumerate(step.gc.valid if step.gc is not None else ()):
        yield ("gc", "valid", index), container
    own = step.add.container if step.add is not None else None
    for key, expected in (("expect", step.expect), ("eventually", step.eventually)):
        yield from ((place, name) for place, name in _expected(key, expected) if name != own)


def _expected(key: str, expected: schema.Seen | None) -> Iterator[tuple[Place, str]]:
    for pod, owner in ((expected and expected.owner) or {}).items():
        if owner is not None:
            yield (key, "owner", pod), owner
    for eni, link in ((expected and expected.links) or {}).items():
        if link.in_ != "home":
            yield (key, "links", eni, "in"), link.in_


def _enis(step: schema.Step) -> Iterator[tuple[Place, str]]:
    """The ENIs that a step names, or references to them."""
    if step.expect is not None and step.expect.eni is not None:
        for key, eni in (("is", step.expect.eni.is_), ("not", step.expect.eni.not_)):
            if eni is not None:
                yield ("expect", "eni", key), eni
    for key, expected in (("expect", step.expect), ("eventually", step.eventually)):
        for eni in (expected and expected.links) or {}:
            yield (key, "links", eni), eni


def _texts(value: Any, place: Place) -> Iterator[Text]:
    if isinstance(value, str):
        yield place, False, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield (*place, key), True, key
            yield from _texts(child, (*place, key))
    elif isinstance(value, tuple):
        for index, child in enumerate(value):
            yield from _texts(child, (*place, index))
