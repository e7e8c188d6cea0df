"""EDGE: what the labs need of this machine: tried, not guessed; and the real host-device plugin.

Each finding comes from doing the thing in a namespace that is thrown away. Only when it fails are the usual suspects
looked at, to name the cause and a cure that can be pasted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from simulator import syscalls
from simulator.errors import LabError
from simulator.lab import namespaces

PLUGIN = "host-device"
PACKAGE = "containernetworking-plugins"
SYSTEM_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_APT_TIMEOUT_S = 600
_CONFINEMENTS = ("seccomp", "systempaths", "apparmor")
# Under /proc/sys: the value that forbids namespaces, and one that does not.
_SWITCHES = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "10000"),
    ("user/max_net_namespaces", "0", "10000"),
    ("user/max_mnt_namespaces", "0", "10000"),
    ("user/max_pid_namespaces", "0", "10000"),
)
_VERSION_TIMEOUT_S = 10

_RTM_NEWLINK, _NLM_F_REQUEST_ACK_CREATE_EXCL, _NLMSG_ERROR = 16, 0x605, 2
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND = 3, 18, 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Args:
        required: whether no lab works without it.
        cause: why it failed, or a remark; "" for none.
        cure: what to do, as a command where there is one; "" for none.
    """

    name: str
    ok: bool
    required: bool
    cause: str = ""
    cure: str = ""


def find_host_device() -> Path | None:
    """The host-device binary: in the user's cache, the usual CNI directories, or CNI_PATH; None if there is none."""
    named = [Path(part) for part in os.environ.get("CNI_PATH", "").split(":") if part.startswith("/")]
    for directory in (_cache(), *map(Path, SYSTEM_DIRECTORIES), *named):
        binary = directory / PLUGIN
        with contextlib.suppress(PermissionError):  # another user's cache, by a HOME that su or sudo has left
            if binary.is_file() and os.access(binary, os.X_OK):
                return binary
    return None


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path("~/.cache").expanduser()) / "enim/cni/bin"


def diagnose() -> list[Finding]:
    """Try everything. The list is for people; a lab works if every required finding is ok."""
    found = list(_try_lab())
    binary = find_host_device()
    if binary is None:
        cure = "enim-lab doctor --install"
        found.append(Finding(PLUGIN, ok=False, required=True, cause="the plugin is not installed", cure=cure))
    else:
        found.append(_try_plugin(binary))
    return found


def _try_lab() -> Iterator[Finding]:
    name = "user, mount, pid and network namespaces, fresh /proc, tmpfs"
    try:
        lab = namespaces.start(_probe)
    except LabError as error:
        suspect, cure = next(_suspects(Path("/proc")), ("", error.cure))
        cause = f"{error.cause}; {suspect}" if suspect else error.cause
        yield Finding(name, ok=False, required=True, cause=cause, cure=cure)
        return
    with lab.channel.makefile("rb") as lines:
        line = lines.readline()
    lab.close()
    yield Finding(name, ok=True, required=True)
    if not line:
        yield Finding("the parts of a lab", ok=False, required=True, cause="the probe ended without an answer")
        return
    for one in json.loads(line):
        yield Finding(**one)


def _suspects(proc: Path) -> Iterator[tuple[str, str]]:
    """What usually forbids namespaces, as ``(cause, cure)``; the likeliest first."""
    for switch, forbids, value in _SWITCHES:
        try:
            setting = (proc / "sys" / switch).read_text().strip()
        except OSError:  # this kernel has no such switch, or shows it to root only
            continue
        if setting == forbids:
            key = switch.replace("/", ".")
            yield f"{key} is {forbids}", f"sudo sysctl -w {key}={value}"
    is_filtered = "\nSeccomp:\t2\n" in (proc / "self/status").read_text()
    mount_points = {line.split()[4] for line in (proc / "self/mountinfo").read_text().splitlines()}
    covers = sorted(one for one in mount_points if one.startswith("/proc/") and not one.endswith("/binfmt_misc"))
    if is_filtered or covers:
        stands = "a seccomp filter stands" if is_filtered else f"what is mounted on {covers[0]} stands"
        confinements = " ".join(f"--security-opt {one}=unconfined" for one in _CONFINEMENTS)
        yield f"{stands} in the way, as in a container", f"docker run {confinements}"


def _probe(channel: socket.socket, scratch: Path) -> None:
    """Inside a lab: try its parts, and send the findings as one line of JSON."""
    parts: tuple[tuple[str, bool, Callable[[], None], str], ...] = (
        ("link kind veth", True, lambda: _make_link("v0", "veth"), "sudo modprobe veth"),
        ("link kind bridge", True, lambda: _make_link("b0", "bridge"), "sudo modprobe bridge"),
        ("link kind dummy", False, lambda: _make_link("d0", "dummy"), "sudo modprobe dummy"),
        ("raw ICMP sockets", True, _open_raw_sockets, ""),
        ("network namespaces with a name", True, lambda: _bind_netns(scratch / "netns"), ""),
    )
    found = []
    for name, required, attempt, cure in parts:
        try:
            attempt()
        except OSError as error:
            found.append(Finding(name, ok=False, required=required, cause=error.strerror or str(error), cure=cure))
        else:
            found.append(Finding(name, ok=True, required=required))
    channel.sendall(json.dumps([asdict(one) for one in found]).encode() + b"\n")


