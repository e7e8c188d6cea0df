"""Which lab a run gets, and what each says it lacks. What only works on the real kernel is in tests/lab."""

from pathlib import Path
from typing import Any

import pytest

from simulator import labs
from simulator.errors import LabError
from simulator.lab import plugins
from simulator.model import BACKENDS, Backend
from simulator.scenario import schema

MODELLED = ("exclusive-device", "enim", "host-device")
STEP = {"add": {"pod": "default/web-0", "container": "c1"}}


def scenario(**changes: Any) -> schema.Scenario:
    return schema.Scenario.model_validate({"name": "a", "summary": "b", "steps": (STEP,), **changes})


def test_sim_lacks_the_plugins_that_it_has_no_model_of() -> None:
    sim = labs.choose(labs.SIM, ("bridge",))
    assert sim.lacks(MODELLED) == ""
    assert sim.lacks(("bridge", "enim", "host-local")) == "sim has no model of bridge, host-local"


@pytest.mark.parametrize("backend", BACKENDS)
def test_sim_takes_any_backend(backend: Backend) -> None:
    sim = labs.choose(labs.SIM, MODELLED, backend)
    wish = scenario(chain="host-device", node={"backend": backend}, steps=(STEP, {"echo": {"container": "c1"}}))
    assert (sim.lacks(MODELLED, wish), sim.backend(), sim.backend(wish)) == ("", "", "")


@pytest.mark.parametrize("error", [LabError("the kernel refuses", "ask doctor"), OSError(38, "no unshare")])
def test_without_a_wish_sim_stands_in_for_a_userns_that_does_not_work(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_wanted: object) -> labs.Lab:
        raise error

    monkeypatch.setattr(labs, "Userns", refuse)
    chosen = labs.choose(None, MODELLED)
    assert chosen.name == labs.SIM
    assert str(error).partition(".")[0][:18] in chosen.why


def test_userns_that_was_asked_for_and_does_not_work_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_wanted: object) -> labs.Lab:
        raise LabError("the kernel refuses", "ask doctor")

    monkeypatch.setattr(labs, "Userns", refuse)
    with pytest.raises(LabError, match="the kernel refuses"):
        labs.choose(labs.USERNS, MODELLED)


@pytest.mark.parametrize("name", [labs.SIM, labs.DOCKER])
def test_lab_with_plugins_of_its_own_takes_no_others(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=rf"the lab {name} has its own plugins.* Use --lab userns"):
        labs.choose(name, MODELLED, bin_dir=tmp_path)


def test_plugin_that_is_not_installed_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"the no-such-one plugin is not installed\. Put it into a CNI directory"):
        labs.choose(labs.USERNS, ("enim", "no-such-one"))
    monkeypatch.setattr(plugins, "SYSTEM_DIRECTORIES", ())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CNI_PATH", raising=False)
    with pytest.raises(LabError, match=r"the bridge, ptp plugins are not installed\. Run `enim-lab doctor --install`"):
        labs.choose(labs.USERNS, ("enim", "bridge", "ptp"))
