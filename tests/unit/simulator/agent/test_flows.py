import json
from typing import Any

import pytest

from enim import wire
from simulator import effects, errors
from simulator.agent import api

OK = wire.Reply(200)


def granted(reply: wire.Reply) -> tuple[str, str]:
    """The MAC and interface number of an answer."""
    assert reply.status == 200, reply
    body = json.loads(reply.body)
    return body["ipv4"]["master-mac"], body["ipv4"]["interface-number"]


def text(reply: wire.Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)


def wishes(**wanted: Any) -> bytes:
    return json.dumps({"x-enim": wanted}).encode()


# --- ADD


def test_add_gives_a_free_eni_that_is_at_home(hands: Any) -> None:
    assert granted(hands.add("c1")) == ("fa:26:00:00:00:01", "2")

    record = hands.record(1)
    assert (record.state, record.attachment, record.owner) == ("in_use", hands.attachment("c1"), "default/web-0")
    assert (record.netns, hands.states()) == ("/run/netns/c1", ["in_use", "free"])


def test_add_journals_the_reservation_before_the_acknowledgement_and_both_before_the_answer(hands: Any) -> None:
    flight = hands.begin("POST", "c1").until(effects.Persist)
    assert [event["kind"] for event in flight.effect.events] == ["reserved"]
    assert hands.states() == ["free", "free"]

    flight.step().until(effects.Persist)
    assert [event["kind"] for event in flight.effect.events] == ["acknowledged"]
    assert (hands.states(), flight.is_over) == (["reserved", "free"], False)

    assert granted(flight.end())[0] == "fa:26:00:00:00:01"


def test_add_gives_the_eni_that_has_been_free_longest(hands: Any) -> None:
    hands.add("c1")
    hands.clock_ms += 10
    hands.delete("c1")
    hands.settle()

    assert granted(hands.add("c3", owner="default/web-3"))[0] == "fa:26:00:00:00:02"


def test_add_does_not_offer_what_the_background_has_not_seen(make_hands: Any) -> None:
    hands = make_hands(2)

    assert text(hands.add("c1")) == (500, "no available ENI to be allocated")


def test_add_does_not_give_an_eni_that_is_not_at_home_just_now(hands: Any) -> None:
    hands.links.pop("eni-1")
    assert granted(hands.add("c1"))[0] == "fa:26:00:00:00:02"

    hands.strangers.append(hands.links["eni-2"])  # a second link with the same MAC
    assert text(hands.add("c3", owner="default/web-3")) == (500, "no available ENI to be allocated")


def test_add_says_the_index_that_the_nic_has_now(hands: Any) -> None:
    hands.come_home(1)

    assert granted(hands.add("c1")) == ("fa:26:00:00:00:01", "41")


@pytest.mark.parametrize("owner", ["", "/", "web-0", "default/", "/web-0", "a/b/c"])
def test_add_for_no_pod_gets_the_real_agents_answer(hands: Any, owner: str) -> None:
    assert text(hands.add("c1", owner=owner)) == (500, "failed to get pod, please retry")


def test_add_without_a_container_allocates_nothing(hands: Any) -> None:
    reply = hands.add("")

    assert (reply.status, json.loads(reply.body)["code"], hands.states()) == (400, 400, ["free", "free"])


def test_add_with_a_body_that_is_no_json_is_refused_by_the_framework(hands: Any) -> None:
    reply = hands.add("c1", body=b"{", owner="")

    assert (reply.status, json.loads(reply.body)["code"]) == (400, 400)


def test_add_of_a_client_of_the_real_agent_needs_neither_network_nor_ifname(hands: Any) -> None:
    first = hands.add("c1", network="", ifname="")

    assert granted(first) == granted(hands.add("c1", network="", ifname=""))
    assert hands.states() == ["in_use", "free"]
    assert hands.delete("c1", network="", ifname="", owner="default/other") == OK
    assert hands.states() == ["in_use", "free"]
    assert hands.delete("c1", network="", ifname="") == OK
    assert hands.states() == ["returning", "free"]


def test_add_and_del_match_across_an_upgrade_of_the_plugin(hands: Any) -> None:
    hands.add("c1", network="", ifname="")

    assert hands.delete("c1") == OK
    assert hands.states() == ["returning", "free"]


