"""PURE: what a container runtime does with a network configuration list: the order of calls, prevResult, the cache.

``Runtime.add`` and ``Runtime.delete`` are generators: they yield a ``PluginCall`` and are sent its ``PluginOutcome``.
Whoever drives them decides when, where, and whether at all a plugin runs.

Source: libcni ``api.go`` (AddNetworkList, DelNetworkList, buildOneConfig, cacheAdd), ``pkg/invoke`` (pluginErr);
contract A6, A8.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from simulator.model import Attachment, PluginCall, PluginOutcome

Calls: TypeAlias = Generator[PluginCall, PluginOutcome, "Answer"]

NO_PREVIOUS_RESULT_ON_DELETE = ("", "0.1.0", "0.2.0", "0.3.0", "0.3.1")

WITH_GC = "1.1.0"  # the one version that has GC and STATUS

_QUOTED_BYTES_MAX = 1024


@dataclass(frozen=True, slots=True)
class NetworkList:
    """A network configuration list as the runtime has loaded it. ``plugins`` are the objects of its ``plugins`` key."""

    name: str
    cni_version: str
    plugins: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the runtime says of a container: libcni's RuntimeConf.

    Args:
        container_id: CNI_CONTAINERID.
        netns: CNI_NETNS; "" is passed as an empty variable.
        ifname: CNI_IFNAME.
        arguments: CNI_ARGS as pairs, in the order of their text.
        capabilities: filtered by each plugin's own ``capabilities`` into its ``runtimeConfig``.
    """

    container_id: str
    netns: str
    ifname: str
    arguments: tuple[tuple[str, str], ...] = ()
    capabilities: Mapping[str, Any] = field(default_factory=dict)


NOBODY = Sandbox("", "", "")  # what a verb about the whole node is sent with


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a verb failed: the error object of the plugin, or libcni's word for a plugin that printed none (code 0)."""

    plugin: str
    code: int
    message: str
    details: str = ""

    def __str__(self) -> str:
        text = f"{self.plugin}: code {self.code}: {self.message}"
        return f"{text} ({self.details})" if self.details else text


@dataclass(frozen=True, slots=True)
class Answer:
    """``failure`` None is success; ``result`` is the last plugin's, {} for DEL."""

    result: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class _Cached:
    network: NetworkList
    sandbox: Sandbox
    result: Mapping[str, Any]


class Runtime:
    """A container runtime's half of CNI, with libcni's result cache (one entry per attachment)."""

    def __init__(self) -> None:
        self._cache: dict[Attachment, _Cached] = {}

    def cached(self, attachment: Attachment) -> Mapping[str, Any] | None:
        """The result that ADD left in the cache, or None."""
        entry = self._cache.get(attachment)
        return None if entry is None else entry.result

    def add(self, network: NetworkList, sandbox: Sandbox) -> Calls:
        """ADD: plugins in order, prevResult chained; stops at the first error and never sends a DEL by itself."""
        result: Mapping[str, Any] = {}
        for index, plugin in enumerate(network.plugins):
            previous = result if index else None
            outcome = yield _call("ADD", network, plugin, sandbox, previous)
            failure = failure_of(outcome)
            if failure is None:
                parsed = _parse(outcome.stdout)
                if parsed is None:
                    failure = Failure(
                        outcome.call.plugin, 0, f"failed to unmarshal raw result {_text(outcome.stdout)!r}"
                    )
                else:
                    result = parsed
            if failure is not None:
                return Answer(failure=failure)
        self._cache[attachment_of(network, sandbox)] = _Cached(network, sandbox, result)
        return Answer(result=result)

    def delete(self, network: NetworkList, sandbox: Sandbox) -> Calls:
        """DEL: reverse order, each with the cached result; stops at the first error; forgets once all succeeded."""
        attachment = attachment_of(network, sandbox)
        entry = self._cache.get(attachment)
        previous = None
        if entry is not None and network.cni_version not in NO_PREVIOUS_RESULT_ON_DELETE:
            previous = entry.result
        for plugin in reversed(network.plugins):
            outcome = yield _call("DEL", network, plugin, sandbox, previous)
            failure = failure_of(outcome)
            if failure is not None:
                return Answer(failure=failure)
        self._cache.pop(attachment, None)
        return Answer()

    def check(self, network: NetworkList, sandbox: Sandbox) -> Calls:
        """CHECK: plugins in order, each with the cached result; stops at the first error."""
        entry = self._cache.get(attachment_of(network, sandbox))
        for plugin in network.plugins:
            outcome = yield _call("CHECK", network, plugin, sandbox, None if entry is None else entry.result)
            failure = failure_of(outcome)
            if failure is not None:
                return Answer(failure=failure)
        return Answer()

    def status(self, network: NetworkList) -> Calls:
        """STATUS: plugins in order, stops at the first error; before 1.1.0 nobody is asked."""
        for plugin in network.plugins if network.cni_version == WITH_GC else ():
            failure = failure_of((yield _call("STATUS", network, plugin, NOBODY, None)))
            if failure is not None:
                return Answer(failure=failure)
        return Answer()

    def omitted(self, network: NetworkList, valid: Collection[tuple[str, str]]) -> list[tuple[NetworkList, Sandbox]]:
        """What a GC sends a DEL for: the cached attachments of this network that a list leaves out.

        Args:
            valid: container id and ifname of each.
        """
        return [
            (entry.network, entry.sandbox)
            for attachment, entry in self._cache.items()
            if attachment.network == network.name and (attachment.container_id, attachment.ifname) not in valid
        ]

    def collect(self, network: NetworkList, valid: Sequence[tuple[str, str]]) -> Calls:
        """GC, after the DEL of ``omitted``: every plugin is told, whatever the others say; before 1.1.0 nobody is."""
        listed = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in valid]
        failures = []
        for plugin in network.plugins if network.cni_version == WITH_GC else ():
            told = {**plugin, **dict.fromkeys(("cni.dev/valid-attachments", "cni.dev/attachments"), listed)}
            failure = failure_of((yield _call("GC", network, told, NOBODY, None)))
            failures += [] if failure is None else [failure]
        return Answer(failure=failures[0] if failures else None)

    def forget(self, container_id: str) -> None:
        """Lose what is cached of a container."""
        self._cache = {one: entry for one, entry in self._cache.items() if one.container_id != container_id}


