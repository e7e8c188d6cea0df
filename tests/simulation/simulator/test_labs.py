"""Which lab a run gets, and what each says it lacks. What only works on the real kernel is in tests/lab."""

from typing import Any

import pytest

from simulator import labs
from simulator.errors import LabError
from simulator.model import BACKENDS, Backend
from simulator.scenario import schema

MODELLED = ("exclusive-device", "enim", "host-device")
STEP = {"add": {"pod": "default/web-0", "container": "c1"}}


def scenario(**changes: Any) -> schema.Scenario:
    return schema.Scenario.model_validate({"name": "a", "summary": "b", "steps": (STEP,), **changes})


BRIDGE = scenario(network={"plugins": ({"type": "bridge", "ipam": {"type": "host-local"}},)})


def test_sim_lacks_the_plugins_that_it_has_no_model_of() -> None:
    sim = labs.choose(labs.SIM, ("bridge",))
    assert sim.lacks(scenario(chain="host-device"), "host-device") == ""
    assert sim.lacks(BRIDGE, "bridge+host-local") == "sim has no model of bridge, host-local"


@pytest.mark.parametrize("backend", BACKENDS)
def test_sim_takes_any_backend(backend: Backend) -> None:
    sim = labs.choose(labs.SIM, MODELLED, backend, (backend,))
    wish = scenario(chain="host-device", node={"backend": backend}, steps=(STEP, {"echo": {"container": "c1"}}))
    assert (sim.lacks(wish, "host-device"), sim.backend(), sim.backend(wish)) == ("", "", "")


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


def test_plugin_that_is_not_installed_is_named_with_the_command_that_gets_it() -> None:
    with pytest.raises(LabError, match="the no-such-one plugin is not installed") as raised:
        labs.choose(labs.USERNS, ("enim", "no-such-one"))
    assert "enim-lab doctor --install" in str(raised.value)
