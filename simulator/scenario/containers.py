"""PURE: what a runtime knows of a container: what it says of it to plugins, and what it reads out of their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.agent.grants import Grant
from simulator.chain import plan
from simulator.model import Attachment


@dataclass(frozen=True, slots=True)
class Container:
    """A container: its pod, its namespace, and by interface name the conf and the grant of each of its attachments.

    ``gateways``: by interface name, what the result says of them. ``is_forgotten``: the runtime has lost it.
    """

    pod: str
    netns: str
    networks: Mapping[str, plan.NetworkList] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    gateways: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_forgotten: bool = False


def sandbox(container_id: str, ifname: str, container: Container) -> plan.Sandbox:
    """What containerd says of a container to every plugin."""
    namespace, _, name = container.pod.partition("/")
    arguments = (
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", namespace),
        ("K8S_POD_NAME", name),
        ("K8S_POD_INFRA_CONTAINER_ID", container_id),
    )
    return plan.Sandbox(container_id, container.netns, ifname, arguments)


def grant(attachment: Attachment, container: Container, result: Mapping[str, Any], *, has_eni: bool = True) -> Grant:
    """What a result gives: the interface that is in the container's namespace, and the addresses.

    Args:
        has_eni: whether they are an ENI's; else they are host-local's.

    Raises:
        ValueError: the result gives no address, or not one interface there; a sentence.
    """
    inside = [one for one in _objects(result.get("interfaces")) if one.get("sandbox") == container.netns]
    addresses = tuple(str(one.get("address", "")) for one in _objects(result.get("ips")))
    if len(inside) != 1 or not addresses:
        raise ValueError(f"the result has no addresses, or not one interface in {container.netns}: {dict(result)!r}")
    mac = str(inside[0].get("mac", ""))
    return Grant(attachment, container.pod, container.netns, mac, addresses, leased=not has_eni)


def gateways(result: Mapping[str, Any]) -> tuple[str, ...]:
    """The gateways of a result's addresses."""
    found = (str(one.get("gateway") or "") for one in _objects(result.get("ips")))
    return tuple(gateway for gateway in found if gateway)


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list of a result, which a foreign plugin may have made; what is none is left out."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
