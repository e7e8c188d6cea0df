"""What an installed plugin runs of its own modules, and what it loads of Python's, for a call that goes well.

Each module here costs every pod 0.03 to 0.2 ms: a new one needs a measurement (`python tests/bench/budget.py`).
"""

import ast
import json
import subprocess

import pytest

ALWAYS = {"commands", "config", "effects", "framing", "jsonio", "process", "settings", "transport", "wire"}
ADD = ALWAYS | {"addresses", "namespaces", "netlink", "result", "rtnetlink"}
ENIM = {"__main__", "verbs"}
CHAIN = {"errors", "exclusive", "exclusive_main", "exclusive_verbs", "namespaces", "netlink", "rtnetlink", "verbs"}

PYTHONS = {"_socket", "errno", "gc"}
ENTERS = {"_stat", "fcntl"}

# A launcher that tells on stderr, at its end, what it has run and loaded.
PROBE = """
import posix, sys
launcher, folder, module = sys.argv[1:]
sys.modules["__main__"].__file__ = launcher
before = set(sys.modules) - {"_stat", "errno", "fcntl", "gc"}
names = {"__name__": "loading"}
exec(open(folder + "/enim/loading.py", "rb").read(), names)  # as text it loads more before 3.10
package = names["load"](posix.open(folder + "/plugins", posix.O_RDONLY), folder + "/enim", "enim")
unread = type(package.process)
entry = getattr(package, module)
def end(code):
    found = {name: type(one) is not unread for name, one in sys.modules.items() if name not in before}
    ran = [name[5:] for name, is_run in found.items() if name.startswith("enim.") and is_run]
    foreign = [name for name in found if name.partition(".")[0] != "enim"]
    print([code, ran, foreign], file=sys.stderr)
package.process.run
package.process.end = end
entry.main()
"""


@pytest.fixture
def call(python, plugins):
    """A function that runs a call: which of the plugins' modules ran, and what of Python's was loaded."""

    def run(node, plugin, module, command):
        ipam = {"type": "enim", "socket": str(node.directory / "agent.sock")}
        netconf = {"cniVersion": "1.0.0", "name": "n", "type": "exclusive-device", "ipam": ipam}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": str(node.directory / "pod"),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(plugins),
        }
        (folder,) = plugins.glob(".enim/*")
        probe = [python, "-ISE", "-c", PROBE, str(plugins / plugin), str(folder), module]
        stdin = json.dumps(netconf)
        done = subprocess.run(probe, check=False, env=environment, input=stdin, capture_output=True, text=True)
        assert done.stderr.startswith("["), done.stderr
        code, ran, foreign = ast.literal_eval(done.stderr)
        assert code == 0, done.stdout
        return set(ran), set(foreign) - {"_ctypes"}  # by which a namespace is entered before Python 3.12

    return run


@pytest.fixture
def prepare(log_caller):
    """A function that makes a pod and an agent on a node."""

    def make(node):
        node.create_netns()
        log_caller(node.directory, node.create_nic())

    return make


def test_enim(node, prepare, call):
    prepare(node)
    assert call(node, "enim", "__main__", "ADD") == (ADD | ENIM, PYTHONS)
    assert call(node, "enim", "__main__", "DEL") == (ALWAYS | ENIM, PYTHONS - {"errno"})


def test_chain(node, prepare, call):
    prepare(node)
    assert call(node, "exclusive-device", "exclusive_main", "ADD") == (ADD | CHAIN, PYTHONS | ENTERS)
    deleted = call(node, "exclusive-device", "exclusive_main", "DEL")
    assert deleted == (ALWAYS | CHAIN | {"result"}, PYTHONS | ENTERS)
