"""PURE: the invariant ``fail-closed``: what the agent has on record for a container stays there until something that
the runtime did explains its end.

What explains it: a DEL that names the container, its ADD's failure, a newer container of the same owner, the end of its
network namespace. That an agent was killed, cannot look into a namespace or sees something odd explains nothing.

Source: incidents.md section 2, I7.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulator.model import Attachment, EniRecord, Snapshot

_HELD = ("in_use", "superseded")


class Claims:
    """What the agent was last seen to have on record, and for which containers its end is explained."""

    def __init__(self) -> None:
        self._records: dict[str, EniRecord] = {}  # by MAC
        self._explained: set[Attachment] = set()
        self._ended_netns: set[str] = set()

    def acknowledged(self, attachment: Attachment) -> None:
        """An ADD has succeeded: whatever came before it explains nothing any more."""
        self._explained.discard(attachment)

    def explained(self, attachment: Attachment) -> None:
        """A DEL of it was sent, or its ADD has failed."""
        self._explained.add(attachment)

    def superseding(self, attachment: Attachment, owner: str) -> None:
        """An ADD is sent: older containers of the same owner may lose what they have."""
        for record in self._records.values():
            other = record.attachment
            if other is not None and record.owner == owner and other.container_id != attachment.container_id:
                self._explained.add(other)

    def netns_ended(self, netns: str) -> None:
        """A network namespace was removed."""
        self._ended_netns.add(netns)

    def netns_began(self, netns: str) -> None:
        """A network namespace was made, under a path that may have been another one's."""
        self._ended_netns.discard(netns)

    def check(self, now: Snapshot) -> Iterator[tuple[str, str, str]]:
        """The records that ended without an explanation: the ENI, and the two views that disagree."""
        if not now.agent_running:
            return
        current = {record.eni.mac: record for record in now.records}
        for mac, was in tuple(self._records.items()):
            record = current.get(mac)
            if record is not None and record.attachment == was.attachment:
                continue
            assert was.attachment is not None
            if was.attachment in self._explained or was.netns in self._ended_netns:
                del self._records[mac]
                continue
            became = "has no record of it" if record is None else f"says {record.state}"
            yield was.eni.id, f"the agent had it on record for {was.attachment}", f"{became}, and nothing ended that"
        for mac, record in current.items():
            if mac not in self._records and record.attachment is not None and record.state in _HELD:
                self._records[mac] = record