def attachment_of(network: NetworkList, sandbox: Sandbox) -> Attachment:
    """The identity that ADD creates and DEL ends."""
    return Attachment(network.name, sandbox.container_id, sandbox.ifname)


def _call(
    command: str,
    network: NetworkList,
    plugin: Mapping[str, Any],
    sandbox: Sandbox,
    previous: Mapping[str, Any] | None,
) -> PluginCall:
    netconf = {**plugin, "name": network.name, "cniVersion": network.cni_version}
    wanted = {key: value for key, value in sandbox.capabilities.items() if plugin.get("capabilities", {}).get(key)}
    if wanted:
        netconf["runtimeConfig"] = wanted
    if previous is not None:
        netconf["prevResult"] = previous
    environment = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": sandbox.container_id,
        "CNI_NETNS": sandbox.netns,
        "CNI_IFNAME": sandbox.ifname,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in sandbox.arguments),
    }
    return PluginCall(str(plugin["type"]), environment, json.dumps(netconf, sort_keys=True).encode())


def failure_of(outcome: PluginOutcome) -> Failure | None:
    """What libcni makes of an exit status (contract A6)."""
    plugin = outcome.call.plugin
    if outcome.exit_code == 0:
        return None
    if outcome.timed_out:
        return Failure(plugin, 0, f"killed after {outcome.call.timeout_ms} ms")
    if not outcome.stdout:
        text = _text(outcome.stderr)
        return Failure(plugin, 0, f"netplugin failed: {text}" if text else "netplugin failed with no error message")
    error = _parse(outcome.stdout) or {}
    code, message, details = error.get("code", 0), error.get("msg", ""), error.get("details", "")
    if not error or type(code) is not int or not (isinstance(message, str) and isinstance(details, str)):
        text = _text(outcome.stdout)
        return Failure(plugin, 0, f"netplugin failed but error parsing its diagnostic message {text!r}")
    return Failure(plugin, code, message, details)


def _parse(stdout: bytes) -> Mapping[str, Any] | None:
    try:
        value = json.loads(stdout)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(output: bytes) -> str:
    return output[:_QUOTED_BYTES_MAX].decode(errors="replace").strip()


def conflist(
    chain: str,
    *,
    name: str,
    cni_version: str,
    socket: str,
    device: str = "",
    delegate: str = "",
    dad: bool | None = None,
    ipam: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    capabilities: Sequence[str] = (),
) -> NetworkList:
    """The network of a lab for one of the two upper plugins.

    Args:
        chain: ``exclusive-device`` or ``host-device``.
        socket: the agent's socket, into ``ipam.socket``.
        device: the host name of the NIC for host-device, which chooses before it asks (design D5); "" leaves it out.
        delegate: the key of exclusive-device; "" leaves it out.
        dad: the key of exclusive-device; None leaves it out.
        ipam: more keys of the ``ipam`` section.
        arguments: the conf's ``args``; None leaves it out.
        capabilities: what the upper plugin says it takes as ``runtimeConfig``.
    """
    plugin: dict[str, Any] = {"type": chain, "ipam": {"type": "enim", "socket": socket, **(ipam or {})}}
    if device:
        plugin["device"] = device
    if delegate:
        plugin["delegate"] = delegate
    if dad is not None:
        plugin["dad"] = dad
    if arguments:
        plugin["args"] = dict(arguments)
    if capabilities:
        plugin["capabilities"] = dict.fromkeys(capabilities, True)
    return NetworkList(name, cni_version, (plugin,))


def with_places(
    plugins: Sequence[Mapping[str, Any]], *, socket: str, state_directory: str
) -> tuple[Mapping[str, Any], ...]:
    """The plugins of a conflist, each told where the lab has what it needs, unless the conflist says that itself.

    Args:
        socket: the agent's, for enim.
        state_directory: where host-local keeps its records.
    """
    places = {"enim": {"socket": socket}, "host-local": {"dataDir": state_directory}}
    ipams = [plugin.get("ipam") or {} for plugin in plugins]
    return tuple(
        {**plugin, "ipam": {**places.get(ipam["type"], {}), **ipam}} if ipam else plugin
        for plugin, ipam in zip(plugins, ipams, strict=True)
    )
