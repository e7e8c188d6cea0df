"""Prints what the JUnit files in a folder say: one line a suite, each skip with its reason, the sum last.

Exit status 1 if anything failed or nothing ran.
"""

import sys
from pathlib import Path
from xml.etree import ElementTree as ET


def main(folder: Path) -> int:
    """Print the table of the XML files in ``folder``; return the exit status."""
    total = dict.fromkeys(("passed", "failed", "skipped"), 0)
    reasons: list[str] = []
    for path in sorted(folder.glob("*.xml")):
        counts = dict.fromkeys(total, 0)
        seconds = 0.0
        for case in ET.parse(path).iter("testcase"):  # noqa: S314 - our own test runners wrote it
            seconds += float(case.get("time", "0"))
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                counts["failed"] += 1
            elif skipped is not None:
                counts["skipped"] += 1
                reasons.append(f"skipped {path.stem} {case.get('name')}: {skipped.get('message') or 'no reason given'}")
            else:
                counts["passed"] += 1
        text = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        sys.stdout.write(f"{path.stem:28} {text}, {seconds:.1f} s\n")
        for outcome, count in counts.items():
            total[outcome] += count
    sys.stdout.write("".join(f"{reason}\n" for reason in reasons))
    sys.stdout.write(", ".join(f"{count} {outcome}" for outcome, count in total.items()) + "\n")
    return int(total["failed"] > 0 or total["passed"] == 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
