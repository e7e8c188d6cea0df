"""JUnit XML: a case per scenario and chain; the failing step in the message; always XML, whatever a plugin printed."""

from pathlib import Path
from xml.etree import ElementTree as ET

from simulator.model import PluginCall, PluginOutcome
from simulator.report import events, junit

CALL = PluginCall("enim", {"CNI_COMMAND": "ADD"}, b"{}")
ODD = PluginOutcome(CALL, 1, b"\x1b[31m red \x00 \xff", b"a < b & c\n", 12.4)
FAILED = events.Failed("add c1", "s.yaml", 7, "conserved: eni-1 is nowhere", (("the agent says", "free"),), (ODD,))


def written(path: Path, *finished: events.ScenarioFinished | events.ScenarioSkipped) -> ET.Element:
    report = junit.JunitReport(path)
    skipped_count = sum(isinstance(one, events.ScenarioSkipped) for one in finished)
    failed_count = sum(isinstance(one, events.ScenarioFinished) and one.failed is not None for one in finished)
    end = events.RunFinished(len(finished) - failed_count - skipped_count, failed_count, skipped_count, 1500.0)
    for event in (events.RunStarted("userns", "why", len(finished)), *finished, end):
        report(event)
    return ET.parse(path).getroot()


def test_suite_counts_its_cases_and_names_the_lab(tmp_path: Path) -> None:
    passed = events.ScenarioFinished("happy", "host-device", "h.yaml", 250.0, None)
    failed = events.ScenarioFinished("leak", "exclusive-device", "s.yaml", 1.0, FAILED)
    suite = written(tmp_path / "new" / "junit.xml", passed, failed)
    assert dict(suite.attrib) == {
        "name": "enim-lab userns",
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
        "time": "1.500",
    }
    cases = [(case.get("classname"), case.get("name"), case.get("file"), case.get("time")) for case in suite]
    assert cases == [
        ("userns.host-device", "happy", "h.yaml", "0.250"),
        ("userns.exclusive-device", "leak", "s.yaml", "0.001"),
    ]


def test_failure_has_file_line_step_and_reason_in_its_message_and_the_rest_in_its_text(tmp_path: Path) -> None:
    suite = written(tmp_path / "j", events.ScenarioFinished("leak", "exclusive-device", "s.yaml", 1.0, FAILED))
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "s.yaml:7: add c1: conserved: eni-1 is nowhere"
    replaced = "\N{REPLACEMENT CHARACTER}"
    assert (failure.text or "").splitlines() == [
        "the agent says: free",
        "enim ADD: exit 1, 12 ms",
        "  stdin: {}",
        f"  stdout: {replaced}[31m red {replaced} {replaced}",
        "  stderr: a < b & c",
    ]


def test_nothing_is_written_before_the_run_has_finished(tmp_path: Path) -> None:
    report = junit.JunitReport(tmp_path / "junit.xml")
    report(events.RunStarted("sim", "why", 1))
    assert list(tmp_path.iterdir()) == []


def test_file_is_the_same_bytes_for_the_same_run(tmp_path: Path) -> None:
    call = PluginCall("enim", {}, b"")
    said = PluginOutcome(call, -9, b"[red]\x1b[0m\r\n]]>", b"", 1.5, timed_out=True)
    failed = events.Failed('add "c1"', "s.yaml", 7, "a < b\n& c", (), (said,))
    written(tmp_path / "j", events.ScenarioFinished("leak", "host-device", "s.yaml", 1.0, failed))
    assert (tmp_path / "j").read_bytes().decode() == (
        "<?xml version='1.0' encoding='utf-8'?>\n"
        '<testsuite name="enim-lab userns" tests="1" failures="1" errors="0" skipped="0" time="1.500">'
        '<testcase classname="userns.host-device" name="leak" file="s.yaml" time="0.001">'
        '<failure message="s.yaml:7: add &quot;c1&quot;: a &lt; b&#10;&amp; c">'
        "enim : timed out, 2 ms\n  stdout: [red]\N{REPLACEMENT CHARACTER}[0m\r\n]]&gt;</failure></testcase></testsuite>"
    )


def test_suite_names_the_links_that_the_enis_were(tmp_path: Path) -> None:
    report = junit.JunitReport(tmp_path / "j")
    for event in (events.RunStarted("userns", "why", 0, "macvlan"), events.RunFinished(0, 0, 0, 1.0)):
        report(event)
    properties = ET.parse(tmp_path / "j").findall("properties/property")
    assert [dict(one.attrib) for one in properties] == [{"name": "backend", "value": "macvlan"}]


def test_big_output_is_kept_whole(tmp_path: Path) -> None:
    said = PluginOutcome(CALL, 1, b"#" * 100_000, b"", 1.0)
    failed = events.Failed("add", "s.yaml", 7, "no", (), (said,))
    suite = written(tmp_path / "j", events.ScenarioFinished("a", "host-device", "s.yaml", 1.0, failed))
    assert (suite.findtext("testcase/failure") or "").count("#") == 100_000


def test_run_without_a_scenario_is_a_suite_without_a_case(tmp_path: Path) -> None:
    assert (written(tmp_path / "j").get("tests"), len(written(tmp_path / "j"))) == ("0", 0)


def test_skipped_run_is_a_case_with_its_reason(tmp_path: Path) -> None:
    suite = written(tmp_path / "j", events.ScenarioSkipped("bridge", "bridge+host-local", "b.yaml", "no model"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("1", "0", "1")
    skipped = suite.find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "no model"
