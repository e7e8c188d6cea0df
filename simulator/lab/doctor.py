"""EDGE: what the labs need of this machine: tried, not guessed.

Each finding comes from doing the thing in a namespace that is thrown away. Only when it fails are the usual suspects
looked at, to name the cause and a cure that can be pasted.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from simulator import syscalls
from simulator.errors import LabError
from simulator.lab import causes, links, plugins, throwaway
from simulator.model import BACKENDS, ECHOED, MADE, Backend

_PROBE_TIMEOUT_S = 30
_VERSION_TIMEOUT_S = 10

# Tries ENIs of one backend from inside a lab: of model.TRAITS, in this order → why it does not hold, "" if it does.
Attempt: TypeAlias = Callable[[Backend, Path], Mapping[str, str]]
Engine: TypeAlias = Callable[[], None]  # asks a container engine for an answer; raises LabError
_TRIED = "be tried"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Args:
        required: whether ``userns`` does not work without it.
        cause: why it failed, or a remark; "" for none.
        cure: what to do, as a command where there is one; "" for none.
    """

    name: str
    ok: bool
    required: bool
    cause: str = ""
    cure: str = ""

    def __str__(self) -> str:
        mark = "ok" if self.ok else "FAILED" if self.required else "fails (optional)"
        line = f"{mark:>16}  {self.name}" + (f": {self.cause}" if self.cause else "")
        return line if self.ok or not self.cure else f"{line}\n{'':>16}  → {self.cure}"


def diagnose(attempt: Attempt, engine: Engine) -> list[Finding]:
    """Try everything. The list is for people; ``userns`` works if every required finding is ok.

    Args:
        attempt: tries the ENIs of a backend.
        engine: tries the engine of ``docker``.
    """
    if sys.platform != "linux":
        cure = "enim-lab run --lab sim"
        return [Finding("Linux", ok=False, required=True, cause=f"labs need its kernel, not {sys.platform}", cure=cure)]
    found = list(_try_lab())
    if found[0].ok:
        found += _try_backends(attempt)
    binaries = plugins.find()
    for name in plugins.PLUGINS:
        if name in binaries:
            found.append(_try_plugin(binaries[name]))
        else:
            cure = "enim-lab doctor --install"
            found.append(Finding(f"plugin {name}", ok=False, required=True, cause="it is not installed", cure=cure))
    return [*found, _try_engine(engine)]


def _try_lab() -> Iterator[Finding]:
    name = "user, mount, pid and network namespaces, fresh /proc, tmpfs"
    try:
        parts = throwaway.ask(_probe, _PROBE_TIMEOUT_S)
    except throwaway.NoAnswer:
        yield Finding(name, ok=True, required=True)
        yield Finding("the parts of a lab", ok=False, required=True, cause="the probe gave no answer")
        return
    except LabError as error:
        yield _explained(Finding(name, ok=False, required=True, cause=error.cause, cure=error.cure))
        return
    yield Finding(name, ok=True, required=True)
    for one in parts:
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


def _probe(scratch: Path) -> list[dict[str, Any]]:
    """Inside a lab: try its parts; the findings as JSON has them."""
    parts: tuple[tuple[str, Callable[[], None], str], ...] = (
        ("links of the kind bridge", lambda: links.make("b0", "bridge"), "bridge"),
        ("raw ICMP sockets", _open_raw_sockets, "ipv6"),
        ("network namespaces with a name", lambda: _bind_netns(scratch / "netns"), ""),
    )
    found = []
    for name, attempt, module in parts:
        cause = cure = ""
        try:
            attempt()
        except OSError as error:
            cause = error.strerror or str(error)
            if error.errno in {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
                cause, cure = f"the kernel module {module} is not there ({cause})", f"sudo modprobe {module}"
        found.append(Finding(name, ok=not cause, required=True, cause=cause, cure=cure))
    return [asdict(one) for one in found]


def _try_backends(attempt: Attempt) -> Iterator[Finding]:
    """One finding for each, and that the one works which runs take unless they are told another."""
    makeable, working, module_cures = [], [], []
    for backend in BACKENDS:
        is_makeable, traits = _asked(attempt, backend)
        is_ok = not any(refusal for trait, refusal in traits.items() if trait != ECHOED)
        makeable += [backend] if is_makeable else []
        working += [backend] if is_ok else []
        lacks_module = not is_makeable and traits.get(MADE, "").endswith(os.strerror(errno.EOPNOTSUPP))
        cure = f"sudo modprobe -a {' '.join(links.MODULES[backend])}" if lacks_module else ""
        module_cures += [cure] if cure else []
        yield Finding(f"{backend} ENIs", ok=is_ok, required=False, cause=_shown(traits), cure=cure)
    name = "ENIs of the kind that runs take"
    if not makeable:
        cure = module_cures[0] if module_cures else ""
        yield Finding(name, ok=False, required=True, cause="none of these can be made", cure=cure)
        return
    taken, others = makeable[0], ", ".join(backend for backend in working if backend != makeable[0])
    if taken in working:
        cause = f"{taken}; with --backend also {others}" if others else taken
        yield Finding(name, ok=True, required=True, cause=cause)
    else:
        cure = f"enim-lab run --backend {working[0]}" if working else ""
        yield Finding(name, ok=False, required=True, cause=f"{taken}, which cannot do all it must", cure=cure)


def _shown(traits: Mapping[str, str]) -> str:
    """What ENIs can and cannot do, as a sentence without its subject."""
    can = ", ".join(trait for trait, refusal in traits.items() if not refusal)
    cannot = [f"cannot {trait} ({refusal})" for trait, refusal in traits.items() if refusal]
    return "; ".join([f"can {can}", *cannot] if can else cannot)


def _asked(attempt: Attempt, backend: Backend) -> tuple[bool, dict[str, str]]:
    """Whether a backend's links can be made, asked as a run asks it, and what its ENIs can do."""
    is_makeable = False
    try:
        refusal: str = throwaway.ask(lambda _scratch: links.refusals((backend,)), _PROBE_TIMEOUT_S)[backend]
        if refusal:
            return False, {MADE: refusal}
        is_makeable = True
        traits: dict[str, str] = throwaway.ask(lambda scratch: attempt(backend, scratch), _PROBE_TIMEOUT_S)
    except LabError as error:
        return is_makeable, {_TRIED: error.cause}
    return True, traits


def _try_engine(engine: Engine) -> Finding:
    """Whether one answers; whether it can hold a node is only known when it has the image of one."""
    name = "an engine for --lab docker"
    try:
        engine()
    except LabError as error:
        return Finding(name, ok=False, required=False, cause=error.cause, cure=error.cure)
    return Finding(name, ok=True, required=False)


def _open_raw_sockets() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6).close()


def _bind_netns(path: Path) -> None:
    path.touch()
    syscalls.unshare(syscalls.CLONE_NEWNET)
    syscalls.mount("/proc/thread-self/ns/net", str(path), flags=syscalls.MS_BIND)


def _try_plugin(binary: Path) -> Finding:
    """Ask the binary for its versions, which every CNI plugin answers."""
    name = f"plugin {binary.name}"
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
        return Finding(name, ok=False, required=True, cause=cause, cure=cure)
    return Finding(name, ok=True, required=True, cause=f"{binary} speaks {versions}")
