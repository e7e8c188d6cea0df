"""What exclusive-device does for CHECK, GC and STATUS, as flows: its own part of CHECK, then its IPAM plugin's word.

Rules: CHECK looks at no routes, though host-device's does. A later plugin of the chain or the pod itself may have
changed them, and a runtime that hears of it takes the pod down.

Source: CNI SPEC section 2 (GC and STATUS must be forwarded to delegates); contract A7, B6.
"""

from enim import addresses, answers, config, effects, errors, exclusive, upkeep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any, TypeAlias

    Steps: TypeAlias = Generator[effects.Effect, Any, Any]


def check(checked: config.Config) -> "effects.Flow":
    """CHECK: the pod's NIC is the one that ADD gave, up to its addresses; then the IPAM plugin has its say.

    Raises:
        CniError: 7, 8, 104, 105: see ``upkeep.check``; 107 an address is gone; else the IPAM plugin's own.
    """
    mac, wanted = upkeep.previous(checked)
    yield from upkeep.check_nic(checked, mac)
    try:
        shown = yield effects.Addresses(checked.netns, checked.ifname)
    except errors.KernelError as error:
        raise errors.CniError(errors.LINK_FAILURE, f"cannot {error.operation}"[:256], error.text[:256]) from None
    for text in wanted:
        if addresses.parse_prefix(text) not in shown:
            raise errors.CniError(errors.CHANGED, f"{checked.ifname} has lost its address {text}", checked.netns)
    yield from _delegate(checked)


def collect(checked: config.Config) -> "effects.Flow":
    """GC: the IPAM plugin's business. Raises CniError: its own."""
    yield from _delegate(checked)


def status(checked: config.Config) -> "effects.Flow":
    """STATUS: the IPAM plugin's word. Raises CniError: its own."""
    yield from _delegate(checked)


def _delegate(checked: config.Config) -> "Steps":
    plugin = exclusive.ipam_plugin(checked)
    code, stdout = yield exclusive.delegation(checked, plugin, checked.command)
    if code != 0:
        raise answers.read_error(stdout) or answers.no_error(plugin, code, stdout)
