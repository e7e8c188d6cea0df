"""Hostile input to the installed plugins: environment, stdin, what an agent or a delegate answers, closed streams.

Whatever comes in: one error object on stdout with the code of its cause, exit 1, no traceback, nothing left allocated.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import threading
from pathlib import Path

import pytest

SETTLED_S = 20
VARIABLES = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")


class Agent:
    """A unix-socket server in a thread: it sends ``post`` to each POST, whole or not, and keeps the requests."""

    def __init__(self, path):
        self.path = str(path)
        self.post = answer(granted())
        self.methods = []
        self.targets = []
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(self.path)
        self.socket.listen()
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def _serve(self):
        while True:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                method, target, _ = stream.readline().split(b" ")
                stream.read(int(http.client.parse_headers(stream)["Content-Length"] or 0))
                self.methods.append(method.decode())
                self.targets.append(target.decode())
                with contextlib.suppress(OSError):  # the plugin may have seen enough
                    connection.sendall(self.post if method == b"POST" else answer(b""))


def answer(body, status=200):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d Text\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data)


def granted(**changes):
    """An IPAMResponse; a change whose value is ... takes the member away."""
    ipv4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
    ipv4 |= {"master-mac": "fa:26:00:01:02:03", "interface-number": "7"} | changes
    ipv4 = {key: value for key, value in ipv4.items() if value is not ...}
    return {"address": {"ipv4": "192.0.2.10"}, "ipv4": ipv4}


def shown(value):
    return repr(value)[-200:]


@pytest.fixture
def agent(tmp_path):
    server = Agent(tmp_path / "agent.sock")
    yield server
    server.stop()


class Caller:
    """A runtime that calls ``plugin``; under host-device with a dead netns, so that enim needs no link."""

    def __init__(self, plugins, directory, plugin="enim"):
        self.program = plugins / plugin
        self.netns = "/var/run/netns/none"
        self.path = f"{plugins}:{directory}"
        ipam = {"type": "enim", "socket": str(directory / "agent.sock")}
        self.netconf = {"cniVersion": "1.0.0", "name": "n", "type": "host-device", "device": "e1", "ipam": ipam}

    def run(self, stdin=None, *, program=None, **variables):
        environment = dict(zip(VARIABLES, ("ADD", "c1", self.netns, "eth0", self.path), strict=True)) | variables
        done = subprocess.run(
            program or [self.program],
            check=False,
            env={name: value for name, value in environment.items() if value is not None},
            input=json.dumps(self.netconf).encode() if stdin is None else stdin,
            capture_output=True,
            timeout=SETTLED_S,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        return done

    def fail(self, *arguments, **options):
        """Run, and the error that it must end with."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stderr) == (1, b""), done
        assert len(done.stdout) < 4096
        error = json.loads(done.stdout)
        assert [type(error[key]) for key in ("cniVersion", "code", "msg", "details")] == [str, int, str, str]
        return error

    def change(self, **changes):
        return json.dumps({**self.netconf, **changes}).encode()


@pytest.fixture
def enim(plugins, tmp_path):
    return Caller(plugins, tmp_path)


# Environment


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
@pytest.mark.parametrize("absent", [None, ""])
def test_missing_variables_are_named_together(plugins, tmp_path, plugin, absent):
    caller = Caller(plugins, tmp_path, plugin)
    for gone in [(name,) for name in VARIABLES[1:]] + [VARIABLES[1:]]:
        error = caller.fail(**dict.fromkeys(gone, absent))
        assert (error["code"], error["msg"]) == (4, f"required env variables [{','.join(gone)}] missing")


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
def test_no_command_is_a_question_who_it_is_even_if_nobody_hears_the_answer(plugins, tmp_path, plugin):
    caller = Caller(plugins, tmp_path, plugin)
    done = caller.run(CNI_COMMAND=None)
    assert (done.returncode, done.stdout, done.stderr.startswith(plugin.encode())) == (0, b"", True)
    done = caller.run(CNI_COMMAND=None, program=["/bin/sh", "-c", f'exec "{caller.program}" 2>&-'])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("command", ["add", "ADD ", "CHECK\n", "\u00e9", b"\xff", "x" * 100_000])
