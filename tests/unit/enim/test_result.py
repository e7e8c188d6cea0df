"""Results in every version, as the Go library prints them, and back."""

import json

import pytest

from enim import config, result, wire

V4 = wire.Address(4, "192.0.2.10", 24, "192.0.2.1")
V6 = wire.Address(6, "2001:db8::10", 64, "2001:db8::1")
ONE = wire.Allocation("fa:26:00:01:02:03", 7, (V4,))
BOTH = wire.Allocation("fa:26:00:01:02:03", 7, (V4, V6))
ATTRIBUTES = {"mtu": 1400, "advmss": 1360, "priority": 5, "table": 0, "scope": 0}


def routes(*entries):
    return result.parse_routes(list(entries))


def printed(version, allocation=ONE, entries=(), **changes):
    made = result.of_allocation(allocation, "cce-eni-7", 7, routes(*entries))
    for name, value in changes.items():
        setattr(made, name, value)
    return result.encode(made, version, config.shape_of(version)).decode()


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_encode_of_0_3_and_0_4_is_transcript_3(version):
    assert printed(version, ONE, [{"dst": "198.51.100.0/24"}]) == (
        f'{{"cniVersion":"{version}","interfaces":[{{"name":"cce-eni-7","mac":"fa:26:00:01:02:03"}}],'
        '"ips":[{"version":"4","interface":7,"address":"192.0.2.10/24","gateway":"192.0.2.1"}],'
        '"routes":[{"dst":"198.51.100.0/24"},{"dst":"0.0.0.0/0","gw":"192.0.2.1"}],"dns":{}}'
    )


@pytest.mark.parametrize("version", ["1.0.0", "1.0.10", "1.1.0"])
def test_encode_of_1_x_is_transcript_2_with_the_interface_of_d2(version):
    assert printed(version, ONE, [{"dst": "198.51.100.0/24"}]) == (
        f'{{"cniVersion":"{version}","interfaces":[{{"mac":"fa:26:00:01:02:03","name":"cce-eni-7"}}],'
        '"ips":[{"address":"192.0.2.10/24","gateway":"192.0.2.1","interface":7}],'
        '"routes":[{"dst":"198.51.100.0/24"},{"dst":"0.0.0.0/0","gw":"192.0.2.1"}]}'
    )


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_encode_of_0_1_and_0_2_is_transcript_4(version):
    assert printed(version, ONE, [{"dst": "198.51.100.0/24", "table": 7}]) == (
        f'{{"cniVersion":"{version}","ip4":{{"ip":"192.0.2.10/24","gateway":"192.0.2.1",'
        '"routes":[{"dst":"198.51.100.0/24"},{"dst":"0.0.0.0/0","gw":"192.0.2.1"}]},"dns":{}}'
    )


def test_encode_puts_ipv4_first_and_gives_both_the_same_index():
    answer = json.loads(printed("1.1.0", BOTH))
    assert [entry["address"] for entry in answer["ips"]] == ["192.0.2.10/24", "2001:db8::10/64"]
    assert [entry["interface"] for entry in answer["ips"]] == [7, 7]
    assert answer["routes"] == [{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}, {"dst": "::/0", "gw": "2001:db8::1"}]
    assert len(answer["interfaces"]) == 1


def test_encode_of_0_2_keeps_one_address_of_each_family_with_its_own_routes():
    more = (
        result.Address("192.0.2.11/24", "192.0.2.1"),
        result.Address("2001:db8::10/64"),
        result.Address("192.0.2.12/24"),
    )
    answer = json.loads(
        printed("0.2.0", addresses=more[1:] + more[:1], routes=routes({"dst": "::/0", "gw": "fe80::1"}))
    )
    assert answer["ip4"] == {"ip": "192.0.2.12/24"}
    assert answer["ip6"] == {"ip": "2001:db8::10/64", "routes": [{"dst": "::/0", "gw": "fe80::1"}]}
    assert list(answer) == ["cniVersion", "ip4", "ip6", "dns"]


