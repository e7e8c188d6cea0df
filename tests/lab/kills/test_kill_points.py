"""SIGKILL and SIGTERM of plugins, before and after every call that others can see: the node always comes clean.

The calls are those of one undisturbed run, so that a new one is a new kill point. Here one of each kind is tried;
with ENIM_KILL_POINTS=all every point, with both signals and all that a node may do then (``tox -e deep``). What came
of it is printed as Markdown, and put into the document that ENIM_KILL_TABLE names in the place of what it has. The
newest host-device belongs to that where it is here; what only it does is in test_newest_host_device.py.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from pathlib import Path
from typing import Any

import kill_table
import pytest
from kill_steps import (
    BY_DEL,
    CHILD,
    EXEC,
    GROUPS,
    HOST_DEVICE,
    HOST_DEVICE_CHILD,
    IN_PROCESS,
    LOGGING,
    SIGNALS,
    THEN,
    VERBS,
    Kill,
    kills_of,
    newest_groups,
    one_of_each_kind,
)

from simulator.chain import trace
from simulator.errors import LabError

IS_THOROUGH = os.environ.get("ENIM_KILL_POINTS") == "all"
TABLE = os.environ.get("ENIM_KILL_TABLE")


@pytest.mark.timeout(3600 if IS_THOROUGH else 240)
def test_node_comes_clean_wherever_a_plugin_is_killed(
    bench: Any, newest_if_any: Path | None, capsys: pytest.CaptureFixture[str]
) -> None:
    newest = newest_if_any if IS_THOROUGH else None
    began, circumstances = time.monotonic(), kill_table.circumstances(newest)
    groups = (*GROUPS, *newest_groups(str(newest))) if newest else GROUPS
    traces = bench.traces(groups)
    kills = list(kills_of(groups, traces))
    kills = kills if IS_THOROUGH else one_of_each_kind(kills)
    order = {str(kill): number for number, kill in enumerate(kills)}
    verdicts = sorted(bench.kill(kills, traces), key=lambda one: order[str(one[0])])
    report = kill_table.markdown(verdicts, circumstances, time.monotonic() - began)
    with capsys.disabled():
        print(f"\n{report}" if IS_THOROUGH else f"{len(verdicts)} kills, one at each kind of call")
    if TABLE and IS_THOROUGH:
        Path(TABLE).write_text(kill_table.put_into(Path(TABLE).read_text(), report))
    wrong = [f"{kill}\n{verdict}" for kill, verdict in verdicts if verdict]
    assert len(verdicts) == len(kills) > 0
    assert not wrong, "\n\n".join(wrong)


def test_table_has_one_place_in_the_document() -> None:
    document = (Path(__file__).parents[3] / "docs/deep.md").read_text()
    report = kill_table.markdown([], kill_table.circumstances(), 61.0)
    changed = kill_table.put_into(document, report)
    assert report in changed
    assert kill_table.put_into(changed, report) == changed
    with pytest.raises(ValueError, match="there is not one part from"):
        kill_table.put_into(document * 2, report)


def test_release_of_a_plugin_that_go_has_built_is_in_the_binary(tmp_path: Path) -> None:
    built = tmp_path / "host-device"
    built.write_bytes(b"\x7fELF\0path\tx\nmod\tgithub.com/containernetworking/plugins\tv1.10.0\th1:4lw=\n")
    assert kill_table.release(built) == "1.10.0"
    built.write_bytes(b"\x7fELF")
    assert kill_table.release(built) == "?"


# What is seen when a plugin was killed before a call, and after it.
SEEN: dict[str, tuple[str, str]] = {
    "send to the agent": ("{enis: {free: 2}}", "{enis: {free: 1, in_use: 1}, links: {eni-1: {in: home, name: eni1}}}"),
    "netlink SETLINK": ("{links: {eni-1: {in: home, name: eni1}}}", "{links: {eni-1: {in: c1, name: eth0}}}"),
}


def test_killed_before_a_call_it_has_not_been_made_and_after_it_it_has(bench: Any) -> None:
    traces = bench.traces([IN_PROCESS])
    kills = []
    for kind, signal in zip(SEEN, SIGNALS, strict=True):
        points = [point for point in trace.kill_points(traces[IN_PROCESS, "ADD"]) if point.call.kind == kind][:2]
        assert [point.moment for point in points] == ["before", "after"]
        for point, seen in zip(points, SEEN[kind], strict=True):
            look = f"  - eventually: {seen}\n  - del: {{container: c1}}\n"
            kills.append(Kill(IN_PROCESS, "ADD", point, signal, look, VERBS["ADD"] + look))
    assert [str(kill) + verdict for kill, verdict in bench.kill(kills, traces) if verdict] == []


# A lock that outlives its owner (INC-C06): a call that is in none of our lists, and what it leaves if it is the last.
UNLOCKED = "    process.end(process.run(ABOUT, exclusive_verbs.COMMANDS, HANDLERS, versions=config.WITH_INTERFACES))\n"
LOCKED = """\
    lock = posix.environ[b"CNI_PATH"] + b"/lock"
    posix.mkdir(lock)
    code = process.run(ABOUT, exclusive_verbs.COMMANDS, HANDLERS, versions=config.WITH_INTERFACES)
    posix.rmdir(lock)
    process.end(code)
