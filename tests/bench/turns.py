"""Starts processes in turn and measures each: run by ``side.measure`` in an interpreter of its own, which is small.

It has to be: the kernel counts the memory of who starts a process into that process's peak. So nothing is imported but
what is built in, the plan comes and the answer goes by ``marshal``.

    plan   {"rounds": int, "groups": [[(name, argv, environment, stdin, pause_ms), …], …]}     on stdin
    answer {name: [(wall ms, CPU ms, peak KiB), …]}, or a text that says what failed           on stdout

Within a round every group runs once, its processes in order; the order of the groups rotates. The first round, which
meets cold caches, is not counted. ``pause_ms`` is slept after the process, and up to 8 ms more, each time another part
of it: what waits for the kernel's clock ends with a tick, so after pauses of one length whatever comes next would
always meet the clock at the same point.
"""

import marshal
import posix
import sys
import time

SPREAD_MS = 8.0  # two ticks, where 250 of them make a second
STEP = 0.618034  # of the spread, from one pause to the next: these never repeat, and soon lie everywhere in it


def run(argv: list, environment: dict, stdin: bytes) -> tuple:
    """One process: (wall ms, CPU ms, peak KiB); a text in place of it if it failed."""
    given, said = posix.memfd_create("stdin"), posix.memfd_create("stdout")
    posix.write(given, stdin)
    posix.lseek(given, 0, 0)
    streams = [(posix.POSIX_SPAWN_DUP2, given, 0), (posix.POSIX_SPAWN_DUP2, said, 1)]
    before = time.perf_counter_ns()
    pid = posix.posix_spawn(argv[0], argv, environment, file_actions=streams)
    _, status, used = posix.wait4(pid, 0)
    wall_ns = time.perf_counter_ns() - before
    text = posix.pread(said, 4096, 0)
    posix.close(given)
    posix.close(said)
    if status:
        return f"{argv[0]} {environment.get('CNI_COMMAND', '')} failed: {text.decode('utf-8', 'replace')}"
    return wall_ns / 1e6, (used.ru_utime + used.ru_stime) * 1e3, used.ru_maxrss


def main(plan: dict) -> object:
    """Carry the plan out."""
    groups = plan["groups"]
    found: dict = {one[0]: [] for group in groups for one in group}
    pauses = 0
    for number in range(plan["rounds"] + 1):
        first = number % len(groups)
        for group in groups[first:] + groups[:first]:
            for name, argv, environment, stdin, pause_ms in group:
                measured = run(argv, environment, stdin)
                if isinstance(measured, str):
                    return measured
                if number:
                    found[name].append(measured)
                pauses += 1
                time.sleep((pause_ms + pauses * STEP % 1 * SPREAD_MS) / 1000)
    return found


if __name__ == "__main__":
    marshal.dump(main(marshal.load(sys.stdin.buffer)), sys.stdout.buffer)
