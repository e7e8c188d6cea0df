"""Plays as many tapes as it is told to, all in this process: `python tests/fuzz/fuzz_run.py COUNT SEED`.

Exit status 1, and the input with the tape that makes it, if something is wrong. The same seed plays the same tapes.
"""

from __future__ import annotations

import sys
import time

import fuzz_verdict
import hypothesis
from hypothesis import strategies

TAPE_BYTES = 96
TAPES_PER_EXAMPLE = 24  # hypothesis takes its time for each example
INPUTS_PER_CHUNK = 24_000  # and remembers them all


def run(count: int, seed: int) -> str:
    """What is wrong with the first of ``count`` inputs that something is wrong with, "" for none."""
    for number, done in enumerate(range(0, count, INPUTS_PER_CHUNK)):
        problem = _chunk(min(INPUTS_PER_CHUNK, count - done), seed * 1_000_003 + number)
        if problem:
            return problem
    return ""


def _chunk(count: int, seed: int) -> str:
    length = TAPES_PER_EXAMPLE * TAPE_BYTES
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, count // TAPES_PER_EXAMPLE),
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.generate,),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategies.binary(min_size=length, max_size=length))
    def play_all(data: bytes) -> None:
        for at in range(0, length, TAPE_BYTES):
            if not found and fuzz_verdict.play(data[at : at + TAPE_BYTES]):
                found.append(data[at : at + TAPE_BYTES])

    play_all()
    return fuzz_verdict.play(fuzz_verdict.shrunk(found[0])) if found else ""


def main(count: int, seed: int) -> int:
    """Play them; the exit status."""
    start = time.monotonic()
    problem = run(count, seed)
    print(problem or f"{count} inputs, seed {seed}, {time.monotonic() - start:.0f} s: nothing is wrong")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