def _make_link(name: str, kind: str) -> None:
    """One RTM_NEWLINK, so that no ``ip`` program and no library is needed. Source: rtnetlink(7)."""
    info = _attribute(_IFLA_LINKINFO, _attribute(_IFLA_INFO_KIND, kind.encode()))
    body = bytes(16) + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + info
    header = struct.pack("=IHHII", 16 + len(body), _RTM_NEWLINK, _NLM_F_REQUEST_ACK_CREATE_EXCL, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as routes:
        routes.send(header + body)
        answer = routes.recv(4096)
    (kind_of_answer,) = struct.unpack_from("=H", answer, 4)
    (code,) = struct.unpack_from("=i", answer, 16)
    if kind_of_answer != _NLMSG_ERROR or code != 0:
        raise OSError(-code, os.strerror(-code))


def _attribute(kind: int, value: bytes) -> bytes:
    padding = bytes(-len(value) % 4)
    return struct.pack("=HH", 4 + len(value), kind) + value + padding


def _open_raw_sockets() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6).close()


def _bind_netns(path: Path) -> None:
    path.touch()
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.mount("/proc/thread-self/ns/net", str(path), flags=syscalls.MS_BIND)


def _try_plugin(binary: Path) -> Finding:
    """Ask the binary for its versions, which every CNI plugin answers."""
    environment = {"CNI_COMMAND": "VERSION", "PATH": "/usr/bin:/bin"}
    question = b'{"cniVersion": "1.0.0"}'
    try:
        ran = subprocess.run(
            [binary], input=question, env=environment, capture_output=True, timeout=_VERSION_TIMEOUT_S, check=True
        )
        versions = ", ".join(json.loads(ran.stdout)["supportedVersions"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        cause = f"{binary} does not answer VERSION: {error}"
        cure = f"Remove {binary}, then run `enim-lab doctor --install`"
        return Finding(PLUGIN, ok=False, required=True, cause=cause, cure=cure)
    return Finding(PLUGIN, ok=True, required=True, cause=f"{binary} speaks {versions}")


def install_host_device(report: Callable[[str], None]) -> Path:
    """Get host-device from Debian's or Ubuntu's package: as root with apt, else unpacked into the user's cache.

    Args:
        report: told what is done, a line at a time.

    Returns:
        where it is now.

    Raises:
        LabError: it could not be had here, with what apt said.
    """
    if shutil.which("apt-get") is None:
        raise LabError(
            f"{PLUGIN} comes from the package {PACKAGE}, and this machine has no apt-get",
            f"Put {PLUGIN} from a release of containernetworking/plugins into {SYSTEM_DIRECTORIES[0]}",
        )
    if os.geteuid() == 0:
        report(f"installing {PACKAGE} with apt-get")
        _install_as_root()
    else:
        report(f"unpacking {PACKAGE} into {_cache()}")
        _unpack_as_user()
    binary = find_host_device()
    if binary is None:
        raise LabError(f"the package {PACKAGE} has no {PLUGIN} in {', '.join(SYSTEM_DIRECTORIES)}")
    return binary


def _install_as_root() -> None:
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", PACKAGE)
    try:
        _run(*install)
    except LabError:  # the lists are missing or old
        _run("apt-get", "update", "-qq")
        _run(*install)


def _unpack_as_user() -> None:
    """Into a new directory beside the cache, which takes the cache's name when it is whole."""
    target = _cache()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as name:
            unpacked = _unpack(_download(Path(name)), Path(name) / "root")
            if (target / PLUGIN).is_file():
                return  # somebody else was faster
            unpacked.rename(target)
    except OSError as error:
        if not (target / PLUGIN).is_file():
            cure = f"Make room for it, or remove {target} if it is there"
            raise LabError(f"{target} cannot be made: {error.strerror}", cure) from error


def _download(work: Path) -> Path:
    """The package's file, in ``work``. Raises LabError."""
    download = ("apt-get", "download", "-qq", PACKAGE)
    try:
        _run(*download, directory=work)
    except LabError:  # without root the machine's own lists cannot be renewed: so a private copy of them
        private = [
            f"-oDir::State={work}/state",
            f"-oDir::Cache={work}/cache",
            "-oDir::State::status=/var/lib/dpkg/status",
        ]
        (work / "state/lists/partial").mkdir(parents=True)
        (work / "cache/archives/partial").mkdir(parents=True)
        _run("apt-get", *private, "update", "-qq")
        _run(download[0], *private, *download[1:], directory=work)
    found = sorted(work.glob("*.deb"))
    if not found:
        raise LabError(f"apt-get downloaded no {PACKAGE}")
    return found[0]


def _unpack(package: Path, root: Path) -> Path:
    """Unpack a package; return the directory in it that has host-device. Raises LabError."""
    _run("dpkg-deb", "-x", str(package), str(root))
    for directory in SYSTEM_DIRECTORIES:
        unpacked = root / directory.lstrip("/")
        if (unpacked / PLUGIN).is_file():
            return unpacked
    raise LabError(f"the package {PACKAGE} has no {PLUGIN} in {', '.join(SYSTEM_DIRECTORIES)}")


def _run(*command: str, directory: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ran = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise LabError(f"{command[0]} could not be run: {error}") from error
    if ran.returncode != 0:
        raise LabError(
            f"`{' '.join(command)}` failed: {(ran.stderr or ran.stdout).strip()[-500:]}", f"Install {PACKAGE} by hand"
        )
