"""Which links ENIs are in a real lab: the run's, or the scenario's wish; and what is skipped for want of them."""

import shutil
from pathlib import Path

import pytest

from simulator import composition, labs
from simulator.errors import LabError
from simulator.lab import links
from simulator.model import Backend
from simulator.report import events

SCENARIO = """
name: one-pod
summary: A pod that uses its ENI.
node: {{enis: 1{node}}}
chain: exclusive-device
steps:
  - add: {{pod: default/web-0, container: c1}}
{step}
"""


def run(folder: Path, node: str = "", step: str = "", backend: Backend | None = None) -> list[events.Event]:
    file = folder / "one-pod.yaml"
    file.write_text(SCENARIO.format(node=node, step=step))
    seen: list[events.Event] = []
    composition.run_scenarios([file], labs.USERNS, "", [seen.append], backend=backend)
    return seen


def used(seen: list[events.Event]) -> list[str]:
    """Of the run, and of its scenario's lab."""
    return [one.backend for one in seen if isinstance(one, (events.RunStarted, events.LabUp))]


def reasons(seen: list[events.Event]) -> list[str]:
    return [one.reason for one in seen if isinstance(one, events.ScenarioSkipped)]


def test_enis_are_veth_links_unless_something_else_is_wished(tmp_path: Path) -> None:
    assert used(run(tmp_path)) == ["veth", "veth"]


def test_option_is_for_scenarios_without_a_wish(tmp_path: Path) -> None:
    seen = [run(tmp_path, backend="macvlan"), run(tmp_path, ", backend: veth", backend="macvlan")]
    if reasons(seen[0]):
        pytest.skip(reasons(seen[0])[0])
    assert [used(one) for one in seen] == [["macvlan", "macvlan"], ["macvlan", "veth"]]


@pytest.mark.parametrize(("node", "backend"), [("", "dummy"), (", backend: dummy", None)], ids=["option", "wish"])
def test_links_that_this_kernel_lacks_are_a_skip_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, backend: Backend | None
) -> None:
    refusal = links._refusal
    monkeypatch.setattr(links, "_refusal", lambda kind: refusal(f"no-{kind}" if kind == "dummy" else kind))
    assert reasons(run(tmp_path, node, backend=backend)) == [
        "this kernel makes no dummy ENIs (Operation not supported)"
    ]


def test_echo_is_not_for_dummy_enis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = links._refusal
    monkeypatch.setattr(links, "_refusal", lambda kind: refusal("veth" if kind == "dummy" else kind))
    seen = run(tmp_path, ", backend: dummy", "  - echo: {container: c1}")
    assert reasons(seen) == ["it needs an echo, and a dummy ENI answers none"]


def test_kernel_without_any_link_for_an_eni_holds_no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_refusal", lambda _kind: "Operation not supported")
    with pytest.raises(LabError, match="no link for an ENI \\(veth: Operation not supported, macvlan: "):
        labs.choose(labs.USERNS, ())


def test_plugins_of_ours_are_never_those_that_are_installed(tmp_path: Path) -> None:
    """As on a node where `enim-lab install` has been; there, too, the ones that are tried are this checkout's."""
    for name in ("enim", "exclusive-device"):
        shutil.copy("/bin/false", tmp_path / name)
    file = tmp_path / "one-pod.yaml"
    file.write_text(SCENARIO.format(node="", step=""))
    assert composition.run_scenarios([file], labs.USERNS, "", [], bin_dir=tmp_path) == 0