def test_unknown_command(enim, command):
    error = enim.fail(CNI_COMMAND=command)
    assert (error["code"], error["msg"][:20]) == (4, "unknown CNI_COMMAND:")


@pytest.mark.parametrize("name", ["x" * 16, "\u00e9" * 8, ".", "..", "a/b", "a:b", "a\n", "a\x85", "\xa0"])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_interface_name_that_no_link_can_have(enim, agent, command, name):
    assert enim.fail(CNI_COMMAND=command, CNI_IFNAME=name)["code"] == 4
    assert agent.methods == []


@pytest.mark.parametrize(
    ("name", "sent"),
    [("\u4e2d" * 5, "%E4%B8%AD" * 5), ("a\x1cb", "a%1Cb"), (b"\x85\xa0\xff", "%85%A0%FF"), ("x" * 15, "x" * 15)],
)
def test_interface_name_that_a_link_can_have_reaches_the_agent_byte_by_byte(enim, agent, name, sent):
    assert (enim.run(CNI_IFNAME=name).returncode, f"&ifname={sent}&" in agent.targets[0]) == (0, True)


@pytest.mark.parametrize("container_id", ["..", "a/b", "a:b", "a\n", "\x85", "a\xa0", "a\x1c", b"a\xff", "/" * 100_000])
def test_container_id_with_other_characters(enim, agent, container_id):
    assert enim.fail(CNI_CONTAINERID=container_id)["code"] == 4
    assert agent.methods == []


# Stdin
NOT_JSON = (
    *(b"", b'{"cniVersion":"1.0.0","na', b'{"name":"n",}', b'{"name":"a\nb"}', b'["n"]', b'{"name":"n"} {}'),
    *(b'{"name":"n","x":' + value + b"}" for value in (b"NaN", b"-Infinity", b"1e400", b"1" * 5000)),
    *(b'{"name":"n"}\0', b'\xef\xbb\xbf{"name":"n"}', '{"name":"n"}'.encode("utf-16")),
    *(b"[" * 100_000, b'{"x":' * 100_000 + b"1" + b"}" * 100_000),
)
OTHERWISE_WRONG = {
    b'{"name":"n","x":"' + b"x" * 17_000_000 + b'"}': 5,
    b"null": 7,
    b'{"name":"\xff"}': 7,
    b'{"name":"\\ud800"}': 7,
    b'{"name":"n","cniVersion":"\\ud800"}': 1,
}


@pytest.mark.parametrize("plugin", ["enim", "exclusive-device"])
@pytest.mark.parametrize(("stdin", "code"), (dict.fromkeys(NOT_JSON, 6) | OTHERWISE_WRONG).items(), ids=shown)
def test_stdin_that_is_no_configuration(plugins, tmp_path, plugin, stdin, code):
    assert Caller(plugins, tmp_path, plugin).fail(stdin)["code"] == code


WRONG = ("text", 7, 0, [7], {"x": 7}, False)
RIGHT_TYPES = {
    **dict.fromkeys(("cniVersion", "name", "type", "device", "ipam.socket"), str),
    **dict.fromkeys(("ipam", "runtimeConfig"), dict),
    **dict.fromkeys(("ipam.routes", "args.cni.ips", "runtimeConfig.ips", "runtimeConfig.ipRanges")),
}


@pytest.mark.parametrize("key", RIGHT_TYPES)
def test_wrong_type_of_a_known_key(enim, agent, key):
    *path, last = key.split(".")
    owner = enim.netconf
    for step in path:
        owner = owner.setdefault(step, {})
    for value in WRONG:
        owner[last] = value
        if type(value) is not RIGHT_TYPES[key]:
            assert enim.fail()["code"] == (6 if key in ("cniVersion", "name") else 7), value
    assert agent.methods == []


def test_metadata_and_what_belongs_to_others_may_be_anything(enim, agent):
    for value in WRONG:
        assert enim.run(enim.change(args=value, dns=value, capabilities=value, prevResult=value)).returncode == 0
        assert enim.run(enim.change(args={"cni": value})).returncode == 0
    assert set(agent.methods) == {"POST"}


