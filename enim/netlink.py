"""EDGE: entering network namespaces, and the few rtnetlink messages that the plugins need, as bytes.

Owns every netlink socket of the plugins, and ``setns``. ``rtnetlink`` says what is done with them.

Rules:
    - A netlink socket stays in the namespace in which it was opened. So the process enters a namespace only to open one
      (or to write a sysctl) and comes back at once, also after a failure. The plugins are single-threaded.
    - rtnetlink carries a request out inside ``send`` and has answered when that returns: no receive here waits.
    - Every failure is a ``KernelError``, with the kernel's own explanation (NETLINK_EXT_ACK) where it gives one.

Source: netlink(7), rtnetlink(7), setns(2); linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h.
"""

import _socket
import errno
import posix
import sys

from enim import effects, errors, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import TypeVar

    from typing_extensions import Self

    Answer = TypeVar("Answer")

IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x02, 0x08, 0x40

_NAME_BYTES_MAX = 15
_RECEIVE_BYTES = 65536  # the kernel makes no part of a dump larger than 32 KiB
_DUMPS_MAX = 10  # of a list that changes while it is read

_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x4, 0x10, 0x300
_NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_ACK_TLVS = 0x200, 0x400, 0x200
_NLMSGERR_ATTR_MSG = 1
_RTM_GETLINK, _RTM_SETLINK, _RTM_NEWADDR, _RTM_GETADDR, _RTM_NEWROUTE, _RTM_DELLINKPROP = 18, 19, 20, 22, 24, 109
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_IFALIAS, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 1, 3, 4, 20, 28, 29
_IFLA_PROP_LIST, _IFLA_ALT_IFNAME, _NLA_F_NESTED, _NLA_TYPE_MASK = 52, 53, 0x8000, 0x3FFF
_RTEXT_FILTER_SKIP_STATS = 8
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_METRICS = (("mtu", 2), ("advmss", 8))  # RTAX_*
_RT_TABLE_COMPAT = 252  # in place of the number of a table that does not fit into a byte
_RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RTN_UNICAST = 254, 3, 0, 253, 1
_FAMILIES = {4: _socket.AF_INET, 6: _socket.AF_INET6}


class Link(effects.Link):
    """A link with what moving it needs besides: ``altnames`` (tuple of str), ``mtu`` (int) and ``up`` (bool).

    ``attributes`` has all of IFLA_*, as bytes.
    """

    __slots__ = ("altnames", "attributes", "mtu", "up")

    def __init__(self, message: bytes) -> None:
        self.attributes = attributes = dict(attributes_of(message[16:]))
        super().__init__(
            _number(message[4:8]),
            _text(attributes.get(_IFLA_IFNAME, b"")),
            attributes.get(_IFLA_ADDRESS, b"").hex(":"),
            _text(attributes.get(_IFLA_IFALIAS, b"")),
        )
        properties = attributes_of(attributes.get(_IFLA_PROP_LIST, b""))
        self.altnames = tuple(_text(value) for kind, value in properties if kind == _IFLA_ALT_IFNAME)
        self.mtu = _number(attributes.get(_IFLA_MTU, b""))
        self.up = bool(_number(message[8:12]) & _IFF_UP)


