import json
from collections.abc import Callable
from typing import Any

import pytest

from simulator.agent import wishes
from simulator.model import Eni

MakeEni = Callable[[int], Eni]


def parse(**wanted: Any) -> wishes.Wishes:
    return wishes.parse(json.dumps({"x-enim": wanted}).encode())


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b'{"spec":{"id":"eni-9"}}', b'{"x-enim":null}', b'{"x-enim":{}}']
)
def test_parse_finds_no_wishes(make_eni: MakeEni, body: bytes) -> None:
    wanted = wishes.parse(body)

    assert (wanted, wanted.text, wanted.are_granted_by(make_eni(1))) == (wishes.Wishes(), "", True)


# eni-1 has 10.64.0.11 and fd00:64::1, is called ens1, and has the MAC fa:26:00:00:00:01.
@pytest.mark.parametrize(
    ("wanted", "granted"),
    [
        ({"ips": ["10.64.0.11"]}, True),
        ({"ips": ["10.64.0.11/24", "FD00:64:0::0001"]}, True),
        ({"ips": ["10.64.0.11", "10.64.0.12"]}, False),
        ({"ips": ["::ffff:10.64.0.11"]}, False),
        ({"ipRanges": [[{"subnet": "10.64.0.0/24"}]]}, True),
        ({"ipRanges": [[{"subnet": "10.65.0.0/24"}]]}, False),
        ({"ipRanges": [[{"subnet": "10.65.0.0/24"}, {"subnet": "10.64.0.0/24"}]]}, True),
        ({"ipRanges": [[{"subnet": "10.64.0.0/24"}], [{"subnet": "fd00:64::/64"}]]}, True),
        ({"ipRanges": [[{"subnet": "10.64.0.0/24"}], [{"subnet": "10.64.0.0/25"}]]}, False),
        ({"ipRanges": [[{"subnet": "10.64.0.0/24"}], [{"subnet": "fd00:65::/64"}]]}, False),
        ({"ipRanges": [[{"subnet": "10.64.0.0/24", "rangeStart": "10.64.0.12"}]]}, False),
        ({"ipRanges": [[{"rangeStart": "10.64.0.11", "rangeEnd": "10.64.0.11"}]]}, True),
        ({"ipRanges": [{"Subnet": "10.64.0.0/24", "RangeEnd": "10.64.0.20"}]}, True),
        ({"mac": "FA:26:00:00:00:01"}, True),
        ({"mac": "fa:26:00:00:00:02"}, False),
        ({"device": "ens1"}, True),
        ({"device": "FA:26:00:00:00:01"}, True),
        ({"device": "ens1", "mac": "fa:26:00:00:00:02"}, False),
        ({"device": "0000:04:00.5"}, False),
    ],
)
def test_wishes_are_granted_by_what_the_eni_has(make_eni: MakeEni, wanted: dict[str, Any], granted: bool) -> None:
    assert parse(**wanted).are_granted_by(make_eni(1)) is granted


def test_names_device_only_where_the_upper_plugin_has_chosen() -> None:
    assert [
        parse(**one).names_device for one in ({"ips": ["10.0.0.1"]}, {"mac": "fa:26:00:00:00:01"}, {"device": "x"})
    ] == [
        False,
        True,
        True,
    ]


def test_text_tells_all_that_is_wished() -> None:
    wanted = parse(ips=["10.0.0.1"], ipRanges=[[{"subnet": "10.0.0.0/30"}]], mac="FA:26:00:00:00:01", device="ens1")

    assert wanted.text == ("device ens1, MAC fa:26:00:00:00:01, address 10.0.0.1, an address of 10.0.0.0 to 10.0.0.3")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "the body is no object"),
        (b'{"x-enim":[]}', "x-enim is no object"),
        (b'{"x-enim":{"ips":"10.0.0.1"}}', "x-enim.ips is no list"),
        (b'{"x-enim":{"ips":[7]}}', "x-enim.ips is no string"),
        (b'{"x-enim":{"ips":["10.0.0"]}}', "x-enim.ips: "),
        (b'{"x-enim":{"ips":[""]}}', "x-enim.ips: "),
        (b'{"x-enim":{"mac":7}}', "x-enim.mac is no string"),
        (b'{"x-enim":{"ipRanges":[[]]}}', "a set of x-enim.ipRanges is empty"),
        (b'{"x-enim":{"ipRanges":[["10.0.0.0/24"]]}}', "a range of x-enim.ipRanges is no object"),
        (b'{"x-enim":{"ipRanges":[[{}]]}}', "subnet: "),
        (b'{"x-enim":{"ipRanges":[[{"rangeStart":"10.0.0.9","rangeEnd":"10.0.0.1"}]]}}', "is no range"),
        (b'{"x-enim":{"ipRanges":[[{"rangeStart":"10.0.0.9","rangeEnd":"::1"}]]}}', "is no range"),
    ],
)
def test_parse_says_what_it_cannot_understand(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        wishes.parse(body)
