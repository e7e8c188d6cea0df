"""What a person reads: a line per run, and at a failure everything that explains it, however odd the characters."""

import io

from rich.console import Console

from simulator.model import PluginCall, PluginOutcome
from simulator.report import console, events

CALL = PluginCall("enim", {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0"}, b'{"a": "[red]"}')
FAILED = events.Failed(
    "add c1",
    "s.yaml",
    7,
    "exclusive: [bold]eni-1[/bold]",
    (("the agent says", "free"),),
    (PluginOutcome(CALL, 1, b"x" * 5000, b"", 12.4),),
)


def printed(*happened: events.Event, verbose: bool = False) -> list[str]:
    text = io.StringIO()
    report = console.ConsoleReport(Console(file=text, width=200), verbose=verbose)
    for event in happened:
        report(event)
    return text.getvalue().splitlines()


def test_run_is_a_line_for_the_lab_one_for_each_run_and_one_for_the_count() -> None:
    assert printed(
        events.RunStarted("sim", "asked for", 1),
        events.ScenarioStarted("happy", "host-device", "h.yaml", 1),
        events.StepFinished("add c1", "eni-1", 5.0),
        events.ScenarioFinished("happy", "host-device", "h.yaml", 12.0, None),
        events.RunFinished(1, 0, 0, 1234.0),
    ) == [
        "lab sim: asked for; 1 scenario runs",
        "passed happy · host-device 1 steps, 12 ms",
        "1 passed, 0 failed in 1.2 s",
    ]


def test_real_kernel_shows_which_links_the_enis_are() -> None:
    assert printed(
        events.RunStarted("userns", "asked for", 1, "veth"), events.LabUp(2, 40.0, "macvlan"), verbose=True
    ) == ["lab userns: asked for; ENIs are veth links; 1 scenario runs", "    lab up with 2 macvlan ENIs 40 ms"]


def test_verbose_has_a_line_for_each_step_with_what_it_gave() -> None:
    assert printed(
        events.ScenarioStarted("happy", "host-device", "h.yaml", 1),
        events.LabUp(2, 40.0),
        events.StepFinished("add c1", "eni-1", 5.0),
        events.StepFinished("netns.delete c1", "", 1.0),
        verbose=True,
    ) == [
        "happy in host-device",
        "    lab up with 2 ENIs 40 ms",
        "    add c1 → eni-1 5 ms",
        "    netns.delete c1 1 ms",
    ]


def test_failure_shows_reason_place_views_and_the_plugins_with_all_they_were_given_and_said() -> None:
    lines = printed(events.ScenarioFinished("leak", "exclusive-device", "s.yaml", 3.0, FAILED))
    assert lines[:4] == [
        "FAILED leak · exclusive-device 0 steps, 3 ms",
        "  exclusive: [bold]eni-1[/bold]",
        "  at step add c1, s.yaml:7",
        "  the agent says: free",
    ]
    assert lines[4:7] == [
        "  enim ADD: exit 1 after 12 ms",
        "    environment: CNI_COMMAND=ADD CNI_IFNAME=eth0",
        '    stdin: {"a": "[red]"}',
    ]
    assert lines[7].startswith("    stdout: xxx")
    assert lines[-1].endswith("x … (5000 bytes)")


def test_plugin_that_timed_out_says_so() -> None:
    late = events.Failed("add", "s.yaml", 1, "no", (), (PluginOutcome(CALL, -9, b"", b"", 60_000.0, timed_out=True),))
    lines = printed(events.ScenarioFinished("a", "host-device", "s.yaml", 1.0, late))
    assert "  enim ADD: timed out after 60000 ms" in lines


def test_whatever_a_plugin_or_a_file_says_is_shown_and_neither_obeyed_nor_taken_for_markup() -> None:
    odd = "[red]x[/red] \x1b[31m\x07 \x9b2J \u202e \ud800 :smile: back\\"
    outcome = PluginOutcome(CALL, 1, odd.encode(errors="replace"), b"one\r\ntwo\rthree\tfour\n\n", 1.0)
    failed = events.Failed(odd, f"{odd}.yaml", 1, odd, ((odd, odd),), (outcome,))
    lines = printed(
        events.RunStarted("sim", odd, 1),
        events.ScenarioStarted(odd, "host-device", "s.yaml", 1),
        events.StepFinished(odd, odd, 1.0),
        events.ScenarioFinished(odd, "host-device", "s.yaml", 1.0, failed),
        verbose=True,
    )
    shown = r"[red]x[/red] \x1b[31m\x07 \x9b2J \u202e \ud800 :smile: back" + "\\"
    assert lines == [
        f"lab sim: {shown}; 1 scenario runs",
        f"{shown} in host-device",
        f"    {shown} → {shown} 1 ms",
        f"FAILED {shown} · host-device 1 steps, 1 ms",
        f"  {shown}",
        f"  at step {shown}, {shown}.yaml:1",
        f"  {shown}: {shown}",
        "  enim ADD: exit 1 after 1 ms",
        "    environment: CNI_COMMAND=ADD CNI_IFNAME=eth0",
        '    stdin: {"a": "[red]"}',
        f"    stdout: {shown.replace(chr(92) + 'ud800', '?')}",
        "    stderr: one",
        r"two\x0dthree    four",
    ]


def test_big_output_is_cut_where_it_says_so_and_only_then() -> None:
    for size, shown in ((4096, "x" * 4096), (100_000, f"{'x' * 4096} … (100000 bytes)")):
        outcome = PluginOutcome(CALL, 1, b"x" * size, b"", 1.0)
        failed = events.Failed("add", "s.yaml", 1, "no", (), (outcome,))
        lines = printed(events.ScenarioFinished("a", "host-device", "s.yaml", 1.0, failed))
        assert lines[-1] == f"    stdout: {shown}"


def test_colours_are_for_terminals() -> None:
    text = io.StringIO()
    report = console.ConsoleReport(Console(file=text, force_terminal=True, color_system="standard", width=80))
    report(events.RunFinished(0, 1, 0, 0.0))
    assert text.getvalue() == "\x1b[31m0 passed, 1 failed\x1b[0m in 0.0 s\n"


def test_skipped_run_says_why_and_is_counted() -> None:
    assert printed(
        events.ScenarioSkipped("bridge", "bridge+host-local", "b.yaml", "sim has no model of bridge"),
        events.RunFinished(1, 0, 1, 1234.0),
    ) == [
        "SKIPPED bridge · bridge+host-local: sim has no model of bridge",
        "1 passed, 0 failed, 1 skipped in 1.2 s",
    ]