class Channel:
    """A netlink socket in a network namespace ("": the process's own); ``descriptor`` refers to that namespace.

    Use it in a ``with`` statement. Every method raises KernelError. Addresses are ``(family, number, prefix length)``.
    """

    __slots__ = ("_sequence", "_socket", "descriptor")

    def __init__(self, netns: str = "") -> None:
        self._sequence = 0
        self.descriptor = _open_netns(netns or namespaces.OWN_NETNS)
        try:
            self._socket = inside(self.descriptor, _open_socket) if netns else _open_socket()
        except BaseException:
            posix.close(self.descriptor)
            raise

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        posix.close(self.descriptor)

    def links(self, ifindex: int = 0, name: str = "") -> list[Link]:
        """The link with that index, else the one with that name or altname, else all, by rising index."""
        if len(_encoded(name)) > _NAME_BYTES_MAX:
            return []
        body = link_body(ifindex, attribute(_IFLA_EXT_MASK, u32(_RTEXT_FILTER_SKIP_STATS)))
        if not ifindex and not name:
            return [Link(message) for message in self.dump("list the links", _RTM_GETLINK, body)]
        if not ifindex:
            body += attribute(_IFLA_IFNAME, _c_string(name))
        try:
            return [Link(message) for message in self.call(f"look up {name or ifindex}", _RTM_GETLINK, 0, body)]
        except errors.KernelError as error:
            if error.errno == errno.ENODEV:
                return []
            raise

    def link(self, ifindex: int = 0, name: str = "") -> "Link | None":
        """The link with that index, or with that name: here an altname does not count."""
        for link in self.links(ifindex, name):
            if not name or link.name == name:
                return link
        return None

    def is_taken(self, name: str) -> bool:
        """Does a link have that name or altname?"""
        return bool(self.links(name=name))

    def rename(self, operation: str, ifindex: int, name: str, alias: str, target: "Channel | None" = None) -> None:
        """Rename a link and set its alias, in one request; with a ``target``, after moving it there."""
        body = link_body(ifindex, attribute(_IFLA_IFNAME, _c_string(name)), attribute(_IFLA_IFALIAS, _encoded(alias)))
        if target is not None:
            body += attribute(_IFLA_NET_NS_FD, u32(target.descriptor))
        self.call(operation, _RTM_SETLINK, 0, body)

    def set_up(self, operation: str, ifindex: int) -> None:
        """Set a link up."""
        self.call(operation, _RTM_SETLINK, 0, link_body(ifindex, flags=_IFF_UP))

    def drop_altname(self, ifindex: int, altname: str) -> None:
        """Take an altname from a link."""
        names = attribute(_IFLA_ALT_IFNAME, _c_string(altname))
        body = link_body(ifindex, attribute(_IFLA_PROP_LIST | _NLA_F_NESTED, names))
        self.call(f"drop the altname {altname}", _RTM_DELLINKPROP, 0, body)

    def add_address(self, operation: str, ifindex: int, address: tuple[int, int, int], *, dad: bool = False) -> None:
        """Add an address; an IPv4 one with the broadcast address of its subnet, as ConfigureIface does.

        Without ``dad`` an IPv6 address can be used at once: nobody is asked whether he has it.
        """
        family, number, length = address
        packed = packed_number(family, number)
        flags = IFA_F_NODAD if family == 6 and not dad else 0
        body = bytes((_FAMILIES[family], length, flags, _RT_SCOPE_UNIVERSE)) + u32(ifindex)
        body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
        if family == 4 and length < 31:
            body += attribute(_IFA_BROADCAST, packed_number(4, number | (1 << (32 - length)) - 1))
        self.call(operation, _RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, body)

    def address_flags(self, ifindex: int) -> dict[int, int]:
        """The IPv6 addresses of a link: number → IFA_F_* flags."""
        found = self._addresses(_socket.AF_INET6)
        return {number: flags for index, _family, number, _length, flags in found if index == ifindex}

    def addresses(self, ifindex: int) -> frozenset[tuple[int, int, int]]:
        """The addresses of a link."""
        return frozenset([address for index, address in self.all_addresses() if index == ifindex])

    def all_addresses(self) -> list[tuple[int, tuple[int, int, int]]]:
        """The addresses of all links, each beside its link's index."""
        return [(found[0], found[1:4]) for found in self._addresses(_socket.AF_UNSPEC)]

    def _addresses(self, family: int) -> "Iterator[tuple[int, int, int, int, int]]":
        """Index, IP version, number, prefix length and IFA_F_* flags of each address, of one family or of all."""
        versions = {known: version for version, known in _FAMILIES.items()}
        for message in self.dump("list the addresses", _RTM_GETADDR, bytes((family, 0, 0, 0)) + u32(0)):
            if message[0] in versions:
                attributes = dict(attributes_of(message[8:]))
                packed = attributes.get(_IFA_LOCAL) or attributes[_IFA_ADDRESS]
                flags = _number(attributes.get(_IFA_FLAGS, message[2:3]))
                ifindex = _number(message[4:8])
                yield ifindex, versions[message[0]], int.from_bytes(packed, "big"), message[1], flags

    def add_route(
        self,
        operation: str,
        ifindex: int,
        network: tuple[int, int, int],
        gateway: "int | None",
        attributes: "Mapping[str, int]",
    ) -> None:
        """Add a route; without a gateway (a number of the same family), an on-link one unless it has a scope.

        Args:
            attributes: those of CNI 1.1.0 that it has: mtu, advmss, priority, table, scope.
        """
        family, number, length = network
        table = attributes.get("table") or _RT_TABLE_MAIN
        scope = attributes.get("scope", _RT_SCOPE_LINK if gateway is None else _RT_SCOPE_UNIVERSE)
        kind = (table if table < 256 else _RT_TABLE_COMPAT, _RTPROT_BOOT, scope, _RTN_UNICAST)
        body = bytes((_FAMILIES[family], length, 0, 0, *kind)) + u32(0)
        body += attribute(_RTA_DST, packed_number(family, number)) + attribute(_RTA_OIF, u32(ifindex))
        if gateway is not None:
            body += attribute(_RTA_GATEWAY, packed_number(family, gateway))
        if table >= 256:
            body += attribute(_RTA_TABLE, u32(table))
        if "priority" in attributes:
            body += attribute(_RTA_PRIORITY, u32(attributes["priority"]))
        metrics = [attribute(metric, u32(attributes[name])) for name, metric in _METRICS if name in attributes]
        if metrics:
            body += attribute(_RTA_METRICS | _NLA_F_NESTED, b"".join(metrics))
        self.call(operation, _RTM_NEWROUTE, _NLM_F_CREATE, body)

    def dump(self, operation: str, kind: int, body: bytes) -> list[bytes]:
        """Ask for a list; its messages, of one moment."""
        for _attempt in range(_DUMPS_MAX):
            try:
                return self.call(operation, kind, _NLM_F_DUMP, body)
            except errors.KernelError as error:
                if error.errno != errno.EINTR:
                    raise
        raise errors.KernelError(operation, errno.EINTR, f"the list changed during each of {_DUMPS_MAX} readings")

    def call(self, operation: str, kind: int, flags: int, body: bytes) -> list[bytes]:
        """Send one request; return the messages of the answer, without their headers."""
        self._sequence += 1
        flags |= _NLM_F_REQUEST if flags == _NLM_F_DUMP else _NLM_F_REQUEST | _NLM_F_ACK
        header = u32(16 + len(body)) + _u16(kind) + _u16(flags) + u32(self._sequence) + u32(0)
        answers: list[bytes] = []
        changed = 0
        try:
            self._socket.send(header + body)
            while True:
                for answer, answer_flags, message in messages(self._socket.recv(_RECEIVE_BYTES), self._sequence):
                    changed |= answer_flags & _NLM_F_DUMP_INTR
                    if answer in (_NLMSG_ERROR, _NLMSG_DONE):
                        _check(operation, answer_flags | changed, message)
                        return answers
                    answers.append(message)
        except OSError as error:
            raise translate(operation, error) from error


