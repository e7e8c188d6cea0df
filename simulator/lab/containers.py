"""EDGE: the container engine, as far as the docker lab needs one: images, node containers, and what runs have left.

Rules: every container carries the run and its runner in labels; it removes itself when its first process ends, and
that process ends when the stream to its runner does. So a killed runner leaves nothing but what the engine had no time
to start, and ``sweep`` finds that by its labels. Nothing without these labels is ever touched.

Works with any engine that DOCKER_HOST names by unix:// or tcp://, on this machine or another one: nothing is shared
with a container but its standard streams.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import docker
import docker.errors
import requests
from docker.utils import socket as streams

from simulator.errors import LabError

RUN, RUNNER = "io.enim.run", "io.enim.runner"
SCRATCH = "/mnt"

_TIMEOUT_S = 120
_SAID_MAX = 2000
_PART_BYTES = 1 << 20
_REMOVAL_S = 10.0
_ENDING_S = 1.0
_STDOUT = 1
_CURE = (
    "Start one (`sudo systemctl start docker`), set DOCKER_HOST to one that runs, or be in the group docker; "
    "`--lab userns` needs none"
)
# From the widest to the narrowest; the first that this engine can start is taken. An engine inside a sandbox cannot
# give what it does not have, mostly CAP_SYS_RESOURCE, which no node needs.
_UNCONFINED = ["seccomp=unconfined", "apparmor=unconfined"]
_POWERS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("privileged", {"privileged": True}),
    ("all capabilities", {"cap_add": ["ALL"], "security_opt": _UNCONFINED}),
    (
        "all capabilities but SYS_RESOURCE",
        {"cap_add": ["ALL"], "cap_drop": ["SYS_RESOURCE"], "security_opt": _UNCONFINED},
    ),
)


@dataclass(frozen=True, slots=True)
class Runner:
    """The process that a container works for, as a label tells it.

    Args:
        host: the boot and the pid namespace that ``pid`` counts in.
        started: the process's start, in clock ticks since boot; it tells a pid that was used again.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Runner:
        """This process."""
        return cls(_host(), os.getpid(), _started(os.getpid()))

    @classmethod
    def read(cls, label: str) -> Runner:
        """What ``str`` has written; one that is nowhere if it cannot be read."""
        host, pid, started = [*label.split(" "), "", "", ""][:3]
        return cls(host, int(pid) if pid.isdecimal() else 0, started)

    def __str__(self) -> str:
        return f"{self.host} {self.pid} {self.started}"

    def is_dead(self) -> bool:
        """Whether it is known to have ended. Of another machine's processes nothing is known."""
        return self.host == _host() and _started(self.pid) != self.started


def _host() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return f"{socket.gethostname()}/"


