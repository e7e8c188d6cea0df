"""EDGE: runs plugin binaries as processes, as ``pkg/invoke`` does: look-up, environment, and whom a timeout kills.

Source: libcni ``pkg/invoke`` find.go (first regular file of that name) and raw_exec.go (SIGKILL to the direct child
only).
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from simulator.model import PluginCall, PluginOutcome


def run(call: PluginCall, directory: Path) -> PluginOutcome:
    """Run one plugin to its end.

    Args:
        call: what to run.
        directory: the CNI bin directory; becomes CNI_PATH.

    Returns:
        What it did. A plugin that is not there has exit code 127 and says so on stderr.
    """
    started = time.monotonic()
    binary = directory / call.plugin
    if not binary.is_file():
        text = f'failed to find plugin "{call.plugin}" in path [{directory}]'
        return PluginOutcome(call, 127, b"", text.encode(), 0.0)
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("CNI_")}
    environment = {**inherited, **call.environment, "CNI_PATH": str(directory)}
    with subprocess.Popen(
        [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        timed_out = False
        try:
            stdout, stderr = process.communicate(call.stdin, timeout=call.timeout_ms / 1000)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            timed_out = True
            stdout, stderr = expired.stdout or b"", expired.stderr or b""
    duration_ms = (time.monotonic() - started) * 1000
    return PluginOutcome(call, process.returncode, stdout, stderr, duration_ms, timed_out)
