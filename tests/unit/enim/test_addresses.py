"""Addresses are read as Go reads them and printed in one form."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enim import addresses


@given(st.ip_addresses())
def test_canonical_agrees_with_the_standard_library(address):
    mapped = getattr(address, "ipv4_mapped", None)
    assert addresses.canonical(str(address)) == str(mapped or address)
    assert addresses.canonical(address.exploded) == str(mapped or address)


@pytest.mark.parametrize(
    ("text", "printed"),
    [("::ffff:192.0.2.1", "192.0.2.1"), ("::1.2.3.4", "::102:304"), ("2001:DB8:0:0::1", "2001:db8::1"), ("::", "::")],
)
def test_canonical_is_one_form_for_each_address(text, printed):
    assert addresses.canonical(text) == printed


@pytest.mark.parametrize(
    "text", ["", "192.0.2", "192.0.2.1 ", "192.0.2.01", "192.0.2.256", "fe80::1%eth0", "1:2", "<nil>", "1\0", "\u0661"]
)
def test_parse_refuses_what_is_no_address(text):
    with pytest.raises(ValueError, match="invalid IP address"):
        addresses.parse(text)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("192.0.2.10/24", (4, 0xC000020A, 24)),
        ("0.0.0.0/0", (4, 0, 0)),
        ("::/0", (6, 0, 0)),
        ("::ffff:192.0.2.10/120", (4, 0xC000020A, 24)),
    ],
)
def test_parse_prefix_keeps_the_host_bits(text, parsed):
    assert addresses.parse_prefix(text) == parsed


@pytest.mark.parametrize(
    "text",
    ["192.0.2.1", "192.0.2.1/", "192.0.2.1/33", "::/129", "::ffff:1.2.3.4/24", "1.2.3.4/-1", "1.2.3.4/2/3", "/8"],
)
def test_parse_prefix_refuses_what_is_no_prefix(text):
    with pytest.raises(ValueError, match=r"invalid|no prefix"):
        addresses.parse_prefix(text)


@given(st.ip_addresses(), st.integers(0, 128))
def test_network_clears_the_host_bits(address, length):
    length = min(length, address.max_prefixlen)
    expected = ipaddress.ip_network((address, length), strict=False).network_address
    assert addresses.network(address.version, int(address), length) == int(expected)


def test_is_link_local_is_for_ipv6_only():
    assert addresses.is_link_local(*addresses.parse("febf::1"))
    assert not addresses.is_link_local(*addresses.parse("fec0::1"))
    assert not addresses.is_link_local(*addresses.parse("169.254.0.1"))


def test_parse_mac_prints_lower_case_with_colons():
    assert addresses.parse_mac("FA-26-00-01-02-03") == "fa:26:00:01:02:03"


@pytest.mark.parametrize("text", ["", "fa:26:00:01:02", "fa:26:00:01:02:0g", "fa:26:00:01:02:003", "fa26.0001.0203"])
def test_parse_mac_refuses_what_is_no_mac(text):
    with pytest.raises(ValueError, match="invalid MAC"):
        addresses.parse_mac(text)


@pytest.mark.parametrize(
    ("mac", "possible"), [("fa:26:00:01:02:03", True), ("00:00:00:00:00:00", False), ("01:00:5e:00:00:01", False)]
)
def test_is_unicast_mac_knows_what_a_nic_can_have(mac, possible):
    assert addresses.is_unicast_mac(mac) is possible
