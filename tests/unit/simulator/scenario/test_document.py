"""What the model refuses, as the author of the file reads it: the place, the text, and what it should be, in words."""

from collections.abc import Callable

import pydantic
import pytest

from simulator.scenario import document, schema

Said = Callable[[str], str]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "name: a-test",
            "name: A Test",
            "1:7: `A Test`: should be a name: lower-case letters, digits and `-` (in `name`)",
        ),
        ("name: a-test", "name: 12", "1:7: `12`: should be a text; put it in quotes (in `name`)"),
        ("name: a-test", "name:", "1:1: `name` has no value"),
        ("summary: a test", "summary: ''", "2:10: should not be empty (in `summary`)"),
        ("node: {enis: 2}", "node: 2", "3:7: `2`: should be a mapping (in `node`)"),
        ("node: {enis: 2}", "node: [2]", "3:7: should be a mapping, this is a list (in `node`)"),
        ("enis: 2", "enis: two", "3:14: `two`: should be a whole number (in `node.enis`)"),
        ("enis: 2", "enis: 2.5", "3:14: `2.5`: should be a whole number (in `node.enis`)"),
        ("enis: 2", "enis: true", "3:14: `true`: should be a whole number (in `node.enis`)"),
        ("enis: 2", "enis: 65", "3:14: `65`: should be 64 or less (in `node.enis`)"),
        ("enis: 2", "enis: -1", "3:14: `-1`: should be 0 or more (in `node.enis`)"),
        (
            "enis: 2",
            "enis: 99999999999999999999999999999999999",
            "3:14: `99999999999999999999999999999999999`: should be a whole number (in `node.enis`)",
        ),
        ("enis: 2", "enis: '2'", "3:14: `2`: should be a whole number (in `node.enis`)"),
        (
            "chains: [exclusive-device, host-device]",
            "chains: host-device",
            "4:9: `host-device`: should be a list (in `chains`)",
        ),
        ("chains: [exclusive-device, host-device]", "chains: []", "4:9: should not be empty (in `chains`)"),
        (
            "chains: [exclusive-device, host-device]",
            "chain: [host-device]",
            "4:8: should be `exclusive-device` or `host-device`, this is a list (in `chain`)",
        ),
        (
            "chains: [exclusive-device, host-device]",
            "chain: macvlan",
            "4:8: `macvlan`: should be `exclusive-device` or `host-device` (in `chain`)",
        ),
        (
            "[exclusive-device, host-device]",
            "[exclusive-device, hostdevice]",
            (
                "4:28: `hostdevice`: should be `exclusive-device` or `host-device` (in `chains`); did you mean "
                "`host-device`?"
            ),
        ),
        (
            "chains: [exclusive-device, host-device]\n",
            "chain: host-device\nchains: [host-device]\n",
            "1:1: give one of `chain`, `chains` and `network.plugins`",
        ),
        ("chains: [exclusive-device, host-device]\n", "", "1:1: give one of `chain`, `chains` and `network.plugins`"),
        ("steps:\n", "dad: yes\nsteps:\n", "5:6: `yes`: should be true or false (in `dad`)"),
        ("finally:", "finally_:", "13:1: unknown key `finally_`; did you mean `finally`?"),
        ("finally:", "Finally:", "13:1: unknown key `Finally`; did you mean `finally`?"),
        (
            "- clock.advance: 3s",
            "- clock_advance: 3s",
            "10:5: unknown key `clock_advance` in `steps`; did you mean `clock.advance`?",
        ),
        (
            "- clock.advance: 3s",
            "- clock.advance: 3",
            "10:20: `3`: a duration is a number with a unit, such as 500ms, 3s or 2m (in `steps.clock.advance`)",
        ),
        (
            "3s",
            "-3s",
            "10:20: `-3s`: a duration is a number with a unit, such as 500ms, 3s or 2m (in `steps.clock.advance`)",
        ),
        (
            "3s",
            "99999999999999999m",
            (
                "10:20: `99999999999999999m`: a duration is a number with a unit, such as 500ms, 3s or 2m (in "
                "`steps.clock.advance`)"
            ),
        ),
        ("3s", "0ms", "10:20: `0ms`: a duration is between 1ms and a day, which is 1440m (in `steps.clock.advance`)"),
        (
            "3s",
            "48h",
            "10:20: `48h`: a duration is a number with a unit, such as 500ms, 3s or 2m (in `steps.clock.advance`)",
        ),
        (
            "3s",
            "3s\n    add: {pod: a/b, container: c9}",
            "10:5: a step has one verb, this one has add and clock.advance (in `steps`)",
        ),
        (
            "- clock.advance: 3s",
            "- agent.start: {afte: 3s}",
            "10:19: unknown key `afte` in `steps.agent.start`; did you mean `after`?",
        ),
        (
            "- clock.advance: 3s",
            "- agent.start: false",
            "10:18: `false`: should be true or a mapping (in `steps.agent.start`)",
        ),
        (
            "- clock.advance: 3s",
            "- agent.start: 3s",
            "10:18: `3s`: should be true or a mapping (in `steps.agent.start`)",
        ),
        ("- clock.advance: 3s", "- agent.start: {}", "10:18: `after` is missing in `steps.agent.start`"),
        ("- clock.advance: 3s", "- agent.kill: yes", "10:17: `yes`: should be true (in `steps.agent.kill`)"),
        (
            "- clock.advance: 3s",
            "- agent.crash: {at: add.A9}",
            (
                "10:23: `add.A9`: should be `add.A1`, `add.A2`, `add.reply`, `del.D1` or `del.D2` (in "
                "`steps.agent.crash.at`); did you mean `add.A2`?"
            ),
        ),
        (
            "- clock.advance: 3s",
            "- agent.crash: {at: del.D2, back: 1}",
            "10:37: `1`: a duration is a number with a unit, such as 500ms, 3s or 2m (in `steps.agent.crash.back`)",
        ),
        ("- clock.advance: 3s", "- gc: {valid: c1}", "10:17: `c1`: should be a list (in `steps.gc.valid`)"),
        ("- clock.advance: 3s", "- add:", "10:5: `add` has no value in `steps`"),
        ("- clock.advance: 3s", "- nothing", "10:5: `nothing`: should be a mapping (in `steps`)"),
        ("- clock.advance: 3s", "- {name: x}", "10:5: a step needs a verb, `expect` or `eventually` (in `steps`)"),
        ("- clock.advance: 3s", "-", "10:4: should be a mapping, this is nothing (in `steps`)"),
        (
            "pod: default/web-0, container: c1",
            "pod: web-0, container: c1",
            "6:16: `web-0`: should be a pod: namespace/name (in `steps.add.pod`)",
        ),
        ("pod: default/web-0, container: c1", "container: c1", "6:10: `pod` is missing in `steps.add`"),
        (
            "container: c1}\n  - netns",
            "container: -c1}\n  - netns",
            (
                "6:42: `-c1`: should be a container id: letters, digits, `_`, `.` and `-`, with a letter or a "
                "digit first (in `steps.add.container`)"
            ),
        ),
        (
            "container: c1}\n  - netns",
            "container: 01}\n  - netns",
            "6:42: `01`: should be a text; put it in quotes (in `steps.add.container`)",
        ),
        (
            "container: c1}\n  - netns",
            "container: c1, ifname: this-is-much-too-long}\n  - netns",
            "6:54: `this-is-much-too-long`: should have at most 15 characters (in `steps.add.ifname`)",
        ),
        (
            "container: c1}\n  - netns",
            "container: c1, ifname: a/b}\n  - netns",
            "6:54: `a/b`: should be an interface name: no `/`, no `:`, no space (in `steps.add.ifname`)",
        ),
        (
            "container: c1}\n  - netns",
            "container: c1, args: {a;b: c}}\n  - netns",
            "6:53: `a;b`: should be a text without `;` and `=` (in `steps.add.args`)",
        ),
        (
            "container: c1}\n  - netns",
            "container: c1, args: {ab: c=d}}\n  - netns",
            "6:57: `c=d`: should be a text without `;` and `=` (in `steps.add.args.ab`)",
        ),
        (
            "container: c1}\n  - netns",
            "container: c1, args: {ab: 1}}\n  - netns",
            "6:57: `1`: should be a text; put it in quotes (in `steps.add.args.ab`)",
        ),
        (
            "container: c1}\n  - netns",
            "contaner: c1}\n  - netns",
            "6:31: unknown key `contaner` in `steps.add`; did you mean `container`?",
        ),
        (
            "free: 1",
            "fre: 1",
            (
                "11:21: `fre`: should be `free`, `absent`, `reserved`, `in_use`, `superseded`, `returning` or "
                "`quarantined` (in `steps.expect.enis`); did you mean `free`?"
            ),
        ),
        ("free: 1", "free: -1", "11:27: `-1`: should be 0 or more (in `steps.expect.enis.free`)"),
        ("free: 1", "free: one", "11:27: `one`: should be a whole number (in `steps.expect.enis.free`)"),
        (
            "owner: {default/web-0: c2}",
            "owner: {web-0: c2}",
            "11:39: `web-0`: should be a pod: namespace/name (in `steps.expect.owner`)",
        ),
        (
            "owner: {default/web-0: c2}",
            "links: {eni-1: {im: home}}",
            "11:47: unknown key `im` in `steps.expect.links.eni-1`; known are in, name, alias, mtu, up",
        ),
        (
            "owner: {default/web-0: c2}",
            "error: {code: 3}",
            (
                "11:5: `error` is about the verb: it stands in the `expect` of one of add, del, check, gc, status "
                "(in `steps`)"
            ),
        ),
        (
            "expect: {enis: {free: 1}, owner: {default/web-0: c2}}",
            "eventually: {eni: {is: eni-1}}",
            "11:18: unknown key `eni` in `steps.eventually`; did you mean `enis`?",
        ),
        (
            "expect: {enis: {free: 1}, owner: {default/web-0: c2}}",
            "eventually: {within: 3s}",
            "11:17: nothing is expected here (in `steps.eventually`)",
        ),
        (
            "expect: {enis: {free: 1}, owner: {default/web-0: c2}}",
            "expect: {}",
            "11:13: nothing is expected here (in `steps.expect`)",
        ),
        ("eni: {not: ", "eni: {is: eni-1, not: ", "9:19: give either `is` or `not` (in `steps.expect.eni`)"),
        (
            "eni: {not: ",
            "error: {}, eni: {not: ",
            "9:13: a verb that must fail gives no `eni` and no `result` (in `steps.expect`)",
        ),
        ('netns: ""', "netns: x", '12:33: `x`: should be "" (in `steps.del.netns`)'),
        ('netns: ""', "netns:", "12:26: `netns` has no value in `steps.del`"),
        (
            "node: {enis: 2}",
            "<<: {enis: 2}",
            (
                "3:1: unknown key `<<`; known are name, summary, incident, node, network, chain, chains, breaks, dad, "
                "steps, finally"
            ),
        ),
        (
            "steps:",
            "network: {routes: [{dest: x}]}\nsteps:",
            "5:21: unknown key `dest` in `network.routes`; did you mean `dst`?",
        ),
        (
            "steps:",
            "network: {cniVersoin: 1.0.0}\nsteps:",
            "5:11: unknown key `cniVersoin` in `network`; did you mean `cniVersion`?",
        ),
        (
            "steps:",
            "network: {cniVersion: 1.0}\nsteps:",
            "5:23: `1.0`: should be a text; put it in quotes (in `network.cniVersion`)",
        ),
        ("steps:", "incident: INC-A01\nsteps:", "5:11: `INC-A01`: should be a list (in `incident`)"),
    ],
)
def test_value_that_the_model_refuses(good: str, said: Said, old: str, new: str, expected: str) -> None:
    assert old in good
    assert said(good.replace(old, new, 1)) == f"s.yaml:{expected}"


