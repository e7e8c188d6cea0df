"""A run as JUnit XML, which CI systems read: a test case per scenario and chain, the failing step in the message.

Source: the JUnit XML format as Jenkins, GitLab and GitHub actions read it (testsuite, testcase, failure).
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from simulator.report import events, files

# XML 1.0 section 2.2 has no way to write these, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JunitReport:
    """Gathers the verdicts, and writes ``path`` when the run has finished (ScenarioError if it cannot)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lab = self._backend = ""
        self._finished: list[events.ScenarioFinished | events.ScenarioSkipped] = []

    def __call__(self, event: events.Event) -> None:
        """Take the next event of the run."""
        match event:
            case events.RunStarted():
                self._lab, self._backend = event.lab, event.backend
            case events.ScenarioFinished() | events.ScenarioSkipped():
                self._finished.append(event)
            case events.RunFinished():
                self._write(event)

    def _write(self, run: events.RunFinished) -> None:
        suite = ET.Element(
            "testsuite",
            name=f"enim-lab {self._lab}",
            tests=str(len(self._finished)),
            failures=str(run.failed_count),
            errors="0",
            skipped=str(run.skipped_count),
            time=f"{run.duration_ms / 1000:.3f}",
        )
        if self._backend:
            properties = ET.SubElement(suite, "properties")
            ET.SubElement(properties, "property", name="backend", value=self._backend)
        for finished in self._finished:
            self._add_case(suite, finished)
        with files.writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            ET.ElementTree(suite).write(self._path, encoding="utf-8", xml_declaration=True)

    def _add_case(self, suite: ET.Element, finished: events.ScenarioFinished | events.ScenarioSkipped) -> None:
        duration_ms = 0.0 if isinstance(finished, events.ScenarioSkipped) else finished.duration_ms
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_xml_text(f"{self._lab}.{finished.chain}"),
            name=_xml_text(finished.name),
            file=_xml_text(finished.file),
            time=f"{duration_ms / 1000:.3f}",
        )
        if isinstance(finished, events.ScenarioSkipped):
            ET.SubElement(case, "skipped", message=_xml_text(finished.reason))
        elif finished.failed is not None:
            failed = finished.failed
            message = f"{failed.file}:{failed.line}: {failed.step}: {failed.message}"
            failure = ET.SubElement(case, "failure", message=_xml_text(message))
            failure.text = _xml_text("\n".join(_lines(failed)))


def _lines(failed: events.Failed) -> list[str]:
    lines = [f"{label}: {text}" for label, text in failed.views]
    for outcome in failed.plugins:
        command = outcome.call.environment.get("CNI_COMMAND", "")
        ended = "timed out" if outcome.timed_out else f"exit {outcome.exit_code}"
        lines.append(f"{outcome.call.plugin} {command}: {ended}, {outcome.duration_ms:.0f} ms")
        for label, data in (("stdin", outcome.call.stdin), ("stdout", outcome.stdout), ("stderr", outcome.stderr)):
            if data:
                lines.append(f"  {label}: {data.decode(errors='replace').rstrip()}")
    return lines


def _xml_text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
