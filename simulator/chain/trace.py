"""PURE: what strace saw of a plugin process: which of its calls others can see, how to kill it before or after one.

A plugin can be killed wherever it runs, but only what it has done to others makes a difference: what it sent, wrote,
moved or started. So its kill points are the moments before and after each call that another process or the kernel can
see. What nobody can see is a list, and all else is visible: a new call of a plugin is a kill point without our doing.

Rules: a process is killed where it enters a call, and that call does not happen: it gets an error in its place, which
nobody lives to read. "After" a call is where the process enters the next one, whatever that is. A child that it starts
is another process, which is traced no further than its exec.

Threads: each has calls and kill points of its own; where the others are when one is killed is chance. strace's
``when=`` counts the calls of one name in each thread, so a kill waits for a call that no other thread comes to, which
is as good as any between the same two visible ones. Where there is none, the process is stopped after such a call, and
whoever reads the log lets it go on or kills it. Go's threads are interchangeable: all that they do is taken for one
thread's, and the process is stepped through (``STEPS``): it stops by itself after each call that counts. There
"before" is after the call before.

Source: strace(1) "Tampering"; ptrace(2) (a SIGKILL at a syscall-enter-stop skips the call); linux/rtnetlink.h.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Moment: TypeAlias = Literal["before", "after"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)

FIRST = 0  # the thread that a process starts with

_STOPPED = re.compile(r"^(\d+) +--- SIGSTOP .*$", re.MULTILINE)
_LINE = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<outcome>.*)")
_TASK = re.compile(r"(?:(\d+) +)?(.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = re.compile(r"^<\.\.\. \w+ resumed>")
_RESTARTED = re.compile(r"\? ERESTART")
_NOT_DONE = re.compile(r"\?|.*\(INJECTED\)")
_FLAGS = re.compile(r", (?P<flags>0x[0-9a-f]+|0)(?:, [0-7]+)?$")
_REQUEST = re.compile(r"[^,]*, (?P<request>0x[0-9a-f]+|0)\b")
_MESSAGE = re.compile(r"nlmsg_type=(?P<type>0x[0-9a-f]+)")

_WAKE_UP = re.compile(
    r'\d+<(pipe|anon_inode|EVENTFD).*, "(\\0|\\1)[^,]*", [18]'
)  # of a runtime with threads, to itself

_CLONE = re.compile(r"\b(?:clone3?|v?fork)\(")
_CLONE_FLAGS = re.compile(r"\bflags=(?P<flags>0x[0-9a-f]+)")
_CLONE_THREAD = 0x10000

_LOG = re.compile(r'\.log[">]|"/dev/log"|<UNIX(?:-DGRAM)?:')  # a plugin's log file, or the log of the system

_FOR_WRITING = 0x3 | 0x40 | 0x200  # O_ACCMODE, O_CREAT, O_TRUNC
# Of a call with commands those that only ask, or are about the process's own descriptors: but none that locks.
_ASKING = {
    "ioctl": {0x5401, 0x540F, 0x5421, 0x5450, 0x5451, 0xB703},  # TCGETS, TIOCGPGRP, FIONBIO, FIO(N)CLEX, NS_GET_NSTYPE
    "fcntl": {0, 1, 2, 3, 4, 1030},  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
}

# Options of strace for a process whose threads are interchangeable: it stops after each of these calls.
_STEPPED = "sendto,setns,unshare,write"
STEPS = ("-e", f"trace={_STEPPED}", "-e", f"inject={_STEPPED}:signal=STOP")

# What changes nothing outside the process. The end of a process closes its files, whether or not it did so itself.
_PRIVATE = """
    access arch_prctl brk clock_gettime clock_nanosleep close dup dup2 dup3 exit exit_group faccessat faccessat2 fstat
    futex getcwd getdents64 getegid geteuid getgid getpeername getpid getrandom getsockname getsockopt gettid getuid
    lseek lstat madvise memfd_create mmap mprotect mremap munmap newfstatat pipe2 poll ppoll pread64 prlimit64 read
    readlink readlinkat recvfrom recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield
    set_robust_list set_tid_address setsockopt sigaltstack socket stat statx sysinfo uname
