"""A node's container runtime, as a scenario drives it: its containers, what it sends for them, what it was told.

It makes a container's network namespace with its first ADD, and keeps its conf for DEL. A container that it has
forgotten gets no DEL any more. It reads no clock, and decides nothing about right and wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from enim import errors
from simulator.agent import audit
from simulator.agent.grants import Grant
from simulator.chain import plan
from simulator.effects import World
from simulator.model import Attachment, EniRecord, PluginOutcome
from simulator.scenario import containers, references, schema
from simulator.scenario.containers import Container


class StepFailed(Exception):
    """A step did not do what it must, or an invariant is broken after it."""

    def __init__(self, message: str, views: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.views = tuple(views)


class Runtime:
    """The runtime of one run.

    Args:
        chain: the upper plugin, or what the scenario's own conflist is made of.
        auditor: told of everything that is sent.
        ran: called with every plugin run.
    """

    def __init__(
        self,
        scenario: schema.Scenario,
        chain: str,
        world: World,
        auditor: audit.Auditor,
        ran: Callable[[PluginOutcome], None],
    ) -> None:
        self._scenario = scenario
        self._chain = chain
        self._world = world
        self._auditor = auditor
        self._ran = ran
        self._libcni = plan.Runtime()
        self._containers: dict[str, Container] = {}
        self._namespaces: list[str] = []
        self._unended: dict[tuple[str, str], None] = {}  # container and ifname of each ADD that no DEL has answered

    @property
    def namespaces(self) -> Mapping[str, str]:
        """Container → path of its network namespace."""
        return {name: container.netns for name, container in self._containers.items()}

    def container(self, name: str) -> Container:
        """A container that a step has made. A step that failed before it is why there may be none."""
        if name not in self._containers:
            raise StepFailed(f"no step has made the container {name}")
        return self._containers[name]

    def add(self, add: schema.Add, records: Sequence[EniRecord]) -> tuple[Attachment, plan.Answer]:
        """Send an ADD.

        Args:
            records: what a device plugin knows of the node's ENIs.
        """
        container = self._containers.get(add.container) or self._create(add)
        network = container.networks.get(add.ifname) or self._network(records, tuple(add.capabilities))
        container = replace(container, networks={**container.networks, add.ifname: network})
        self._containers[add.container] = container
        sandbox = containers.sandbox(add.container, add.ifname, container)
        arguments = (*sandbox.arguments, *self._resolve_all(add.args).items())
        sandbox = replace(sandbox, arguments=arguments, capabilities=self._resolve_all(add.capabilities))
        attachment = plan.attachment_of(network, sandbox)
        self._unended[add.container, add.ifname] = None
        self._auditor.adding(attachment, container.pod)
        return attachment, self._drive(self._libcni.add(network, sandbox))

    def read(self, attachment: Attachment, result: Mapping[str, Any]) -> Grant:
        """What a result gives its attachment."""
        has_eni = "enim" in self._scenario.plugins(self._chain)
        try:
            return containers.grant(attachment, self._containers[attachment.container_id], result, has_eni=has_eni)
        except ValueError as error:
            raise StepFailed(str(error)) from error

    def keep(self, grant: Grant, result: Mapping[str, Any]) -> None:
        """A result was right: later steps can speak of it."""
        name, ifname = grant.attachment.container_id, grant.attachment.ifname
        container = self._containers[name]
        grants = {**container.grants, ifname: grant}
        gateways = {**container.gateways, ifname: containers.gateways(result)}
        self._containers[name] = replace(container, grants=grants, gateways=gateways)

    def delete(self, delete: schema.Delete, records: Sequence[EniRecord]) -> tuple[Attachment, plan.Answer]:
        """Send a DEL, with the conf of the ADD if there was one. ``records``: see ``add``."""
        name, ifname = delete.container, delete.ifname
        if delete.pod is not None:
            self._containers.setdefault(name, Container(delete.pod, f"/run/netns/{name}"))
        container = self.container(name)
        if ifname not in container.networks:
            network = self._network(records, ())
            container = replace(container, networks={**container.networks, ifname: network})
        return self._delete(name, container, ifname, delete.netns)

    def _delete(
        self, name: str, container: Container, ifname: str, netns: str | None
    ) -> tuple[Attachment, plan.Answer]:
        network, sandbox = container.networks[ifname], containers.sandbox(name, ifname, container)
        if netns is not None:
            sandbox = replace(sandbox, netns=netns)
        attachment = plan.attachment_of(network, sandbox)
        self._auditor.ending(attachment)
        answer = self._drive(self._libcni.delete(network, sandbox))
        if answer.failure is None:
            self._auditor.ended(attachment)
            self._unended.pop((name, ifname), None)
        return attachment, answer

    def check(self, check: schema.Check) -> plan.Answer:
        """Send a CHECK."""
        container = self.container(check.container)
        if check.ifname not in container.networks:
            raise StepFailed(f"no step has added {check.container} as {check.ifname}")
        sandbox = containers.sandbox(check.container, check.ifname, container)
        return self._drive(self._libcni.check(container.networks[check.ifname], sandbox))

    def status(self) -> plan.Answer:
        """Send a STATUS."""
        return self._drive(self._libcni.status(self._conf()))

    def collect(self, valid: Sequence[str]) -> plan.Answer:
        """Collect garbage, as libcni does. A list that is not empty ends what it omits.

        Args:
            valid: the containers that are.
        """
        network = self._conf()
        listed = [(name, ifname) for name in valid for ifname in self.container(name).networks]
        failures = []
        for its_network, sandbox in self._libcni.omitted(network, listed):
            attachment = plan.attachment_of(its_network, sandbox)
            self._auditor.ending(attachment)
            answer = self._drive(self._libcni.delete(its_network, sandbox))
            if answer.failure is None:
                self._auditor.ended(attachment)
                self._unended.pop((sandbox.container_id, sandbox.ifname), None)
            failures.append(answer.failure)
        for grant in self._auditor.grants if valid else ():
            if (grant.attachment.container_id, grant.attachment.ifname) not in listed:
                self._auditor.ending(grant.attachment)
        failures.append(self._drive(self._libcni.collect(network, listed)).failure)
        return plan.Answer(failure=next((failure for failure in failures if failure is not None), None))

    def delete_netns(self, name: str) -> None:
        """Remove a container's network namespace."""
        self._delete_path(self.container(name).netns)

    def _delete_path(self, netns: str) -> None:
        self._world.delete_netns(netns)
        self._namespaces = [path for path in self._namespaces if path != netns]
        self._auditor.netns_deleted(netns)

    def forget(self, name: str) -> None:
        """Lose the record of a container."""
        self._containers[name] = replace(self.container(name), is_forgotten=True)
        self._libcni.forget(name)

    def end_all(self) -> Iterator[tuple[Attachment, plan.Failure]]:
        """End every container that it knows of, as a runtime does in the end, and remove all namespaces.

        A DEL that fails is sent once more when the namespace is gone, with an empty CNI_NETNS. A conf whose version the
        plugin does not speak has begun nothing and can end nothing.

        Yields:
            the attachments whose second DEL has failed as well.
        """
        for name, ifname in tuple(self._unended):
            container = self._containers[name]
            if container.is_forgotten:
                continue
            attachment, answer = self._delete(name, container, ifname, None)
            if answer.failure is not None:
                if container.netns in self._namespaces:
                    self._delete_path(container.netns)
                attachment, answer = self._delete(name, container, ifname, "")
            if answer.failure is not None and answer.failure.code != errors.INCOMPATIBLE_VERSION:
                yield attachment, answer.failure
        for netns in tuple(self._namespaces):
            self._delete_path(netns)

    def gateways(self, name: str) -> list[str]:
        """The gateways that a container's NICs must reach: of an ENI the cloud's, of others the result's."""
        found: list[str] = []
        container = self.container(name)
        for ifname, grant in container.grants.items():
            if grant.leased:
                found += container.gateways[ifname]
                continue
            subnets = [eni.subnet for eni in self._world.enis if eni.mac == grant.mac]
            families = sorted({":" in address for address in grant.addresses})
            found += [subnet.gateway6 if is_v6 else subnet.gateway4 for subnet in subnets for is_v6 in families]
        return found

    def resolve(self, text: str) -> str:
        """A text with the values of its ``${container.output}`` in their places."""

        def value(match: object) -> str:
            name, _, output = match[1].partition(".")  # type: ignore[index]
            return self._output(name, output)

        return references.REFERENCE.sub(value, text)

    def _resolve_all(self, value: Any) -> Any:
        """The same for every text in it."""
        if isinstance(value, str):
            return self.resolve(value)
        if isinstance(value, Mapping):
            return {key: self._resolve_all(one) for key, one in value.items()}
        return [self._resolve_all(one) for one in value] if isinstance(value, tuple) else value

    def _output(self, name: str, output: str) -> str:
        container = self.container(name)
        if output == "netns":
            return container.netns
        grant = next(iter(container.grants.values()), None)
        if grant is None:
            raise StepFailed(f"${{{name}.{output}}} has no value: the ADD of {name} gave nothing")
        if output == "mac":
            return grant.mac
        if output == "eni":
            return self._auditor.eni_id(grant.mac)
        wanted_v6 = output == "ipv6"
        return next((one.partition("/")[0] for one in grant.addresses if (":" in one) == wanted_v6), "")

    def _create(self, add: schema.Add) -> Container:
        netns = self._world.create_netns(add.container, dad=self._scenario.dad)
        self._namespaces.append(netns)
        self._auditor.netns_created(netns)
        return Container(add.pod, netns)

    def _network(self, records: Sequence[EniRecord], capabilities: tuple[str, ...]) -> plan.NetworkList:
        """The conf of a new attachment. Under host-device the device plugin's part is played here (design D5)."""
        network = self._scenario.network
        if self._chain != "host-device" or network.device or network.plugins:
            return self._conf(capabilities)
        free = [record.eni.name for record in records if record.state == "free"]
        if not free:
            raise StepFailed("the device plugin has no free ENI to give")
        return self._conf(capabilities, free[0])

    def _conf(self, capabilities: tuple[str, ...] = (), device: str = "") -> plan.NetworkList:
        """The network's conf. ``device``: what a device plugin has chosen for one attachment."""
        network, socket = self._scenario.network, self._world.socket
        if network.plugins:
            confs = [plugin.netconf() for plugin in network.plugins]
            placed = plan.with_places(confs, socket=socket, state_directory=self._world.state_directory)
            return plan.NetworkList(network.name, network.cni_version, placed)
        routes = [route.model_dump(exclude_none=True) for route in network.routes]
        return plan.conflist(
            self._chain,
            name=network.name,
            cni_version=network.cni_version,
            socket=socket,
            device=network.device or device,
            delegate=network.delegate or "",
            dad=network.dad,
            ipam={**({"routes": routes} if routes else {}), **network.ipam},
            arguments=network.args,
            capabilities=capabilities,
        )

    def _drive(self, calls: plan.Calls) -> plan.Answer:
        try:
            call = next(calls)
            while True:
                outcome = self._world.execute(call)
                self._ran(outcome)
                call = calls.send(outcome)
        except StopIteration as stop:
            answer: plan.Answer = stop.value
            return answer