def test_encode_of_0_2_refuses_a_result_without_an_address():
    with pytest.raises(ValueError, match="without an address"):
        printed("0.2.0", addresses=())


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_encode_keeps_all_attributes_of_a_route(version):
    entry = {"dst": "198.51.100.0/24", "gw": "192.0.2.2", **ATTRIBUTES}
    assert json.loads(printed(version, ONE, [entry]))["routes"][0] == entry


def test_encode_drops_the_new_members_of_an_interface_before_1_0():
    interface = result.Interface("eth0", "fa:26:00:01:02:03", "/n1", mtu=1500, socket_path="/s", pci_id="0000:04:00.5")
    assert json.loads(printed("0.4.0", interfaces=(interface,)))["interfaces"] == [
        {"name": "eth0", "mac": "fa:26:00:01:02:03", "sandbox": "/n1"}
    ]
    assert json.loads(printed("1.0.0", interfaces=(interface,)))["interfaces"] == [
        {
            "name": "eth0",
            "mac": "fa:26:00:01:02:03",
            "sandbox": "/n1",
            "mtu": 1500,
            "socketPath": "/s",
            "pciID": "0000:04:00.5",
        }
    ]


def test_encode_prints_dns_and_a_name_even_if_empty():
    dns = {"nameservers": ["192.0.2.53"]}
    answer = json.loads(printed("1.1.0", dns=dns, interfaces=(result.Interface(""),)))
    assert (answer["dns"], answer["interfaces"]) == (dns, [{"name": ""}])


def test_encode_omits_empty_lists():
    assert printed("1.1.0", interfaces=(), addresses=(), routes=()) == '{"cniVersion":"1.1.0"}'


@pytest.mark.parametrize(
    "entries",
    [
        [{"dst": "0.0.0.0/0", "gw": "192.0.2.99"}],
        [{"dst": "0.0.0.0/0"}],
        [{"dst": "0.0.0.0/0", "priority": 100}],
        [{"dst": "192.0.2.7/0"}],
    ],
)
def test_merge_routes_adds_no_default_beside_a_configured_one(entries):
    merged = result.merge_routes(routes(*entries), {4: "192.0.2.1"})
    assert [(route.dst, route.gw) for route in merged] == [("0.0.0.0/0", entries[0].get("gw", ""))]


@pytest.mark.parametrize("entry", [{"dst": "0.0.0.0/0", "table": 100}, {"dst": "0.0.0.0/0", "table": 7, "scope": 253}])
def test_merge_routes_adds_a_default_to_the_main_table_beside_one_of_another_table(entry):
    merged = result.merge_routes(routes(entry), {4: "192.0.2.1"})
    assert [(route.dst, route.gw, route.table) for route in merged] == [
        ("0.0.0.0/0", "", entry["table"]),
        ("0.0.0.0/0", "192.0.2.1", 254),
    ]


def test_merge_routes_adds_no_default_where_none_is_wanted():
    merged = result.merge_routes(routes({"dst": "198.51.100.0/24"}), {4: "192.0.2.1"}, with_default=False)
    assert [route.dst for route in merged] == ["198.51.100.0/24"]


def test_distinct_routes_tells_a_route_by_the_gateway_from_one_that_ends_on_the_link():
    entries = [{"dst": "198.51.100.0/24"}, {"dst": "198.51.100.0/24", "scope": 253}, {"dst": "0.0.0.0/0", "scope": 254}]
    found = result.distinct_routes(routes(*entries, entries[1]), {4: "192.0.2.1"})
    assert [route.via({4: "192.0.2.1"}) for route in found] == ["192.0.2.1", "", ""]


def test_merge_routes_judges_each_family_by_itself():
    merged = result.merge_routes(routes({"dst": "::/0", "gw": "fe80::1"}), {4: "192.0.2.1", 6: "2001:db8::1"})
    assert [(route.dst, route.gw) for route in merged] == [("::/0", "fe80::1"), ("0.0.0.0/0", "192.0.2.1")]


def test_merge_routes_adds_no_default_without_a_gateway():
    assert result.merge_routes((), {4: "", 6: ""}) == ()


