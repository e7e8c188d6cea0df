"""How long the kernel takes to move a NIC home, and what prolongs it: why nothing is done beside a move.

A script: `python tests/bench/moves.py [ROUNDS]`. In a lab an ENI goes into a pod and comes home, in turns: in one
request, as the plugins have it; set down before; with another processor at work for 2 ms from the start, and all along.
It prints medians in milliseconds, from the first request to the end of the last. The figures of one kernel are no law
for another.
"""

import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import side

from simulator.lab import throwaway
from simulator.real import cloud, kernel, links

ROUNDS = 40
ONE, DOWN, SOME, ALL = "in one request", "set down before", "2 ms of work beside it", "work beside it all along"
WORK_MS = {SOME: 2.0, ALL: 1000.0}
PAUSE_S = 0.06  # the kernel is quiet then


def move_in(pod: str) -> None:
    """The NIC goes into the pod, is set up, and has addresses."""
    with links.Channel() as home, links.Channel(pod) as channel:
        home.rename("move in", home.links(name="eni1")[0].ifindex, "eth0", "eni1", channel)
        ifindex = channel.links(name="eth0")[0].ifindex
        for address in ((4, 0x0A40000A, 24), (6, 0xFD64 << 112 | 10, 64)):
            channel.add_address("add", ifindex, address)
        channel.set_up("set up", ifindex)


def move_home(pod: str, how: str) -> float:
    """It comes home; how many milliseconds that took."""
    ended = threading.Event()

    def work() -> None:
        until = time.perf_counter() + WORK_MS.get(how, 0.0) / 1000
        while time.perf_counter() < until and not ended.is_set():
            pass

    beside = threading.Thread(target=work)
    with links.Channel() as home, links.Channel(pod) as channel:
        ifindex = channel.links(name="eth0")[0].ifindex
        if how in WORK_MS:
            beside.start()
        before = time.perf_counter()
        if how == DOWN:
            channel.set_down("set down", ifindex)
        channel.rename("move home", ifindex, "eni1", "", home)
        took_ms = (time.perf_counter() - before) * 1000
    ended.set()
    if how in WORK_MS:
        beside.join()
    return took_ms


def job(scratch: Path, rounds: int) -> dict:
    """Measure, inside a lab."""
    cloud.attach(1)
    kernel.create_netns(scratch / "pod", accept_dad=False)
    pod = str(scratch / "pod")
    found: dict = {how: [] for how in (ONE, DOWN, SOME, ALL)}
    for _ in range(rounds):
        for how, times in found.items():
            move_in(pod)
            time.sleep(PAUSE_S)
            times.append(move_home(pod, how))
            time.sleep(PAUSE_S)
    return found


def main(rounds: int) -> None:
    """Measure and print."""
    found = throwaway.ask(lambda scratch: job(scratch, rounds), timeout_s=600)
    for how, times in found.items():
        print(f"{how:28}{side.quantile(times, 0.5):7.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