def inside(descriptor: int, action: "Callable[[], Answer]") -> "Answer":
    """Do ``action`` in the network namespace that ``descriptor`` refers to, and come back."""
    home = _open_netns(namespaces.OWN_NETNS)
    try:
        setns = _find_setns()
        setns(descriptor, namespaces.CLONE_NEWNET)
        try:
            return action()
        finally:
            setns(home, namespaces.CLONE_NEWNET)
    except OSError as error:
        raise translate("enter a network namespace", error) from error
    finally:
        posix.close(home)


def translate(operation: str, error: OSError) -> errors.KernelError:
    """The KernelError that an OSError is."""
    return errors.KernelError(operation, error.errno or 0, error.strerror or str(error))


def _open_netns(path: str) -> int:
    try:
        return posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)  # a FIFO must not hold us up
    except (OSError, ValueError) as error:
        failure = error if isinstance(error, OSError) else OSError(errno.EINVAL, str(error))
        raise translate(f"open the network namespace {path}", failure) from error


def _open_socket() -> _socket.socket:
    opened = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _socket.NETLINK_ROUTE)
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
        opened.setsockopt(_SOL_NETLINK, option, 1)
    return opened


if sys.version_info >= (3, 12):

    def _find_setns() -> "Callable[[int, int], object]":
        return posix.setns

