"""How long the installed enim takes for an ADD, beside a bare Python. A script: it needs no arguments.

It prints medians of interleaved process starts, milliseconds, and their ratio; the goal is at most 1.5.
The agent is a thread that answers every request at once. Needs a link with a MAC in its own netns, as any machine has.
"""

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from enim import wire
from simulator.chain import install

LOOPBACK = "00:00:00:00:00:00"


def a_link() -> tuple[int, str]:
    """Index and MAC of some link of this netns."""
    for link in sorted(Path("/sys/class/net").iterdir()):
        mac = link.joinpath("address").read_text().strip()
        if len(mac) == len(LOOPBACK) and mac != LOOPBACK:
            return int(link.joinpath("ifindex").read_text()), mac
    sys.exit("no link with a MAC here")


def serve(listener: socket.socket, reply: bytes) -> None:
    """Answer every request with the same allocation."""
    while True:
        connection, _ = listener.accept()
        with connection:
            received = b""
            while wire.decode_request(received) is None:
                received += connection.recv(65536)
            connection.sendall(reply)


def timed(command: list[str], **options: object) -> float:
    """Milliseconds of one process, which must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, **options)
    elapsed = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command[0]} failed: {done.stdout.decode()}")
    return elapsed * 1000


def main(rounds: int) -> None:
    """Measure and print."""
    ifindex, mac = a_link()
    ipv4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
    answer = {
        "address": {"ipv4": "192.0.2.10"},
        "ipv4": {**ipv4, "master-mac": mac, "interface-number": str(ifindex)},
    }
    with tempfile.TemporaryDirectory() as scratch:
        install.write(Path(scratch), install.bundle())
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{scratch}/agent.sock")
        listener.listen()
        reply = wire.encode_reply(wire.Reply(200, json.dumps(answer).encode(), "application/json"))
        threading.Thread(target=serve, args=(listener, reply), daemon=True).start()
        ipam = {"type": "enim", "socket": f"{scratch}/agent.sock", "routes": [{"dst": "198.51.100.0/24"}]}
        netconf = {"cniVersion": "1.0.0", "name": "n", "type": "exclusive-device", "ipam": ipam}
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/var/run/netns/none",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": scratch,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0",
        }
        python = Path(scratch, "enim").read_text().split()[0].removeprefix("#!")
        bare, add = [], []
        for _ in range(rounds):
            bare.append(timed([python, "-ISE", "-c", "pass"], env={}))
            add.append(timed([f"{scratch}/enim"], env=environment, input=json.dumps(netconf).encode()))
    first, second = statistics.median(bare), statistics.median(add)
    print(f"bare python {first:.2f} ms, enim ADD {second:.2f} ms, ratio {second / first:.2f} ({rounds} rounds)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
