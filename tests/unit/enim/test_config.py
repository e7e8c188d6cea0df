"""What a plugin accepts from its process, and with which code it refuses the rest."""

import json

import pytest

from enim import config, errors

ENVIRONMENT = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_NETNS": "/var/run/netns/n1",
    "CNI_IFNAME": "eth0",
    "CNI_PATH": "/opt/cni/bin",
}
NETCONF = {"cniVersion": "1.0.0", "name": "n", "type": "exclusive-device", "ipam": {"type": "enim"}}


def environment(**changes):
    """A valid ADD with variables changed; None unsets one."""
    return {name: value for name, value in {**ENVIRONMENT, **changes}.items() if value is not None}


def read(netconf=NETCONF, changes=None, **options):
    stdin = netconf if isinstance(netconf, bytes) else json.dumps(netconf).encode()
    return config.read(environment(**(changes or {})), stdin, **options)


def refused(netconf=NETCONF, changes=None, **options):
    with pytest.raises(errors.CniError) as caught:
        read(netconf, changes, **options)
    return caught.value


def test_read_gives_the_facts_of_the_call():
    checked = read(changes={"CNI_ARGS": "K8S_POD_NAME=web-0", "CNI_NETNS_OVERRIDE": "TRUE"})
    assert (checked.command, checked.container_id, checked.ifname) == ("ADD", "c1", "eth0")
    assert (checked.netns, checked.path) == ("/var/run/netns/n1", "/opt/cni/bin")
    assert (checked.network, checked.type, checked.version, checked.shape) == (
        "n",
        "exclusive-device",
        "1.0.0",
        "1.0.0",
    )
    assert (checked.arguments, checked.netns_override, checked.strict) == ({"K8S_POD_NAME": "web-0"}, True, True)
    assert json.loads(checked.stdin) == NETCONF == checked.netconf


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("missing", [None, ""])
def test_read_names_every_missing_variable_at_once(command, missing):
    names = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")
    error = refused(changes={**dict.fromkeys(names, missing), "CNI_COMMAND": command})
    expected = [name for name in names if command == "ADD" or name != "CNI_NETNS"]
    assert (error.code, error.msg) == (4, f"required env variables [{','.join(expected)}] missing")


def test_read_of_del_needs_no_netns():
    assert read(changes={"CNI_COMMAND": "DEL", "CNI_NETNS": ""}).netns == ""


def test_read_reports_an_invalid_variable_before_a_missing_one():
    error = refused(changes={"CNI_CONTAINERID": None, "CNI_IFNAME": "a/b"})
    assert (error.code, error.details) == (4, "a/b")


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("text", ["-a", ".a", "_a", "a b", "a/b", "a\n", "a\u00e9", "\u0661", "a:b"])
def test_read_refuses_a_container_id_and_shows_it(command, text):
    error = refused(changes={"CNI_COMMAND": command, "CNI_CONTAINERID": text})
    assert (error.code, error.details) == (4, text)


@pytest.mark.parametrize("text", ["a", "0", "A_.-z", "x" * 300])
def test_read_accepts_a_container_id(text):
    assert read(changes={"CNI_CONTAINERID": text}).container_id == text


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize(
    "text",
    [
        "x" * 16,
        "\u00e9" * 8,
        ".",
        "..",
        "a/b",
        "a:b",
        "a b",
        "a\t",
        "a\n",
        "a\v",
        "a\x85",
        "a\xa0",
        "a\u2003",
        "a\u3000",
    ],
)
def test_read_refuses_an_ifname(command, text):
    assert refused(changes={"CNI_COMMAND": command, "CNI_IFNAME": text}).code == 4


@pytest.mark.parametrize("text", ["x" * 15, "\u00e9" * 7, "...", "a\x1cb", "a\x1fb", "eth0.1@", "a\udcff"])
def test_read_accepts_an_ifname_as_go_does(text):
    assert read(changes={"CNI_IFNAME": text}).ifname == text


def test_check_functions_refuse_the_empty_text():
    with pytest.raises(errors.CniError) as caught:
        config.check_ifname("")
    assert caught.value.code == 4


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        (b"", 6),
        (b"{", 6),
        (b"[]", 6),
        (b'"text"', 6),
        (b"7", 6),
        (b"{} {}", 6),
        (b'{"name":"n","x":NaN}', 6),
        (b"null", 7),
        (b"{}", 7),
        (b'{"name":""}', 7),
        (b'{"name":null}', 7),
        (b'{"name":7}', 6),
        (b'{"name":"-n"}', 7),
        (b'{"name":"n\\n"}', 7),
        (b'{"name":"a b"}', 7),
        (b'{"name":"n","cniVersion":7}', 6),
        (b'{"name":"n","cniVersion":{}}', 6),
        (b'{"name":"n","cniVersion":"9.9.9"}', 1),
    ],
)
def test_read_refuses_a_configuration(command, stdin, code):
    assert refused(stdin, {"CNI_COMMAND": command}).code == code


def test_read_checks_in_the_order_of_skel():
    everything_wrong = {"CNI_COMMAND": "NOPE", "CNI_IFNAME": ""}
    assert refused(b"{", everything_wrong).code == 6
    assert refused(b'{"name":"-"}', everything_wrong).code == 7
    unknown = refused(b'{"name":"n","cniVersion":"9.9.9"}', everything_wrong)
    assert (unknown.code, unknown.msg) == (4, "unknown CNI_COMMAND: NOPE")
    assert refused(b'{"name":"n","cniVersion":"9.9.9"}', {"CNI_ARGS": "bad"}).code == 1
    assert refused(b'{"name":"n"}', {"CNI_ARGS": "bad"}).code == 4


