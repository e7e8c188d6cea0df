"""What a runtime says of a container, and what it reads out of a result."""

from typing import Any

import pytest

from simulator.model import Attachment
from simulator.scenario import containers

CONTAINER = containers.Container("default/web-0", "/n/c1")
ATTACHMENT = Attachment("podnet", "c1", "eth0")
INSIDE = {"name": "eth0", "mac": "02:e1:00:00:00:01", "sandbox": "/n/c1"}
IPS = [{"address": "10.64.0.10/24"}, {"address": "fd64::a/64"}]


def test_sandbox_says_what_containerd_says() -> None:
    sandbox = containers.sandbox("c1", "net1", CONTAINER)
    assert (sandbox.container_id, sandbox.netns, sandbox.ifname, sandbox.capabilities) == ("c1", "/n/c1", "net1", {})
    assert sandbox.arguments == (
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", "default"),
        ("K8S_POD_NAME", "web-0"),
        ("K8S_POD_INFRA_CONTAINER_ID", "c1"),
    )


def test_grant_is_the_interface_in_the_containers_namespace_and_all_addresses() -> None:
    outside = {"name": "eni1", "mac": "02:00:00:00:00:02"}
    grant = containers.grant(ATTACHMENT, CONTAINER, {"interfaces": [outside, INSIDE], "ips": IPS})
    assert (grant.attachment, grant.owner, grant.netns) == (ATTACHMENT, "default/web-0", "/n/c1")
    assert (grant.mac, grant.addresses, grant.live) == (INSIDE["mac"], ("10.64.0.10/24", "fd64::a/64"), True)


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"interfaces": [INSIDE]},
        {"ips": IPS},
        {"interfaces": [INSIDE, INSIDE], "ips": IPS},
        {"interfaces": [{**INSIDE, "sandbox": "/n/c2"}], "ips": IPS},
        {"interfaces": {"0": INSIDE}, "ips": IPS},
        {"interfaces": [INSIDE], "ips": ["10.64.0.10/24"]},
    ],
)
def test_result_without_addresses_or_without_one_interface_inside_gives_nothing(result: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^the result has no addresses, or not one interface in /n/c1: {"):
        containers.grant(ATTACHMENT, CONTAINER, result)


def test_what_a_foreign_result_leaves_out_is_an_empty_text_for_the_auditor_to_judge() -> None:
    grant = containers.grant(ATTACHMENT, CONTAINER, {"interfaces": [{"sandbox": "/n/c1"}], "ips": [{}]})
    assert (grant.mac, grant.addresses) == ("", ("",))


def test_addresses_of_host_local_are_marked_and_the_gateways_read() -> None:
    ips = [{"address": "10.88.0.2/24", "gateway": "10.88.0.1"}, {"address": "10.88.1.2/24"}, "nonsense"]
    result = {"interfaces": [INSIDE], "ips": ips[:2]}
    assert containers.grant(ATTACHMENT, CONTAINER, result, has_eni=False).leased
    assert not containers.grant(ATTACHMENT, CONTAINER, result).leased
    assert containers.gateways({"ips": ips}) == ("10.88.0.1",)
