"""SIGKILL and SIGTERM of plugins, before and after every call that others can see: the node always comes clean.

The calls are those of one undisturbed run, so that a new one is a new kill point. Here one of each kind is tried;
with ENIM_KILL_POINTS=all every point, with both signals and all that a node may do then (``tox -e deep``).
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from simulator.chain import trace

IS_THOROUGH = os.environ.get("ENIM_KILL_POINTS") == "all"
GROUPS = (  # upper plugin, who is killed, delegate, whether ADD fails
    ("exclusive-device", "exclusive-device"),
    ("exclusive-device", "exclusive-device", "exec"),
    ("exclusive-device", "enim", "exec"),
    ("host-device", "host-device"),
    ("host-device", "enim"),
    ("exclusive-device", "exclusive-device", "", True),
    ("exclusive-device", "exclusive-device", "exec", True),
)
IN_PROCESS, EXEC, CHILD, HOST_DEVICE, HOST_DEVICE_CHILD, *_ = GROUPS
SIGNALS = ("KILL", "TERM")
VERBS = {
    "ADD": """
  - add: {pod: default/web-0, container: c1}
    expect: {error: {}}
""",
    "DEL": """
  - add: {pod: default/web-0, container: c1}
  - del: {container: c1}
    expect: {error: {}}
""",
}

# What a node does after that. Every scenario ends with a demand of the runner's: that all ENIs are free and restored,
# and that no link, process or request is left over.
BY_DEL, BY_END, BY_NEWER = "DEL", "no DEL, and its netns ends", "no DEL, and a newer container"
THEN = {
    BY_DEL: """
  - del: {container: c1}
  - eventually: {enis: {free: 2}, within: 10s}
    name: the netns still lives
  - netns.delete: c1
""",
    BY_END: """
  - runtime.forget: c1
  - netns.delete: c1
  - clock.advance: 6m
  - eventually: {enis: {free: 2}, owner: {default/web-0: null}, within: 10s}
""",
    BY_NEWER: """
  - runtime.forget: c1
  - add: {pod: default/web-0, container: c2}
  - clock.advance: 3s
  - eventually: {enis: {free: 1, in_use: 1}, owner: {default/web-0: c2}, within: 10s}
    name: the netns of c1 still lives
  - echo: {container: c2}
""",
}

# host-device moves the NIC before enim asks the agent. Killed in between, it leaves a NIC of which nobody has a record:
# no evidence, so nothing is taken (design D6) until it is seen at home (D7), where the end of its netns brings it.
UNRECORDED = """
  - runtime.forget: c1
  - add: {pod: default/web-0, container: c2}
  - clock.advance: 60s
  - eventually: {enis: {absent: 1, in_use: 1}, owner: {default/web-0: c2}, within: 10s}
    name: the netns of c1 still lives
  - netns.delete: c1
  - eventually: {enis: {free: 1, in_use: 1}, within: 10s}
"""
# Its DEL fails where it finds no NIC of the pod-side name: where its ADD has not moved the NIC yet, or not renamed it
# either. A runtime removes the netns then, and its next DEL succeeds.
UNMOVED = """
  - del: {container: c1}
    expect: {error: {code: 999, text: Link not found}, enis: {free: 2}}
  - netns.delete: c1
  - del: {container: c1, netns: ""}
"""
UNMARKED = """
  - del: {container: c1}
    expect: {error: {code: 999, text: Link not found}, enis: {absent: 1, free: 1}}
  - netns.delete: c1
  - del: {container: c1, netns: ""}
  - eventually: {enis: {free: 2}, within: 10s}
"""
# Killed after its DEL has renamed the NIC, it does not find it again either; but the agent was told, and fetches it.
HALF_RETURNED = """
  - clock.advance: 3s
  - eventually: {enis: {free: 2}, within: 10s}
    name: the netns still lives
  - del: {container: c1}
    expect: {error: {code: 999, text: Link not found}}
  - netns.delete: c1
  - del: {container: c1, netns: ""}