""".split()  # noqa: SIM905 -- sixty names are easier to read without quotes
_MESSAGES = {16: "NEWLINK", 18: "GETLINK", 19: "SETLINK", 20: "NEWADDR", 22: "GETADDR", 24: "NEWROUTE", 109: "DELPROP"}
_QUESTIONS = ("netlink GET",)
_ON_A_LOG = {
    "open": "open",
    "openat": "open",
    "connect": "connect to",
    "fcntl": "lock",
    "flock": "lock",
    "sendto": "write to",
    "write": "write to",
}
_FORKS = ("clone", "clone3", "fork", "vfork")
_ENDS = ("exit", "exit_group")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call.

    Args:
        ordinal: it is its thread's so many-th of that name, from 1.
        arguments: as strace shows them.
        is_done: False if the process was killed where it entered it.
        thread: which one made it, in the order in which they were started.
    """

    name: str
    ordinal: int
    arguments: str
    is_done: bool
    thread: int = FIRST

    @property
    def is_visible(self) -> bool:
        """Whether another process or the kernel can see that it was done."""
        if self.name in ("open", "openat"):
            found = _FLAGS.search(self.arguments)
            return found is None or bool(int(found["flags"], 0) & _FOR_WRITING)
        if self.name in _ASKING:
            found = _REQUEST.match(self.arguments)
            return found is None or int(found["request"], 0) not in _ASKING[self.name]
        if self.name == "execve":
            return self.ordinal > 1  # the first one is strace's, and starts the plugin
        if self.name == "write" and _WAKE_UP.fullmatch(self.arguments):
            return False
        if self.name in _FORKS:
            return not _starts_thread(self.arguments)
        return self.name not in _PRIVATE

    @property
    def kind(self) -> str:
        """What it does, for people and for choosing one of each: ``netlink SETLINK``, ``write to stdout`` …"""
        place = self.arguments.partition(",")[0]
        if self.name in ("sendto", "sendmsg") and "<NETLINK" in place:
            found = _MESSAGE.search(self.arguments)
            number = int(found["type"], 0) if found else 0
            return f"netlink {_MESSAGES.get(number, str(number))}"
        if self.name in _ON_A_LOG and _LOG.search(self.arguments):
            return f"{_ON_A_LOG[self.name]} the log"
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
        at: the call where the process is killed as it enters it, or stopped after it.
        is_step: it is stopped after it, and killed by who reads the log.
    """

    call: Call
    moment: Moment
    at: Call
    is_step: bool = False

    def __str__(self) -> str:
        thread = f", thread {self.call.thread + 1}" if self.call.thread else ""
        return f"{self.moment} {self.call.kind} ({self.call.name} {self.call.ordinal}{thread})"

    def options(self, signal: str) -> tuple[str, ...]:
        """The options of strace that send ``signal`` (``KILL``, ``TERM``) there, or stop the process.

        A signal may be blocked there; then it arrives with the call that lets it in, which so has to be done.
        """
        if self.is_step:
            return (
                STEPS if self.at == self.call else ("-e", f"inject={self.at.name}:signal=STOP:when={self.at.ordinal}")
            )
        instead = "" if self.at.name == "rt_sigprocmask" else "error=EINTR:"
        return ("-e", f"inject={self.at.name}:{instead}signal={signal}:when={self.at.ordinal}")

    def done(self, clean: Sequence[Call]) -> list[str]:
        """The kinds of the visible calls that its thread has done when it is killed here, in order."""
        own = [call for call in clean if call.thread == self.call.thread]
        kinds = [one.kind for one in _once(own) if own.index(one) < own.index(self.call)]
        return [*kinds, self.call.kind] if self.moment == "after" else kinds

    def is_reached(self, clean: Sequence[Call], log: str) -> bool:
        """Whether a process that has stopped has come here. ``log``: what strace has written until now."""
        return _done(parse(log), self.call.thread) == self.done(clean)

    def missed(self, clean: Sequence[Call], log: str, signal: str) -> str:
        """Why a process that was to be killed here was not; "" if it was.

        Args:
            clean: the calls of a run without a kill, from which this point is.
            log: what strace wrote of the run that was to be killed.
            signal: the one that it was killed with.
        """
        if not log.endswith(f"+++ killed by SIG{signal} +++\n"):
            return f"it ended otherwise: {log[-80:].strip()}"
        killed = parse(log)
        done = _done(killed, self.call.thread)
        if done != self.done(clean):
            return f"it was killed after {', '.join(done[-3:]) or 'nothing'}"
        for thread in {call.thread for call in killed}:
            others, whole = _done(killed, thread), _done(clean, thread)
            if others != whole[: len(others)]:
                return f"thread {thread + 1} made other calls: {', '.join(others[-3:])}"
        return ""


def strace(log: str, options: Sequence[str] = ()) -> tuple[str, ...]:
    """The command that a plugin's own is appended to; ``parse`` reads what it writes into the file ``log``."""
    return ("strace", "-f", "-b", "execve", "-q", "-X", "raw", "-yy", "-s", "32", "-o", log, *options)


