"""PURE: who is killed, where, and what happens before and after that: each run is a scenario."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from simulator.chain import trace
from simulator.scenario import load

HEAD = "name: kill\nsummary: A plugin is killed.\nnode: {{enis: 2}}\nchain: {chain}\nnetwork: {{{network}}}\nsteps:\n"
SIGNALS = ("KILL", "TERM")
LOOKING = ("CHECK", "STATUS")  # the verbs that change nothing

TEXT, JSON, SYSLOG, NOWHERE = "text", "json", "syslog", "nowhere"
LOGS = {TEXT: "a log as text", JSON: "a log as JSON", SYSLOG: "syslog", NOWHERE: "a log that cannot be opened"}


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Who is killed.

    Args:
        chain: the upper plugin.
        plugin: it, or enim alone, its child.
        delegate: of exclusive-device: ``exec``, or "" for enim in its own process.
        fails: its ADD cannot make a route, and undoes all that it has done until then.
        log: where to the plugins log, "" for nowhere. Then they are killed where they do that.
        newest: the newest host-device's binary, "" for the packaged one.
    """

    chain: str
    plugin: str
    delegate: str = ""
    fails: bool = False
    log: str = ""
    newest: str = ""

    def __str__(self) -> str:
        child = f", child of {self.chain}" if self.plugin != self.chain else ""
        more = ", delegate: exec" if self.delegate else ""
        log = f", {LOGS[self.log]}" if self.log else ""
        return f"{self.plugin}{child}{more}{', undoing' if self.fails else ''}{log}{', newest' if self.newest else ''}"

    @property
    def verbs(self) -> tuple[str, ...]:
        if self.fails:
            return ("ADD",)
        has_all = self.chain == "exclusive-device" and not self.log
        return ("ADD", "DEL", "CHECK", "GC", "STATUS") if has_all else ("ADD", "DEL")

    @property
    def has_threads(self) -> bool:
        return self.plugin == "host-device"

    @property
    def clean(self) -> str:
        """The steps of a run in which each verb is undisturbed."""
        return UNDONE if self.fails else EVERY_VERB if "GC" in self.verbs else POD

    def scenario(self, steps: str) -> load.LoadedScenario:
        keys = [f"delegate: {self.delegate}"] if self.delegate else []
        keys += ["routes: [{dst: 198.51.100.0/24, gw: 192.0.2.1}]"] if self.fails else []
        keys += ["cniVersion: 1.1.0"] if "GC" in self.verbs else []
        head = HEAD.format(chain=self.chain, network=", ".join(keys))
        return load.parse("kill.yaml", (head + steps).encode())

    def netconf(self, directory: str) -> dict[str, str]:
        """What the conf of each call says besides. ``directory``: where the log is."""
        if self.log == SYSLOG:
            return {"log-file": SYSLOG}
        if self.log == NOWHERE:
            return {"log-file": f"{directory}/none/enim.log"}
        return {"log-file": f"{directory}/enim.log", "log-format": self.log} if self.log else {}

    def points(self, verb: str, calls: Sequence[trace.Call]) -> Iterator[trace.KillPoint]:
        """Where it is killed, by the calls of a run that nothing disturbed."""
        for point in trace.kill_points(calls, has_threads=self.has_threads):
            is_late = "netlink NEWROUTE" in point.done(calls)  # until then it does what it always does
            is_logging = point.call.kind.endswith("the log") or (
                self.log == NOWHERE and point.call.kind == "write to stderr"
            )
            if (is_late or not self.fails) and (is_logging or not self.log):
                yield point


IN_PROCESS = Group("exclusive-device", "exclusive-device")
EXEC = Group("exclusive-device", "exclusive-device", "exec")
CHILD = Group("exclusive-device", "enim", "exec")
HOST_DEVICE = Group("host-device", "host-device")
HOST_DEVICE_CHILD = Group("host-device", "enim")
LOGGING = dataclasses.replace(IN_PROCESS, log=TEXT)
GROUPS = (
    *(IN_PROCESS, EXEC, CHILD, HOST_DEVICE, HOST_DEVICE_CHILD),
    dataclasses.replace(IN_PROCESS, fails=True),
    dataclasses.replace(EXEC, fails=True),
    LOGGING,
    dataclasses.replace(IN_PROCESS, log=SYSLOG),
    dataclasses.replace(IN_PROCESS, fails=True, log=JSON),
    dataclasses.replace(EXEC, log=JSON),
    dataclasses.replace(CHILD, log=JSON),
    dataclasses.replace(CHILD, log=SYSLOG),
    dataclasses.replace(CHILD, log=NOWHERE),
    dataclasses.replace(HOST_DEVICE_CHILD, log=TEXT),
)


