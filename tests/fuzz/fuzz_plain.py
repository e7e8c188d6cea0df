"""As ``fuzz_run``, for any Python: it needs nothing that is not in the standard library.

`PYTHONPATH=. python3.9 tests/fuzz/fuzz_plain.py COUNT SEED`
"""

from __future__ import annotations

import random
import sys

import fuzz_verdict

TAPE_BYTES = 96


def main(count: int, seed: int) -> int:
    """Play them; the exit status."""
    draw = random.Random(seed)
    for _ in range(count):
        tape = draw.randbytes(TAPE_BYTES)
        if fuzz_verdict.play(tape):
            print(fuzz_verdict.play(fuzz_verdict.shrunk(tape)))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
