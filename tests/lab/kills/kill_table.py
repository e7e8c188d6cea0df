"""EDGE: what came of a whole run, as Markdown, and its place in docs/deep.md (``ENIM_KILL_TABLE``)."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from kill_steps import Kill

from simulator.lab import plugins

COMMAND = "`scripts/test -e deep -- tests/lab/kills`"
_WRITTEN = re.compile(rf"^{re.escape(COMMAND)} at .*?^\| all \|[^\n]*\n", re.MULTILINE | re.DOTALL)


def markdown(verdicts: Sequence[tuple[Kill, str]], circumstances: str, seconds: float) -> str:
    """What it was made with, and for each plugin and verb how many runs there were at each call and came clean."""
    rows: defaultdict[tuple[str, str], list[tuple[str, bool]]] = defaultdict(list)
    for kill, verdict in verdicts:
        rows[str(kill.group), kill.verb].append((kill.point.call.kind, not verdict))
    lines = [f"{COMMAND} at {circumstances}; {seconds // 60:.0f} min {seconds % 60:.0f} s.", ""]
    lines += ["| who is killed | verb | at which calls, how many runs | runs | clean |", "|---|---|---|---|---|"]
    for row, runs in rows.items():
        kinds = ", ".join(f"{kind} {count}" for kind, count in Counter(kind for kind, _ in runs).items())
        lines.append(f"| {' | '.join(row)} | {kinds} | {len(runs)} | {sum(is_clean for _, is_clean in runs)} |")
    clean = sum(not verdict for _, verdict in verdicts)
    return "\n".join([*lines, f"| all | | | {len(verdicts)} | {clean} |", ""])


def put_into(document: str, report: str) -> str:
    """The document with this report in the place of the one that it has.

    Raises:
        ValueError: it has none, or several.
    """
    if len(_WRITTEN.findall(document)) != 1:
        raise ValueError(f"there is not one part from `{COMMAND} at` to the row `all`")
    return _WRITTEN.sub(lambda _: report, document)


def circumstances(newest: Path | None = None) -> str:
    """What a run is made with. ``newest``: the newest host-device, if it is killed, too."""
    changes = " with changes" if _said("git", "status", "--porcelain", "--untracked-files=no") else ""
    kernel = ".".join(platform.release().split(".")[:2])
    strace = (_said("strace", "-V").split() or ["?"] * 4)[3]
    packaged = re.match(r"[\d.]+", _said("dpkg-query", "--show", "--showformat=${Version}", plugins.PACKAGE))
    host_device = f"Debian's host-device {packaged[0]}" if packaged else "host-device"
    if newest:
        host_device += f" and the newest, {release(newest)}"
    python = ".".join(platform.python_version_tuple()[:2])
    return (
        f"commit {_said('git', 'rev-parse', '--short', 'HEAD') or '?'}{changes}: Linux {kernel}, strace {strace}, "
        f"{host_device}, {platform.python_implementation()} {python}, {os.cpu_count()} cores"
    )


def release(binary: Path) -> str:
    """The release of a plugin that ``go install`` has built, which is in the binary; "?" if it is not.

    Source: Go's debug/buildinfo.
    """
    found = re.search(rb"\nmod\tgithub\.com/containernetworking/plugins\tv([\d.]+)", binary.read_bytes())
    return found[1].decode() if found else "?"


def _said(*command: str) -> str:
    """What a program prints, on either stream; "" if it cannot be run."""
    try:
        ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return (ran.stdout or ran.stderr).strip()
