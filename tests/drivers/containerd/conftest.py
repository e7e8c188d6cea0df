"""A real containerd in the lab of the fixture ``node``, asked through its CRI socket by crictl.

Its files are where Debian's package has them, on file systems that end with the lab: the machine's own containerd, CNI
directories and pods are not seen, and nothing of them is written. Pods are without cgroups, so none is made. The one
image is of our own making.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simulator import syscalls

HERE = Path(__file__).parent
BIN, CONF = Path("/usr/lib/cni"), Path("/etc/cni/net.d")
CRI = {"CONTAINER_RUNTIME_ENDPOINT": "unix:///run/containerd/containerd.sock"}
IMAGE = "enim.invalid/pause:1"  # found, or an error: it cannot be pulled
# In a lab that root has not given all rights, a process cannot become less killable, and AppArmor is not there.
CONFIG = f"""version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_apparmor = true
  disable_cgroup = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{BIN}"
    conf_dir = "{CONF}"
"""
# Writes down each call, and hands the result on, refuses to, or never ends.
WITNESS = """#!{python} -I
import json, os, sys, time
conf = json.load(sys.stdin)
with open(conf["log"], "a") as log:
    print(os.environ["CNI_COMMAND"], os.environ.get("CNI_NETNS", ""), file=log)
if os.environ["CNI_COMMAND"] == "ADD":
    time.sleep(conf.get("sleep", 0))
    print(json.dumps({{"code": 100, "msg": "refused"}} if conf.get("refuse") else conf["prevResult"]))
    sys.exit(conf.get("refuse", 0))
