"""Every way in which a scenario file can be wrong: file, line, column, the offending text, and what was meant."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from simulator.errors import ScenarioError
from simulator.scenario import load

Said = Callable[[str | bytes], str]


def test_good_file_loads_with_the_line_of_each_step(good: str) -> None:
    loaded = load.parse("s.yaml", good.encode())
    assert (loaded.step_lines, loaded.finally_lines) == ((6, 7, 8, 10, 11, 12), (14,))
    assert loaded.scenario.all_chains == ("exclusive-device", "host-device")
    assert loaded.scenario.steps[3].clock_advance == 3_000


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("summary: a test", "summary: a test\nsummary: b", "3:1: key `summary` is given twice (first in line 2)"),
        ("a test", "!!str 12", "2:10: tags such as !!str are not part of the scenario language"),
        (
            "a test",
            "!!python/object/apply:os.system [ls]",
            "2:10: tags such as !!python/object/apply:os.system are not part of the scenario language",
        ),
        ("node: {enis: 2}", "node: !x {enis: 2}", "3:7: tags such as !x are not part of the scenario language"),
        ("node: {enis: 2}", "? [a]\n: b", "3:3: a key must be a plain text"),
        ("a test", '"\\U00110000"', "2:13: not YAML: an escape sequence that is no character"),
        ("a test", '"\\UFFFFFFFF"', "2:13: not YAML: an escape sequence that is no character"),
        ("a test", '"\\ud800"', "2:10: half of a surrogate pair is no character; write the character itself"),
        ("a test", "a\x07b", "2:11: not YAML: no text has the character U+0007"),
        ("a test", "a: b", "2:11: not YAML: a `:` cannot stand here; put a text that has `: ` in quotes"),
        ("steps:", "steps: [", "6:3: not YAML: a value is expected here"),
        ("  - netns", "\t- netns", "7:1: not YAML: a tab cannot indent or separate; use spaces"),
        (
            "  - netns.delete",
            " - netns.delete",
            "7:2: not YAML: the indentation of this line does not fit the lines above it",
        ),
        ("  - netns", "- netns", "7:1: not YAML: the indentation of this line does not fit the lines above it"),
        ("a test", "'a test", "2:10: not YAML: this quote is never closed"),
        ("finally:\n", "---\n", "13:1: not YAML: a second document begins here; a file holds one scenario"),
        ("node:", "node: &a\nx: *b\nnode:", "4:4: not YAML: found undefined alias 'b'"),
        ("enis: 2", "enis: ${c1.eni}", "3:15: not YAML: a `}` or a `,` is missing"),
    ],
)
def test_text_that_is_no_yaml_or_more_than_plain_yaml(good: str, said: Said, old: str, new: str, expected: str) -> None:
    assert old in good
    assert said(good.replace(old, new, 1)) == f"s.yaml:{expected}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "1:1: the file is empty; a scenario needs name, summary, chain and steps"),
        (b"# nothing\n---\n", "3:1: a scenario is a mapping, this is nothing"),
        (b"[]", "1:1: a scenario is a mapping, this is a list"),
        (b"just text", "1:1: a scenario is a mapping, this is a text"),
        (b"3", "1:1: a scenario is a mapping, this is a single value"),
        (b"name: a\nsummary: \xff", "2: not UTF-8: byte 0xff"),
        ("name: ü".encode("utf-16"), "1: not UTF-8: byte 0xff"),
        (b"name:\n\t- a", "2:1: not YAML: a tab cannot indent or separate; use spaces"),
        (b"&a [*a]", "1:1: nested deeper than 50 levels"),
        (b"&a {b: *a}", "1:1: nested deeper than 50 levels"),
        (b"[" * 5_000, "1:52: nested deeper than 50 levels"),
        (b"- " * 5_000, "1:103: nested deeper than 50 levels"),
        (b"a: *nowhere", "1:4: not YAML: found undefined alias 'nowhere'"),
        (b"a: b\nc: \x00", "2:4: not YAML: no text has the character U+0000"),
        (b"!a b", "1:1: tags such as !a are not part of the scenario language"),
    ],
)
def test_file_that_is_no_scenario_at_all_says_so(said: Said, data: bytes, expected: str) -> None:
    assert said(data) == f"s.yaml:{expected}"


def test_byte_order_mark_is_no_part_of_the_text(good: str) -> None:
    assert load.parse("s.yaml", b"\xef\xbb\xbf" + good.encode()).scenario.name == "a-test"


def test_line_ends_of_windows_are_line_ends(good: str) -> None:
    assert load.parse("s.yaml", good.replace("\n", "\r\n").encode()).step_lines == (6, 7, 8, 10, 11, 12)


def test_anchor_bomb_is_refused_by_counting(said: Said) -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    assert said("\n".join(lines)).endswith(": more than 20000 values (do aliases multiply them?)")


def test_file_of_too_many_values_is_not_read_to_its_end(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "VALUES_MAX", 100)
    assert said("- a\n" * 201 + "not read").endswith(": more than 20000 values (do aliases multiply them?)")


def test_anchors_are_a_way_to_say_it_once(good: str) -> None:
    shared = good.replace("chains:", "incident: &list [INC-A01]\nchains:").replace("enis: 2", "enis: &two 2")
    assert load.parse("s.yaml", shared.encode()).scenario.incident == ("INC-A01",)


@pytest.mark.parametrize(
    "text", ["no", "on", "12:30", "0o17", "1e3", "1_000", "2001-01-01", "Null", "0x1F", "'12'", "٣"]
)
def test_text_that_looks_like_something_else_in_old_yaml_stays_text(good: str, text: str) -> None:
    loaded = load.parse("s.yaml", good.replace("a test", text).encode())
    assert loaded.scenario.summary == text.strip("'")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-007", -7),
        ("1.50", 1.5),
        ("true", True),
        ("null", None),
        ("~", None),
        ("[]", []),
        ("'null'", "null"),
    ],
)
def test_plain_values_are_what_they_are_in_yaml(good: str, text: str, value: object) -> None:
    loaded = load.parse("s.yaml", good.replace("steps:", f"network: {{args: {{x: {text}}}}}\nsteps:").encode())
    assert loaded.scenario.network.args == {"x": tuple(value) if isinstance(value, list) else value}


@hypothesis.settings(max_examples=200, derandomize=True, deadline=None)
@hypothesis.given(strategies.binary(max_size=300))
def test_random_bytes_are_a_scenario_error(data: bytes) -> None:
    with pytest.raises(ScenarioError):
        load.parse("s.yaml", data)


@hypothesis.settings(max_examples=200, derandomize=True, deadline=None)
@hypothesis.given(
    at=strategies.integers(0, 500),
    length=strategies.integers(0, 12),
    new=strategies.one_of(
        strategies.text(max_size=8),
        strategies.sampled_from(
            ["null", "[]", "{}", "- ", "? ", "&a ", "*a", "!!x ", "${", "}", '"\\', "9" * 400, ": ", "|", "<<"]
        ),
    ),
)
def test_damaged_file_is_a_scenario_or_a_scenario_error(good: str, at: int, length: int, new: str) -> None:
    damaged = (good[:at] + new + good[at + length :]).encode(errors="replace")
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
