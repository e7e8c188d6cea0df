"""PURE: what strace saw of a plugin process: which of its calls others can see, how to kill it before or after one.

A plugin can be killed wherever it runs, but only what it has done to others makes a difference: what it sent, wrote,
moved or started. So its kill points are the moments before and after each call that another process or the kernel can
see. What nobody can see is a list, and all else is visible: a new call of a plugin is a kill point without our doing.

Rules: a process is killed where it enters a call, and that call does not happen: it gets an error in its place, which
nobody lives to read. "After" a call is where the process enters the next one, whatever that is. strace's ``when=``
counts the calls of one name in one thread. So a process with threads is stepped through instead (``STEPS``): it stops
by itself after each call that counts, and whoever reads the log lets it go on or kills it. There "before" is after the
call before.

Source: strace(1) "Tampering"; ptrace(2) (a SIGKILL at a syscall-enter-stop skips the call); linux/rtnetlink.h.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Moment: TypeAlias = Literal["before", "after"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)

_STOPPED = re.compile(r"^(?:\d+ +)?--- SIGSTOP .*$", re.MULTILINE)
_LINE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<outcome>.*)")
_THREAD = re.compile(r"(?:(\d+) +)?(.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>")
_RESTARTED = re.compile(r"\? ERESTART")
_NOT_DONE = re.compile(r"\?|.*\(INJECTED\)")
_FLAGS = re.compile(r", (?P<flags>0x[0-9a-f]+|0)(?:, [0-7]+)?$")
_REQUEST = re.compile(r"[^,]*, (?P<request>0x[0-9a-f]+)")
_MESSAGE = re.compile(r"nlmsg_type=(?P<type>0x[0-9a-f]+)")

_WAKE_UP = re.compile(
    r'\d+<(pipe|anon_inode|EVENTFD).*, "(\\0|\\1)[^,]*", [18]'
)  # of a runtime with threads, to itself

_FOR_WRITING = 0x3 | 0x40 | 0x200  # O_ACCMODE, O_CREAT, O_TRUNC
_ASKING = {0x5401, 0x540F, 0x5421, 0x5451, 0xB703}  # TCGETS, TIOCGPGRP, FIONBIO, FIOCLEX, NS_GET_NSTYPE

# Options of strace for a process with threads: it stops after each of these calls; its children are left alone.
_STEPPED = "sendto,setns,write"
STEPS = ("-f", "-b", "execve", "-e", f"trace={_STEPPED}", "-e", f"inject={_STEPPED}:signal=STOP")

# What changes nothing outside the process. The end of a process closes its files, whether or not it did so itself.
_PRIVATE = """
    access arch_prctl brk clock_gettime clock_nanosleep close dup dup2 dup3 exit exit_group faccessat faccessat2 fcntl
    fstat futex getcwd getdents64 getegid geteuid getgid getpid getrandom getsockname getsockopt gettid getuid lseek
    lstat madvise memfd_create mmap mprotect mremap munmap newfstatat pipe2 poll ppoll pread64 prlimit64 read readlink
    readlinkat recvfrom recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity set_robust_list
    set_tid_address setsockopt sigaltstack socket stat statx sysinfo uname
""".split()  # noqa: SIM905 -- sixty names are easier to read without quotes
_MESSAGES = {16: "NEWLINK", 18: "GETLINK", 19: "SETLINK", 20: "NEWADDR", 22: "GETADDR", 24: "NEWROUTE", 109: "DELPROP"}
_QUESTIONS = ("netlink GET",)
_FORKS = ("clone", "clone3", "fork", "vfork")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call.

    Args:
        ordinal: it is the process's so many-th of that name, from 1.
        arguments: as strace shows them.
        is_done: False if the process was killed where it entered it.
    """

    name: str
    ordinal: int
    arguments: str
    is_done: bool

    @property
    def is_visible(self) -> bool:
        """Whether another process or the kernel can see that it was done."""
        if self.name in ("open", "openat"):
            found = _FLAGS.search(self.arguments)
            return found is None or bool(int(found["flags"], 0) & _FOR_WRITING)
        if self.name == "ioctl":
            found = _REQUEST.match(self.arguments)
            return found is None or int(found["request"], 0) not in _ASKING
        if self.name == "execve":
            return self.ordinal > 1  # the first one is strace's, and starts the plugin
        if self.name == "write" and _WAKE_UP.fullmatch(self.arguments):
            return False
        return self.name not in _PRIVATE

    @property
    def kind(self) -> str:
        """What it does, for people and for choosing one of each: ``netlink SETLINK``, ``write to stdout`` …"""
        place = self.arguments.partition(",")[0]
        if self.name in ("sendto", "sendmsg") and "<NETLINK" in place:
            found = _MESSAGE.search(self.arguments)
            number = int(found["type"], 0) if found else 0
            return f"netlink {_MESSAGES.get(number, str(number))}"
        if self.name in ("sendto", "sendmsg", "write", "writev") and "<UNIX" in place:
            return "send to the agent"
        if self.name in ("write", "writev"):
            target = {"1": "stdout", "2": "stderr"}.get(place.partition("<")[0], "a file")
            return f"write to {target}"
        return "fork" if self.name in _FORKS else self.name


