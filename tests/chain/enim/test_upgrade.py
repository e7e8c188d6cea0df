"""An upgrade under load loses no ADD and no DEL: pods come and go while installations take turns in one directory."""

import shutil
import subprocess
import sys
from pathlib import Path

from simulator.real import kernel

ROOT = Path(__file__).parents[3]
ROUNDS = 4
MAC = "02:e1:00:00:00:01"  # of the agent's only ENI


def check_out(folder: Path) -> Path:
    """Another checkout of this project, for what changes in it."""
    for package in ("enim", "simulator"):
        shutil.copytree(ROOT / package, folder / package, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def start_install(checkout: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "simulator", "install", *arguments]
    return subprocess.Popen(command, cwd=checkout, stdout=subprocess.DEVNULL)


class Pod:
    """One attachment that comes and goes, through the whole chain, with the agent's only ENI."""

    def __init__(self, plugin, agent, netns):
        self.plugin = plugin
        self.agent = agent
        self.netns = netns
        self.count = 0

    def come_and_go(self):
        """With enim in exclusive-device's process, or every other time in one of its own."""
        self.count += 1
        way = {"delegate": "exec"} if self.count % 2 else {}
        self.plugin.succeed(**way)
        assert self.names_of_nic(kernel.Kernel().netns_links(self.netns)) == ["eth0"]
        self.plugin.succeed("DEL", **way)
        assert self.names_of_nic(kernel.Kernel().links()) == ["eni1"]
        self.agent.await_free()

    @staticmethod
    def names_of_nic(links):
        return [link.name for link in links if link.mac == MAC]


def test_upgrade_under_load_loses_no_add_and_no_del(tmp_path, in_lab, run_agent, call_plugin, two_pythons):
    """Between two Pythons; to a package that is new in every other round; and with an uninstallation next door."""
    ours, theirs = zip((ROOT, check_out(tmp_path / "next")), two_pythons, strict=True)

    def upgrade(number, directory, links):
        checkout, interpreter = ours if number % 2 else theirs
        if checkout != ROOT:
            with (checkout / "enim/wire.py").open("a") as source:
                source.write(f"# version {number}\n")
        yield start_install(checkout, "--bin-dir", directory, "--python", interpreter)
        if number % 3 == 0:
            yield start_install(checkout, "--bin-dir", links, "--uninstall")

    def play(scratch):
        directory, links, netns = (scratch / name for name in ("bin", "links", "pod"))
        links.mkdir()  # it has links to the plugins, and nothing of its own
        for name in ("enim", "exclusive-device"):
            (links / name).symlink_to(directory / name)
        kernel.create_netns(netns, accept_dad=False)
        assert start_install(ROOT, "--bin-dir", directory, "--python", two_pythons[0]).wait() == 0
        with run_agent(scratch, enis=1) as agent:
            plugin = call_plugin("exclusive-device", agent.socket, str(netns), type="exclusive-device")
            plugin.program = directory / "exclusive-device"
            plugin.environment["CNI_PATH"] = str(directory)
            pod = Pod(plugin, agent, str(netns))
            for number in range(ROUNDS):
                running = list(upgrade(number, directory, links))
                while None in [process.poll() for process in running]:
                    pod.come_and_go()
                assert [process.returncode for process in running] == [0] * len(running)
        return pod.count >= 2 * ROUNDS, len(list((directory / ".enim").iterdir()))

    assert in_lab(play) == (True, 1 + (ROUNDS + 1) // 2)
