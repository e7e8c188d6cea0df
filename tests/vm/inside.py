#!/usr/bin/python3 -ISE
"""The first process of the virtual machine: mounts, modules, then one run after the other; then the power off.

The runs stand in RUNS, as JSON. What they print goes to the console. What became of them goes to the second serial
port, a JSON object a line: ``{"begins": NAME}``; ``{"ends": NAME, "status": N, "seconds": S, "junit": XML or ""}``;
``{"done": true}`` last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

TREE = "/enim"
RUNS = Path(TREE, "runs.json")
MODULES = Path("/modules")
RESULTS = Path("/dev/ttyS1")
USER = 1000  # whoever needs no root does without
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONPATH": f"{TREE}:/site",
    "PYTHONDONTWRITEBYTECODE": "1",
    "HOME": "/home/enim",
    "TERM": "dumb",
    "COLUMNS": "120",
    "LC_ALL": "C.UTF-8",
}
MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run"), ("tmpfs", "/tmp"))


def main() -> None:
    """Never returns: the machine is off afterwards."""
    try:
        prepare()
        with RESULTS.open("w") as results:
            for run in json.loads(RUNS.read_text()):
                tell(results, {"begins": run["name"]})
                tell(results, carry_out(run))
            tell(results, {"done": True})
    except BaseException:  # noqa: BLE001 - the kernel must not see its first process end
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    Path("/proc/sysrq-trigger").write_text("o")
    time.sleep(60)


def prepare() -> None:
    """What an init system would do."""
    sys.path.insert(0, TREE)
    from simulator import syscalls  # noqa: PLC0415 - of the tree that is only now in the path

    for kind, place in MOUNTS:
        Path(place).mkdir(exist_ok=True)
        syscalls.mount(kind, place, kind, 0, "mode=1777" if place == "/tmp" else "")
    for module in sorted(MODULES.iterdir()):
        subprocess.run(["/sbin/insmod", module], check=True)
    subprocess.run(["/sbin/ip", "link", "set", "lo", "up"], check=True)
    home = Path(ENVIRONMENT["HOME"])
    home.mkdir(parents=True)
    os.chown(home, USER, USER)


def carry_out(run: dict[str, Any]) -> dict[str, Any]:
    """One run, to its end or its time limit."""
    print(f"=== {run['name']}", flush=True)
    junit = Path("/tmp", run["junit"]) if run["junit"] else None
    command = [word.replace("{junit}", str(junit)) for word in run["command"]]
    who = {} if run["as_root"] else {"user": USER, "group": USER, "extra_groups": ()}
    began = time.monotonic()
    try:
        ran = subprocess.run(command, cwd=TREE, env=ENVIRONMENT, timeout=run["limit_s"], check=False, **who)
        status = ran.returncode
    except subprocess.TimeoutExpired:
        print(f"=== {run['name']} took longer than {run['limit_s']} s", flush=True)
        status = -1
    except OSError:
        traceback.print_exc()
        status = -1
    text = junit.read_text() if junit and junit.is_file() else ""
    return {"ends": run["name"], "status": status, "seconds": round(time.monotonic() - began, 1), "junit": text}


def tell(results: Any, what: dict[str, Any]) -> None:
    """A line to whoever has started this machine."""
    results.write(json.dumps(what) + "\n")
    results.flush()


if __name__ == "__main__":
    main()