@pytest.mark.parametrize(
    "words", ["[key]", "instance of", "tuple", "dict", "Input", "String", "^", "literal", "NoneType"]
)
def test_no_message_speaks_of_the_model(words: str) -> None:
    assert not any(words in sentence for sentence in [*document._SENTENCES.values(), *schema.MEANINGS.values()])


def test_every_pattern_of_the_model_has_a_meaning() -> None:
    assert set(patterns(schema.Scenario.model_json_schema())) == set(schema.MEANINGS)


def patterns(part: object) -> list[str]:
    """The patterns in a JSON Schema, those of keys too."""
    if isinstance(part, list):
        return [one for item in part for one in patterns(item)]
    if not isinstance(part, dict):
        return []
    own = [part["pattern"]] if isinstance(part.get("pattern"), str) else []
    return [*own, *part.get("patternProperties", ()), *patterns(list(part.values()))]


def test_first_of_many_problems_is_the_one_that_is_told(good: str, said: Said) -> None:
    wrong = good.replace("3s", "3").replace("enis: 2", "enis: two").replace("a test", "1")
    assert said(wrong) == "s.yaml:2:10: `1`: should be a text; put it in quotes (in `summary`)"


def test_hint_is_the_nearest_word_or_else_all_that_there_are() -> None:
    assert document.did_you_mean("chian", ("chain", "chains")) == "; did you mean `chain`?"
    assert document.did_you_mean("x", ("chain", "chains")) == "; known are chain, chains"
    assert document.did_you_mean("x", ()) == ""


