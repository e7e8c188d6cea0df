"""PURE: what a runtime was told: the ADDs that are acknowledged, as the auditor's ledger keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.model import Attachment


@dataclass(frozen=True, slots=True)
class Grant:
    """An ADD that the runtime was told had succeeded, until a DEL that it was told had succeeded.

    Args:
        mac: the NIC of the result that is in the sandbox.
        addresses: the result's addresses, CIDR texts.
        challenged: the runtime has sent an ADD for a newer container of the same owner. However that ended for the
            runtime, the agent may have committed it, and then this one is superseded (design D6 c).
        superseded: a newer container of the same owner was acknowledged since, or the agent has committed it.
        netns_deleted: the runtime removed the namespace.
        ending: the runtime has sent a DEL; however that ended, the container no longer counts on its NIC.
        leased: the addresses are of host-local, not of an ENI.
    """

    attachment: Attachment
    owner: str
    netns: str
    mac: str
    addresses: tuple[str, ...]
    challenged: bool = False
    superseded: bool = False
    netns_deleted: bool = False
    ending: bool = False
    leased: bool = False

    @property
    def live(self) -> bool:
        """Whether the container must have its NIC, and nobody else may."""
        return not (self.superseded or self.netns_deleted or self.ending)
