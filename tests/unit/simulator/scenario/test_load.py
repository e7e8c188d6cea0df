"""Every way in which a scenario file can be wrong: file, line, column, the offending text, and what was meant."""

import contextlib
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from simulator.errors import ScenarioError
from simulator.scenario import load

GOOD = """\
name: a-test
summary: a test
node: {enis: 2}
chains: [exclusive-device, host-device]
steps:
  - add: {pod: default/web-0, container: c1}
  - netns.delete: c1
  - add: {pod: default/web-0, container: c2}
    expect: {eni: {not: "${c1.eni}"}}
  - clock.advance: 3s
  - expect: {enis: {free: 1}, owner: {default/web-0: c2}}
  - del: {container: c1, netns: ""}
finally:
  - del: {container: c2}
"""


def said(text: str | bytes) -> str:
    with pytest.raises(ScenarioError) as caught:
        load.parse("s.yaml", text if isinstance(text, bytes) else text.encode())
    return str(caught.value)


def test_good_file_loads_with_the_line_of_each_step() -> None:
    loaded = load.parse("s.yaml", GOOD.encode())
    assert (loaded.step_lines, loaded.finally_lines) == ((6, 7, 8, 10, 11, 12), (14,))
    assert loaded.scenario.all_chains == ("exclusive-device", "host-device")
    assert loaded.scenario.steps[3].clock_advance == 3_000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "clock.advance",
            "clock.advanc",
            "s.yaml:10:5: unknown key `clock.advanc` in `steps`; did you mean `clock.advance`?",
        ),
        ("enis: 2", "eni: 2", "s.yaml:3:8: unknown key `eni` in `node`; did you mean `enis`?"),
        ("3s", "3", "s.yaml:10:20: `3`: a duration is a number with a unit, such as 500ms, 3s or 2m"),
        ("enis: 2", "enis: two", "s.yaml:3:14: `two`: "),
        ("enis: 2", "enis: 65", "s.yaml:3:14: `65`: "),
        ("enis: 2", "enis: 99999999999999999999999999999999999", "s.yaml:3:14: "),
        ("host-device]", "host-devise]", "s.yaml:4:28: `host-devise`: "),
        ("host-device]", "host-devise]", "did you mean `host-device`?"),
        ("c1.eni", "c3.eni", "s.yaml:9:25: `${c3.eni}`: no earlier step made a container `c3`"),
        ("c1.eni", "c1.enni", "s.yaml:9:25: `${c1.enni}`: a container has no `enni`; did you mean `eni`?"),
        ("free: 1", "fre: 1", "s.yaml:11:21: `fre`: "),
        ("free: 1", "free: -1", "s.yaml:11:27: `-1`: "),
        ("netns.delete: c1", "netns.delete: c9", "s.yaml:7:19: no earlier step made a container `c9`; "),
        ("container: c2}\n    expect", "container: 2}\n    expect", "s.yaml:8:42: `2`: "),
        (
            "summary: a test\n",
            "summary: a test\nsummary: b\n",
            "s.yaml:3:1: key `summary` is given twice (first in line 2)",
        ),
        ("summary: a test\n", "", "s.yaml:1:1: `summary` is missing"),
        ("chains: [exclusive-device, host-device]", "", "s.yaml:1:1: give either `chain` or `chains`"),
        ("steps:", "chain: host-device\nsteps:", "give either `chain` or `chains`"),
        ("  - clock.advance: 3s", "  - {}", "s.yaml:10:5: a step needs a verb, `expect` or `eventually`"),
        ("3s", "3s\n    echo: {container: c2}", "a step has one verb, this one has echo and clock.advance"),
        ("3s", "3s\n    expect: {error: {code: 11}}", "`error` is about the result of a verb"),
        ("default/web-0, container: c1", "web-0, container: c1", "s.yaml:6:16: `web-0`: "),
        ('netns: ""', "netns: x", "s.yaml:12:33: `x`: "),
        ("- del: {container: c2}", "- del: {container: c8}", "s.yaml:14:22: no earlier step made a container `c8`"),
        ("a test", "!!python/object:os.system a", "tags such as"),
        ("steps:", "steps: [", "s.yaml:6:3: not YAML: "),
        ("node: {enis: 2}", "? [a]\n: b", "a key must be a plain text"),
    ],
)
def test_wrong_file_says_where_and_what(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert expected in said(GOOD.replace(old, new, 1))


def test_container_that_was_never_added_may_get_a_del_if_its_pod_is_named() -> None:
    load.parse("s.yaml", GOOD.replace("netns.delete: c1", "del: {container: c9, pod: default/x}").encode())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "s.yaml:1:1: the file is empty; a scenario needs name, summary, chain and steps"),
        (b"[]", "s.yaml:1:1: a scenario is a mapping, this is a list"),
        (b"just text", "s.yaml:1:1: a scenario is a mapping, this is a text"),
        (b"name: a\nsummary: \xff", "s.yaml:2: not UTF-8: byte 0xff"),
        (b"name:\t\n\t- a", "not YAML: "),
        (b"&a [*a]", "nested deeper than 50 levels"),
        (b"[" * 5_000, "not YAML: "),
        (b"a: *nowhere", "not YAML: "),
        (b"\x00", "not YAML: "),
    ],
)
def test_file_that_is_no_scenario_at_all_says_so(data: bytes, expected: str) -> None:
    assert expected in said(data)


def test_anchor_bomb_is_refused_by_counting() -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    assert "more than 20000 values" in said("\n".join(lines))


def test_text_that_looks_like_something_else_in_old_yaml_stays_text() -> None:
    loaded = load.parse("s.yaml", GOOD.replace("a test", "no").encode())
    assert loaded.scenario.summary == "no"


@hypothesis.settings(max_examples=300, derandomize=True, deadline=None)
@hypothesis.given(strategies.binary(max_size=300))
def test_random_bytes_are_a_scenario_error(data: bytes) -> None:
    with pytest.raises(ScenarioError):
        load.parse("s.yaml", data)


@hypothesis.settings(max_examples=300, derandomize=True, deadline=None)
@hypothesis.given(
    at=strategies.integers(0, len(GOOD)), length=strategies.integers(0, 12), new=strategies.text(max_size=8)
)
def test_damaged_file_is_a_scenario_or_a_scenario_error(at: int, length: int, new: str) -> None:
    damaged = (GOOD[:at] + new + GOOD[at + length :]).encode(errors="replace")
    with contextlib.suppress(ScenarioError):
        load.parse("s.yaml", damaged)


def test_find_takes_files_as_they_are_and_folders_in_order(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "c.txt"):
        (tmp_path / name).touch()
    found = load.find((tmp_path, tmp_path / "b.yaml", tmp_path / "c.txt"))
    assert [path.name for path in found] == ["a.yml", "b.yaml", "c.txt"]


@pytest.mark.parametrize(("name", "expected"), [("gone", "no such file or folder"), ("empty", "no *.yaml file")])
def test_find_says_what_is_not_there(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScenarioError, match=expected.replace("*", r"\*")):
        load.find((tmp_path / name,))


def test_file_of_more_than_a_megabyte_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * (load.FILE_BYTES_MAX + 1))
    with pytest.raises(ScenarioError, match="at most 1048576 bytes"):
        load.load(tmp_path / "big.yaml")


def test_path_that_cannot_be_read_is_a_scenario_error(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="cannot be read: Is a directory"):
        load.load(tmp_path)


def test_library_loads() -> None:
    files = load.find((Path(__file__).parents[4] / "scenarios",))
    assert len({load.load(file).scenario.name for file in files}) == len(files) > 0
