"""The installed enim as a real process: environment, stdin, stdout, exit code, and what reaches the agent's socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from enim import errors, wire

MAC = "fa:26:00:01:02:03"
SETTLED_S = 20


class Agent:
    """A unix-socket server in a thread: answers from ``replies`` by method, and keeps the requests."""

    def __init__(self, path):
        self.path = str(path)
        self.requests = []
        self.replies = {"POST": granted(), "DELETE": wire.Reply(200)}
        self.socket = socket.socket(socket.AF_UNIX)
        self.thread = threading.Thread(target=self._serve)

    def start(self):
        self.socket.bind(self.path)
        self.socket.listen()
        self.thread.start()

    def stop(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()

    def _serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                try:
                    self.requests.append(self._read(connection))
                    reply = self.replies[self.requests[-1].method]
                except errors.WireError as error:
                    reply = wire.Reply(error.status)
                if reply is not None:
                    connection.sendall(wire.encode_reply(reply))

    def _read(self, connection):
        received = b""
        while (found := wire.decode_request(received)) is None:
            received += connection.recv(65536)
        return found[0]


def granted(mac=MAC, ifindex=7):
    ipv4 = {"ip": "192.0.2.10", "cidrs": ["192.0.2.0/24"], "gateway": "192.0.2.1"}
    ipv4 |= {"master-mac": mac, "interface-number": str(ifindex)}
    return wire.Reply(200, json.dumps({"address": {"ipv4": "192.0.2.10"}, "ipv4": ipv4}).encode(), "application/json")


@pytest.fixture
def agent(tmp_path):
    server = Agent(tmp_path / "agent.sock")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def run(plugins, tmp_path):
    def run_plugin(netconf=None, *, stdin=None, **variables):
        """Run the launcher; under host-device with a dead netns, so that no link is needed."""
        ipam = {"type": "enim", "socket": str(tmp_path / "agent.sock")}
        document = {"cniVersion": "1.0.0", "name": "n", "type": "host-device", "device": "e1", "ipam": ipam}
        environment = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/var/run/netns/none",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(plugins),
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=pod",
            **variables,
        }
        done = subprocess.run(
            [plugins / "enim"],
            check=False,
            capture_output=True,
            env={name: value for name, value in environment.items() if value is not None},
            input=json.dumps({**document, **(netconf or {})}).encode() if stdin is None else stdin,
            timeout=SETTLED_S,
        )
        assert b"Traceback" not in done.stdout + done.stderr
        return done

    return run_plugin


def error_of(done):
    """The error object on stdout, with the four keys of the specification."""
    assert done.returncode == 1
    error = json.loads(done.stdout)
    assert list(error) == ["cniVersion", "code", "msg", "details"]
    return error


def test_add_prints_the_result_and_nothing_else(run, agent):
    done = run()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == (
        b'{"cniVersion":"1.0.0","interfaces":[{"mac":"fa:26:00:01:02:03","name":"e1"}],'
        b'"ips":[{"address":"192.0.2.10/24","gateway":"192.0.2.1","interface":7}],'
        b'"routes":[{"dst":"0.0.0.0/0","gw":"192.0.2.1"}]}'
    )
    (request,) = agent.requests
    assert (request.method, request.path, request.header("x-enim-network")) == ("POST", "/v1/eni", "n")
    assert request.query == (
        ("containerID", "c1"),
        ("ifname", "eth0"),
        ("netns", "/var/run/netns/none"),
        ("owner", "ns/pod"),
    )
    assert json.loads(request.body)["x-enim"]["device"] == "e1"


def test_add_finds_a_real_link_of_its_own_netns_by_its_mac(run, agent):
    links = [link for link in Path("/sys/class/net").iterdir() if (link / "address").read_text().strip("0:\n")]
    if not links:
        pytest.skip("no link with a MAC here")
    mac = (links[0] / "address").read_text().strip()
    ifindex = int((links[0] / "ifindex").read_text())
    agent.replies["POST"] = granted(mac, ifindex + 1000)
    done = run({"type": "exclusive-device"})
    answer = json.loads(done.stdout)
    assert (answer["interfaces"], answer["ips"][0]["interface"]) == ([{"mac": mac, "name": links[0].name}], ifindex)


def test_add_of_an_eni_that_is_nowhere_gives_it_back(run, agent):
    done = run({"type": "exclusive-device"})
    assert error_of(done)["code"] == 104
    assert [request.method for request in agent.requests] == ["POST", "DELETE"]


def test_add_in_the_plugins_own_netns_is_refused_unless_overridden(run, agent):
    assert error_of(run(CNI_NETNS="/proc/self/ns/net"))["code"] == 8
    assert agent.requests == []
    done = run({"type": "exclusive-device"}, CNI_NETNS="/proc/self/ns/net", CNI_NETNS_OVERRIDE="true")
    assert error_of(done)["code"] == 104


def test_add_waits_for_an_agent_that_comes_up_late(run, tmp_path):
    server = Agent(tmp_path / "agent.sock")
    timer = threading.Timer(0.3, server.start)
    timer.start()
    done = run()
    timer.join()
    server.stop()
    assert done.returncode == 0


def test_add_whose_connection_breaks_gives_back_what_it_may_have_got(run, agent):
    agent.replies["POST"] = None
    assert error_of(run())["code"] == 11
    assert [request.method for request in agent.requests] == ["POST", "DELETE"]


def test_add_whose_reader_is_gone_gives_the_eni_back(plugins, agent):
    netconf = {
        "cniVersion": "1.0.0",
        "name": "n",
        "type": "host-device",
        "device": "e1",
        "ipam": {"socket": agent.path},
    }
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/none",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/x",
    }
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [plugins / "enim"],
        check=False,
        env=environment,
        input=json.dumps(netconf).encode(),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=SETTLED_S,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
    assert [request.method for request in agent.requests] == ["POST", "DELETE"]


def test_del_prints_nothing(run, agent):
    done = run(CNI_COMMAND="DEL", CNI_NETNS="")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert [(request.method, request.parameter("netns")) for request in agent.requests] == [("DELETE", "")]


def test_del_error_says_nothing_that_containerd_takes_for_success(run, agent):
    agent.replies["DELETE"] = wire.Reply(400, b'{"code":400,"message":"endpoint not found"}')
    error = error_of(run(CNI_COMMAND="DEL"))
    assert (error["code"], "not found" in json.dumps(error).lower()) == (101, False)


def test_without_a_command_it_tells_who_it_is_and_reads_nothing(plugins):
    done = subprocess.run([plugins / "enim"], check=True, capture_output=True, env={}, stdin=subprocess.DEVNULL)
    assert (done.stdout, b"CNI protocol versions supported: 0.1.0, 0.2.0" in done.stderr) == (b"", True)


@pytest.mark.parametrize(
    ("stdin", "version"),
    [(b"", "1.1.0"), (b"garbage", "1.1.0"), (bytes(17 << 20), "1.1.0"), (b'{"cniVersion":"0.4.0"}', "0.4.0")],
)
def test_version_needs_nothing_else(plugins, stdin, version):
    done = subprocess.run(
        [plugins / "enim"], check=True, capture_output=True, env={"CNI_COMMAND": "VERSION"}, input=stdin
    )
    supported = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
    assert json.loads(done.stdout) == {"cniVersion": version, "supportedVersions": supported}


@pytest.mark.parametrize(
    ("options", "code", "version"),
    [
        ({"CNI_CONTAINERID": None}, 4, "1.1.0"),
        ({"CNI_IFNAME": "a/b"}, 4, "1.1.0"),
        ({"stdin": b""}, 6, "1.1.0"),
        ({"stdin": b"{}"}, 7, "0.1.0"),
        ({"netconf": {"name": "a b"}}, 7, "1.0.0"),
        ({"netconf": {"cniVersion": "9.9.9"}}, 1, "1.1.0"),
        ({"netconf": {"cniVersion": 1}}, 6, "1.1.0"),
        ({"CNI_COMMAND": "CHECK"}, 7, "1.0.0"),
        ({"CNI_COMMAND": "CHECK", "netconf": {"cniVersion": "0.3.1"}}, 1, "0.3.1"),
        ({"CNI_COMMAND": "GC"}, 1, "1.0.0"),
        ({"CNI_COMMAND": "STATUS"}, 1, "1.0.0"),
        ({"CNI_COMMAND": "STATUS", "netconf": {"cniVersion": "1.1.0"}}, 50, "1.1.0"),
        ({"CNI_COMMAND": "NOPE"}, 4, "1.0.0"),
        ({"CNI_ARGS": "a=b=c"}, 4, "1.0.0"),
        ({"netconf": {"ipam": "enim"}}, 7, "1.0.0"),
    ],
)
def test_errors_are_json_on_stdout(run, options, code, version):
    done = run(**options)
    error = error_of(done)
    assert (error["code"], error["cniVersion"], done.stderr) == (code, version, b"")


def test_stdin_that_cannot_be_read_is_code_5(plugins):
    environment = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    with Path(os.devnull).open("wb") as write_only:
        done = subprocess.run([plugins / "enim"], check=False, capture_output=True, env=environment, stdin=write_only)
    assert error_of(done)["code"] == 5


def test_an_unforeseen_failure_is_code_999_in_cnis_words():
    code = "from enim import process; raise SystemExit(process.run('', {'ADD': lambda _: 1 / 0}, {}))"
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/n",
        "CNI_IFNAME": "e",
        "CNI_PATH": "/x",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, env=environment, input=b'{"name":"n"}'
    )
    error = error_of(done)
    assert (error["code"], "ZeroDivisionError" in error["msg"], done.stderr) == (999, True, b"")


def test_environment_that_is_not_utf8_is_passed_on(run, agent):
    assert run(CNI_NETNS=b"/run/\xff", CNI_COMMAND="DEL").returncode == 1  # our own agent refuses such a path …
    assert (
        error_of(run(CNI_IFNAME=b"\xff" * 16))["code"] == 4
    )  # … and a name of 16 bytes is too long, whatever they are


def test_sigint_ends_a_plugin_without_a_traceback(plugins, tmp_path):
    pipe = subprocess.PIPE
    ipam = {"type": "enim", "socket": str(tmp_path / "agent.sock")}
    netconf = {"cniVersion": "1.0.0", "name": "n", "type": "host-device", "device": "e1", "ipam": ipam}
    values = ("ADD", "c1", "/var/run/netns/none", "eth0", str(plugins))
    names = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH")
    environment = dict(zip(names, values, strict=True))
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(ipam["socket"])
        silent.listen()
        with subprocess.Popen([plugins / "enim"], env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as started:
            started.stdin.write(json.dumps(netconf).encode())
            started.stdin.close()
            with silent.accept()[0]:
                started.send_signal(signal.SIGINT)
                assert started.wait(SETTLED_S) == -signal.SIGINT
            assert (started.stdout.read(), started.stderr.read()) == (b"", b"")
