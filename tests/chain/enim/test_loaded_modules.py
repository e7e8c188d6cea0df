"""What an installed plugin runs of its own modules, and what it loads of Python's, for a call that goes well.

Each part here costs every pod up to 0.05 ms, a module of Python's up to 0.5: a new one needs a measurement
(`python tests/bench/budget.py`). Where a list is another one for a good reason, ``simulator/chain/calls.py`` gets it.
"""

import ast
import json
import subprocess

import pytest

from simulator.chain import calls

PYTHONS = {"_socket", "gc"}
ENTERS = {"_stat", "errno", "fcntl"}

# A launcher that tells on stderr, at its end, what it has run, with a "|" where the plugin begins to wait for the
# agent, and what it has loaded.
PROBE = """
import posix, sys
launcher, folder, module, command = sys.argv[1:]
sys.modules["__main__"].__file__ = launcher
before = set(sys.modules) - {"_stat", "errno", "fcntl", "gc"}
names = {"__name__": "loading"}
exec(open(folder + "/enim/loading.py", "rb").read(), names)  # as text it loads more before 3.10
ran = []
def note(code, where):
    ran.append(where["__name__"][5:] + ("" if code.co_name == "<module>" else "." + code.co_name))
    exec(code, where)
def mark(where, name):
    function = getattr(where, name)
    def call():
        ran.extend(() if "|" in ran else "|")
        function()
    setattr(where, name, call)
names["exec"] = note
file = posix.open(folder + "/plugins", posix.O_RDONLY)
package = names["load"](file, "enim", f"{module} {command}")
main = getattr(package, module).main
package.process.run
mark(package.process, "_load_ahead")
mark(package.process, "_load_ahead_of_grant")
def end(code):
    foreign = [name for name in sys.modules if name not in before and name.partition(".")[0] != "enim"]
    print([code, ran, foreign], file=sys.stderr)
package.process.end = end
main()
"""


@pytest.fixture
def call(python, plugins):
    """A function that runs a call: what it ran before it waited for the agent and after, and what of Python's."""

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
        probe = [python, "-ISE", "-c", PROBE, str(plugins / plugin), str(folder), module, command]
        stdin = json.dumps(netconf)
        done = subprocess.run(probe, check=False, env=environment, input=stdin, capture_output=True, text=True)
        assert done.stderr.startswith("["), done.stderr
        code, ran, foreign = ast.literal_eval(done.stderr)
        assert code == 0, done.stdout
        before, after = tuple(ran[: ran.index("|")]), tuple(ran[ran.index("|") + 1 :])
        return (before, after), set(foreign) - {"_ctypes"}  # by which a namespace is entered before Python 3.12

    return run


@pytest.fixture
def prepare(log_caller):
    """A function that makes a pod and an agent on a node."""

    def make(node):
        node.create_netns()
        log_caller(node.directory, node.create_nic())

    return make


def check(named, found, foreign):
    ran, loaded = found
    assert ran == calls.CALLS[named], f'simulator/chain/calls.py should have "{named}": {ran!r},'
    assert loaded == foreign


def test_enim(node, prepare, call):
    prepare(node)
    check("__main__ ADD", call(node, "enim", "__main__", "ADD"), PYTHONS | {"fcntl"})
    check("__main__ DEL", call(node, "enim", "__main__", "DEL"), PYTHONS)


def test_chain(node, prepare, call):
    prepare(node)
    check("exclusive_main ADD", call(node, "exclusive-device", "exclusive_main", "ADD"), PYTHONS | ENTERS)
    check("exclusive_main DEL", call(node, "exclusive-device", "exclusive_main", "DEL"), PYTHONS | ENTERS)