def test_merge_routes_keeps_the_first_of_routes_that_the_kernel_takes_for_one():
    entries = [
        {"dst": "198.51.100.0/24"},
        {"dst": "198.51.100.7/24"},  # the same network
        {"dst": "198.51.100.0/24", "gw": "192.0.2.1"},  # what the first one becomes: the family's gateway
        {"dst": "198.51.100.0/24", "gw": "192.0.2.2"},
        {"dst": "198.51.100.0/24", "priority": 5},
        {"dst": "198.51.100.0/24", "table": 100},
        {"dst": "198.51.100.0/24", "table": 254},  # the main table, as none
        {"dst": "0.0.0.0/0", "gw": "192.0.2.3"},
        {"dst": "0.0.0.0/0", "gw": "192.0.2.4"},  # never two defaults of one family, table and priority
        {"dst": "0.0.0.0/0", "gw": "192.0.2.4", "priority": 9},
    ]
    merged = result.merge_routes(routes(*entries), {4: "192.0.2.1"})
    assert [{"dst": route.dst, **({"gw": route.gw} if route.gw else {}), **route.attributes} for route in merged] == [
        entries[index] for index in (0, 3, 4, 5, 7, 9)
    ]


def test_distinct_routes_keeps_one_ipv6_default_of_a_priority_which_is_1024_if_it_is_not_given():
    entries = [
        {"dst": "::/0", "gw": "2001:db8::1"},
        {"dst": "::/0", "gw": "2001:db8::2", "priority": 1024},
        {"dst": "::/0", "gw": "2001:db8::3", "priority": 5},
    ]
    assert [route.gw for route in result.distinct_routes(routes(*entries), {})] == ["2001:db8::1", "2001:db8::3"]


def test_merge_routes_drops_a_family_without_an_address():
    assert result.merge_routes(routes({"dst": "2001:db8:1::/64"}), {4: ""}) == ()


def test_parse_routes_reads_keys_in_any_case_and_forgets_unknown_ones():
    (route,) = routes({"DST": "198.51.100.9/24", "GW": "192.0.2.1", "Table": 0, "mtu": 0, "src": "x"})
    assert (route.dst, route.gw, route.attributes) == ("198.51.100.0/24", "192.0.2.1", {"table": 0})


@pytest.mark.parametrize(
    "value",
    [
        {},
        "text",
        [None],
        ["198.51.100.0/24"],
        [{}],
        [{"dst": 7}],
        [{"dst": "198.51.100.0"}],
        [{"dst": "198.51.100.0/24", "gw": "fe80::1"}],
        [{"dst": "198.51.100.0/24", "gw": "nonsense"}],
        [{"dst": "198.51.100.0/24", "mtu": "1400"}],
        [{"dst": "198.51.100.0/24", "table": True}],
        [{"dst": "198.51.100.0/24", "priority": 1.5}],
    ],
)
def test_parse_routes_refuses_what_it_does_not_understand(value):
    with pytest.raises(ValueError):
        result.parse_routes(value)


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.0.7", "1.1.0"])
def test_parse_undoes_encode(version):
    text = printed(version, BOTH, [{"dst": "198.51.100.0/24", **ATTRIBUTES}], dns={"search": ["a"]})
    assert result.encode(result.parse(text.encode()), version, config.shape_of(version)).decode() == text


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_parse_reads_the_oldest_shape(version):
    text = printed(version, BOTH)
    found = result.parse(text.encode())
    assert [(address.address, address.gateway, address.interface) for address in found.addresses] == [
        ("192.0.2.10/24", "192.0.2.1", None),
        ("2001:db8::10/64", "2001:db8::1", None),
    ]
    assert result.encode(found, version, version).decode() == text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"ips":{}}',
        b'{"ips":[{}]}',
        b'{"ips":[{"address":"<nil>"}]}',
        b'{"ips":[{"address":"192.0.2.10"}]}',
        b'{"ips":[{"address":"192.0.2.10/24","gateway":"x"}]}',
        b'{"ips":[{"address":"192.0.2.10/24","interface":"7"}]}',
        b'{"interfaces":["eth0"]}',
        b'{"interfaces":[{"name":7}]}',
        b'{"routes":[{}]}',
        b'{"dns":[]}',
        b'{"ip4":[]}',
        b'{"ip4":{}}',
    ],
)
def test_parse_refuses_what_is_no_result(data):
    with pytest.raises(ValueError):
        result.parse(data)
