"""How long the installed enim takes for an ADD and a DEL, the agent's answer included, beside a bare Python.

A script: `python tests/bench/plugin_startup.py [ROUNDS]`. In a lab of its own, processes start in turns: `python3 -ISE
-c pass`; the same ended without Python's good-bye; enim with an agent that answers at once and does nothing; enim with
the project's own agent, which journals, on a tmpfs, before it answers. It prints medians in milliseconds, ratios to the
first, and the largest peak of memory. The goal is 1.1, and 14 MB.
"""

import dataclasses
import json
import os
import socket
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import side

from enim import wire
from simulator import model
from simulator.agent import api
from simulator.chain import install
from simulator.lab import throwaway
from simulator.real import agent_process, cloud

ROUNDS = 300
ENIS = 8
BARE, LEAST = "python3 -ISE -c pass", "the same, but for its good-bye"
PAUSE_MS = 4.0
HOME_MS = 15.0  # the agent restores an ENI that came home


def at_once(path: Path, eni: model.Eni) -> None:
    """Serve: every POST is granted the same ENI, which is at home, every DELETE is done."""
    granted = wire.encode_reply(api.allocation(eni, socket.if_nametoindex(eni.name)))
    done = wire.encode_reply(api.done())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            with connection:
                received = connection.recv(65536)
                connection.sendall(granted if received.startswith(b"POST") else done)

    threading.Thread(target=serve, daemon=True).start()


def calls(name: str, binary: Path, agent: Path) -> list:
    """An ADD and its DEL."""
    ipam = {"type": "enim", "socket": str(agent), "routes": [{"dst": "198.51.100.0/24"}]}
    netconf = json.dumps({"cniVersion": "1.0.0", "name": "n", "type": "exclusive-device", "ipam": ipam}).encode()
    environment = {
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/var/run/netns/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(binary.parent),
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
    }
    return [
        (f"{name} {verb}", [str(binary)], {**environment, "CNI_COMMAND": verb}, netconf, pause_ms)
        for verb, pause_ms in (("ADD", PAUSE_MS), ("DEL", HOME_MS))
    ]


def job(scratch: Path, rounds: int) -> dict:
    """Measure, inside a lab."""
    python = side.interpreter()
    install.write(scratch / "bin", install.bundle(python))
    enis = cloud.attach(ENIS)
    agent = agent_process.AgentProcess(scratch, ENIS)
    agent.start()
    at_once(scratch / "at-once.sock", dataclasses.replace(enis[0], ipv6=""))
    return side.measure(
        rounds,
        [(BARE, [python, "-ISE", "-c", "pass"], {}, b"", PAUSE_MS)],
        [(LEAST, [python, "-ISE", "-c", "import posix; posix._exit(0)"], {}, b"", PAUSE_MS)],
        calls("enim, nothing behind it:", scratch / "bin/enim", scratch / "at-once.sock"),
        calls("enim:", scratch / "bin/enim", agent.socket),
    )


def main(rounds: int) -> None:
    """Measure and print."""
    os.environ.clear()
    found = throwaway.ask(lambda scratch: job(scratch, rounds), timeout_s=600)
    print(f"{'':36}{'ms':>7}{'ratio':>7}{'CPU ms':>8}{'ratio':>7}{'MB':>7}   medians of {rounds}, in turns")
    for name in found:
        wall, cpu = (side.quantile(side.column(found, name, which), 0.5) for which in (side.WALL, side.CPU))
        ratios = [side.ratio(found, name, BARE, which=which) for which in (side.WALL, side.CPU)]
        peak = max(side.column(found, name, side.PEAK)) / 1024
        print(f"{name:36}{wall:7.2f}{ratios[0]:7.2f}{cpu:8.2f}{ratios[1]:7.2f}{peak:7.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