"""


def needed(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"there is no {name} here: run scripts/install-drivers as root")
    return found


def packed(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def image_of(program: bytes, architecture: str) -> bytes:
    """An image of one program, in the format of ``docker save``."""
    layer = packed({"pause": program})
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}
    config = {"os": "linux", "architecture": architecture, "config": {"Entrypoint": ["/pause"]}, "rootfs": rootfs}
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    texts = {"manifest.json": manifest, "config.json": config}
    return packed({**{name: json.dumps(text).encode() for name, text in texts.items()}, "layer.tar": layer})


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go, directory = needed("go"), tmp_path_factory.mktemp("image")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    build = [go, "build", "-ldflags=-s", "-o", directory / "pause", HERE / "pause.go"]
    subprocess.run(build, check=True, env=environment)
    architecture = subprocess.run([go, "env", "GOARCH"], check=True, capture_output=True, text=True).stdout.strip()
    file = directory / "pause.tar"
    file.write_bytes(image_of((directory / "pause").read_bytes(), architecture))
    return file


class Containerd:
    """Args: crictl: the program. image: what pods are made of."""

    def __init__(self, node: Any, crictl: Path, image: Path) -> None:
        self.node = node
        self._crictl = crictl
        self._image = image

    def start(self) -> None:
        """Called in the lab; returns when pods can be run."""
        node = self.node
        node.bin, node.conf, self.log = BIN, CONF, node.scratch / "witness.log"
        if node.scratch != Path("/run"):
            syscalls.mount("enim", "/run", "tmpfs")
        for directory in ("/etc", str(BIN)):
            upper, work = (node.scratch / f"{kind}{directory.replace('/', '-')}" for kind in ("upper", "work"))
            upper.mkdir()
            work.mkdir()
            syscalls.mount(
                "enim", directory, "overlay", options=f"lowerdir={directory},upperdir={upper},workdir={work}"
            )
        (node.scratch / "config.toml").write_text(CONFIG)
        CONF.mkdir(parents=True, exist_ok=True)
        self.start_daemon()
        subprocess.run(["ctr", "-n", "k8s.io", "images", "import", self._image], check=True, capture_output=True)

    def start_daemon(self) -> None:
        """Start it, for the first time or again; returns when it answers."""
        command = ["containerd", "--config", self.node.scratch / "config.toml"]
        with (self.node.scratch / "containerd.log").open("a") as log:
            self.daemon = subprocess.Popen(command, stdout=log, stderr=log)
        self.node.until(lambda: self.crictl("version", check=False).returncode, 0)

    def crictl(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it to its end, which is good unless ``check`` is false."""
        process = self.begin(*arguments)
        stdout, stderr = process.communicate()
        assert process.returncode == 0 or not check, stderr
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    def begin(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start it."""
        command, pipe = [self._crictl, "--config", "/dev/null", *arguments], subprocess.PIPE
        return subprocess.Popen(command, env={**os.environ, **CRI}, stdout=pipe, stderr=pipe, text=True)

    def write_conflist(self, plugin: Mapping[str, Any], *later: Mapping[str, Any]) -> None:
        """A network of a chain with its agent; returns when containerd has seen it."""
        first = {"ipam": {"type": "enim", "socket": str(self.node.socket)}, **plugin}
        conflist = {"cniVersion": "1.0.0", "name": "podnet", "plugins": [first, *later]}
        (CONF / "10-enim.conflist").write_text(json.dumps(conflist))
        self.node.until(self.is_network_ready, True)

    def is_network_ready(self) -> bool:
        status = json.loads(self.crictl("info").stdout)["status"]
        return all(condition["status"] for condition in status["conditions"])

    def witness(self, **keys: Any) -> dict[str, Any]:
        """A plugin for the end of a chain that writes down each call; installs it."""
        (BIN / "witness").write_text(WITNESS.format(python=sys.executable))
        (BIN / "witness").chmod(0o755)
        return {"type": "witness", "log": str(self.log), **keys}

    def witnessed(self) -> list[tuple[str, bool]]:
        """The calls: which verb, and whether with a netns."""
        lines = self.log.read_text().splitlines()
        return [(line.partition(" ")[0], bool(line.partition(" ")[2])) for line in lines]

    def begin_pod(self, name: str = "web-0", attempt: int = 0) -> subprocess.Popen[str]:
        """Start RunPodSandbox."""
        metadata = {"name": name, "namespace": "default", "uid": f"{name}-uid", "attempt": attempt}
        file = self.node.scratch / f"{name}-{attempt}.json"
        file.write_text(json.dumps({"metadata": metadata, "linux": {}}))
        return self.begin("runp", file)

    def run_pod(self, name: str = "web-0", attempt: int = 0) -> str:
        """RunPodSandbox; the sandbox's id, or what containerd says of it."""
        stdout, stderr = self.begin_pod(name, attempt).communicate()
        return stdout.strip() or stderr

    def addresses(self, pod: str) -> list[str]:
        """What PodSandboxStatus names: the first, and the others."""
        network = json.loads(self.crictl("inspectp", pod).stdout)["status"]["network"]
        return [network["ip"], *(one["ip"] for one in network["additionalIps"])]

    def pods(self) -> list[str]:
        return self.crictl("pods", "--quiet").stdout.split()


@pytest.fixture
def containerd_1() -> None:
    """From 2.0 on containerd forgets a sandbox whose clean-up has failed, and never sends its DEL again."""
    said = subprocess.run([needed("containerd"), "--version"], check=True, capture_output=True, text=True).stdout
    version = re.search(r"\bv?(\d+)\.\d+", said)
    if version is None or version[1] != "1":
        pytest.skip(f"it is about containerd 1, and this is {said.strip()}")


@pytest.fixture
def containerd(node: Any, request: pytest.FixtureRequest) -> Containerd:
    if os.geteuid() != 0:
        pytest.skip("containerd needs root: its snapshots are mounts, and runc makes devices")
    for name in ("containerd", "ctr", "runc"):
        needed(name)
    if not (BIN / "loopback").is_file():
        pytest.skip(f"there is no loopback in {BIN}: run scripts/install-drivers as root")
    return Containerd(node, request.getfixturevalue("crictl"), request.getfixturevalue("image"))
