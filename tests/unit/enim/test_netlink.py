"""What the kernel may answer that a quiet machine does not: a fake socket says it."""

import errno
import sys

import pytest

from enim import errors, netlink

ERROR, DONE, NEWLINK = 2, 3, 16
MULTI, DUMP_INTR, ACK_TLVS = 0x2, 0x10, 0x200


def number(value, size=4):
    return value.to_bytes(size, sys.byteorder, signed=value < 0)


def message(kind, flags, body, sequence=1):
    return number(16 + len(body)) + number(kind, 2) + number(flags, 2) + number(sequence) + number(0) + body


def attribute(kind, value):
    padding = bytes(-len(value) % 4)
    return number(4 + len(value), 2) + number(kind, 2) + value + padding


def link(ifindex, name, sequence=1, flags=MULTI):
    body = bytes(4) + number(ifindex) + bytes(8) + attribute(3, name.encode() + b"\0") + attribute(1, bytes(6))
    return message(NEWLINK, flags, body, sequence)


class FakeSocket:
    """Answers each request with the next datagrams of its script."""

    def __init__(self, *answers):
        self.answers = [list(answer) for answer in answers]
        self.sent = []

    def send(self, data):
        self.sent.append(data)

    def recv(self, _):
        answer = self.answers[len(self.sent) - 1]
        return answer.pop(0)


def channel(*answers):
    opened = object.__new__(netlink.Channel)
    opened._sequence = 0
    opened._socket = FakeSocket(*answers)
    return opened


def test_dump_reads_every_part():
    parts = [link(1, "lo") + link(2, "eth0"), link(3, "eth1"), message(DONE, MULTI, number(0))]
    assert [found.name for found in channel(parts).links()] == ["lo", "eth0", "eth1"]


def test_dump_that_was_interrupted_is_read_again():
    first = [link(1, "lo", flags=MULTI | DUMP_INTR), message(DONE, MULTI, number(0))]
    second = [link(1, "lo", 2) + link(2, "eth0", 2), message(DONE, MULTI, number(0), 2)]
    assert [found.name for found in channel(first, second).links()] == ["lo", "eth0"]


def test_dump_that_is_interrupted_for_ever_is_given_up():
    answers = [[message(DONE, DUMP_INTR, number(0), sequence)] for sequence in range(1, 11)]
    with pytest.raises(errors.KernelError) as caught:
        channel(*answers).links()
    assert (caught.value.errno, caught.value.operation) == (errno.EINTR, "list the links")


def test_dump_that_fails_at_its_end_is_a_failure():
    with pytest.raises(errors.KernelError) as caught:
        channel([link(1, "lo") + message(DONE, MULTI, number(-errno.ENOMEM))]).links()
    assert caught.value.errno == errno.ENOMEM


def test_answer_to_an_earlier_request_is_passed_over():
    late = [link(9, "late", 7) + message(ERROR, 0, number(-errno.EPERM), 7), message(ERROR, 0, number(0))]
    assert channel(late).links(9) == []


def test_error_says_what_the_kernel_explains():
    explained = number(-errno.EINVAL) + bytes(16) + attribute(1, b"Nexthop has invalid gateway.\0")
    with pytest.raises(errors.KernelError) as caught:
        channel([message(ERROR, ACK_TLVS, explained)]).set_up("set eth0 up", 2)
    assert caught.value.args == ("set eth0 up", errno.EINVAL, "Invalid argument: Nexthop has invalid gateway.")


def test_error_without_an_explanation_is_the_text_of_its_number():
    with pytest.raises(errors.KernelError) as caught:
        channel([message(ERROR, 0, number(-errno.EPERM) + bytes(16))]).set_up("set eth0 up", 2)
    assert caught.value.args == ("set eth0 up", errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("length", [0, 15, 4000])
def test_message_of_an_impossible_length_is_a_kernel_error(length):
    with pytest.raises(errors.KernelError) as caught:
        channel([number(length) + message(ERROR, 0, number(0))[4:]]).set_up("set eth0 up", 2)
    assert caught.value.errno == errno.EBADMSG


def test_link_without_alias_and_altnames():
    found = channel([link(4, "eth0") + message(ERROR, 0, number(0))]).link(4)
    assert (found.ifindex, found.mac, found.alias, found.altnames, found.up) == (4, "00:00:00:00:00:00", "", (), False)