"""


def test_new_call_of_a_plugin_is_a_kill_point_and_what_it_leaves_is_found(bench: Any) -> None:
    locking = bench.with_source("exclusive_main", UNLOCKED, LOCKED)
    traces = locking.traces([IN_PROCESS])
    points = [point for point in trace.kill_points(traces[IN_PROCESS, "DEL"]) if point.call.name in ("mkdir", "rmdir")]
    steps = VERBS["DEL"] + THEN["DEL"][BY_DEL]
    kills = [Kill(IN_PROCESS, "DEL", point, "KILL", BY_DEL, steps) for point in points]
    wrong = {str(kill.point): verdict for kill, verdict in locking.kill(kills, traces)}
    found = {point: "File exists" if "File exists" in verdict else verdict for point, verdict in wrong.items()}
    assert found == {
        "before mkdir (mkdir 1)": "",
        "after mkdir (mkdir 1)": "File exists",
        "before rmdir (rmdir 1)": "File exists",
        "after rmdir (rmdir 1)": "",
    }


# A plugin that mends, when it is asked whether all is as it was.
MENDING = """\
    mac, wanted = upkeep.previous(checked)
    yield effects.Configure(checked.netns, checked.ifname, (), (("198.51.100.0/24", "", {}),))
"""


def test_what_a_verb_changes_that_only_looks_is_found(bench: Any) -> None:
    mending = bench.with_source("exclusive_upkeep", "    mac, wanted = upkeep.previous(checked)\n", MENDING)
    with pytest.raises(LabError, match=r"before CHECK there were .*, then .*198\.51\.100\.0/24"):
        mending.traces([IN_PROCESS])


# A line in two writes: a kill in between cuts it, and the next line goes on where it ends.
CUT = """\
        if posix.write(descriptor, line[:20]) + posix.write(descriptor, line[20:]) < len(line):
"""


def test_line_of_a_log_that_is_not_whole_is_found(bench: Any) -> None:
    cutting = bench.with_source("log", "        if posix.write(descriptor, line) < len(line):\n", CUT)
    traces = cutting.traces([LOGGING])
    points = [point for point in LOGGING.points("DEL", traces[LOGGING, "DEL"]) if point.call.kind == "write to the log"]
    steps = VERBS["DEL"] + THEN["DEL"][BY_DEL]
    kills = [Kill(LOGGING, "DEL", point, "TERM", BY_DEL, steps) for point in points[:4]]
    found = ["not whole" in verdict or verdict for _, verdict in cutting.kill(kills, traces)]
    assert found == ["", True, True, ""]  # before and after the first half, before and after the second


# A thread that connects to the agent and hangs up, while the first one is at work.
SECOND = """\
    import _thread
    from _socket import AF_UNIX, socket

    connected = _thread.allocate_lock()
    connected.acquire()

    def connect() -> None:
        socket(AF_UNIX).connect(posix.environ[b"CNI_PATH"] + b"/../agent/agent.sock")
        connected.release()

    _thread.start_new_thread(connect, ())
    code = process.run(ABOUT, exclusive_verbs.COMMANDS, HANDLERS, versions=config.WITH_INTERFACES)
    connected.acquire()
    process.end(code)
"""


def test_connection_of_a_second_thread_is_a_kill_point(bench: Any) -> None:
    threaded = bench.with_source("exclusive_main", UNLOCKED, SECOND)
    traces = threaded.traces([IN_PROCESS])
    points = [point for point in trace.kill_points(traces[IN_PROCESS, "DEL"]) if point.call.thread]
    steps = VERBS["DEL"] + THEN["DEL"][BY_DEL]
    kills = [Kill(IN_PROCESS, "DEL", point, signal, BY_DEL, steps) for point in points for signal in SIGNALS]
    first = [point for point in trace.kill_points(traces[IN_PROCESS, "DEL"]) if not point.call.thread]
    kills += [Kill(IN_PROCESS, "DEL", point, "KILL", BY_DEL, steps) for point in first[:2]]
    verdicts = {str(kill): verdict for kill, verdict in threaded.kill(kills, traces)}
    assert [str(point) for point in points] == [
        "before connect (connect 1, thread 2)",
        "after connect (connect 1, thread 2)",
    ]
    assert set(verdicts.values()) == {""}, verdicts


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
    return VERBS["ADD"] + (THEN["ADD"][BY_DEL] if group.chain == "host-device" else UNDONE)


def test_result_that_cannot_be_printed_is_undone(bench: Any) -> None:
    groups = (IN_PROCESS, EXEC, HOST_DEVICE)
    plays = {
        group: [(undone_by(group), lambda node, one=one: node.put_under("ADD", *one)) for one in STDOUTS]
        for group in groups
    }
    assert bench.play(plays) == [(group, "") for group in groups for _ in STDOUTS]


def test_every_write_to_stdout_may_fail(bench: Any) -> None:
    groups = (IN_PROCESS, EXEC, CHILD, HOST_DEVICE_CHILD)
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
