"""The wire, with bytes in hand: what is sent, what is understood, and what is refused."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enim import errors, wire

ALLOCATION = {
    "address": {"ipv4": "192.0.2.10"},
    "host-addressing": {},
    "ipv4": {
        "ip": "192.0.2.10",
        "cidrs": ["192.0.2.0/24"],
        "gateway": "192.0.2.1",
        "master-mac": "FA:26:00:01:02:03",
        "interface-number": "7",
    },
}
IPV6 = {
    "ip": "2001:db8::10",
    "cidrs": ["2001:db8::/64"],
    "gateway": "2001:db8::1",
    "master-mac": "fa:26:00:01:02:03",
    "interface-number": "7",
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def allocation(**changes):
    """The answer of contract H1 with members of ``ipv4`` changed; None removes one."""
    ipv4 = {key: value for key, value in {**ALLOCATION["ipv4"], **changes}.items() if value is not None}
    return json.dumps({**ALLOCATION, "ipv4": ipv4}).encode()


def test_encode_request_is_the_transcript_of_the_contract():
    query = (("owner", "ns/pod"), ("containerID", "c1"), ("netns", "/var/run/netns/n1"), ("ifname", ""))
    data = wire.encode_request(wire.Request("POST", "/v1/eni", query, (("x-enim-network", "n"),)))
    assert data == (
        b"POST /v1/eni?containerID=c1&netns=%2Fvar%2Frun%2Fnetns%2Fn1&owner=ns%2Fpod HTTP/1.1\r\n"
        b"Host: localhost\r\nUser-Agent: enim\r\nAccept: application/json\r\nX-Enim-Network: n\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )


def test_encode_request_states_type_and_length_of_a_body():
    data = wire.encode_request(wire.Request("POST", "/v1/eni", body=b"{}"))
    assert b"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n" in data
    assert data.endswith(b"\r\n\r\n{}")


def test_encode_request_of_delete_without_a_body_has_no_length():
    assert b"Content-" not in wire.encode_request(wire.Request("DELETE", "/v1/eni"))


def test_encode_request_refuses_a_header_that_smuggles_a_line():
    with pytest.raises(ValueError, match="line end"):
        wire.encode_request(wire.Request("POST", "/v1/eni", headers=(("x-enim-network", "a\r\nb: c"),)))


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT.filter(bool)), max_size=4), TEXT, st.binary(max_size=64))
def test_decode_request_undoes_encode_request(query, path, body):
    request = wire.Request("POST", "/" + path, tuple(sorted(query, key=lambda pair: pair[0])), (), body)
    data = wire.encode_request(request)
    decoded, consumed = wire.decode_request(data + b"next")
    assert consumed == len(data)
    assert (decoded.method, decoded.path, decoded.query, decoded.body) == ("POST", "/" + path, request.query, body)


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_decode_request_waits_for_the_last_byte(body):
    data = wire.encode_request(wire.Request("POST", "/v1/eni", (("owner", "a/b"),), (), body))
    assert [wire.decode_request(data[:end]) for end in range(len(data))] == [None] * len(data)
    assert wire.decode_request(data) is not None


@pytest.mark.parametrize("host", [b"Host: \r\n", b"Host: localhost\r\n", b""])
def test_decode_request_accepts_every_host(host):
    request, _ = wire.decode_request(b"DELETE /v1/eni?owner=a%2Fb&owner=c HTTP/1.1\r\n" + host + b"\r\n")
    assert (request.method, request.parameter("owner"), request.parameter("netns")) == ("DELETE", "c", "")


def test_decode_request_reads_chunks_and_skips_their_extensions_and_trailers():
    data = b"POST /v1/eni HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nT: x\r\n\r\n"
    assert [wire.decode_request(data[:end]) for end in range(len(data))] == [None] * len(data)
    request, consumed = wire.decode_request(data + b"POST")
    assert (request.body, consumed) == (b"abcd", len(data))


def test_decode_request_reads_an_absolute_target_and_a_plus():
    request, _ = wire.decode_request(b"GET http://localhost/v1/healthz?a=b+c&d HTTP/1.0\r\n\r\n")
    assert (request.path, request.query) == ("/v1/healthz", (("a", "b c"), ("d", "")))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"G(T / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 505),
        (b"GET v1 HTTP/1.1\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\na: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n", 413),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 2000, 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 11000, 431),
        (b"\r\n" * 40000, 431),
    ],
)
def test_decode_request_refuses_what_can_never_become_a_request(data, status):
    with pytest.raises(errors.WireError) as caught:
        wire.decode_request(data)
    assert caught.value.status == status


@given(st.binary(max_size=200))
def test_decode_request_raises_nothing_but_wire_errors(data):
    with contextlib.suppress(errors.WireError):
        wire.decode_request(data + b"\r\n\r\n")


def test_encode_reply_prints_length_type_and_fate_of_the_connection():
    assert wire.encode_reply(wire.Reply(500, b'"no"\n', "application/json")) == (
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
        b'Connection: close\r\n\r\n"no"\n'
    )
    assert wire.encode_reply(wire.Reply(200), close=False) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"
    )


@given(st.integers(200, 599).filter(lambda status: status not in (204, 304)), st.binary(max_size=64))
def test_decode_reply_undoes_encode_reply(status, body):
    reply = wire.Reply(status, body, "application/json")
    assert wire.decode_reply(wire.encode_reply(reply), closed=False) == reply


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
def test_decode_reply_knows_where_an_answer_ends(data, body):
    assert [wire.decode_reply(data[:end], closed=False) for end in range(len(data))] == [None] * len(data)
    assert wire.decode_reply(data, closed=False).body == body


def test_decode_reply_without_a_length_ends_with_the_connection():
    data = b"HTTP/1.0 500 Oops\r\nContent-Type: text/plain\r\n\r\npanic"
    assert wire.decode_reply(data, closed=False) is None
    assert wire.decode_reply(data, closed=True) == wire.Reply(500, b"panic", "text/plain")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1048577,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20000,
    ],
)
def test_decode_reply_refuses_what_is_no_whole_answer(data):
    with pytest.raises(errors.WireError):
        wire.decode_reply(data, closed=True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'"no available ENI to be allocated"\n', "no available ENI to be allocated"),
        (b'{"code":404,"message":"path /x was not\\nfound"}', "path /x was not found"),
        (b'{"code":404}', '{"code":404}'),
        (b'{"broken', '{"broken'),
        (b"an internal error  occurred\n", "an internal error occurred"),
        (b"<html><body><h1>502</h1>Bad Gateway</body></html>", "502 Bad Gateway"),
        (b"", "HTTP status 500 without a text"),
        (b'""', "HTTP status 500 without a text"),
        (b"\xff", "\ufffd"),
        (b"x" * 1000, "x" * 256),
    ],
)
def test_error_text_reads_every_kind_of_body(body, text):
    assert wire.error_text(wire.Reply(500, body)) == text


def test_parse_allocation_reads_the_answer_of_the_contract():
    assert wire.parse_allocation(json.dumps(ALLOCATION).encode()) == wire.Allocation(
        "fa:26:00:01:02:03", 7, (wire.Address(4, "192.0.2.10", 24, "192.0.2.1"),)
    )


def test_parse_allocation_puts_ipv4_first():
    body = {"ipv6": IPV6, **ALLOCATION, "address": {"ipv6": "2001:db8::10", "ipv4": "192.0.2.10"}}
    allocation = wire.parse_allocation(json.dumps(body).encode())
    assert [str(address) for address in allocation.addresses] == [
        "Address(family=4, gateway='192.0.2.1', ip='192.0.2.10', prefix_length=24)",
        "Address(family=6, gateway='2001:db8::1', ip='2001:db8::10', prefix_length=64)",
    ]


def test_parse_allocation_ignores_a_family_that_was_not_promised():
    body = {**ALLOCATION, "ipv6": {"ip": "nonsense"}}
    assert len(wire.parse_allocation(json.dumps(body).encode()).addresses) == 1


def test_parse_allocation_chooses_the_cidr_that_contains_the_address():
    body = allocation(cidrs=["10.0.0.0/8", "2001:db8::/64", "192.0.2.0/25", "192.0.0.0/16"])
    assert wire.parse_allocation(body).addresses[0].prefix_length == 25


def test_parse_allocation_accepts_no_gateway_and_a_link_local_one():
    assert wire.parse_allocation(allocation(gateway=None)).addresses[0].gateway == ""
    body = {"address": {"ipv6": "2001:db8::10"}, "ipv6": {**IPV6, "gateway": "fe80::1"}}
    assert wire.parse_allocation(json.dumps(body).encode()).addresses[0].gateway == "fe80::1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"address":null}',
        b'{"address":{}}',
        b'{"address":{"ipv4":"192.0.2.10"}}',
        b'{"address":{"ipv6":"2001:db8::10"},"ipv6":null}',
        b"not json",
        allocation(ip="192.0.2.11"),
        allocation(ip="192.0.2.10/24"),
        allocation(ip=None),
        allocation(ip=7),
        allocation(cidrs=None),
        allocation(cidrs=[]),
        allocation(cidrs="192.0.2.0/24"),
        allocation(cidrs=["198.51.100.0/24"]),
        allocation(cidrs=["2001:db8::/64"]),
        allocation(cidrs=["192.0.2.0/33"]),
        allocation(cidrs=["192.0.2.0"]),
        allocation(cidrs=[None]),
        allocation(gateway="198.51.100.1"),
        allocation(gateway="2001:db8::1"),
        allocation(gateway="<nil>"),
        allocation(**{"master-mac": None}),
        allocation(**{"master-mac": "fa:26:00:01:02"}),
        allocation(**{"master-mac": "00:00:00:00:00:00"}),
        allocation(**{"master-mac": "01:00:5e:00:00:01"}),
        allocation(**{"interface-number": None}),
        allocation(**{"interface-number": "0"}),
        allocation(**{"interface-number": "-7"}),
        allocation(**{"interface-number": "7 "}),
        allocation(**{"interface-number": "\u0667"}),
        allocation(**{"interface-number": "2147483648"}),
        allocation(**{"interface-number": True}),
        json.dumps({**ALLOCATION, "address": {"ipv4": "192.0.2.10", "ipv6": "2001:db8::10"}}).encode(),
        json.dumps(
            {
                **ALLOCATION,
                "address": {"ipv4": "192.0.2.10", "ipv6": "2001:db8::10"},
                "ipv6": {**IPV6, "master-mac": "fa:26:00:01:02:04"},
            }
        ).encode(),
        json.dumps(
            {
                **ALLOCATION,
                "address": {"ipv4": "192.0.2.10", "ipv6": "2001:db8::10"},
                "ipv6": {**IPV6, "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"},
            }
        ).encode(),
    ],
)
def test_parse_allocation_refuses_what_is_no_allocation(body):
    with pytest.raises(errors.WireError):
        wire.parse_allocation(body)
