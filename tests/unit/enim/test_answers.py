"""The error object and the answer to VERSION as they are printed; a delegate's error as it is read."""

import json

import pytest

from enim import answers, config, errors


def test_error_prints_the_four_keys():
    failure = errors.CniError(11, "the agent is down", "no socket")
    assert answers.error(failure, "1.0.10", "ADD") == (
        b'{"cniVersion":"1.0.10","code":11,"msg":"the agent is down","details":"no socket"}'
    )


@pytest.mark.parametrize(
    "text", ["link Not Found", "not not foundfound", "stat: no such file or directory", "\u0130" * 20 + "not found"]
)
def test_error_of_del_says_nothing_that_containerd_takes_for_success(text):
    printed_error = answers.error(errors.CniError(101, text, text), "1.0.0", "DEL").decode().lower()
    assert "not found" not in printed_error
    assert "no such file or directory" not in printed_error
    assert text in answers.error(errors.CniError(101, text), "1.0.0", "ADD").decode()


def test_error_is_no_longer_than_a_runtime_logs_whatever_a_delegate_said():
    for text in ("x" * 10**6, "not found" * 10**5):
        said = json.loads(answers.error(errors.CniError(101, text, text), "1.0.0", "DEL"))
        assert (len(said["msg"]) <= 512, len(said["details"]) <= 512) == (True, True)


def test_versions_echoes_what_was_asked_or_says_the_newest():
    assert answers.versions("0.4.0", ("0.3.1", "0.4.0")) == (
        b'{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}'
    )
    assert json.loads(answers.versions("", config.VERSIONS))["cniVersion"] == "1.1.0"


def test_asked_version_never_fails():
    assert answers.asked_version(b'{"cniVersion":"9.9.9"}') == "9.9.9"
    assert [answers.asked_version(stdin) for stdin in (b"", b"garbage", b"[]", b"{}", b'{"cniVersion":7}')] == [""] * 5


@pytest.mark.parametrize(
    ("stdin", "label"),
    [
        (b'{"cniVersion":"1.0.10"}', "1.0.10"),
        (b'{"cniVersion":""}', "0.1.0"),
        (b"{}", "0.1.0"),
        (b'{"cniVersion":"9.9.9"}', "1.1.0"),
        (b'{"cniVersion":7}', "1.1.0"),
        (b"garbage", "1.1.0"),
        (b"", "1.1.0"),
    ],
)
def test_error_version_is_the_asked_one_if_that_is_accepted(stdin, label):
    assert answers.error_version(stdin) == label
    assert answers.error_version(b"{}", config.WITH_INTERFACES) == "1.1.0"


def test_read_error_reads_what_a_delegate_printed_in_any_case_of_its_keys():
    found = answers.read_error(b'{"Code":11,"MSG":"no ENI is free","details":7}')
    assert (found.code, found.msg, found.details) == (11, "no ENI is free", "")


@pytest.mark.parametrize(
    "stdout", [b"", b"[]", b"{}", b'{"code":0,"msg":"x"}', b'{"code":"7","msg":"x"}', b'{"code":7}']
)
def test_read_error_finds_none_in_what_is_none(stdout):
    assert answers.read_error(stdout) is None


@pytest.mark.parametrize(("code", "ended"), [(2, "ended with exit code 2"), (-9, "was killed by signal 9")])
def test_no_error_says_how_the_delegate_ended_and_what_it_printed(code, ended):
    made = answers.no_error("enim", code, b"Traceback \xff")
    assert (made.code, ended in made.msg, made.details) == (errors.DELEGATE_FAILURE, True, "Traceback \ufffd")
