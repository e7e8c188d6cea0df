"""A whole ADD and DEL, dual stack: exclusive-device with enim beside the real host-device with static.

A script: `python tests/bench/side_by_side.py [PAIRS]`. In one lab, on ENIs of one kind, the two take turns, with
namespaces that do no duplicate address detection and with ones that do, as a kernel does unless it is told otherwise.
Ours has the project's own agent, which journals before it answers, or one that answers at once; static has none.
The figures are from before the start of the upper plugin to its end. Between, the agent restores what came home, and
that is not in them. The goal is a ratio of 1.0 at most without detection; with it, see the README.
"""

import json
import marshal
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import plugin_startup
import side

from simulator import topology
from simulator.chain import install
from simulator.lab import plugins, throwaway
from simulator.real import agent_process, cloud, kernel, links

PAIRS, PAIRS_WITH_DETECTION = 300, 10
ENIS = 4  # the agent's; one more is that of the agent that answers at once, and one host-device's
OURS, AT_ONCE, THEIRS = "exclusive-device + enim", "the same, nothing behind it:", "host-device + static"
LEAST, AGAIN = "an interpreter, and the move alone", "host-device + static, for the next:"
ADDED_MS, HOME_MS = 60.0, 40.0  # after an ADD: no pod lives shorter, and the kernel is quiet then; after a DEL


def calls(name: str, directory: Path, netns: Path, netconf: dict) -> list:
    """An ADD and its DEL."""
    environment = {
        "CNI_CONTAINERID": f"c-{netns.name}",
        "CNI_NETNS": str(netns),
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(directory),
        "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={netns.name}",
    }
    stdin = json.dumps({"cniVersion": "1.0.0", "name": "bench", **netconf}).encode()
    binary = str(directory / netconf["type"])
    return [
        (f"{name} {verb}", [binary], {**environment, "CNI_COMMAND": verb}, stdin, pause_ms)
        for verb, pause_ms in (("ADD", ADDED_MS), ("DEL", HOME_MS))
    ]


def ours(agent: Path) -> dict:
    """The network configuration of exclusive-device."""
    return {"type": "exclusive-device", "ipam": {"type": "enim", "socket": str(agent)}}


def theirs() -> dict:
    """That of host-device: the same addresses and routes, on the ENI that is not the agent's."""
    eni = topology.enis(ENIS + 2)[-1]
    pairs = ((eni.ipv4, 24, eni.subnet.gateway4), (eni.ipv6, 64, eni.subnet.gateway6))
    addresses = [{"address": f"{ip}/{length}", "gateway": gateway} for ip, length, gateway in pairs]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    return {
        "type": "host-device",
        "device": eni.name,
        "ipam": {"type": "static", "addresses": addresses, "routes": routes},
    }


def least(scratch: Path, eni: str) -> list:
    """An ADD and a DEL that move the ENI and do nothing else; its name at home is ``eni``."""
    program = Path(__file__).with_name("least_move.py")
    compiled = scratch / program.stem
    compiled.write_bytes(marshal.dumps(compile(program.read_bytes(), program.name, "exec")))
    start = f"import marshal, posix; exec(marshal.loads(posix.read(posix.open({str(compiled)!r}, 0), 65536)))"
    with links.Channel() as home:
        (link,) = home.links(name=eni)
    found = []
    for name, _argv, environment, _stdin, pause_ms in calls(LEAST, scratch, scratch / "least", theirs()):
        environment |= {"NIC": eni, "IFINDEX": str(link.ifindex)}
        found.append((name, [side.interpreter(), "-ISE", "-c", start], environment, b"", pause_ms))
    return found


def node(scratch: Path, enis: int = ENIS) -> tuple[Path, Path]:
    """Plugins and agents, inside a lab: the directory of the plugins, and the socket of the agent that journals."""
    directory = scratch / "bin"
    install.write(directory, install.bundle(side.interpreter()))
    for name, binary in plugins.find().items():
        (directory / name).symlink_to(binary)
    *_, at_once, _theirs = cloud.attach(enis + 2)
    plugin_startup.at_once(scratch / "at-once.sock", at_once)
    agent = agent_process.AgentProcess(scratch, enis)
    agent.start()
    return directory, agent.socket


def job(scratch: Path, pairs: int, detected_pairs: int) -> dict:
    """Measure, inside a lab."""
    directory, agent = node(scratch)
    for name in ("ours", "at-once", "theirs", "least", "ours-dad", "theirs-dad"):
        kernel.create_netns(scratch / name, accept_dad=name.endswith("dad"))
    least_add, least_del = least(scratch, theirs()["device"])
    their_add, their_del = calls(AGAIN, directory, scratch / "least", theirs())
    found = side.measure(
        pairs,
        calls(OURS, directory, scratch / "ours", ours(agent)),
        calls(AT_ONCE, directory, scratch / "at-once", ours(scratch / "at-once.sock")),
        calls(THEIRS, directory, scratch / "theirs", theirs()),
        [least_add, their_del, their_add, least_del],
    )
    detected = side.measure(
        detected_pairs,
        calls(f"{OURS}, dad", directory, scratch / "ours-dad", ours(agent)),
        calls(f"{OURS} with dad: true, dad", directory, scratch / "ours-dad", {**ours(agent), "dad": True}),
        calls(f"{THEIRS}, dad", directory, scratch / "theirs-dad", theirs()),
    )
    return {**found, **detected}


def line(found: dict, name: str, base: str) -> str:
    """A line of the table."""
    wall, peak = side.column(found, name), max(side.column(found, name, side.PEAK)) / 1024
    quantiles = "".join(
        f"{side.quantile(wall, share):9.2f}{side.ratio(found, name, base, share):7.2f}" for share in (0.5, 0.99)
    )
    cpu = side.quantile(side.column(found, name, side.CPU), 0.5)
    return f"{name:48}{quantiles}{cpu:9.2f}{peak:7.1f}"


def main(pairs: int) -> None:
    """Measure and print."""
    os.environ.clear()
    if not {"host-device", "static"} <= set(plugins.find()):
        sys.exit("host-device and static are not installed here; run `enim-lab doctor --install`")
    found = throwaway.ask(lambda scratch: job(scratch, pairs, min(pairs, PAIRS_WITH_DETECTION)), timeout_s=1800)
    print(f"{f'{pairs} pairs, in turns':48}{'p50 ms':>9}{'ratio':>7}{'p99 ms':>9}{'ratio':>7}{'CPU ms':>9}{'MB':>7}")
    for name in [one for one in found if not one.startswith(AGAIN)]:
        verb = name[-3:]
        print(line(found, name, f"{THEIRS}, dad {verb}" if ", dad" in name else f"{THEIRS} {verb}"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