def newest_groups(binary: str) -> tuple[Group, Group]:
    """The newest host-device, and enim as its child."""
    return dataclasses.replace(HOST_DEVICE, newest=binary), dataclasses.replace(HOST_DEVICE_CHILD, newest=binary)


Traces: TypeAlias = Mapping[tuple[Group, str], tuple[trace.Call, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Kill:
    """One run: the plugin is killed there, when it is first called with the verb.

    Args:
        then: what the steps after that are, for people.
        steps: all of them, YAML.
    """

    group: Group
    verb: str
    point: trace.KillPoint
    signal: str
    then: str
    steps: str

    def __str__(self) -> str:
        return f"{self.group}: {self.verb}: SIG{self.signal} {self.point}; then {self.then}"


POD = """
  - add: {pod: default/web-0, container: c1}
  - del: {container: c1}
"""
UNDONE = """
  - add: {pod: default/web-0, container: c1}
    expect: {error: {code: 105}}
"""
COLLECTED = """
  - clock.advance: 3s
  - eventually: {enis: {free: 1, in_use: 1}, owner: {default/web-0: null, default/web-1: c2}, within: 10s}
    name: the netns of c1 still lives
  - echo: {container: c2}
"""
TWO_PODS = """
  - add: {pod: default/web-0, container: c1}
  - add: {pod: default/web-1, container: c2}
  - runtime.forget: c1
"""
EVERY_VERB = f"""
  - status: true
{TWO_PODS}
  - check: {{container: c2}}
  - gc: {{valid: [c2]}}
{COLLECTED}
  - del: {{container: c2}}
"""

# The verb that is killed, and what it needs before.
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
    "CHECK": """
  - add: {pod: default/web-0, container: c1}
  - check: {container: c1}
    expect: {error: {}, owner: {default/web-0: c1}}
""",
    "GC": f"""
{TWO_PODS}
  - gc: {{valid: [c2]}}
    expect: {{error: {{}}, owner: {{default/web-1: c2}}}}
""",
    "STATUS": """
  - add: {pod: default/web-0, container: c1}
  - status: true
    expect: {error: {}, owner: {default/web-0: c1}}
""",
}

# What a node does after that. Every scenario ends with a demand of the runner's: that all ENIs are free and restored,
# and that no link, process or request is left over.
BY_DEL, BY_END, BY_NEWER = "DEL", "no DEL, and its netns ends", "no DEL, and a newer container"
AGAIN = "the same again"
_DEL = """
  - del: {container: c1}
  - eventually: {enis: {free: 2}, within: 10s}
    name: the netns still lives
  - netns.delete: c1
"""
_END = """
  - runtime.forget: c1
  - netns.delete: c1
  - clock.advance: 6m
  - eventually: {enis: {free: 2}, owner: {default/web-0: null}, within: 10s}
"""
_NEWER = """
  - runtime.forget: c1
  - add: {pod: default/web-0, container: c2}
  - clock.advance: 3s
  - eventually: {enis: {free: 1, in_use: 1}, owner: {default/web-0: c2}, within: 10s}
    name: the netns of c1 still lives
  - echo: {container: c2}
"""
_CHANGES = {BY_DEL: _DEL, BY_END: _END, BY_NEWER: _NEWER}
_COLLECTED_BY_END = """
  - netns.delete: c1
  - clock.advance: 6m
  - eventually: {enis: {free: 1, in_use: 1}, owner: {default/web-0: null, default/web-1: c2}, within: 10s}
  - echo: {container: c2}
"""
THEN = {
    "ADD": _CHANGES,
    "DEL": _CHANGES,
    "CHECK": {AGAIN: f"\n  - check: {{container: c1}}\n  - echo: {{container: c1}}{_DEL}"},
    "GC": {
        AGAIN: f"\n  - gc: {{valid: [c2]}}{COLLECTED}",
        BY_DEL: f"\n  - del: {{container: c1}}{COLLECTED}",
        BY_END: _COLLECTED_BY_END,
    },
    "STATUS": {AGAIN: f"\n  - status: true\n  - echo: {{container: c1}}{_DEL}"},
}

# Where a NIC can be: at home; in the pod, under a name that is not the pod-side one, or under that; on its way between
# the two, in a namespace of host-device's own. By verb, and whether it is the newest: after each of its SETLINKs.
HOME, UNNAMED, NAMED, ON_ITS_WAY = "home", "unnamed", "named", "on its way"
PLACES = {
    ("ADD", False): (HOME, UNNAMED, UNNAMED, NAMED),  # moved, alias, name
    ("ADD", True): (HOME, ON_ITS_WAY, ON_ITS_WAY, ON_ITS_WAY, NAMED),  # moved out, name, alias, moved in
    ("DEL", False): (NAMED, UNNAMED, HOME),  # name, moved
    ("DEL", True): (NAMED, ON_ITS_WAY, ON_ITS_WAY, ON_ITS_WAY, HOME),  # moved out, name, alias, moved home
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
# Nobody but the process holds the namespace that a NIC is in on its way: both end together, and the NIC comes home
# without anybody's doing.
FALLEN_HOME = f"""
  - eventually: {{enis: {{free: 2}}, within: 10s}}
    name: without any DEL, while the netns lives
{_END}"""
FALLEN_OUT_OF_SIGHT = """
  - del: {container: c1}
    expect: {error: {code: 999, text: Link not found}}
  - eventually: {enis: {free: 2}, within: 10s}
    name: the netns still lives
  - netns.delete: c1
  - del: {container: c1, netns: ""}
"""
# Killed after its DEL has renamed or moved the NIC, it does not find it again either; but the agent was told, and
# fetches it, or sees it come home.
HALF_RETURNED = """
  - clock.advance: 3s
  - eventually: {enis: {free: 2}, within: 10s}
    name: the netns still lives
  - del: {container: c1}
    expect: {error: {code: 999, text: Link not found}}
  - netns.delete: c1
  - del: {container: c1, netns: ""}
"""
# What differs from the others, by verb, place and what follows.
HOST_DEVICE_THEN = {
    ("ADD", HOME, BY_DEL): UNMOVED,
    ("ADD", UNNAMED, BY_DEL): UNMARKED,
    ("ADD", UNNAMED, BY_NEWER): UNRECORDED,
    ("ADD", ON_ITS_WAY, BY_DEL): FALLEN_OUT_OF_SIGHT,
    ("ADD", ON_ITS_WAY, BY_END): FALLEN_HOME,
    ("DEL", UNNAMED, BY_DEL): HALF_RETURNED,
    ("DEL", ON_ITS_WAY, BY_DEL): HALF_RETURNED,
    ("DEL", HOME, BY_DEL): HALF_RETURNED,
}


def place(group: Group, verb: str, done: Sequence[str]) -> str:
    """Where the NIC is under host-device after these calls."""
    is_child = group.plugin == "enim"  # which is called while the NIC is in the pod
    return NAMED if is_child else PLACES[verb, bool(group.newest)][done.count("netlink SETLINK")]


def steps_of(group: Group, verb: str, done: Sequence[str], then: str) -> str:
    """The scenario of a kill after these calls."""
    after = THEN[verb][then]
    if group.chain == "host-device":
        where = place(group, verb, done)
        is_asked = ("send to the agent" if group.plugin == "enim" else "write to a file") in done  # stdin of enim
        if (verb, where, then) == ("ADD", NAMED, BY_NEWER) and not is_asked:
            after = UNRECORDED
        after = HOST_DEVICE_THEN.get((verb, where, then), after)
    return VERBS[verb] + after


def kills_of(groups: Sequence[Group], traces: Traces) -> Iterator[Kill]:
    """Every point with every signal, and all that may follow."""
    for group, verb in [(one, verb) for one in groups for verb in one.verbs]:
        calls = traces[group, verb]
        signals = SIGNALS[:1] if group.has_threads else SIGNALS  # Go dies of SIGTERM some calls later
        followed_by = [then for then in THEN[verb] if not (group.fails and then == BY_NEWER)]  # its ADD fails as well
        for point, signal, then in itertools.product(group.points(verb, calls), signals, followed_by):
            yield Kill(group, verb, point, signal, then, steps_of(group, verb, point.done(calls), then))


def one_of_each_kind(kills: Sequence[Kill]) -> list[Kill]:
    """For each plugin, verb, log and kind of call one; moments, signals and what follows in turn."""
    alike: defaultdict[Any, list[Kill]] = defaultdict(list)
    for kill in kills:
        alike[kill.group.plugin, kill.verb, kill.group.fails, bool(kill.group.log), kill.point.call.kind].append(kill)
    return [some[7 * number % len(some)] for number, some in enumerate(alike.values())]
