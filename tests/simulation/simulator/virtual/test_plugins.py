"""Plugin processes of the model, beside what the real ones do."""

import json
from typing import Any

from simulator.model import PluginCall

MS = 1_000_000


def test_enim_prints_what_the_real_process_would(make_lab: Any) -> None:
    lab = make_lab(1)
    run = lab.begin_add("c1", plugin="enim")
    lab.node.finish(run)

    outcome = run.outcome(lab.node.driver.now_ns)
    printed = json.loads(outcome.stdout)
    assert (outcome.exit_code, outcome.stderr, printed["cniVersion"]) == (0, b"", "1.0.0")
    assert [ip["address"] for ip in printed["ips"]] == ["10.64.0.11/24", "fd00:64::b/64"]


def test_exclusive_device_leaves_the_nic_configured_under_its_name_and_its_old_one_in_the_alias(make_lab: Any) -> None:
    lab = make_lab(1)
    lab.add("c1")

    (link,) = lab.node.kernel.links("/run/netns/c1")

    assert (link.name, link.alias, link.up) == ("eth0", "ens1", True)
    assert link.addresses == ("10.64.0.11/24", "fd00:64::b/64")


def test_error_is_a_cni_error_on_stdout_and_exit_code_1(make_lab: Any) -> None:
    lab = make_lab(1)
    lab.add("c1")

    run = lab.begin_add("c2", pod="default/web-1")
    lab.node.finish(run)

    error = json.loads(b"".join(run.stdout))
    assert (run.exit_code, error["code"], error["cniVersion"]) == (1, 11, "1.0.0")


def test_bad_configuration_is_a_cni_error_too(make_lab: Any) -> None:
    lab = make_lab(1)
    call = lab.call("ADD", "c1")

    outcomes = [
        lab.node.execute(PluginCall(call.plugin, environment, stdin))
        for environment, stdin in (
            (call.environment, b"{"),
            ({**call.environment, "CNI_IFNAME": "a/b"}, call.stdin),
            ({**call.environment, "CNI_NETNS": "/run/netns/nowhere"}, call.stdin),
        )
    ]

    assert [outcome.exit_code for outcome in outcomes] == [1, 1, 1]
    assert [json.loads(outcome.stdout)["code"] for outcome in outcomes] == [6, 4, 8]


def test_kernels_refusal_undoes_the_add(make_lab: Any) -> None:
    lab = make_lab(1)
    lab.node.create_netns("c1")
    lab.node.kernel.add_link("wan", "02:00:00:00:00:01", "/run/netns/c1")
    lab.node.kernel.change("ens1", altnames=("wan",))  # blocks the move (K5)

    assert lab.add("c1") == "cannot move 2 from home to /run/netns/c1 as eth0"
    lab.node.pause(5_000)
    assert (lab.states(), lab.place(1), lab.violations()) == (["free"], ":ens1", [])


def test_delegate_of_a_killed_parent_lives_on_and_finds_nobody_to_read(make_lab: Any) -> None:
    lab = make_lab(1, delay_ns=10 * MS)
    run = lab.begin_add("c1")
    lab.node.pause(5)
    run.kill()
    assert (run.is_alive, run.is_tree_alive, run.exit_code) == (False, True, -9)

    lab.node.pause(1_000)

    assert (run.is_tree_alive, [child.exit_code for child in run.children]) == (False, [1])
    assert lab.states() == ["free"]  # it gave back what nobody was told of


def test_delegate_that_is_not_there_fails_the_upper_plugin(make_lab: Any) -> None:
    lab = make_lab(1)
    call = lab.call("ADD", "c1")
    lab.node.create_netns("c1")
    netconf = {**json.loads(call.stdin), "ipam": {"type": "dhcp"}}

    outcome = lab.node.execute(PluginCall(call.plugin, call.environment, json.dumps(netconf).encode()))

    assert (outcome.exit_code, json.loads(outcome.stdout)["code"]) == (1, 106)
