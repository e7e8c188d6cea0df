"""PURE: the scenario language as a data model. Strict: what is not here is an error.

A step is a mapping with one verb, and beside it ``name`` and ``expect``. The JSON Schema for editors comes from this
model too.
Source: design 3.5; the verbs are those of incidents.md section 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from simulator.model import Backend

Chain = Literal["exclusive-device", "host-device"]
CHAINS: tuple[Chain, ...] = get_args(Chain)

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m)")
_DAY_MS = 24 * 3_600_000


def _milliseconds(value: object) -> object:
    if not isinstance(value, str) or (match := _DURATION.fullmatch(value)) is None:
        raise ValueError("a duration is a number with a unit, such as 500ms, 3s or 2m")
    milliseconds = round(float(match[1]) * _UNITS_MS[match[2]])
    if not 1 <= milliseconds <= _DAY_MS:
        raise ValueError("a duration is between 1ms and a day, which is 1440m")
    return milliseconds


_CONTAINER_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_POD = r"^[^/\s;=]+/[^/\s;=]+$"
_ARGUMENT = r"^[^;=]+$"
_IFNAME = r"^[^/:\s]+$"
_NAME = r"^[a-z0-9][a-z0-9-]*$"
_PLUGIN = r"^[a-z0-9][A-Za-z0-9_.-]*$"

# Pattern → what a text that matches it is, for people.
MEANINGS: Mapping[str, str] = {
    _CONTAINER_ID: "a container id: letters, digits, `_`, `.` and `-`, with a letter or a digit first",
    _POD: "a pod: namespace/name",
    _ARGUMENT: "a text without `;` and `=`",
    _IFNAME: "an interface name: no `/`, no `:`, no space",
    _NAME: "a name: lower-case letters, digits and `-`",
    _PLUGIN: "a plugin's file name: letters, digits, `_`, `.` and `-`, with a small letter or a digit first",
}

Duration = Annotated[int, BeforeValidator(_milliseconds, json_schema_input_type=str)]
ContainerId = Annotated[str, StringConstraints(pattern=_CONTAINER_ID, max_length=64)]
PluginName = Annotated[str, StringConstraints(pattern=_PLUGIN, max_length=64)]
PodName = Annotated[str, StringConstraints(pattern=_POD, max_length=253)]
CniArgument = Annotated[str, StringConstraints(pattern=_ARGUMENT)]
Ifname = Annotated[str, StringConstraints(pattern=_IFNAME, min_length=1, max_length=15)]


class Strict(BaseModel):
    """The rules of every mapping in a scenario: no unknown key, none without a value, no silent conversion, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_key_without_a_value(cls, value: object) -> object:
        """YAML reads ``add:`` as a null, which must not mean that the key is not there."""
        known = {field.alias or name for name, field in cls.model_fields.items()}
        for key, one in value.items() if isinstance(value, dict) else ():
            if one is None and key in known:
                raise PydanticCustomError("empty", "`{key}` has no value", {"key": key})
        return value


class Node(Strict):
    """The node that the scenario runs on."""

    enis: int = Field(default=2, ge=0, le=64, description="ENIs that the cloud has attached to the node")
    backend: Backend | None = Field(
        default=None, description="which kind of link an ENI must be; without it, whichever the run has"
    )


class Route(Strict):
    """One entry of ``ipam.routes``; without ``gw`` the gateway of the family is used."""

    dst: str
    gw: str | None = None
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = Field(default=None, description="0 global, 253 link, 254 host")


class PluginIpam(BaseModel):
    """The ``ipam`` section of a plugin; every key but ``type`` is the plugin's own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    type: PluginName


class Plugin(BaseModel):
    """One plugin of a conflist; every key but ``type`` and ``ipam`` is the plugin's own."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    type: PluginName
    ipam: PluginIpam | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """File names of the plugin and of its IPAM plugin."""
        return (self.type,) if self.ipam is None else (self.type, self.ipam.type)

    def netconf(self) -> dict[str, Any]:
        """The plugin's object in the conflist."""
        return self.model_dump(exclude_unset=True)