def _started(pid: int) -> str:
    """Source: proc(5), /proc/pid/stat, field 22. "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self").exists() or pid == 0:
        return ""
    try:  # not Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


class Container:
    """A container that runs. ``channel`` is the runner's end of its standard streams, as one stream of bytes."""

    def __init__(self, engine: Engine, container: str, attached: Any) -> None:
        self._engine = engine
        self._id = container
        self._attached = attached  # the response that the stream belongs to
        self._stream = socket.socket(fileno=os.dup(attached.fileno()))
        self._stream.setblocking(True)  # noqa: FBT003 - the standard library's own signature
        self._said = b""
        self.channel, self._ours = socket.socketpair()
        self._carriers = [threading.Thread(target=carry, daemon=True) for carry in (self._carry_in, self._carry_out)]
        for carrier in self._carriers:
            carrier.start()

    def said(self) -> str:
        """The end of what it has written to standard error."""
        return self._said.decode(errors="replace").strip()

    def has_ended(self) -> bool:
        """Whether it has closed its standard output, or closes it in this moment."""
        self._carriers[1].join(_ENDING_S)
        return not self._carriers[1].is_alive()

    def close(self) -> None:
        """End the container, and return when it is gone. Repeating it does nothing."""
        if not self._id:
            return
        container, self._id = self._id, ""
        for one in (self._stream, self._ours):
            with contextlib.suppress(OSError):  # the other end was quicker
                one.shutdown(socket.SHUT_RDWR)
        self._engine.remove(container)
        for carrier in self._carriers:
            carrier.join()
        for one in (self._stream, self._ours, self.channel, self._attached):
            one.close()

    def _carry_in(self) -> None:
        with contextlib.suppress(OSError):  # the container is gone
            while data := self._ours.recv(65536):
                self._stream.sendall(data)
        with contextlib.suppress(OSError):  # the same
            self._stream.shutdown(socket.SHUT_WR)

    def _carry_out(self) -> None:
        with contextlib.suppress(OSError, streams.SocketError):  # the engine or the runner is gone
            frames: Any = streams.frames_iter  # which has no types
            for stream, data in frames(self._stream, tty=False):
                if stream == _STDOUT:
                    self._ours.sendall(data)
                else:
                    self._said = (self._said + data)[-_SAID_MAX:]
        with contextlib.suppress(OSError):  # closed at the same moment
            self._ours.shutdown(socket.SHUT_WR)