def test_place_that_the_file_does_not_have_is_the_nearest_one_around_it() -> None:
    one = document.Document("s.yaml")
    one.marks = {(): (1, 1), ("node",): (3, 7)}
    assert str(one.error(("node", "enis"), "no")) == "s.yaml:3:7: no"
    assert str(one.key_error(("node", "enis"), "no")) == "s.yaml:3:7: no"
    one.keys = {("node", "enis"): (3, 8)}
    assert (str(one.key_error(("node", "enis"), "no")), one.line(("node",))) == ("s.yaml:3:8: no", 3)


def test_problem_without_a_sentence_of_ours_is_told_in_the_models_words() -> None:
    class Odd(pydantic.BaseModel):
        when: pydantic.PastDate

    one = document.Document("s.yaml")
    one.marks, one.texts = {(): (1, 1), ("when",): (1, 7)}, {("when",): "2999-01-01"}
    with pytest.raises(pydantic.ValidationError) as caught:
        Odd.model_validate({"when": "2999-01-01"})
    assert str(one.invalid(caught.value)) == "s.yaml:1:7: `2999-01-01`: Date should be in the past (in `when`)"


@pytest.mark.parametrize(
    ("value", "kind"), [({}, "a mapping"), ((), "a list"), ("", "a text"), (None, "nothing"), (3, "a single value")]
)
def test_kind_of_a_value_is_a_word_of_yaml(value: object, kind: str) -> None:
    assert document.kind(value) == kind