@dataclass(frozen=True, slots=True)
class KillPoint:
    """A moment just before or just after a visible call.

    Args:
        at: the call where the process is killed as it enters it; the same as ``call`` with moment ``after``: it is
            killed when it has stopped after that.
    """

    call: Call
    moment: Moment
    at: Call

    @property
    def is_step(self) -> bool:
        """Whether the process has to be stepped to this point."""
        return self.moment == "after" and self.at == self.call

    def __str__(self) -> str:
        return f"{self.moment} {self.call.kind} ({self.call.name} {self.call.ordinal})"

    def options(self, signal: str) -> tuple[str, ...]:
        """The options of strace that send ``signal`` (``KILL``, ``TERM``) there.

        A signal may be blocked there; then it arrives with the call that lets it in, which so has to be done.
        """
        if self.is_step:
            return STEPS
        instead = "" if self.at.name == "rt_sigprocmask" else "error=EINTR:"
        return ("-e", f"inject={self.at.name}:{instead}signal={signal}:when={self.at.ordinal}")

    def done(self, clean: Sequence[Call]) -> list[str]:
        """The kinds of the visible calls that the process has done when it is killed here, in order."""
        kinds = [one.kind for one in _once(clean) if clean.index(one) < clean.index(self.call)]
        return [*kinds, self.call.kind] if self.moment == "after" else kinds

    def is_reached(self, clean: Sequence[Call], log: str) -> bool:
        """Whether a process that is stepped through has come here. ``log``: what strace has written until now."""
        return [one.kind for one in _once(parse(log))] == self.done(clean)

    def missed(self, clean: Sequence[Call], log: str, signal: str) -> str:
        """Why a process that was to be killed here was not; "" if it was.

        Args:
            clean: the calls of a run without a kill, from which this point is.
            log: what strace wrote of the run that was to be killed.
            signal: the one that it was killed with.
        """
        if not log.endswith(f"+++ killed by SIG{signal} +++\n"):
            return f"it ended otherwise: {log[-80:].strip()}"
        wanted = self.done(clean)
        done = [one.kind for one in _once(parse(log)) if one.is_done]
        return "" if done == wanted else f"it was killed after {', '.join(done[-3:]) or 'nothing'}"


def strace(log: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The command that a plugin's own is appended to; ``parse`` reads what it writes into the file ``log``."""
    return ("strace", "-q", "-X", "raw", "-yy", "-s", "32", "-o", log, *options)


def parse(text: str) -> tuple[Call, ...]:
    """The calls in the log of ``strace``, in the order in which they ended.

    With ``-f`` a line begins with the thread's id, and a call during which others were active has two: both are put
    together. Then ``ordinal`` counts over all threads.
    """
    counts: Counter[str] = Counter()
    begun: dict[str, str] = {}
    calls = []
    for line in text.splitlines():
        thread, line = _THREAD.fullmatch(line).groups()  # type: ignore[union-attr]  # noqa: PLW2901 -- matches all
        if line.endswith(_UNFINISHED):
            begun[thread] = line.removesuffix(_UNFINISHED)
            continue
        line = _RESUMED.sub(lambda _, thread=thread: begun.pop(thread, ""), line)  # noqa: PLW2901 -- its other half
        found = _LINE.fullmatch(line)
        if found is None:
            continue  # a signal, or the end of the process
        counts[found["name"]] += 1
        if _RESTARTED.match(found["outcome"]):
            continue  # the kernel makes it again, which is a call of its own to strace
        is_done = _NOT_DONE.fullmatch(found["outcome"]) is None
        calls.append(Call(found["name"], counts[found["name"]], found["arguments"], is_done))
    return tuple(calls)


def stop_count(log: str) -> int:
    """How often a process that is stepped through has stopped until now."""
    return len(_STOPPED.findall(log))


def kill_points(calls: Sequence[Call], *, has_threads: bool = False) -> tuple[KillPoint, ...]:
    """Every kill point of a process, from the trace of a run that nothing disturbed.

    Args:
        has_threads: the trace was made with ``STEPS``.

    Raises:
        ValueError: there is none, so this is no trace of a plugin.
    """
    following = dict(itertools.pairwise(calls))
    points = []
    for call in _once(calls):
        if has_threads:
            points.append(KillPoint(call, "after", call))
            continue
        points += [KillPoint(call, "before", call), KillPoint(call, "after", following[call])]
    if not points:
        raise ValueError(f"none of the {len(calls)} calls in the trace can be seen from outside")
    return tuple(points)


def _once(calls: Sequence[Call]) -> list[Call]:
    """The visible calls, but a question to the kernel that is asked again and again only once: how often is chance."""
    found: list[Call] = []
    for call in calls:
        is_again = bool(found) and found[-1].kind == call.kind and call.kind.startswith(_QUESTIONS)
        if call.is_visible and not is_again:
            found.append(call)
    return found