else:
    _found: "list[Callable[[int, int], object]]" = []

    def _find_setns() -> "Callable[[int, int], object]":
        """``setns``, made when it is first needed."""
        if not _found:
            _found.append(_make_setns())
        return _found[0]

    def _make_setns() -> "Callable[[int, int], object]":
        """``setns``, by way of ``_ctypes``: loading all of ctypes takes 3 ms."""
        import _ctypes  # noqa: PLC0415 -- only when a namespace is entered

        class Function(_ctypes.CFuncPtr):  # returns an int, as those do that do not say
            _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO

        library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None stands for what is loaded already
        call = Function(_ctypes.dlsym(library, "setns"))

        def setns(descriptor: int, kind: int) -> None:
            if call(descriptor, kind) != 0:
                number = _ctypes.get_errno()
                raise OSError(number, posix.strerror(number))

        return setns


def messages(data: bytes, sequence: int = 0) -> "Iterator[tuple[int, int, bytes]]":
    """The messages of one datagram: type, flags, what follows the header; of answers, those to request ``sequence``."""
    start = 0
    while start + 16 <= len(data):
        length = _number(data[start : start + 4])
        if length < 16 or start + length > len(data):
            raise OSError(errno.EBADMSG, "a netlink message was cut off")
        if not sequence or _number(data[start + 8 : start + 12]) == sequence:
            kind, flags = _number(data[start + 4 : start + 6]), _number(data[start + 6 : start + 8])
            yield kind, flags, data[start + 16 : start + length]
        start += _aligned(length)


def _check(operation: str, flags: int, message: bytes) -> None:
    """Raise what the last message of an answer says; its first four bytes are 0 or a negative errno."""
    number = -int.from_bytes(message[:4], sys.byteorder, signed=True)
    if number == 0 and flags & _NLM_F_DUMP_INTR:
        number = errno.EINTR
    if number:
        text = posix.strerror(number)
        explanation = dict(attributes_of(message[20:])).get(_NLMSGERR_ATTR_MSG) if flags & _NLM_F_ACK_TLVS else None
        raise errors.KernelError(operation, number, f"{text}: {_text(explanation)}" if explanation else text)


def link_body(ifindex: int, *attributes: bytes, flags: int = 0) -> bytes:
    """A struct ifinfomsg, with ``flags`` to be set, and attributes."""
    return bytes(4) + u32(ifindex) + u32(flags) * 2 + b"".join(attributes)


def attribute(kind: int, value: bytes) -> bytes:
    """A struct rtattr and what fills it up to a multiple of four bytes."""
    length = 4 + len(value)
    return _u16(length) + _u16(kind) + value + bytes(_aligned(length) - length)


def attributes_of(data: bytes) -> "Iterator[tuple[int, bytes]]":
    """Types and values; a link has some fifty of them."""
    halves = memoryview(data[: len(data) & ~1]).cast("H")
    start = 0
    while start + 4 <= len(data):
        length, kind = halves[start >> 1], halves[(start >> 1) + 1]
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, data[start + 4 : start + length]
        start += length + 3 & ~3


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


def _u16(number: int) -> bytes:
    return number.to_bytes(2, sys.byteorder)


def u32(number: int) -> bytes:
    """A number as the kernel reads it."""
    return number.to_bytes(4, sys.byteorder)


def packed_number(family: int, number: int) -> bytes:
    """An address as the kernel reads it; the family is 4 or 6."""
    return number.to_bytes(4 if family == 4 else 16, "big")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _c_string(text: str) -> bytes:
    return _encoded(text) + b"\0"


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
