"""EDGE: what the labs need of this machine: tried, not guessed; and the real host-device plugin.

Each finding comes from doing the thing in a namespace that is thrown away. Only when it fails are the usual suspects
looked at, to name the cause and a cure that can be pasted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from simulator import syscalls
from simulator.errors import LabError
from simulator.lab import causes, namespaces

PLUGIN = "host-device"
PACKAGE = "containernetworking-plugins"
SYSTEM_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
_FROM_RELEASE = (
    f"put {PLUGIN} from a release on https://github.com/containernetworking/plugins/releases "
    f"into {SYSTEM_DIRECTORIES[0]}"
)
_BY_HAND = f"Run `sudo apt-get install {PACKAGE}`, or {_FROM_RELEASE}"
_OTHER_CACHE = "export XDG_CACHE_HOME=/a/directory/of/yours"

_PROBE_TIMEOUT_S = 30
_VERSION_TIMEOUT_S = 10
_APT_TIMEOUT_S = 600
_COMPLAINTS_MAX = 500
# A server that does not answer costs seconds, not the minutes of apt's own three retries.
_IMPATIENT = ("-oAcquire::Retries=1", "-oAcquire::http::Timeout=10", "-oAcquire::https::Timeout=10")

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
    cache = _cache()
    for directory in (*([cache] if cache else []), *map(Path, SYSTEM_DIRECTORIES), *named):
        binary = directory / PLUGIN
        with contextlib.suppress(OSError):  # another user's cache, by a HOME that su or sudo has left
            if binary.is_file() and os.access(binary, os.X_OK):
                return binary
    return None


def _cache() -> Path | None:
    """Where an ordinary user's plugins go; None for a user who has no home directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not base.startswith("/"):
        with contextlib.suppress(RuntimeError):  # a uid without a name, as in many containers
            base = str(Path("~/.cache").expanduser())
    return Path(base) / "enim/cni/bin" if base.startswith("/") else None


def diagnose() -> list[Finding]:
    """Try everything. The list is for people; a lab works if every required finding is ok."""
    if sys.platform != "linux":
        cure = "enim-lab run --lab sim"
        return [Finding("Linux", ok=False, required=True, cause=f"labs need its kernel, not {sys.platform}", cure=cure)]
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
        yield _explained(Finding(name, ok=False, required=True, cause=error.cause, cure=error.cure))
        return
    try:
        lab.channel.settimeout(_PROBE_TIMEOUT_S)
        with lab.channel.makefile("rb") as lines:
            line = lines.readline()
    except TimeoutError:
        line = b""
    finally:
        lab.close()
    yield Finding(name, ok=True, required=True)
    if not line:
        yield Finding("the parts of a lab", ok=False, required=True, cause="the probe gave no answer")
        return
    for one in json.loads(line):
        found = Finding(**one)
        yield found if found.ok else _explained(found)


def _explained(failed: Finding) -> Finding:
    """The finding with the likeliest of what can have led to it, and the cure for that."""
    status, mounts = (Path(f"/proc/self/{name}").read_text() for name in ("status", "mountinfo"))
    clues = causes.Clues(failed.cause, _settings(Path("/proc/sys")), status, mounts)
    for cause, cure in causes.explain(clues):
        return replace(failed, cause=f"{failed.cause}; {cause}", cure=cure)
    return replace(failed, cure="") if "enim-lab doctor" in failed.cure else failed  # no advice to ask whom one asks


def _settings(directory: Path) -> dict[str, str]:
    """The kernel's settings that can forbid a lab, by sysctl key, as far as they can be read."""
    found = {}
    for key in (*causes.LIMITS, *causes.SWITCHES):
        with contextlib.suppress(OSError):  # this kernel has no such setting, or shows it to root only
            found[key] = (directory / key.replace(".", "/")).read_text().strip()
    return found