@pytest.mark.parametrize(
    "changes",
    [
        {"runtimeConfig": {"ipRanges": [[{"subnet": "192.0.2.0/24", "rangeStart": 0}]]}},
        *({"runtimeConfig": {"ips": [value]}} for value in ("\ud800", "192.0.2.1\0", "", None, "192.0.2.1/33")),
        *({"ipam": {"routes": [{"dst": "::/0", **more}]}} for more in ({"priority": -1}, {"mtu": 10**30}, {"gw": "a"})),
    ],
)
def test_values_that_cannot_be(enim, agent, changes):
    changes.get("ipam", {})["socket"] = agent.path
    assert enim.fail(enim.change(**changes))["code"] == 7
    assert agent.methods == []


# The agent's socket


def test_socket_that_can_never_be_connected_is_not_waited_for(enim, tmp_path):
    (tmp_path / "file").touch()
    for path, code in [("/" + "x" * 107, 7), ("/a\0b", 7), ("/\ud800", 7), (f"{tmp_path}/file/agent.sock", 11)]:
        assert enim.fail(enim.change(ipam={"socket": path}))["code"] == code
    assert enim.fail(enim.change(ipam={}), CCE_SOCK="/" + "x" * 5000)["code"] == 11


WHOLE = answer(granted())
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    {
        "nothing": b"",
        "half of the head": WHOLE[:25],
        "half of the body": WHOLE[:-9],
        "no HTTP": b"<html>no HTTP here</html>\n\n",
        "half of a chunk": CHUNKED + b"50\r\n{",
        "a negative length": OK + b"Content-Length: -1\r\n\r\n{}",
        "a huge body": answer(b" " * 2**21),
        "a huge body without a length": OK + b"\r\n" + b" " * 2**21,
        "a head without an end": OK + b"X: y\r\n" * 300_000,
        "a line without an end": b"HTTP/1.1 200 " + b"x" * 2**21,
        "no end of interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    }.items(),
    ids=lambda item: item[0],
)
def test_answer_that_is_not_whole_is_released(enim, agent, sent):
    agent.post = sent[1]
    assert enim.fail().items() >= {"code": 11, "msg": "the agent gave no whole answer"}.items()
    assert agent.methods == ["POST", "DELETE"]


def test_answer_in_chunks(enim, agent):
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in json.dumps(granted()).encode())
    agent.post = CHUNKED + chunks + b"0\r\n\r\n"
    assert enim.run().returncode == 0


ERROR_BODIES = {
    b'"no available ENI"\n': "no available ENI",
    b'{"code":500,"message":"busy"}': "busy",
    b"plain\ttext\r\n": "plain text",
    b"<html><body>Bad <b>Gateway</b></body></html>": "Bad Gateway",
    b"": " without a text",
    b'"\\ud800"': "\ufffd",
    b"{" * 100_000: "{" * 200,
    b"\0\x1b[2J": "\0\x1b[2J",
}


@pytest.mark.parametrize("body", ERROR_BODIES, ids=shown)
@pytest.mark.parametrize(("status", "code"), [(500, 11), (504, 101), (409, 100)])
def test_error_body_of_any_kind(enim, agent, body, status, code):
    agent.post = answer(body, status)
    error = enim.fail()
    assert (error["code"], ERROR_BODIES[body] in error["msg"]) == (code, True), error
    assert agent.methods == (["POST"] if status == 409 else ["POST", "DELETE"])


def only(ip):
    family = "ipv6" if ":" in ip else "ipv4"
    return {"address": {family: ip}, family: granted(ip=ip, cidrs=[f"{ip}/8"], gateway="")["ipv4"]}