# --- the same ADD again (design D6 a)


def test_add_again_gets_the_eni_it_holds_while_that_is_at_home(hands: Any) -> None:
    first = granted(hands.add("c1"))

    assert granted(hands.add("c1")) == first
    assert hands.states() == ["in_use", "free"]


def test_add_again_gets_the_eni_it_holds_while_that_is_in_the_named_netns(hands: Any) -> None:
    first = granted(hands.add("c1"))
    hands.move_in(1, "/run/netns/c1")

    assert granted(hands.add("c1")) == first


def test_add_again_with_the_nic_somewhere_else_is_to_be_retried(hands: Any) -> None:
    hands.add("c1")
    hands.move_in(1, "/run/netns/other")

    status, problem = text(hands.add("c1"))

    assert (status, problem) == (409, "eni-1 is neither at home nor in /run/netns/c1, please retry")
    assert hands.states() == ["in_use", "free"]


def test_add_again_with_another_netns_is_remembered(hands: Any) -> None:
    hands.netns["/run/netns/new"] = "4:77"
    hands.add("c1")

    hands.add("c1", netns="/run/netns/new")

    assert hands.record(1).netns == "/run/netns/new"
    assert [event["identity"] for event in hands.journal if event["kind"] == "repeated"] == ["4:77"]


def test_add_again_with_wishes_that_its_eni_does_not_grant_leaves_it_untouched(hands: Any) -> None:
    hands.add("c1")

    assert hands.add("c1", body=wishes(ips=["10.64.0.12"])).status == 409
    assert hands.states() == ["in_use", "free"]


# --- one ENI per container (design D6 b)


@pytest.mark.parametrize("other", [{"ifname": "net1"}, {"network": "other"}])
def test_add_of_a_second_attachment_of_the_container_is_refused(hands: Any, other: dict[str, str]) -> None:
    hands.add("c1")

    status, problem = text(hands.add("c1", **other))

    assert (status, problem) == (409, "container c1 of default/web-0 already holds an ENI as podlink/c1/eth0")
    assert hands.states() == ["in_use", "free"]


def test_add_of_an_attachment_that_another_pod_has_is_refused(hands: Any) -> None:
    hands.add("c1")

    assert hands.add("c1", owner="default/web-1").status == 409
    assert hands.record(1).owner == "default/web-0"


# --- another container of the same pod (design D6 c)


def test_add_of_a_newer_container_supersedes_at_its_commit(hands: Any) -> None:
    hands.add("c1")

    newer = hands.begin("POST", "c2").until(effects.Persist).step().until(effects.Persist)
    assert hands.states() == ["in_use", "reserved"]
    assert [event["kind"] for event in newer.effect.events] == ["acknowledged", "superseded"]

    assert granted(newer.end())[0] == "fa:26:00:00:00:02"
    assert hands.states() == ["superseded", "in_use"]
    assert hands.record(1).attachment == hands.attachment("c1")


def test_add_of_a_newer_container_that_fails_supersedes_nothing(hands: Any, store_fault: errors.StoreFault) -> None:
    hands.add("c1")
    newer = hands.begin("POST", "c2").until(effects.Persist).step().until(effects.Persist)

    assert newer.fail(store_fault).end().status == 500

    assert hands.states() == ["in_use", "returning"]


def test_add_again_of_a_superseded_container_fails(hands: Any) -> None:
    hands.add("c1")
    hands.add("c2")

    status, problem = text(hands.add("c1"))

    assert (status, problem.endswith("please retry"), hands.states()) == (500, True, ["superseded", "in_use"])


def test_add_of_another_interface_of_a_superseded_container_is_refused(make_hands: Any) -> None:
    hands = make_hands(3)
    hands.settle()
    hands.add("c1")
    hands.add("c2")

    assert hands.add("c1", ifname="net1").status == 409


# --- wishes (design D4, D5)


def test_add_with_an_address_gets_the_eni_that_has_it(hands: Any) -> None:
    assert granted(hands.add("c1", body=wishes(ips=["10.64.0.12"])))[0] == "fa:26:00:00:00:02"