def parse(text: str) -> tuple[Call, ...]:
    """The calls of one process in the log of ``strace``, in the order in which they ended.

    With ``-f`` a line begins with a thread's id, or that of a child, whose calls are not the process's.
    """
    found = [(task, match) for task, line in _whole(text) if (match := _LINE.fullmatch(line))]
    threads = _threads(found, text)
    counts: Counter[tuple[int, str]] = Counter()
    calls = []
    for task, match in found:
        if task not in threads:
            continue
        if _RESTARTED.match(match["outcome"]):
            continue  # the kernel makes it again, which is a call of its own to strace; how often is chance
        key = thread, name = threads[task], match["name"]
        counts[key] += 1
        is_done = _NOT_DONE.fullmatch(match["outcome"]) is None
        calls.append(Call(name, counts[key], match["arguments"], is_done, thread))
    return tuple(calls)


def _whole(text: str) -> Iterator[tuple[str, str]]:
    """Whose each line is, and the line. A call during which others were active has two: both are put together."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        task, rest = _TASK.fullmatch(line).groups()  # type: ignore[union-attr] # it matches all
        if rest.endswith(_UNFINISHED):
            begun[task] = rest.removesuffix(_UNFINISHED)
        else:
            yield task, _RESUMED.sub(lambda _, task=task: begun.pop(task, ""), rest)  # its other half


def _threads(found: Sequence[tuple[str, re.Match[str]]], text: str) -> dict[str, int]:
    """The ids of the process's threads. A log in which nothing is started is one of ``STEPS``: all are one thread."""
    if not _CLONE.search(text):
        return {task: FIRST for task, _ in found}
    threads = {found[0][0]: FIRST}
    for _, match in found:
        if match["name"] in _FORKS and _starts_thread(match["arguments"]):
            threads.setdefault(match["outcome"], len(threads))
    return threads


def _starts_thread(arguments: str) -> bool:
    found = _CLONE_FLAGS.search(arguments)
    return found is not None and bool(int(found["flags"], 0) & _CLONE_THREAD)


def stops(log: str) -> list[int]:
    """The ids of the threads after whose calls a process that is stepped through has stopped until now."""
    return list(map(int, _STOPPED.findall(log)))


def kill_points(calls: Sequence[Call], *, has_threads: bool = False) -> tuple[KillPoint, ...]:
    """Every kill point of a process, from the trace of a run that nothing disturbed.

    Args:
        has_threads: they are interchangeable; the trace was made with ``STEPS``.

    Raises:
        ValueError: there is none, so this is no trace of a plugin; or none can be aimed at.
    """
    points: list[KillPoint] = []
    for thread in sorted({call.thread for call in calls}):
        own = [call for call in calls if call.thread == thread]
        visible = _once(own)
        if has_threads:
            points += [KillPoint(call, "after", call, is_step=True) for call in visible]
            continue
        places = [-1, *map(own.index, visible), len(own)]
        for number, call in enumerate(visible, start=1):
            earlier, place, later = places[number - 1 : number + 2]
            points.append(_aimed(call, "before", own[earlier + 1 : place + 1][::-1], calls))
            points.append(_aimed(call, "after", own[place + 1 : later + 1], calls))
    if not points:
        raise ValueError(f"none of the {len(calls)} calls in the trace can be seen from outside")
    return tuple(points)


def _aimed(call: Call, moment: Moment, between: Sequence[Call], calls: Sequence[Call]) -> KillPoint:
    """The kill point, where one of the calls is entered between which it makes no difference; the first is best."""
    threads = {one.thread for one in calls}
    rivals = {(one.name, one.ordinal) for one in calls if one.thread != call.thread}
    steady = [one for one in between if len(threads) == 1 or one.name != "futex"]  # how many of these is chance
    for one in steady:
        if (one.name, one.ordinal) not in rivals:
            return KillPoint(call, moment, one)
    for one in steady:
        if not one.is_visible and one.name not in _ENDS:
            return KillPoint(call, moment, one, is_step=True)
    raise ValueError(f"nothing can be aimed at {moment} the {call.kind} of thread {call.thread + 1}")


def _once(calls: Sequence[Call]) -> list[Call]:
    """The visible calls, but a question to the kernel that is asked again and again only once: how often is chance."""
    found: list[Call] = []
    for call in calls:
        is_again = bool(found) and found[-1].kind == call.kind and call.kind.startswith(_QUESTIONS)
        if call.is_visible and not is_again:
            found.append(call)
    return found


def _done(calls: Sequence[Call], thread: int) -> list[str]:
    """The kinds of the visible calls that a thread has done."""
    return [one.kind for one in _once([call for call in calls if call.thread == thread]) if one.is_done]