BAD_MACS = ("fa:26", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "fa:26:00:01:02:0g")
BAD_NUMBERS = ("0", "-1", "+7", "1e3", " 7", "7\n", "7.0", "0x7", "\u0667", str(2**31), 2**31, 10**4000)
TOO_DEEP = b'{"address":' + b"[" * 100_000
BROKEN = [
    *(answer(body) for body in (b"", b"<html>hello</html>", b"\xff", TOO_DEEP, None, 7, [], "granted", {})),
    *(answer(granted(), status) for status in (201, 204, 302)),
    *(answer({**granted(), "address": value}) for value in (None, 7, [], "", {}, {"ipv4": None}, {"ipv4": 7})),
    *(answer({**granted(), "address": {"ipv4": "192.0.2.10", "ipv6": value}}) for value in (7, 0, [], False, "::1")),
    *(answer({**granted(), "ipv4": value}) for value in (None, 7, [], "", {})),
    *(
        answer(granted(**{key: value}))
        for key in ("ip", "cidrs", "master-mac", "interface-number")
        for value in (..., None, "", 0, -7, 7.0, True, [], [None], [7], {})
    ),
    *(answer(granted(gateway=value)) for value in (7, 0, False, [], {}, "::1", "nowhere", "198.51.100.1")),
    *(answer(granted(ip=value)) for value in ("192.0.2.11", "192.0.2.10/24", "192.0.2.10\0", "::1", "\ud800")),
    *(answer(granted(cidrs=value)) for value in (["198.51.100.0/24"], ["0.0.0.0/0"], ["::/0"], ["192.0.2.0/33"])),
    *(answer(only(ip)) for ip in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1")),
    *(answer(granted(**{"master-mac": value})) for value in BAD_MACS),
    *(answer(granted(**{"interface-number": value})) for value in BAD_NUMBERS),
]


@pytest.mark.parametrize("sent", BROKEN, ids=shown)
def test_answer_that_is_no_allocation_is_released(enim, agent, sent):
    agent.post = sent
    assert enim.fail()["code"] == 102
    assert agent.methods == ["POST", "DELETE"]


# Closed streams


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", ">/dev/full"])
def test_result_that_cannot_be_printed_is_released(enim, agent, closed):
    done = enim.run(program=["/bin/sh", "-c", f'exec "{enim.program}" {closed}'])
    assert (done.returncode, done.stderr) == (1, b"")
    assert agent.methods == ["POST", "DELETE"]


def test_closed_stdin_is_code_5_and_a_closed_stderr_is_nothing(enim, agent):
    closed = ["/bin/sh", "-c", f'exec "{enim.program}" <&-']
    assert enim.fail(program=closed)["code"] == 5
    assert b"supportedVersions" in enim.run(program=closed, CNI_COMMAND="VERSION").stdout
    done = enim.run(program=["/bin/sh", "-c", f'exec "{enim.program}" 2>&-'])
    assert (done.returncode, agent.methods) == (0, ["POST"])


# The delegate of exclusive-device


@pytest.fixture
def exclusive(plugins, node):
    caller = Caller(plugins, node.directory, "exclusive-device")
    caller.netconf |= {"type": "exclusive-device", "ipam": {"type": "delegate"}}
    return caller


@pytest.mark.parametrize("kind", ["missing", "directory", "not executable", "\ud800", "x" * 100_000])
def test_delegate_that_cannot_be_started(exclusive, node, kind):
    exclusive.netns = node.create_netns()
    if kind == "directory":
        (node.directory / kind).mkdir()
    elif kind == "not executable":
        (node.directory / kind).touch(mode=0o644)
    for command in ("ADD", "DEL"):
        error = exclusive.fail(exclusive.change(ipam={"type": kind}), CNI_COMMAND=command)
        assert error["code"] == (7 if kind == "\ud800" else 106)


RESULT = '{"interfaces":[{"mac":"02:00:00:00:00:01"}],"ips":[{"address":"192.0.2.10/24","interface":%s}]}'


@pytest.mark.parametrize(
    "on_add",
    {
        "garbage": "echo garbage",
        "nothing": "",
        "2 MB": "head -c 2000000 /dev/zero",
        "18 MB": "head -c 18000000 /dev/zero",
        "a failure without a word": "exit 1",
        "brackets": "head -c 100000 /dev/zero | tr '\\0' '['",
        **{f"the index {index}": f"echo '{RESULT % index}'" for index in ("-1", "2147483648", "1" * 30, '"7"')},
    }.items(),
    ids=lambda item: item[0],
)
def test_delegate_that_does_not_speak_cni_is_told_to_release(exclusive, node, on_add):
    exclusive.netns = node.create_netns()
    delegate = node.directory / "delegate"
    delegate.write_text(f'#!/bin/sh\necho $CNI_COMMAND >> "$0.calls"\n[ $CNI_COMMAND = DEL ] && exit\n{on_add[1]}\n')
    delegate.chmod(0o755)
    assert exclusive.fail()["code"] == 106
    assert Path(f"{delegate}.calls").read_text().split() == ["ADD", "DEL"]
