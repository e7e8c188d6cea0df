"""A node in memory and the runtime's half of CNI for it, with the auditor looking on from outside."""

import functools
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from enim import wire
from simulator.agent import audit, pool
from simulator.agent.refusal import REASONS
from simulator.chain import plan
from simulator.model import Attachment, Eni, EniId, PluginCall, Subnet
from simulator.virtual import node
from simulator.virtual.plugins import Run

ReadMetrics = Callable[[bytes], dict[str, float]]

SUBNET = Subnet("10.64.0.0/24", "10.64.0.1", "fd00:64::/64", "fd00:64::1")
NETWORK = "podlink"


def build_enis(count: int) -> Sequence[Eni]:
    return [
        Eni(
            EniId(f"eni-{number}"),
            f"fa:26:00:00:00:{number:02x}",
            f"ens{number}",
            1500,
            f"10.64.0.{10 + number}",
            f"fd00:64::{10 + number:x}",
            SUBNET,
        )
        for number in range(1, count + 1)
    ]


class Lab:
    """One node with its ENIs free, and what a runtime does on it."""

    def __init__(
        self,
        read_metrics: ReadMetrics,
        eni_count: int,
        sync_ns: int = 0,
        delay_ns: int = 0,
        *,
        live_rename: bool = True,
    ) -> None:
        self.read_metrics = read_metrics
        self.node = node.Node(build_enis(eni_count), sync_ns, delay_ns, live_rename=live_rename)
        self.auditor = audit.Auditor(self.node.enis)
        self.node.pause(100)

    def call(self, command: str, container_id: str, pod: str = "default/web-0", **fields: Any) -> PluginCall:
        """A call of the chain, as the runtime makes it."""
        plugin = fields.get("plugin", "exclusive-device")
        network = plan.conflist(plugin, name=NETWORK, cni_version="1.0.0", socket=self.node.socket)
        netconf = {**network.plugins[0], "name": NETWORK, "cniVersion": "1.0.0"}
        namespace, _, name = pod.partition("/")
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": fields.get("netns", self.path(container_id)),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
        }
        return PluginCall(plugin, environment, json.dumps(netconf).encode())

    def path(self, container_id: str) -> str:
        return f"/run/netns/{container_id}"

    def begin_add(self, container_id: str, pod: str = "default/web-0", **fields: Any) -> Run:
        """Start an ADD in a fresh namespace."""
        if self.path(container_id) not in self.node.kernel.paths():
            self.node.create_netns(container_id)
        return self.node.start(self.call("ADD", container_id, pod, **fields))

    def begin_delete(self, container_id: str, pod: str = "default/web-0", **fields: Any) -> Run:
        return self.node.start(self.call("DEL", container_id, pod, **fields))

    def add(self, container_id: str, pod: str = "default/web-0", **fields: Any) -> str:
        """ADD to its end: the id of the ENI in the result, or the error's text."""
        run = self.begin_add(container_id, pod, **fields)
        self.node.finish(run)
        return self.answer(run)

    def delete(self, container_id: str, pod: str = "default/web-0", **fields: Any) -> str:
        """DEL to its end: "", or the error's text."""
        run = self.begin_delete(container_id, pod, **fields)
        self.node.finish(run)
        return self.answer(run)

    def answer(self, run: Run) -> str:
        stdout = b"".join(run.stdout)
        if run.exit_code != 0:
            return str(json.loads(stdout)["msg"])
        if not stdout:
            return ""
        return self.auditor.eni_id(json.loads(stdout)["interfaces"][0]["mac"])

    def states(self) -> list[str]:
        return [record.state for record in self.node.snapshot().records]

    def holders(self) -> list[str]:
        """The container of each ENI, "" for nobody's."""
        records = self.node.snapshot().records
        return ["" if record.attachment is None else record.attachment.container_id for record in records]

    def place(self, number: int) -> str:
        """Where the NIC of an ENI is: ``<netns>:<name>``."""
        mac = self.node.enis[number - 1].mac
        places = [link for links in self.node.snapshot().links.values() for link in links if link.mac == mac]
        assert len(places) == 1, f"eni-{number} is in {len(places)} places"
        return f"{places[0].netns}:{places[0].name}"

    def violations(self) -> list[str]:
        return [str(one) for one in audit.Auditor(self.node.enis).check(self.node.snapshot())]

    def figures(self) -> dict[str, float]:
        """What the agent's metrics say now."""
        process = self.node.ask(wire.Request("GET", "/v1/x-enim/metrics"))
        self.node.driver.run_while(lambda: process.is_alive, self.node.driver.now_ns)
        return self.read_metrics(process.result().body)

    def assert_figures_agree(self, journal_before: int) -> None:
        """The metrics say what the pool says, what the journal has got since the agent's start, and what was answered.

        Args:
            journal_before: how many events were in the journal when the agent started.
        """
        found = self.figures()
        states = Counter(self.states())
        events = self.node.store.read()
        kinds = Counter(event["kind"] for event in events[journal_before:])
        refused = sum(found[f'enim_agent_refusals_total{{reason="{reason}"}}'] for reason in REASONS)
        answers = {key: value for key, value in found.items() if key.startswith("enim_agent_requests_total")}
        assert {state: found[f'enim_agent_enis{{state="{state}"}}'] for state in pool.STATES} == {
            state: states[state] for state in pool.STATES
        }
        assert {kind: found[f'enim_agent_events_total{{kind="{kind}"}}'] for kind in pool.KINDS} == {
            kind: kinds[kind] for kind in pool.KINDS
        }
        assert found["enim_agent_allocations_total"] == kinds["acknowledged"]
        assert found["enim_agent_journal_entries"] == len(events)
        assert refused == sum(value for key, value in answers.items() if 'status="200"' not in key)

    def assert_recovery_is_neutral(self) -> None:
        """The journal gives back what the agent says, save that what nobody has must be seen anew (I6)."""
        said = self.node.snapshot().records
        found = pool.Pool.replay(self.node.enis, self.node.store.read()).records()
        doubted = {pool.FREE: pool.RETURNING, pool.RESERVED: pool.RETURNING}
        expected = [(one.eni, doubted.get(one.state, one.state), _attachment(one)) for one in said]
        assert expected == [(one.eni, one.state, one.attachment) for one in found]


def _attachment(record: Any) -> Attachment | None:
    return None if record.state == pool.RESERVED else record.attachment


@pytest.fixture(scope="session")
def make_lab(figures: ReadMetrics) -> Callable[..., Lab]:
    return functools.partial(Lab, figures)
