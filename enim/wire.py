"""Version 1 of the agent's API: HTTP/1.1 bytes ⇄ messages, and the meaning of the bodies. The agent uses it too.

Rules: no I/O here; whoever owns the socket hands in all bytes so far and is told "not whole yet" by None. A head is
at most 64 KiB, a body at most 1 MiB. What breaks the protocol is a ``WireError``, never anything else.

Source: RFC 9112 (HTTP/1.1), contract C1 to C4 (the agent's verbs, query keys and bodies), C9 R2 and R6 (what to check).
"""

from enim import addresses, errors, framing, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEAD_BYTES_MAX = framing.HEAD_BYTES_MAX
BODY_BYTES_MAX = framing.BODY_BYTES_MAX
ERROR_TEXT_MAX = 256
INTERIM_REPLIES_MAX = 5  # 1xx before the final answer, as net/http
IFINDEX_MAX = 2**31 - 1

REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

_PROTOCOLS = ("HTTP/1.1", "HTTP/1.0")


class _Value:
    """A value that compares and prints by its slots."""

    __slots__: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Request(_Value):
    """One request.

    Args:
        method: such as ``POST``.
        path: decoded, without the query.
        query: decoded pairs, in the order of the wire.
        headers: names in lower case.
        body: without its transfer encoding.
    """

    __slots__ = ("body", "headers", "method", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        query: tuple[tuple[str, str], ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body

    def parameter(self, key: str) -> str:
        """The last value of the query for ``key``, "" if absent."""
        return framing.last(self.query, key)

    def header(self, name: str) -> str:
        """The last value of the header ``name`` (lower case), "" if absent."""
        return framing.last(self.headers, name)


class Reply(_Value):
    """One answer. ``content_type`` "" means that there is no such header."""

    __slots__ = ("body", "content_type", "status")

    def __init__(self, status: int, body: bytes = b"", content_type: str = "") -> None:
        self.status = status
        self.body = body
        self.content_type = content_type


class Address(_Value):
    """An address of an ENI: ``family`` 4 or 6; ``ip``; ``prefix_length``; ``gateway``, "" for none."""

    __slots__ = ("family", "gateway", "ip", "prefix_length")

    def __init__(self, family: int, ip: str, prefix_length: int, gateway: str) -> None:
        self.family = family
        self.ip = ip
        self.prefix_length = prefix_length
        self.gateway = gateway


class Allocation(_Value):
    """The ENI that the agent granted: ``mac`` in lower case, its ``ifindex`` on the host, ``addresses`` IPv4 first."""

    __slots__ = ("addresses", "ifindex", "mac")

    def __init__(self, mac: str, ifindex: int, addresses: tuple[Address, ...]) -> None:
        self.mac = mac
        self.ifindex = ifindex
        self.addresses = addresses


def encode_request(request: Request) -> bytes:
    """Print a request: query sorted by key without empty values, one request per connection."""
    pairs = sorted((pair for pair in request.query if pair[1]), key=lambda pair: pair[0])
    query = "&".join(f"{framing.quote(key)}={framing.quote(value)}" for key, value in pairs)
    target = framing.quote(request.path, keep="/") + ("?" + query if query else "")
    lines = [f"{request.method} {target} HTTP/1.1", "Host: localhost", "User-Agent: enim", "Accept: application/json"]
    lines += [f"{name.title()}: {value}" for name, value in request.headers]
    if request.body and not request.header("content-type"):
        lines.append("Content-Type: application/json")
    if request.body or request.method == "POST":
        lines.append(f"Content-Length: {len(request.body)}")
    lines.append("Connection: close")
    return framing.join_head(lines) + request.body


def encode_reply(reply: Reply, *, close: bool = True) -> bytes:
    """Print an answer; ``close`` tells the client that the connection ends with it."""
    lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Status')}"]
    if reply.content_type:
        lines.append(f"Content-Type: {reply.content_type}")
    lines.append(f"Content-Length: {len(reply.body)}")
    lines.append("Connection: close" if close else "Connection: keep-alive")
    return framing.join_head(lines) + reply.body


def decode_request(data: bytes) -> "tuple[Request, int] | None":
    """Read one request from the front of ``data``: the request and the bytes it took, or None: not whole yet.

    Any ``Host`` will do, also an empty one or none. ``Expect: 100-continue`` is the server's business.

    Raises:
        WireError: these bytes can never become a request.
    """
    head = framing.split_head(data)
    if head is None:
        return None
    first_line, headers, start = head
    words = first_line.split(" ")
    if len(words) != 3 or not framing.is_token(words[0]):
        raise errors.WireError(400, "malformed request line")
    method, target, version = words
    if version not in _PROTOCOLS:
        raise errors.WireError(505, f"unknown protocol version {version[:20]!r}")
    path, query = framing.split_target(target)
    if framing.is_chunked(headers):
        body = framing.take_chunks(data, start)
    else:
        body = framing.take(data, start, framing.content_length(headers) or 0)
    return None if body is None else (Request(method, path, query, headers, body[0]), body[1])


def decode_reply(data: bytes, *, closed: bool) -> "Reply | None":
    """Read one answer from all bytes so far; None: not whole yet. ``closed``: the peer will send no more.

    Raises:
        WireError: these bytes are no answer, or the peer closed before the answer was whole.
    """
    reply = _decode_reply(data, closed=closed)
    if reply is None and closed:
        raise errors.WireError(502, f"the connection ended {'within' if data else 'without'} an answer")
    return reply


def _decode_reply(data: bytes, *, closed: bool) -> "Reply | None":
    start = 0
    for _ in range(INTERIM_REPLIES_MAX + 1):
        head = framing.split_head(data, start)
        if head is None:
            return None
        first_line, headers, start = head
        status = _parse_status(first_line)
        if status >= 200:
            break
    else:
        raise errors.WireError(502, "too many interim answers")
    length = framing.content_length(headers)
    if status in (204, 304):
        body: tuple[bytes, int] | None = (b"", start)
    elif framing.is_chunked(headers):
        body = framing.take_chunks(data, start)
    elif length is not None:
        body = framing.take(data, start, length)
    else:
        body = framing.take_rest(data, start, closed=closed)
    return None if body is None else Reply(status, body[0], framing.last(headers, "content-type"))


def _parse_status(first_line: str) -> int:
    version, _, rest = first_line.partition(" ")
    digits = rest.partition(" ")[0]
    if version not in _PROTOCOLS or len(digits) != 3 or not framing.is_decimal(digits) or digits < "100":
        raise errors.WireError(502, "malformed status line")
    return int(digits)


def error_text(reply: Reply) -> str:
    """The human text of an error body of any kind: JSON string, ``{"code","message"}``, plain text, HTML, nothing."""
    text = reply.body.decode("utf-8", "replace").strip()
    if text[:1] in ('"', "{"):
        try:
            value = jsonio.loads(reply.body)
        except ValueError:
            value = text
        if isinstance(value, dict) and isinstance(value.get("message"), str):
            value = value["message"]
        text = value if isinstance(value, str) else text
    elif text[:1] == "<":
        text = "".join(part.partition(">")[2] + " " for part in text.split("<"))
    text = " ".join(text.split())[:ERROR_TEXT_MAX]
    return text or f"HTTP status {reply.status} without a text"


def parse_allocation(body: bytes) -> Allocation:
    """Read and check an IPAMResponse.

    Raises:
        WireError: no JSON object; no address; an address outside its CIDRs; a gateway that is not on-link; a MAC or an
            interface number that cannot be; two families that do not describe the same ENI.
    """
    try:
        return _parse_allocation(jsonio.loads(body))
    except ValueError as error:
        raise errors.WireError(502, f"not a valid allocation: {error}") from None


def _parse_allocation(value: "Any") -> Allocation:
    promised = _object(_object(value, "the answer").get("address"), "address")
    found = [
        _parse_family(value, f"ipv{family}", family, promised[f"ipv{family}"])
        for family in (4, 6)
        if promised.get(f"ipv{family}") not in (None, "")
    ]
    if not found:
        raise ValueError("it has no address")
    if len({(mac, ifindex) for mac, ifindex, _ in found}) != 1:
        raise ValueError("ipv4 and ipv6 name different interfaces")
    return Allocation(found[0][0], found[0][1], tuple(address for _, _, address in found))


def _parse_family(answer: "dict[str, Any]", key: str, family: int, promised: "Any") -> tuple[str, int, Address]:
    part = _object(answer.get(key), key)
    ip = _address(part.get("ip"), family, f"{key}.ip")
    if _address(promised, family, f"address.{key}") != ip:
        raise ValueError(f"address.{key} is not {key}.ip")
    if not addresses.is_unicast(family, ip):
        raise ValueError(f"{key}.ip {addresses.text_of(family, ip)} is no NIC's")
    length = _containing(part.get("cidrs"), family, ip, f"{key}.cidrs")
    gateway = ""
    if part.get("gateway") not in (None, ""):
        number = _address(part["gateway"], family, f"{key}.gateway")
        same_network = addresses.network(family, number, length) == addresses.network(family, ip, length)
        if not same_network and not addresses.is_link_local(family, number):
            raise ValueError(f"{key}.gateway is outside the address's network")
        gateway = addresses.text_of(family, number)
    mac = addresses.parse_mac(_text(part.get("master-mac"), f"{key}.master-mac"))
    if not addresses.is_unicast_mac(mac):
        raise ValueError(f"{key}.master-mac {mac} is no NIC's")
    ifindex = _ifindex(part.get("interface-number"), f"{key}.interface-number")
    return mac, ifindex, Address(family, addresses.text_of(family, ip), length, gateway)


def _object(value: "Any", name: str) -> "dict[str, Any]":
    if isinstance(value, dict):
        return value
    raise ValueError(f"{name} is {'missing' if value is None else 'no object'}")


def _text(value: "Any", name: str) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"{name} is {'missing' if value is None else 'no string'}")


def _address(value: "Any", family: int, name: str) -> int:
    found, number = addresses.parse(_text(value, name))
    if found != family:
        raise ValueError(f"{name} is not IPv{family}")
    return number


def _containing(value: "Any", family: int, ip: int, name: str) -> int:
    """The longest prefix length of the CIDRs of this family that contain the address."""
    lengths = []
    for cidr in value if isinstance(value, list) else ():
        found, number, length = addresses.parse_prefix(_text(cidr, name))
        if found != family or length == 0:  # no network of an ENI is the whole Internet
            continue
        if addresses.network(family, number, length) == addresses.network(family, ip, length):
            lengths.append(length)
    if not lengths:
        raise ValueError(f"{name} do not contain the address")
    return max(lengths)


def _ifindex(value: "Any", name: str) -> int:
    digits = str(value) if type(value) is int else _text(value, name)
    if not framing.is_decimal(digits) or not 1 <= int(digits) <= IFINDEX_MAX:
        raise ValueError(f"{name} {digits[:20]!r} is no interface index")
    return int(digits)
