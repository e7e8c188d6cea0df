"""Links as the agent and the hardware see them: in other namespaces, and restored."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from enim import errors
from simulator.real import kernel, links

InLab = Callable[[Callable[[Path], Any]], Any]


def test_link_that_moved_is_listed_where_it_is_until_its_namespace_ends(in_lab: InLab, machine: Any) -> None:
    def look(scratch: Path) -> tuple[list[str], str, list[Any]]:
        with links.Channel() as home:
            assert home.ids() == []
            pod = scratch / "pod"
            kernel.create_netns(pod, accept_dad=False)
            machine.ip("link", "add", "nic", "type", "bridge")
            machine.ip("link", "add", "far", "type", "veth", "peer", "name", "near")
            machine.ip("link", "set", "near", "netns", str(pod), "name", "eth0")
            (nsid,) = home.ids()
            found = home.links_in(nsid)
            alone = home.link_in(nsid, found[-1].ifindex)
            kernel.delete_netns(pod)
            machine.until(home.ids, [])
            return [link.name for link in found], alone.name, home.links_in(nsid)

    assert in_lab(look) == (["lo", "eth0"], "eth0", [])


def test_peer_and_kind_of_a_link(in_lab: InLab, machine: Any) -> None:
    def look(scratch: Path) -> Any:
        pod = scratch / "pod"
        kernel.create_netns(pod, accept_dad=False)
        machine.ip("link", "add", "far", "type", "veth", "peer", "name", "near")
        with links.Channel() as home:
            (far,), (near,) = home.links(name="far"), home.links(name="near")
            beside = links.peer_of(far)
            machine.ip("link", "set", "near", "netns", str(pod))
            (far,) = home.links(name="far")
            kinds = [links.kind_of(link) for link in home.links()]
            (nsid,) = home.ids()
            return kinds, beside == (None, near.ifindex), links.peer_of(far) == (nsid, near.ifindex)

    assert in_lab(look) == (["", "veth"], True, True)


@pytest.fixture
def worn(in_lab: InLab, machine: Any) -> Callable[[Callable[[links.Channel, int], Any]], Any]:
    """Does something in a lab with a link that has been used."""

    def run(action: Callable[[links.Channel, int], Any]) -> Any:
        def use(_scratch: Path) -> Any:
            machine.ip("link", "add", "nic", "mtu", "1400", "type", "bridge")
            machine.ip("link", "set", "nic", "alias", "old", "up")
            machine.ip("link", "property", "add", "dev", "nic", "altname", "other")
            for address in ("192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64"):
                machine.ip("address", "add", address, "dev", "nic")
            with links.Channel() as home:
                (link,) = home.links(name="nic")
                return action(home, link.ifindex)

        return in_lab(use)

    return run


def test_restore_takes_away_all_that_a_pod_has_left(worn: Any) -> None:
    def restore(home: links.Channel, ifindex: int) -> Any:
        home.restore(ifindex, "eni1", 1500)
        link = home.link(ifindex)
        assert link is not None
        return link.name, link.mtu, link.alias, link.altnames, link.up, home.addresses(ifindex)

    assert worn(restore) == ("eni1", 1500, "", (), False, frozenset())


def test_restore_of_what_is_restored_changes_nothing(worn: Any) -> None:
    """Each change is told to all who listen, and they look again."""

    def restore(home: links.Channel, ifindex: int) -> list[str]:
        home.restore(ifindex, "eni1", 1500)
        with links.listen() as changes:
            home.restore(ifindex, "eni1", 1500)
            return [heard.link.name for heard in links.hear(changes)]

    assert worn(restore) == []


def test_restore_does_all_but_the_name_if_that_is_taken(worn: Any) -> None:
    def restore(home: links.Channel, ifindex: int) -> Any:
        with pytest.raises(errors.KernelError) as caught:
            home.restore(ifindex, "lo", 1500)
        link = home.link(ifindex)
        assert link is not None
        return caught.value.errno, caught.value.operation, link.name, link.mtu, link.alias

    assert worn(restore) == (errno.EEXIST, "restore lo", "nic", 1500, "")


def test_restore_of_a_link_that_is_gone_says_so(in_lab: InLab) -> None:
    def restore(_scratch: Path) -> tuple[int, str]:
        with links.Channel() as home, pytest.raises(errors.KernelError) as caught:
            home.restore(99, "eni1", 1500)
        return caught.value.errno, caught.value.text

    assert in_lab(restore) == (errno.ENODEV, "no link has the index 99")