"""


def steps_of(group: Any, verb: str, done: Sequence[str], then: str) -> str:
    """The scenario of a kill after these calls."""
    after = THEN[then]
    if group.chain == "host-device":
        is_child = group.plugin == "enim"
        renames = 3 if is_child else done.count("netlink SETLINK")  # an ADD's: moved, alias, name; a DEL's: name, moved
        is_asked = ("send to the agent" if is_child else "write to a file") in done  # the file is stdin of enim
        if verb == "ADD" and renames and not is_asked and then == BY_NEWER:
            after = UNRECORDED
        elif verb == "ADD" and renames < 3 and then == BY_DEL:
            after = UNMARKED if renames else UNMOVED
        elif verb == "DEL" and not is_child and renames and then == BY_DEL:
            after = HALF_RETURNED
    return VERBS[verb] + after


def kills_of(bench: Any, groups: Sequence[Any], traces: Any) -> Iterator[Any]:
    """Every point with every signal, and all that may follow."""
    for group, verb in [(one, verb) for one in groups for verb in one.verbs]:
        calls = traces[group, verb]
        points = trace.kill_points(calls, has_threads=group.has_threads)
        if group.fails:  # until then it does what it always does
            points = tuple(point for point in points if "netlink NEWROUTE" in point.done(calls))
        signals = SIGNALS[:1] if group.has_threads else SIGNALS  # Go dies of SIGTERM some calls later
        followed_by = [then for then in THEN if not (group.fails and then == BY_NEWER)]  # its ADD would fail as well
        for point, signal, then in itertools.product(points, signals, followed_by):
            yield bench.Kill(group, verb, point, signal, then, steps_of(group, verb, point.done(calls), then))


def one_of_each_kind(kills: Sequence[Any]) -> list[Any]:
    """For each plugin, verb and kind of call one; moments, signals and what follows in turn."""
    alike: defaultdict[tuple[str, str, bool, str], list[Any]] = defaultdict(list)
    for kill in kills:
        alike[kill.group.plugin, kill.verb, kill.group.fails, kill.point.call.kind].append(kill)
    return [some[7 * number % len(some)] for number, some in enumerate(alike.values())]


def table(verdicts: Sequence[tuple[Any, str]]) -> str:
    """Markdown: how many runs of each plugin, verb and kind of call, and how many of them came clean."""
    rows: defaultdict[tuple[str, str, str], Counter[bool]] = defaultdict(Counter)
    for kill, verdict in verdicts:
        rows[str(kill.group), kill.verb, kill.point.call.kind][not verdict] += 1
    lines = ["| who is killed | verb | at | runs | clean |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} | {count.total()} | {count[True]} |" for row, count in rows.items()]
    clean = sum(count[True] for count in rows.values())
    return "\n".join([*lines, f"| all | | | {len(verdicts)} | {clean} |"])


@pytest.mark.timeout(3600 if IS_THOROUGH else 240)
def test_node_comes_clean_wherever_a_plugin_is_killed(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    groups = [bench.Group(*one) for one in GROUPS]
    traces = bench.traces(groups)
    kills = list(kills_of(bench, groups, traces))
    kills = kills if IS_THOROUGH else one_of_each_kind(kills)
    order = {str(kill): number for number, kill in enumerate(kills)}
    verdicts = sorted(bench.kill(kills, traces), key=lambda one: order[str(one[0])])
    with capsys.disabled():
        print(f"\n{table(verdicts)}" if IS_THOROUGH else f"{len(verdicts)} kills, one at each kind of call")
    wrong = [f"{kill}\n{verdict}" for kill, verdict in verdicts if verdict]
    assert len(verdicts) == len(kills) > 0
    assert not wrong, "\n\n".join(wrong)


# What is seen when a plugin was killed before a call, and after it.
SEEN: dict[str, tuple[str, str]] = {
    "send to the agent": ("{enis: {free: 2}}", "{enis: {free: 1, in_use: 1}, links: {eni-1: {in: home, name: eni1}}}"),
    "netlink SETLINK": ("{links: {eni-1: {in: home, name: eni1}}}", "{links: {eni-1: {in: c1, name: eth0}}}"),
}


def test_killed_before_a_call_it_has_not_been_made_and_after_it_it_has(bench: Any) -> None:
    group = bench.Group(*IN_PROCESS)
    traces = bench.traces([group])
    kills = []
    for kind, signal in zip(SEEN, SIGNALS, strict=True):
        points = [point for point in trace.kill_points(traces[group, "ADD"]) if point.call.kind == kind][:2]
        assert [point.moment for point in points] == ["before", "after"]
        for point, seen in zip(points, SEEN[kind], strict=True):
            look = f"  - eventually: {seen}\n  - del: {{container: c1}}\n"
            kills.append(bench.Kill(group, "ADD", point, signal, look, VERBS["ADD"] + look))
    assert [str(kill) + verdict for kill, verdict in bench.kill(kills, traces) if verdict] == []


# A lock that outlives its owner (INC-C06): a call that is in none of our lists, and what it leaves if it is the last.
LOCKED = """\
    lock = posix.environ[b"CNI_PATH"] + b"/lock"
    posix.mkdir(lock)
    code = process.run(ABOUT, exclusive_verbs.COMMANDS, HANDLERS, versions=config.WITH_INTERFACES)
    posix.rmdir(lock)
    process.end(code)
