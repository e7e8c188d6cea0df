"""The model of links and namespaces; K and P numbers are the facts of incidents.md section 3."""

import errno
from collections.abc import Callable

import pytest

from simulator.errors import KernelFault
from simulator.model import Eni, EniId, Link, Subnet
from simulator.virtual import kernel

SUBNET = Subnet("10.64.0.0/24", "10.64.0.1", "fd00:64::/64", "fd00:64::1")
ENI = Eni(EniId("eni-1"), "fa:26:00:00:00:01", "ens1", 1500, "10.64.0.11", "fd00:64::b", SUBNET)
PATH = "/run/netns/n1"


@pytest.fixture
def model() -> kernel.Kernel:
    """One NIC at home, index 2, and one namespace."""
    links = kernel.Kernel()
    links.attach(ENI)
    links.create_netns(PATH)
    return links


def move_in(model: kernel.Kernel, name: str = "eth0", alias: str = "ens1") -> Link:
    """Move the NIC into the namespace; what it is there."""
    home = next(link for link in model.links() if link.mac == ENI.mac)
    model.move(home.ifindex, "", PATH, name, alias)
    return nic_in(model, PATH)


def nic_in(model: kernel.Kernel, path: str = "") -> Link:
    return next(link for link in model.links(path) if link.mac == ENI.mac)


def refused(code: int, call: Callable[[], object]) -> bool:
    with pytest.raises(KernelFault) as fault:
        call()
    return fault.value.errno == code


def test_move_takes_a_link_down_and_flushes_it_but_keeps_what_is_its_own(model: kernel.Kernel) -> None:
    model.change("ens1", altnames=("wan",), addresses=("10.64.0.11/24",), up=True, mtu=9000)

    moved = move_in(model)

    assert moved == Link(2, "eth0", ENI.mac, 9000, alias="ens1", altnames=("wan",), netns=PATH)
    assert model.links() == ()


OLD_ERRNOS = [("ens1", errno.EBUSY), ("eth0", errno.EBUSY), ("a/b", errno.EBUSY), ("sixteen-bytes-xx", errno.ERANGE)]


@pytest.mark.parametrize(("name", "code"), OLD_ERRNOS)
def test_link_that_is_up_keeps_its_name_on_an_old_kernel(name: str, code: int) -> None:  # P5
    model = kernel.Kernel(live_rename=False)
    model.attach(ENI)
    model.change("ens1", up=True, alias="wan")
    before = model.links()
    assert refused(code, lambda: model.change("ens1", name=name))
    assert refused(code, lambda: model.change("ens1", name=name, up=False))  # in one request, the name comes first
    assert model.links() == before


def test_link_that_is_up_is_renamed_by_a_move_and_by_restoring_on_an_old_kernel() -> None:  # P5
    model = kernel.Kernel(live_rename=False)
    model.attach(ENI)
    model.create_netns(PATH)
    model.change("ens1", up=True)
    assert move_in(model).name == "eth0"
    model.change("eth0", PATH, up=True)
    model.move_home(PATH, ENI.mac, "back")
    model.change("back", up=True)
    model.restore(nic_in(model).ifindex, "ens1", 1500)
    assert nic_in(model).name == "ens1"


def test_move_keeps_the_ifindex_where_it_is_free(model: kernel.Kernel) -> None:  # K10
    assert move_in(model).ifindex == 2


def test_move_takes_the_next_index_of_the_namespace_where_it_is_not(model: kernel.Kernel) -> None:
    model.add_link("a", "02:00:00:00:00:01", PATH)
    model.add_link("b", "02:00:00:00:00:02", PATH)
    assert move_in(model).ifindex == 4

    model.add_link("c", "02:00:00:00:00:03")  # takes index 3 at home; 4 stays free
    model.move_home(PATH, ENI.mac, "ens1")
    assert nic_in(model).ifindex == 4
    assert model.add_link("d", "02:00:00:00:00:04") == 5


def test_an_index_that_was_kept_does_not_move_the_counter(model: kernel.Kernel) -> None:
    for name in "abc":
        model.add_link(name, f"02:00:00:00:00:0{name}")
    model.move(5, "", PATH, "c")

    assert model.add_link("d", "02:00:00:00:00:0d", PATH) == 2


@pytest.mark.parametrize("altnames", [(), ("eth0",)], ids=["a name", "an altname"])
def test_move_onto_a_taken_name_fails_and_leaves_all_as_it_was(
    model: kernel.Kernel, altnames: tuple[str, ...]
) -> None:  # K3
    model.add_link("other" if altnames else "eth0", "02:00:00:00:00:01", PATH)
    if altnames:
        model.change("other", netns=PATH, altnames=altnames)
    before = (model.links(), model.links(PATH))

    assert refused(errno.EEXIST, lambda: move_in(model))
    assert (model.links(), model.links(PATH)) == before


def test_move_that_brings_a_taken_altname_fails(model: kernel.Kernel) -> None:  # K4, K5
    model.add_link("wan", "02:00:00:00:00:01", PATH)
    model.change("ens1", altnames=("wan",))

    assert refused(errno.EEXIST, lambda: move_in(model))


def test_move_and_rename_are_one_request(model: kernel.Kernel) -> None:  # K3
    model.add_link("ens1", "02:00:00:00:00:01", PATH)

    assert move_in(model, "eth0").name == "eth0"


def test_move_home_takes_a_free_name_where_the_wanted_one_is_taken(model: kernel.Kernel) -> None:
    move_in(model)
    model.add_link("ens1", "02:00:00:00:00:01")
    model.add_link("dev0", "02:00:00:00:00:02")

    model.move_home(PATH, ENI.mac, "ens1")

    assert nic_in(model).name == "dev1"


