"""How long a lab with 8 ENIs takes to be up, beside a bare Python. A script: it needs no arguments.

It prints medians of interleaved starts, milliseconds, and their ratio; the goal for the lab is at most 1000 ms.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from simulator.chain import install
from simulator.lab import namespaces, plugins
from simulator.real import node

ENIS = 8
ROUNDS = 20


def lab_ms(setup: node.NodeSetup) -> float:
    """From nothing to an agent that serves its ENIs."""
    started = time.monotonic()
    lab = namespaces.start(lambda channel, scratch: node.serve(channel, scratch, setup))
    world = node.RemoteWorld(lab.channel)
    took_ms = (time.monotonic() - started) * 1000
    assert len(world.enis) == ENIS
    world.close()
    lab.close()
    return took_ms


def bare_ms() -> float:
    """The interpreter alone."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-ISE", "-c", "pass"], check=True)
    return (time.monotonic() - started) * 1000


def main() -> None:
    setup = node.NodeSetup(ENIS, install.bundle(sys.executable), plugins.find())
    bare, lab = [], []
    for _ in range(ROUNDS):
        bare.append(bare_ms())
        lab.append(lab_ms(setup))
    ratio = statistics.median(lab) / statistics.median(bare)
    print(f"bare python -ISE      {statistics.median(bare):7.1f} ms")
    print(f"lab with {ENIS} ENIs up    {statistics.median(lab):7.1f} ms (max {max(lab):.1f})")
    print(f"ratio                 {ratio:7.1f}")


if __name__ == "__main__":
    main()