"""


def test_new_call_of_a_plugin_is_a_kill_point_and_what_it_leaves_is_found(bench: Any) -> None:
    unlocked = (
        "    process.end(process.run(ABOUT, exclusive_verbs.COMMANDS, HANDLERS, versions=config.WITH_INTERFACES))\n"
    )
    group, locking = bench.Group(*IN_PROCESS), bench.with_source("exclusive_main", unlocked, LOCKED)
    traces = locking.traces([group])
    points = [point for point in trace.kill_points(traces[group, "DEL"]) if point.call.name in ("mkdir", "rmdir")]
    steps = VERBS["DEL"] + THEN[BY_DEL]
    kills = [bench.Kill(group, "DEL", point, "KILL", BY_DEL, steps) for point in points]
    wrong = {str(kill.point): verdict for kill, verdict in locking.kill(kills, traces)}
    found = {point: "File exists" if "File exists" in verdict else verdict for point, verdict in wrong.items()}
    assert found == {
        "before mkdir (mkdir 1)": "",
        "after mkdir (mkdir 1)": "File exists",
        "before rmdir (rmdir 1)": "File exists",
        "after rmdir (rmdir 1)": "",
    }


# Programs that start the one that is appended to them with a stdout of which a write fails.
NO_READER = (
    sys.executable,
    "-c",
    """if True:
    import os, signal, sys
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.execv(sys.argv[1], sys.argv[1:])""",
)
STDOUTS = (
    ("sh", "-c", 'exec "$0" >&-'),  # closed
    ("sh", "-c", 'exec "$0" >/dev/full'),
    NO_READER,
)
UNDONE = """
  - eventually: {enis: {free: 2}, within: 10s}
    name: without any DEL, while the netns lives
"""


def undone_by(group: Any) -> str:
    """host-device leaves it to DEL."""
    return VERBS["ADD"] + (THEN[BY_DEL] if group.chain == "host-device" else UNDONE)


def test_result_that_cannot_be_printed_is_undone(bench: Any) -> None:
    groups = [bench.Group(*one) for one in (IN_PROCESS, EXEC, HOST_DEVICE)]
    plays = {
        group: [(undone_by(group), lambda node, one=one: node.put_under("ADD", *one)) for one in STDOUTS]
        for group in groups
    }
    assert bench.play(plays) == [(group, "") for group in groups for _ in STDOUTS]


def test_every_write_to_stdout_may_fail(bench: Any) -> None:
    groups = [bench.Group(*one) for one in (IN_PROCESS, EXEC, CHILD, HOST_DEVICE_CHILD)]
    plays: dict[Any, Any] = {}
    for (group, verb), calls in bench.traces(groups).items():
        writes = [call.ordinal for call in calls if call.kind == "write to stdout"]
        assert (verb == "ADD") == bool(writes)
        for ordinal in writes:
            broken = functools.partial(prepare_broken_pipe, group=group, ordinal=ordinal)
            plays.setdefault(group, []).append((undone_by(group), broken))
    assert [verdict for _, verdict in bench.play(plays)] == [""] * len(groups)


def prepare_broken_pipe(node: Any, group: Any, ordinal: int) -> None:
    node.look_on(group, "ADD", ("-e", f"inject=write:error=EPIPE:when={ordinal}"))