class Engine:
    """A connection to the engine that DOCKER_HOST names, else the usual socket.

    A process that forks needs one of its own afterwards.

    Raises (the constructor and every method): LabError with what the engine said.
    """

    def __init__(self) -> None:
        try:
            self._client = docker.from_env(timeout=_TIMEOUT_S)
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError, ValueError) as error:
            where = os.environ.get("DOCKER_HOST") or "its usual socket"
            raise LabError(f"no Docker engine answers at {where} ({_text(error)})", _CURE) from error
        self._api: Any = self._client.api

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def has(self, image: str) -> bool:
        """Whether the engine has an image of this name."""
        with _asking(f"to look for the image {image}"):
            try:
                self._api.inspect_image(image)
            except docker.errors.ImageNotFound:
                return False
        return True

    def pull(self, repository: str, tag: str) -> None:
        """Get an image from its registry."""
        with _asking(f"to pull {repository}:{tag}"):
            self._api.pull(repository, tag)

    def import_root(self, archive: Path, repository: str, tag: str) -> None:
        """Make an image of one layer from a tar archive of a root file system."""
        with _asking(f"to import {repository}:{tag}"), archive.open("rb") as data:
            parts = iter(lambda: data.read(_PART_BYTES), b"")  # the SDK announces chunks, and sends a file without any
            self._api.import_image_from_stream(parts, repository=repository, tag=tag)
        if not self.has(f"{repository}:{tag}"):
            raise LabError(f"the engine imported {repository}:{tag} and does not have it", "Is its disk full?")

    def build(self, context: bytes, tag: str, tell: Callable[[str], None], network: str) -> None:
        """Build an image from a tar archive with a Dockerfile.

        Args:
            tell: given the engine's own lines.
            network: of what the Dockerfile runs: "none" or "host".
        """
        with _asking(f"to build {tag}"):
            said = self._api.build(
                fileobj=io.BytesIO(context), custom_context=True, tag=tag, rm=True, forcerm=True, decode=True,
                network_mode=network, labels={RUN: "image"},
            )  # fmt: skip
            for one in said:
                if "error" in one:
                    raise LabError(f"the engine could not build {tag}: {str(one['error'])[-500:].strip()}")
                if text := str(one.get("stream", "")).strip():
                    tell(text)

    def start(self, image: str, command: Sequence[str], power: str, run: Mapping[str, str]) -> Container:
        """A container without a network, with a tmpfs at ``SCRATCH``, that ends when its standard input does.

        Args:
            power: what ``power`` has returned.
            run: the labels, see ``labels``.
        """
        with _asking(f"to start a container of {image}"):
            limits = self._api.create_host_config(
                network_mode="none",
                auto_remove=True,
                tmpfs={SCRATCH: "exec,nosuid,nodev,mode=0755"},
                log_config={"Type": "none"},
                **dict(_POWERS)[power],
            )
            limits |= {"MaskedPaths": [], "ReadonlyPaths": []}  # what `systempaths=unconfined` of the command line does
            made = self._api.create_container(
                image, list(command), stdin_open=True, host_config=limits, labels=dict(run), hostname="enim-node"
            )["Id"]
            try:
                attached = self._api.attach_socket(made, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
                self._api.start(made)
            except BaseException:
                self.remove(made)
                raise
        return Container(self, made, attached)

    def ask(self, image: str, command: Sequence[str], power: str, run: Mapping[str, str]) -> bytes:
        """What a program in a container of its own prints; arguments as of ``start``. Raises LabError if nothing."""
        container = self.start(image, command, power, run)
        try:
            container.channel.settimeout(_TIMEOUT_S)
            with container.channel.makefile("rb") as stream:
                printed = stream.read()
        finally:
            container.close()
        if not printed:
            raise LabError(
                f"`{' '.join(command)}` printed nothing in a container; it said: {container.said() or 'nothing'}"
            )
        return printed

    def power(self, image: str, run: Mapping[str, str]) -> str:
        """How privileged a container this engine can start, found by trying: a name for ``start``."""
        refused = []
        for power, _ in _POWERS:
            try:
                self.start(image, ["true"], power, run).close()
            except LabError as error:
                refused.append(f"{power}: {error.cause}")
            else:
                return power
        raise LabError(f"the engine starts no container that can be a node ({'; '.join(refused)})", _CURE)

    def remove(self, container: str) -> None:
        """End a container and return when it is gone, whoever removes it."""
        with _asking(f"to remove the container {container[:12]}"):
            with contextlib.suppress(docker.errors.NotFound):
                try:
                    self._api.remove_container(container, force=True, v=True)
                except docker.errors.APIError as error:
                    if error.status_code != requests.codes.conflict:  # 409: it removes itself already
                        raise
            deadline = time.monotonic() + _REMOVAL_S
            with contextlib.suppress(docker.errors.NotFound):
                while time.monotonic() < deadline:
                    self._api.inspect_container(container)
                    time.sleep(0.01)
                raise LabError(f"the container {container[:12]} is not gone after {_REMOVAL_S:.0f} s")

    def containers(self) -> dict[str, Runner]:
        """The containers of all runs, in whatever state, by their ids: for whom they work."""
        with _asking("for its containers"):
            found = self._api.containers(all=True, filters={"label": [RUN, RUNNER]})
        return {one["Id"]: Runner.read(one["Labels"][RUNNER]) for one in found}

    def sweep(self, *, everything: bool) -> int:
        """Remove the containers of runs whose runner is dead, or of all runs; return how many."""
        doomed = [one for one, runner in self.containers().items() if everything or runner.is_dead()]
        for container in doomed:
            self.remove(container)
        return len(doomed)


def labels() -> Mapping[str, str]:
    """The labels of a new run of this process."""
    return MappingProxyType({RUN: uuid.uuid4().hex[:12], RUNNER: str(Runner.here())})


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    try:
        yield
    except docker.errors.DockerException as error:
        raise LabError(f"the engine was asked {what} and said: {_text(error)}") from error
    except (requests.exceptions.RequestException, OSError) as error:
        raise LabError(f"the engine was asked {what} and is gone ({_text(error)})", _CURE) from error


def _text(error: Exception) -> str:
    """What the engine said, else what the kernel said at the bottom of the libraries' errors, else the error."""
    said = getattr(error, "explanation", None)
    below: BaseException | None = error
    while not said and below is not None:
        said = below.strerror if isinstance(below, OSError) else None
        below = below.__cause__ or below.__context__
    return " ".join(str(said or error).split())[:256]
