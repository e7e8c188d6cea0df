"""Steps may speak only of what is there by then, and a file that does otherwise says so before anything runs."""

from collections.abc import Callable

import pytest

from simulator.scenario import load, references

Said = Callable[[str], str]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "container: c1}\n  - netns",
            "container: c1, args: {IP: '${c1.ipv4}'}}\n  - netns",
            "6:57: `${c1.ipv4}`: no earlier step made a container `c1`",
        ),
        ("netns.delete: c1", "netns.delete: cl", "7:19: no earlier step made a container `cl`; made so far: c1"),
        ("${c1.eni}", "${c3.eni}", "9:25: `${c3.eni}`: no earlier step made a container `c3`; made so far: c1, c2"),
        ("${c1.eni}", "${c1.ipv5}", "9:25: `${c1.ipv5}`: a container has no `ipv5`; did you mean `ipv6`?"),
        ("${c1.eni}", "${c1", "9:25: `${c1`: `${` without `}`"),
        ("${c1.eni}", "eni-9", "9:20: the node has no `eni-9`: its ENIs are eni-1 to eni-2"),
        (
            "owner: {default/web-0: c2}",
            "owner: {default/web-0: c7}",
            "11:54: no earlier step made a container `c7`; made so far: c1, c2",
        ),
        (
            "owner: {default/web-0: c2}",
            "links: {'${c7.eni}': {in: home}}",
            "11:39: `${c7.eni}`: no earlier step made a container `c7`; made so far: c1, c2",
        ),
        (
            "owner: {default/web-0: c2}",
            "links: {eni-3: {in: home}}",
            "11:39: the node has no `eni-3`: its ENIs are eni-1 to eni-2",
        ),
        (
            "owner: {default/web-0: c2}",
            "links: {eni-1: {in: c5}}",
            "11:51: no earlier step made a container `c5`; made so far: c1, c2",
        ),
        (
            'netns: ""',
            "pod: default/web-0",
            "12:26: `pod` is for a container that no step has added, and one has added `c1`",
        ),
        (
            "container: c2}\n    expect",
            "container: c1}\n    expect",
            "11:54: no earlier step made a container `c2`; made so far: c1",
        ),
        (
            "default/web-0, container: c2}\n    expect",
            "default/web-1, container: c1}\n    expect",
            "8:16: container `c1` is of pod `default/web-0` since an earlier step",
        ),
        ("summary: a test", "summary: a ${c1.eni}", "2:10: `${c1.eni}`: no earlier step made a container `c1`"),
    ],
)
def test_what_is_not_there_yet(good: str, said: Said, old: str, new: str, expected: str) -> None:
    assert old in good
    assert said(good.replace(old, new, 1)) == f"s.yaml:{expected}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("netns.delete: c1", "del: {container: c9, pod: default/x}\n  - echo: {container: c9}"),
        ("netns.delete: c1", "del: {container: c9, pod: default/x}\n  - del: {container: c9, pod: default/x}"),
        ("not: ", "is: "),
        ("${c1.eni}", "x${c1.mac}${c2.netns}${c2.ipv4}-${c2.ipv6}$"),
        ("container: c2}", "container: c2, args: {IP: '${c1.ipv4}'}, capabilities: {ips: ['${c1.ipv6}/64']}}"),
        ("owner: {default/web-0: c2}", "links: {'${c1.eni}': {in: c1}, eni-2: {in: home, alias: '${c2.mac}'}}"),
        ("owner: {default/web-0: c2}", "owner: {default/web-0: null}"),
        ("container: c2}\n    expect", "container: c1, ifname: net1}\n  - add: {pod: a/b, container: c2}\n    expect"),
    ],
)
def test_what_an_earlier_step_or_the_same_one_has_made(good: str, old: str, new: str) -> None:
    assert old in good
    load.parse("s.yaml", good.replace(old, new, 1).encode())


def test_step_may_expect_something_of_the_container_that_it_makes(good: str) -> None:
    expected = 'expect: {result: {sandbox: "${c2.netns}"}, owner: {default/web-0: c2}, links: {eni-1: {in: c2}}}'
    load.parse("s.yaml", good.replace('expect: {eni: {not: "${c1.eni}"}}', expected).encode())


def test_references_outside_the_steps_name_nothing(good: str, said: Said) -> None:
    network = "network: {args: {'${c1.eni}': x}}\nsteps:"
    assert said(good.replace("steps:", network)) == ("s.yaml:5:18: `${c1.eni}`: no earlier step made a container `c1`")


def test_node_without_an_eni_has_none_to_name(good: str, said: Said) -> None:
    wrong = good.replace("enis: 2", "enis: 0").replace("${c1.eni}", "eni-1")
    assert said(wrong) == "s.yaml:9:20: the node has no `eni-1`: it has no ENI"


def test_outputs_are_those_that_a_step_has() -> None:
    assert references.OUTPUTS == ("eni", "mac", "netns", "ipv4", "ipv6")
