"""Where each millisecond of a call goes: the budget of docs/budget.md, measured here.

A script: `python tests/bench/budget.py [ROUNDS]`. In a lab, enim's ADD and DEL and the whole chain's ADD and DEL
(exclusive-device with enim, dual stack) are run by an instrumented launcher (``parts``), in turn with the plugins
themselves and with an interpreter that does nothing. It prints a table of medians in milliseconds, as Markdown.
"""

import marshal
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parent))

import plugin_startup
import side
import side_by_side

from simulator.lab import throwaway
from simulator.real import kernel

ROUNDS = 60
INTERPRETER, REST, ALL = "the interpreter", "its launcher, the end, and what is not seen", "the call"
PARTS = {
    "modules": "reading and running the plugins' modules",
    "flow": "configuration, decisions, result",
    "Delegate": "enim's flow, in the same process",
    "OwnNetns": "is the namespace another one, alive, and free of that name?",
    "NetnsAlive": "is the namespace another one, alive, and free of that name?",
    "FindLink": "finding links (netlink); entering the namespace",
    "Request": "the agent: from the request to the answer",
    "MoveIn": "moving the NIC into the pod: nearly all of it is one request to the kernel",
    "Configure": "addresses, link up, routes",
    "MoveOut": "moving the NIC home: nearly all of it is one request to the kernel",
}
MODULES = {"enim": "__main__", "exclusive-device": "exclusive_main"}


def parts_of(command: tuple) -> dict:
    """The parts of one call."""
    _, (binary,), environment, stdin, pause_ms = command
    (compiled,) = Path(binary).parent.glob(".enim/*/plugins")
    python, module = side.interpreter(), MODULES[Path(binary).name]
    probe = [python, "-ISE", str(Path(__file__).with_name("parts.py")), binary, str(compiled), module]
    said = subprocess.run(probe, env=environment, input=stdin, capture_output=True, check=False)
    if said.returncode:
        sys.exit(f"{binary} failed: {said.stdout.decode()}")
    time.sleep(pause_ms / 1000)
    found: dict = {}
    for part, ms in marshal.loads(said.stderr).items():
        text = PARTS.get(part, PARTS["flow"])
        found[text] = found.get(text, 0.0) + ms
    return found


def job(scratch: Path, rounds: int) -> dict:
    """Measure, inside a lab: call → part → medians."""
    directory, agent = side_by_side.node(scratch)
    kernel.create_netns(scratch / "pod", accept_dad=False)
    least = (plugin_startup.LEAST, [side.interpreter(), "-ISE", "-c", "import posix; posix._exit(0)"], {}, b"", 4.0)
    alone = plugin_startup.calls("enim:", directory / "enim", agent)
    chain = side_by_side.calls("the chain:", directory, scratch / "pod", side_by_side.ours(agent))
    samples: dict = {command[0]: [] for command in (*alone, *chain)}
    whole: dict = {}
    for _ in range(rounds):
        once = side.measure(1, [least], alone, chain)
        for name, measured in once.items():
            whole.setdefault(name, []).append(measured[0][side.WALL])
        for command in (*alone, *chain):
            samples[command[0]].append(parts_of(command))
    interpreter = side.quantile(whole[plugin_startup.LEAST], 0.5)
    table = {}
    for name, rows in samples.items():
        texts = [text for text in dict.fromkeys(PARTS.values()) if any(text in row for row in rows)]
        medians = {text: side.quantile([row.get(text, 0.0) for row in rows], 0.5) for text in texts}
        total = side.quantile(whole[name], 0.5)
        rest = total - interpreter - sum(medians.values())
        table[name] = {INTERPRETER: interpreter, **medians, REST: rest, ALL: total}
    return table


def main(rounds: int) -> None:
    """Measure and print."""
    os.environ.clear()
    table = throwaway.ask(lambda scratch: job(scratch, rounds), timeout_s=1800)
    print(f"| part, ms (medians of {rounds}) | {' | '.join(table)} |")
    print(f"|---|{'---|' * len(table)}")
    for text in (INTERPRETER, *dict.fromkeys(PARTS.values()), REST, ALL):
        cells = [f"{column[text]:.2f}" if text in column else "" for column in table.values()]
        print(f"| {text} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