def test_add_with_wishes_that_no_eni_grants_allocates_nothing(hands: Any) -> None:
    status, problem = text(hands.add("c1", body=wishes(ips=["192.0.2.1"])))

    assert (status, problem) == (500, "no ENI of this node has address 192.0.2.1; nothing was allocated")
    assert hands.states() == ["free", "free"]


def test_add_with_wishes_for_an_eni_that_is_taken_says_so(hands: Any) -> None:
    hands.add("c1")

    status, problem = text(hands.add("c2", body=wishes(ips=["10.64.0.11"])))

    assert (status, problem) == (
        500,
        "no available ENI to be allocated: eni-1 (address 10.64.0.11) is in_use",
    )
    assert hands.states() == ["in_use", "free"]


@pytest.mark.parametrize("noticed", [False, True], ids=["still free", "absent by now"])
@pytest.mark.parametrize("wanted", [{"device": "ens2"}, {"mac": "fa:26:00:00:00:02"}, {"device": "fa:26:00:00:00:02"}])
def test_add_with_a_device_gets_it_though_the_upper_plugin_has_moved_it(
    hands: Any, wanted: dict[str, str], noticed: bool
) -> None:
    hands.move_in(2, "/run/netns/c1")
    if noticed:
        hands.settle()
        assert hands.states() == ["free", "absent"]

    assert granted(hands.add("c1", body=wishes(**wanted))) == ("fa:26:00:00:00:02", "3")
    assert hands.states() == ["free", "in_use"]


def test_add_with_a_device_that_is_neither_at_home_nor_in_the_netns_changes_nothing(hands: Any) -> None:
    hands.move_in(2, "/run/netns/other")
    hands.settle()

    status, problem = text(hands.add("c1", body=wishes(device="ens2")))

    assert (status, problem.startswith(api.NONE_AVAILABLE)) == (500, True)
    assert hands.states() == ["free", "absent"]


def test_add_with_a_device_does_not_get_one_that_is_back_at_home_and_not_restored_yet(hands: Any) -> None:
    hands.move_in(2, "/run/netns/c1")
    hands.settle()
    hands.come_home(2)

    status, problem = text(hands.add("c1", body=wishes(mac="fa:26:00:00:00:02")))

    assert (status, problem.startswith(api.NONE_AVAILABLE)) == (500, True)
    hands.settle()
    assert granted(hands.add("c1", body=wishes(mac="fa:26:00:00:00:02")))[0] == "fa:26:00:00:00:02"


def test_add_without_a_device_does_not_get_an_absent_eni(hands: Any) -> None:
    hands.move_in(1, "/run/netns/c1")
    hands.settle()

    assert granted(hands.add("c1"))[0] == "fa:26:00:00:00:02"


def test_add_with_a_device_waits_while_the_background_notes_that_it_went(hands: Any) -> None:
    hands.move_in(2, "/run/netns/c1")
    hands.background.step().until(effects.Persist)
    adding = hands.begin("POST", "c1", body=wishes(device="ens2")).until(effects.WaitForChange)
    hands.background.until(effects.WaitForChange)

    assert granted(adding.end())[0] == "fa:26:00:00:00:02"


# --- the rest of the API


def test_healthz_is_well_though_nothing_is_free(hands: Any) -> None:
    hands.add("c1")
    hands.add("c3", owner="default/web-3")

    assert hands.states() == ["in_use", "in_use"]
    assert health(hands) == OK


def test_healthz_is_ill_without_an_eni(make_hands: Any) -> None:
    assert text(health(make_hands(0)))[0] == 500


def test_healthz_is_ill_while_the_journal_cannot_be_written(hands: Any, store_fault: errors.StoreFault) -> None:
    hands.begin("POST", "c1").until(effects.Persist).fail(store_fault).end()
    assert health(hands).status == 500

    hands.add("c1")
    assert health(hands) == OK


def health(hands: Any) -> wire.Reply:
    with pytest.raises(StopIteration) as end:
        next(hands.agent.handle(wire.Request("GET", "/v1/healthz")))
    reply: wire.Reply = end.value.value
    return reply


def test_handle_answers_what_the_framework_refuses(hands: Any) -> None:
    with pytest.raises(StopIteration) as end:
        next(hands.agent.handle(wire.Request("PATCH", "/v1/eni")))

    assert end.value.value.status == 405