class Network(Strict):
    """The network configuration list of the node."""

    name: str = "podnet"
    cni_version: str = Field(default="1.0.0", alias="cniVersion")
    routes: tuple[Route, ...] = ()
    device: str | None = Field(default=None, description="one fixed `device` for all pods, under host-device")
    ipam: dict[str, Any] = Field(
        default={}, description="more keys of the `ipam` section, such as {connect-timeout: 2}"
    )
    args: dict[str, Any] = Field(default={}, description="the conf's `args`, such as {cni: {ips: [10.64.0.11/24]}}")
    delegate: Literal["exec"] | None = Field(default=None, description="exclusive-device runs enim as a process")
    dad: bool | None = Field(default=None, description="exclusive-device's IPv6 duplicate address detection")
    plugins: tuple[Plugin, ...] = Field(
        default=(), description="a conflist of its own in place of `chain`: the plugins in order, as CNI has them"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Network:
        """The keys that shape the conf of a chain say nothing beside one that is given whole."""
        others = self.model_fields_set & {"routes", "device", "delegate", "dad", "ipam", "args"}
        if self.plugins and others:
            raise ValueError(f"`plugins` is the whole conf: `{min(others)}` goes into it")
        return self


class Add(Strict):
    """The runtime sends ADD for a container, in a network namespace that it makes for it if there is none yet."""

    pod: PodName
    container: ContainerId
    ifname: Ifname = "eth0"
    args: dict[CniArgument, CniArgument] = Field(default={}, description="more CNI_ARGS, such as {IP: 10.64.0.11}")
    capabilities: dict[str, Any] = Field(default={}, description="into `runtimeConfig`, such as {ips: [10.64.0.11/24]}")


class Delete(Strict):
    """The runtime sends DEL for a container, with the netns path that it has on record or with the one given here."""

    container: ContainerId
    ifname: Ifname = "eth0"
    netns: Literal[""] | None = Field(default=None, description='"" sends an empty CNI_NETNS')
    pod: PodName | None = Field(default=None, description="of a container that no step has added")


class Check(Strict):
    """The runtime sends CHECK for a container, with the result of its ADD."""

    container: ContainerId
    ifname: Ifname = "eth0"


class Gc(Strict):
    """The runtime collects garbage: a DEL for whatever else it has cached, then GC with the list of what is valid."""

    valid: tuple[ContainerId, ...]


class Echo(Strict):
    """An ICMP echo request from inside the pod must be answered, on every address family that ADD gave it."""

    container: ContainerId


class AgentStart(Strict):
    """The agent comes back some time from now, while the next steps already run."""

    after: Duration


Failpoint = Literal["add.A1", "add.A2", "add.reply", "del.D1", "del.D2"]


class AgentCrash(Strict):
    """The agent dies in the middle of the next request, and its supervisor starts it again."""

    at: Failpoint
    back: Duration = 200


Invariant = Literal[
    "exclusive",
    "conserved",
    "no-stale-harm",
    "del-converges",
    "return-before-reuse",
    "restart-neutral",
    "fail-closed",
    "bounded",
    "identity-restored",
]


class EniIs(Strict):
    """Which ENI an ADD gave."""

    is_: str | None = Field(default=None, alias="is")
    not_: str | None = Field(default=None, alias="not")

    @model_validator(mode="after")
    def _one_of_them(self) -> EniIs:
        if (self.is_ is None) == (self.not_ is None):
            raise ValueError("give either `is` or `not`")
        return self


class ErrorIs(Strict):
    """The error that a verb must end with."""

    code: int | None = None
    text: str | None = Field(default=None, description="must occur in the message or the details")


State = Literal["free", "absent", "reserved", "in_use", "superseded", "returning", "quarantined"]


class LinkIs(Strict):
    """What the kernel must show of an ENI."""

    in_: str = Field(alias="in", description="`home`, or the container whose network namespace it is in")
    name: str | None = None
    alias: str | None = None
    mtu: int | None = None
    up: bool | None = None


class Seen(Strict):
    """What agent and kernel must show. Everything given here must hold; what is not given is not looked at."""

    enis: dict[State, Annotated[int, Field(ge=0)]] | None = Field(default=None, description="ENIs by the agent's state")
    owner: dict[PodName, ContainerId | None] | None = Field(
        default=None, description="the container whose ENI counts as the pod's; null: none does"
    )
    links: dict[str, LinkIs] | None = Field(default=None, description="ENI (eni-1 …) → what the kernel shows of it")
    leases: Annotated[int, Field(ge=0)] | None = Field(default=None, description="addresses on host-local's record")

    @model_validator(mode="after")
    def _not_empty(self) -> Seen:
        if not self.model_fields_set - {"within"}:
            raise ValueError("nothing is expected here")
        return self


class Expect(Seen):
    """What must be true after a step, and of what its verb ended with."""

    eni: EniIs | None = Field(default=None, description="which ENI the ADD of this step gave")
    error: ErrorIs | None = Field(default=None, description="the verb of this step must fail, and so")
    result: dict[str, Any] | None = Field(default=None, description="subset of the CNI result of this step's ADD")

    @model_validator(mode="after")
    def _fails_or_gives(self) -> Expect:
        if self.error is not None and (self.eni or self.result is not None):
            raise ValueError("a verb that must fail gives no `eni` and no `result`")
        return self


class Eventually(Seen):
    """What must be seen within some time of the world's own clock."""

    within: Duration = 2000


class Step(Strict):
    """One step: a verb, or an expectation alone."""

    name: str | None = None
    add: Add | None = None
    delete: Delete | None = Field(default=None, alias="del")
    netns_delete: ContainerId | None = Field(default=None, alias="netns.delete")
    runtime_forget: ContainerId | None = Field(
        default=None,
        alias="runtime.forget",
        description="the runtime loses its record of a container: no DEL ever comes",
    )
    check: Check | None = None
    gc: Gc | None = None
    status: Literal[True] | None = Field(default=None, description="the runtime asks whether ADD would work")
    echo: Echo | None = None
    clock_advance: Duration | None = Field(default=None, alias="clock.advance")
    agent_kill: Literal[True] | None = Field(default=None, alias="agent.kill")
    agent_start: Literal[True] | AgentStart | None = Field(default=None, alias="agent.start")
    agent_crash: AgentCrash | None = Field(default=None, alias="agent.crash")
    expect: Expect | None = None
    eventually: Eventually | None = None

    @model_validator(mode="after")
    def _one_verb(self) -> Step:
        verbs = [key for key in VERBS if getattr(self, key) is not None]
        if len(verbs) > 1:
            raise ValueError(f"a step has one verb, this one has {' and '.join(map(verb_text, verbs))}")
        if not verbs and self.expect is None and self.eventually is None:
            raise ValueError("a step needs a verb, `expect` or `eventually`")
        expected = self.expect.model_fields_set if self.expect else set()
        if "error" in expected and verbs[:1] not in ([verb] for verb in CNI_VERBS):
            spelt = ", ".join(map(verb_text, CNI_VERBS))
            raise ValueError(f"`error` is about the verb: it stands in the `expect` of one of {spelt}")
        for key in ("eni", "result"):
            if key in expected and verbs[:1] != ["add"]:
                raise ValueError(f"`{key}` is about what an ADD gave: it stands in the `expect` of an add")
        return self

    @property
    def verb(self) -> str:
        """The step's verb as the file spells it, or ``expect`` or ``eventually``."""
        for key in VERBS:
            if getattr(self, key) is not None:
                return verb_text(key)
        return "eventually" if self.expect is None else "expect"


VERBS = (
    "add",
    "delete",
    "netns_delete",
    "runtime_forget",
    "check",
    "gc",
    "status",
    "echo",
    "clock_advance",
    "agent_kill",
    "agent_start",
    "agent_crash",
)
CNI_VERBS = ("add", "delete", "check", "gc", "status")


def verb_text(key: str) -> str:
    """How a scenario file spells the verb that the model calls ``key``."""
    return Step.model_fields[key].alias or key


class Scenario(Strict):
    """One scenario file."""

    name: Annotated[str, StringConstraints(pattern=_NAME, max_length=80)]
    summary: Annotated[str, StringConstraints(min_length=1)]
    incident: tuple[str, ...] = ()
    node: Node = Node()
    network: Network = Network()
    chain: Chain | None = None
    chains: Annotated[tuple[Chain, ...], Field(min_length=1)] | None = None
    breaks: Invariant | None = Field(
        default=None,
        description="the invariant that these plugins are expected to break; not breaking it is the failure",
    )
    dad: bool = Field(default=False, description="leave IPv6 duplicate address detection on in the pods")
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]
    finally_: tuple[Step, ...] = Field(default=(), alias="finally", description="run in any case")

    @model_validator(mode="after")
    def _one_of_chain_and_chains(self) -> Scenario:
        given = (self.chain is not None, self.chains is not None, bool(self.network.plugins))
        if sum(given) != 1:
            raise ValueError("give one of `chain`, `chains` and `network.plugins`")
        return self

    @property
    def all_chains(self) -> tuple[str, ...]:
        """The upper plugins to run it with, in the file's order; of a conflist of its own, what it is made of."""
        if self.network.plugins:
            return (",".join("+".join(plugin.names) for plugin in self.network.plugins),)
        return (self.chain,) if self.chain is not None else self.chains or ()

    @property
    def has_echo(self) -> bool:
        """Whether a step asks for an echo."""
        return any(step.echo is not None for step in (*self.steps, *self.finally_))

    def plugins(self, chain: str) -> tuple[str, ...]:
        """File names of the plugins that a run in this chain needs."""
        if self.network.plugins:
            return tuple(name for plugin in self.network.plugins for name in plugin.names)
        return (chain, "enim")
