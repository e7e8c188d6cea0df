from __future__ import annotations

import ipaddress

import pytest

from simulator import topology
from simulator.model import Eni, EniId, Subnet

FIRST = Subnet("10.64.0.0/24", "10.64.0.1", "fd64::/64", "fd64::1")


def test_first_eni_is_always_the_same() -> None:
    assert topology.enis(1) == (Eni(EniId("eni-1"), "02:e1:00:00:00:01", "eni1", 1500, "10.64.0.10", "fd64::a", FIRST),)


def test_no_eni_at_all_is_a_node_too() -> None:
    assert (topology.enis(0), topology.subnets(())) == ((), ())


def test_more_enis_begin_with_the_fewer() -> None:
    assert topology.enis(500)[:8] == topology.enis(8)


def test_most_enis_differ_in_everything_that_tells_them_apart() -> None:
    enis = topology.enis(topology.ENIS_MAX)
    for told_apart_by in ("id", "mac", "name", "ipv4", "ipv6"):
        assert len({getattr(eni, told_apart_by) for eni in enis}) == topology.ENIS_MAX, told_apart_by


@pytest.mark.parametrize("count", [-1, topology.ENIS_MAX + 1])
def test_count_beyond_the_bounds_is_a_bug_of_the_caller(count: int) -> None:
    with pytest.raises(AssertionError, match=rf"0 to {topology.ENIS_MAX} ENIs, not {count}"):
        topology.enis(count)


def test_macs_are_locally_administered_and_no_group_addresses() -> None:
    first_octets = {int(eni.mac.split(":")[0], 16) for eni in topology.enis(topology.ENIS_MAX)}
    assert {(octet & 0b10, octet & 0b01) for octet in first_octets} == {(0b10, 0)}


def test_names_fit_into_the_kernel() -> None:
    assert max(len(eni.name) for eni in topology.enis(topology.ENIS_MAX)) <= 15


def test_address_lies_in_its_subnet_and_is_nobody_elses_there() -> None:
    for eni in topology.enis(topology.ENIS_MAX):
        for address, cidr, gateway in (
            (eni.ipv4, eni.subnet.cidr4, eni.subnet.gateway4),
            (eni.ipv6, eni.subnet.cidr6, eni.subnet.gateway6),
        ):
            network = ipaddress.ip_network(cidr)
            assert ipaddress.ip_address(address) in network
            assert address not in (gateway, str(network[0]), str(network[-1]))


def test_gateway_is_the_first_address_of_its_subnet() -> None:
    for subnet in topology.subnets(topology.enis(topology.ENIS_MAX)):
        assert subnet.gateway4 == str(ipaddress.ip_network(subnet.cidr4)[1])
        assert subnet.gateway6 == str(ipaddress.ip_network(subnet.cidr6)[1])


def test_subnets_are_a_24_and_a_64_and_do_not_overlap() -> None:
    subnets = topology.subnets(topology.enis(topology.ENIS_MAX))
    assert {subnet.cidr4.partition("/")[2] for subnet in subnets} == {"24"}
    assert {subnet.cidr6.partition("/")[2] for subnet in subnets} == {"64"}
    for family in ("cidr4", "cidr6"):
        assert len({getattr(subnet, family) for subnet in subnets}) == len(subnets)


def test_subnets_come_once_each_in_the_order_of_their_first_eni() -> None:
    full, next_one = topology.enis(topology.ENIS_PER_SUBNET), topology.enis(topology.ENIS_PER_SUBNET + 1)
    assert topology.subnets(full) == (FIRST,)
    assert [subnet.cidr4 for subnet in topology.subnets(next_one)] == ["10.64.0.0/24", "10.64.1.0/24"]
    assert [subnet.cidr6 for subnet in topology.subnets(next_one)] == ["fd64::/64", "fd64:0:0:1::/64"]
