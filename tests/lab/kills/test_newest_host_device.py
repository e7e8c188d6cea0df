"""The newest host-device moves a NIC by way of a namespace of its own (failpoints A3 and D3), which 1.1.1 does not.

That namespace has no path: it ends with the process, and the kernel brings the NIC home. Here one of each kind of call
is tried at which only the newest can be killed; ``test_kill_points.py`` tries all of it with ENIM_KILL_POINTS=all.
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from kill_steps import (
    HOME,
    HOST_DEVICE,
    NAMED,
    ON_ITS_WAY,
    UNNAMED,
    Group,
    kills_of,
    newest_groups,
    one_of_each_kind,
    place,
)

MAC_OF_A_NIC = "02:e1:"


def seen_place(node: Any) -> str:
    """Where the NIC that is given to the pod is, by what is in the namespaces that have a path."""
    at_home, *in_pods = node.snapshot().links.values()
    if len([link for link in at_home if link.mac.startswith(MAC_OF_A_NIC)]) == len(node.enis):
        return HOME
    inside = [link.name for links in in_pods for link in links if link.mac.startswith(MAC_OF_A_NIC)]
    return ON_ITS_WAY if not inside else NAMED if inside == ["eth0"] else UNNAMED


def assert_nic_is_where_the_table_says(bench: Any, group: Group) -> None:
    """In this order; when a thread stops, another one's call may be under way, and is in the log only later."""
    for verb, stops in bench.watch(group, seen_place).items():
        expected = [place(group, verb, done) for done, _ in stops]
        assert [one for one, _ in groupby(seen for _, seen in stops)] == [one for one, _ in groupby(expected)], verb


def test_nic_is_nowhere_on_its_way_through_the_newest(bench: Any, newest: Path) -> None:
    assert_nic_is_where_the_table_says(bench, newest_groups(str(newest))[0])


def test_nic_is_always_somewhere_with_the_packaged(bench: Any) -> None:
    assert_nic_is_where_the_table_says(bench, HOST_DEVICE)


@pytest.mark.timeout(120)
def test_node_comes_clean_when_the_newest_is_killed_with_the_nic_on_its_way(
    bench: Any, newest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group, _ = newest_groups(str(newest))
    traces = bench.traces([group])
    calls_of_its_own = [
        kill
        for kill in kills_of([group], traces)
        if kill.point.call.kind == "unshare"
        or place(group, kill.verb, kill.point.done(traces[group, kill.verb])) == ON_ITS_WAY
    ]
    kills = one_of_each_kind(calls_of_its_own)
    verdicts = list(bench.kill(kills, traces))
    with capsys.disabled():
        print(f"{len(verdicts)} kills of the newest host-device, one at each kind of call")
    assert {kill.verb for kill, _ in verdicts if kill.point.call.kind == "netlink SETLINK"} == {"ADD", "DEL"}
    assert [f"{kill}\n{verdict}" for kill, verdict in verdicts if verdict] == []