def test_netns_death_brings_a_nic_home_under_its_pod_side_name(model: kernel.Kernel) -> None:  # P1
    move_in(model)
    model.change("eth0", netns=PATH, addresses=("10.64.0.11/24",), up=True, altnames=("wan",))

    model.delete_netns(PATH)

    assert nic_in(model) == Link(2, "eth0", ENI.mac, 1500, alias="ens1", altnames=("wan",))


@pytest.mark.parametrize("altnames", [(), ("eth0",)], ids=["a name", "an altname"])
def test_netns_death_falls_back_to_the_index_where_the_name_is_taken(
    model: kernel.Kernel, altnames: tuple[str, ...]
) -> None:  # P2
    move_in(model)
    model.add_link("other" if altnames else "eth0", "02:00:00:00:00:01")
    if altnames:
        model.change("other", altnames=altnames)

    model.delete_netns(PATH)

    nic = nic_in(model)
    assert (nic.name, nic.alias) == (f"dev{nic.ifindex}", "ens1")


def test_netns_death_drops_an_altname_that_is_taken_at_home(model: kernel.Kernel) -> None:  # P3
    move_in(model)
    model.change("eth0", netns=PATH, altnames=("lan", "wan"))
    model.add_link("wan", "02:00:00:00:00:01")

    model.delete_netns(PATH)

    assert (nic_in(model).name, nic_in(model).altnames) == ("eth0", ("lan",))


def test_netns_death_destroys_what_is_virtual(model: kernel.Kernel) -> None:  # K1, P4
    model.add_link("veth0", "02:00:00:00:00:01", PATH)

    model.delete_netns(PATH)

    assert [link.name for link in model.links()] == ["ens1"]


def test_netns_that_a_process_holds_lives_without_its_path(model: kernel.Kernel) -> None:  # K2
    move_in(model)
    let_go = model.pin(PATH)
    model.delete_netns(PATH)
    assert (model.links(), model.paths(), model.inspect(PATH, ENI.mac).identity) == ((), ("",), "")

    let_go()
    assert nic_in(model).name == "eth0"


def test_path_whose_mount_is_gone_names_no_netns(model: kernel.Kernel) -> None:  # K9
    move_in(model)
    model.unmount_netns(PATH)

    assert (model.is_netns(PATH), model.inspect(PATH, ENI.mac).identity) == (False, "")
    assert refused(errno.EINVAL, lambda: model.links(PATH))
    assert nic_in(model).name == "eth0"


def test_path_that_is_used_again_names_another_netns(model: kernel.Kernel) -> None:
    before = model.inspect(PATH, ENI.mac).identity
    model.delete_netns(PATH)
    model.create_netns(PATH)

    assert model.inspect(PATH, ENI.mac).identity not in ("", before)


def test_inspect_finds_a_link_by_mac(model: kernel.Kernel) -> None:
    assert model.inspect(PATH, ENI.mac).link is None
    moved = move_in(model)
    assert model.inspect(PATH, ENI.mac).link == moved


def test_restore_gives_name_and_mtu_back_and_takes_the_rest_away(model: kernel.Kernel) -> None:
    model.change("ens1", name="eth7", alias="x", altnames=("wan",), addresses=("10.0.0.1/24",), up=True, mtu=9000)

    model.restore(2, "ens1", 1500)

    assert model.links() == (Link(2, "ens1", ENI.mac, 1500),)


def test_restore_fails_where_another_link_has_the_name(model: kernel.Kernel) -> None:
    model.change("ens1", name="eth7")
    model.add_link("ens1", "02:00:00:00:00:01")

    assert refused(errno.EEXIST, lambda: model.restore(2, "ens1", 1500))
    assert nic_in(model).name == "eth7"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda model: model.restore(99, "ens1", 1500), errno.ENODEV),
        (lambda model: model.move(99, "", PATH, "eth0"), errno.ENODEV),
        (lambda model: model.move(2, "", "/nowhere", "eth0"), errno.ENOENT),
        (lambda model: model.move_home(PATH, ENI.mac, "ens1"), errno.ENODEV),
        (lambda model: model.move_home("/nowhere", ENI.mac, "ens1"), errno.ENOENT),
        (lambda model: model.links("/nowhere"), errno.ENOENT),
        (lambda model: model.create_netns(PATH), errno.EEXIST),
        (lambda model: model.add_link("ens1", "02:00:00:00:00:01"), errno.EEXIST),
        (lambda model: model.change("nobody", mtu=1), errno.ENODEV),
        (lambda model: model.remove_link("nobody"), errno.ENODEV),
        (lambda model: model.pin("/nowhere"), errno.ENOENT),
    ],
)
def test_refusals_have_the_errno_of_the_kernel(
    model: kernel.Kernel, call: Callable[[kernel.Kernel], object], code: int
) -> None:
    assert refused(code, lambda: call(model))


def test_changed_is_called_for_links_at_home_only() -> None:
    calls: list[int] = []
    model = kernel.Kernel(lambda: calls.append(1))
    model.attach(ENI)
    model.create_netns(PATH)
    assert len(calls) == 1

    model.add_link("veth0", "02:00:00:00:00:01", PATH)
    assert len(calls) == 1
    move_in(model)
    assert len(calls) == 2
    model.change("eth0", netns=PATH, up=True)
    assert len(calls) == 2
    model.delete_netns(PATH)
    assert len(calls) == 3
    model.remove_link("eth0")
    assert (len(calls), model.links()) == (4, ())