def _probe(channel: socket.socket, scratch: Path) -> None:
    """Inside a lab: try its parts, and send the findings as one line of JSON."""
    parts: tuple[tuple[str, bool, Callable[[], None], str], ...] = (
        ("link kind veth", True, lambda: _make_link("v0", "veth"), "veth"),
        ("link kind bridge", True, lambda: _make_link("b0", "bridge"), "bridge"),
        ("link kind dummy", False, lambda: _make_link("d0", "dummy"), "dummy"),
        ("raw ICMP sockets", True, _open_raw_sockets, "ipv6"),
        ("network namespaces with a name", True, lambda: _bind_netns(scratch / "netns"), ""),
    )
    found = []
    for name, required, attempt, module in parts:
        cause = cure = ""
        try:
            attempt()
        except OSError as error:
            cause = error.strerror or str(error)
            if error.errno in {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                cause, cure = f"the kernel module {module} is not there ({cause})", f"sudo modprobe {module}"
        found.append(Finding(name, ok=not cause, required=required, cause=cause, cure=cure))
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
            f"Install that package with this machine's own tool, or {_FROM_RELEASE}",
        )
    cache = _cache()
    if os.geteuid() == 0:
        report(f"installing {PACKAGE} with apt-get")
        _install_as_root()
    elif cache is None:
        raise LabError(f"there is no home directory to keep {PLUGIN} in", _OTHER_CACHE)
    else:
        report(f"unpacking {PLUGIN} of {PACKAGE} into {cache}")
        _unpack_as_user(cache)
    binary = find_host_device()
    if binary is None:
        raise LabError(f"the package {PACKAGE} has no {PLUGIN} in {', '.join(SYSTEM_DIRECTORIES)}")
    return binary


def _install_as_root() -> None:
    install = ("apt-get", *_IMPATIENT, "install", "-y", "-qq", "--no-install-recommends", PACKAGE)
    _get(install, ("apt-get", *_IMPATIENT, "update", "-qq"), install)


def _unpack_as_user(cache: Path) -> None:
    """Get it beside the cache, where it takes its place when it is whole. Raises LabError."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as name:
            binary = _unpack(_download(Path(name)), Path(name) / "root")
            cache.mkdir(exist_ok=True)
            binary.replace(cache / PLUGIN)
    except OSError as error:
        raise LabError(f"{cache / PLUGIN} cannot be made: {error.strerror}", _OTHER_CACHE) from error


def _download(work: Path) -> Path:
    """The package's file, in ``work``. Raises LabError."""
    # Without root the machine's own lists cannot be renewed: so a private copy of them.
    own = (f"-oDir::State={work}/state", f"-oDir::Cache={work}/cache", "-oDir::State::status=/var/lib/dpkg/status")
    (work / "state/lists/partial").mkdir(parents=True)
    (work / "cache/archives/partial").mkdir(parents=True)
    download = ("download", "-qq", PACKAGE)
    apt = ("apt-get", *_IMPATIENT)
    _get((*apt, *download), (*apt, *own, "update", "-qq"), (*apt, *own, *download), work)
    found = sorted(work.glob("*.deb"))
    if not found:
        raise LabError(f"apt-get downloaded no {PACKAGE}", _BY_HAND)
    return found[0]


def _unpack(package: Path, root: Path) -> Path:
    """Unpack a package; return the host-device in it. Raises LabError."""
    _run("dpkg-deb", "-x", str(package), str(root))
    for directory in SYSTEM_DIRECTORIES:
        binary = root / directory.lstrip("/") / PLUGIN
        if binary.is_file():
            return binary
    raise LabError(f"the package {PACKAGE} has no {PLUGIN} in {', '.join(SYSTEM_DIRECTORIES)}", _BY_HAND)


def _get(
    first: tuple[str, ...], update: tuple[str, ...], again: tuple[str, ...], directory: Path | None = None
) -> None:
    """Run ``first``; if it fails, renew the lists of packages and run ``again``. Raises LabError.

    Only the end counts: one of a machine's many sources may be broken and the package come from another. And apt-get
    calls an update in which nothing could be reached a success, with warnings: so these belong to the cause.
    """
    with contextlib.suppress(LabError):  # the lists are missing or old
        _run(*first, directory=directory)
        return
    try:
        complaints = _run(*update, directory=directory)
    except LabError as error:
        complaints = error.cause
    try:
        _run(*again, directory=directory)
    except LabError as error:
        cause = f"{error.cause}; and the update of its lists before that: {complaints}" if complaints else error.cause
        raise LabError(cause, error.cure) from error


def _run(*command: str, directory: Path | None = None) -> str:
    """Run a program that changes what is installed; return its complaints. Raises LabError with them."""
    shown = " ".join(word for word in command if not word.startswith("-"))
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        ran = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{shown}` took longer than {_APT_TIMEOUT_S} s", _BY_HAND) from error
    except OSError as error:
        raise LabError(f"`{shown}` could not be run: {error.strerror}", _BY_HAND) from error
    complaints = _complaints(ran.stderr)
    if ran.returncode != 0:
        raise LabError(f"`{shown}` failed: {complaints or ran.stdout.strip()[-_COMPLAINTS_MAX:]}", _BY_HAND)
    return complaints


def _complaints(stderr: str) -> str:
    """The errors and warnings in what apt-get said, without what its hooks and the shell say; all if it has none."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(("E: ", "W: "))]
    return "; ".join(marked or lines)[:_COMPLAINTS_MAX]
