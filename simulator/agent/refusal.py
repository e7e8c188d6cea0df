"""PURE: how a request is refused: a sentence for its client, and a reason that can be counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from simulator.agent import api

Reason: TypeAlias = Literal[
    "no_free_eni",
    "wanted_eni_taken",
    "nothing_suits",
    "nic_elsewhere",
    "holds_another",
    "other_owner",
    "in_flight",
    "given_up",
    "superseded",
    "took_too_long",
    "no_owner",
    "malformed",
    "fault",
]

# Reason → what it means, for people.
REASONS: Mapping[Reason, str] = {
    "no_free_eni": "ADD: the pool has no ENI that is free",
    "wanted_eni_taken": "ADD: no ENI that has what the pod asks for is free",
    "nothing_suits": "ADD: no ENI has what the pod asks for, or the one that the container holds has not",
    "nic_elsewhere": "ADD: the ENI's NIC is neither at home nor in the namespace that was named",
    "holds_another": "ADD: the container already holds an ENI under another interface name or network",
    "other_owner": "ADD, DEL: the attachment is on record for another owner",
    "in_flight": "ADD: the same ADD is under way",
    "given_up": "ADD: a DEL, a newer container or another request came in between",
    "superseded": "ADD: a newer container of the same owner has taken its place",
    "took_too_long": "ADD, DEL: another request of the same pod took too long",
    "no_owner": "ADD: it names no owner",
    "malformed": "ADD, GC: its body cannot be understood, or it names no container",
    "fault": "the kernel or the journal failed",
}


class Refused(Exception):
    """This request is answered with an error, and changes nothing more.

    ``status`` 400 says that the request can never be granted. 409 says that nothing was allocated, and that what the
    container has is untouched: the plugin sends no DELETE after it. After a 500 it does.
    """

    def __init__(self, reason: Reason, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.reason = reason
        self.reply = api.fault(status, text) if status == 400 else api.error(status, text)