@pytest.mark.parametrize("command", ["CHECK", "GC", "STATUS"])
def test_read_refuses_a_command_that_the_plugin_lacks(command):
    error = refused(changes={"CNI_COMMAND": command})
    assert (error.code, error.msg) == (4, f"unknown CNI_COMMAND: {command}")


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_read_of_a_node_wide_command_looks_at_no_container(command):
    changes = {"CNI_COMMAND": command, "CNI_CONTAINERID": "", "CNI_IFNAME": "a/b", "CNI_NETNS": ""}
    stdin = b'{"name":"n","cniVersion":"1.1.0"}'
    assert read(stdin, changes=changes, commands=("GC", "STATUS")).command == command


@pytest.mark.parametrize(
    ("command", "version", "code"),
    [("CHECK", "0.3.1", 1), ("CHECK", "0.4.0", 0), ("GC", "1.0.0", 1), ("STATUS", "1.0.9", 1), ("STATUS", "1.1.0", 0)],
)
def test_read_refuses_a_verb_that_the_version_does_not_have(command, version, code):
    stdin = b'{"name":"n","cniVersion":"%s"}' % version.encode()
    asked = {"changes": {"CNI_COMMAND": command}, "commands": ("CHECK", "GC", "STATUS")}
    if code == 0:
        assert read(stdin, **asked).version == version
    else:
        assert refused(stdin, **asked).code == code


@pytest.mark.parametrize("stdin", [b'{"name":"n"}', b'{"name":"n","cniVersion":""}', b'{"name":"n","cniVersion":null}'])
def test_read_takes_no_version_for_the_oldest(stdin):
    assert (read(stdin).version, read(stdin).shape) == ("0.1.0", "0.1.0")
    assert refused(stdin, versions=config.WITH_INTERFACES).code == 1


@pytest.mark.parametrize("version", config.VERSIONS)
def test_read_accepts_every_released_version(version):
    assert read({**NETCONF, "cniVersion": version}).shape == version


@pytest.mark.parametrize("version", ["1.0.1", "1.0.10", "1.0.99999999999999999999999"])
def test_read_answers_a_later_patch_of_1_0_under_its_own_label(version):
    checked = read({**NETCONF, "cniVersion": version}, versions=config.WITH_INTERFACES)
    assert (checked.version, checked.shape) == (version, "1.0.0")


@pytest.mark.parametrize(
    "version",
    ["0.3.2", "1.0", "1", "1.1.1", "1.0.01", "1.0.", "1.0.-1", "1.0.1a", "v1.0.0", " 1.0.0", "1.0.\u0661", "2.0.0"],
)
def test_read_refuses_every_other_version_and_names_both_sides(version):
    error = refused({**NETCONF, "cniVersion": version})
    assert (error.code, version in error.details or ascii(version)[1:-1] in ascii(error.details)) == (1, True)
    assert "1.1.0" in error.details


def test_read_finds_keys_in_any_case():
    stdin = b'{"CNIVersion":"0.4.0","Name":"n","TYPE":"host-device","RuntimeConfig":{"DeviceID":"0000:04:00.5"}}'
    checked = read(stdin)
    assert (checked.version, checked.network, checked.type) == ("0.4.0", "n", "host-device")
    assert checked.text("runtimeConfig", "deviceID") == "0000:04:00.5"
    assert checked.member("runtimeConfig", "deviceID", "deeper") is None


@pytest.mark.parametrize(
    "arguments", ["bad", "a=b=c", ";", "IP=192.0.2.1;", "UNKNOWN=1", "IgnoreUnknown=2", "IgnoreUnknown="]
)
def test_read_is_strict_about_arguments_on_add_only(arguments):
    assert refused(changes={"CNI_ARGS": arguments}).code == 4
    assert read(changes={"CNI_ARGS": arguments, "CNI_COMMAND": "DEL"}).command == "DEL"


def test_read_of_del_keeps_the_arguments_that_it_can_read():
    text = "bad;K8S_POD_NAMESPACE=ns;;a=b=c;K8S_POD_NAME=web-0;IP=nonsense"
    checked = read(changes={"CNI_ARGS": text, "CNI_COMMAND": "DEL"})
    assert checked.arguments == {"K8S_POD_NAMESPACE": "ns", "K8S_POD_NAME": "web-0", "IP": "nonsense"}


@pytest.mark.parametrize("ignore", ["IgnoreUnknown=1", "IgnoreUnknown=true", "IgnoreUnknown=TRUE"])
def test_read_ignores_unknown_arguments_if_told_so_anywhere(ignore):
    for text in (f"{ignore};K8S_POD_NAME=a;X=1", f"X=1;K8S_POD_NAME=a;{ignore}"):
        assert read(changes={"CNI_ARGS": text}).arguments["K8S_POD_NAME"] == "a"


def test_read_takes_the_last_of_equal_arguments_and_any_value_without_an_equals_sign():
    checked = read(changes={"CNI_ARGS": "K8S_POD_NAME=a;K8S_POD_NAME=b;K8S_POD_NAMESPACE="})
    assert checked.arguments == {"K8S_POD_NAME": "b", "K8S_POD_NAMESPACE": ""}


def test_text_is_strict_on_add_only():
    netconf = {**NETCONF, "device": 7}
    with pytest.raises(errors.CniError) as caught:
        read(netconf).text("device")
    assert caught.value.code == 7
    assert read(netconf, {"CNI_COMMAND": "DEL"}).text("device") == ""
    assert read({**NETCONF, "type": None}).type == ""


@pytest.mark.parametrize("value", [{"interfaces": "nonsense"}, "text", 7, None, []])
def test_read_never_looks_at_a_previous_result(value):
    for command in ("ADD", "DEL"):
        assert read({**NETCONF, "prevResult": value}, {"CNI_COMMAND": command}).command == command
