"""The facts of a machine, on this one."""

import platform

from simulator.bench import machine


def test_every_fact_is_there() -> None:
    facts = machine.facts()
    assert list(facts) == ["kernel", "cpu", "cores", "python", "load_1min", "date"]
    assert platform.release() in facts["kernel"]
    assert facts["python"].endswith(platform.python_version())
    assert facts["cores"] >= 1
    assert facts["cpu"] != ""
    assert facts["date"].endswith("Z")
