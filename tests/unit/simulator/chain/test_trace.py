"""What strace's log says: which calls can be seen from outside, and where a process is killed."""

import re

import pytest

from simulator.chain import trace

# As strace 6.1 writes it, with -X raw -yy; some of its lines are shortened.
LOG = """\
execve("/cni/enim", ["/cni/enim"], 0x7ffd48bb4888 /* 41 vars */) = 0
openat(-100</>, "/etc/ld.so.cache", 0x80000) = 3</etc/ld.so.cache>
read(3</etc/ld.so.cache>, "\\177ELF\\2\\1"..., 832) = 832
ioctl(0<pipe:[10997670]>, 0x5401, 0x7ffe15ea0020) = -1 ENOTTY (Inappropriate ioctl for device)
setns(3</mnt/netns/c1>, 0x40000000)     = 0
socket(0x10, 0x80003, 0)                = 5<NETLINK:[10998233]>
setns(4<net:[4026532463]>, 0x40000000)  = 0
sendto(5<NETLINK:[10998233]>, [{nlmsg_len=52, nlmsg_type=0x13, nlmsg_flags=0x5}, "\\x00"], 52, 0, NULL, 0) = 52
recvfrom(5<NETLINK:[10998233]>, [{nlmsg_len=36, nlmsg_type=0x2, nlmsg_flags=0x100}], 65536, 0, NULL, NULL) = 36
connect(3<UNIX-STREAM:[10998248]>, {sa_family=0x1, sun_path="/mnt/agent.sock"}, 24) = 0
sendto(3<UNIX-STREAM:[10998248->10997335]>, "POST /v1/eni?containerID=c1"..., 305, 0, NULL, 0) = 305
openat(-100</>, "/proc/sys/net/ipv6/conf/eth0/disable_ipv6", 0x80002) = 6</proc/sys/net>
pwrite64(6</proc/sys/net>, "0", 1, 0)   = 1
write(1<pipe:[10941055]>, "{\\"cniVersion\\":\\"1.0.0\\""..., 290) = 290
exit_group(0)                           = ?
+++ exited with 0 +++
"""
CALLS = trace.parse(LOG)
VISIBLE = [
    "setns",
    "setns",
    "netlink SETLINK",
    "connect",
    "send to the agent",
    "openat",
    "pwrite64",
    "write to stdout",
]


def call(line: str) -> trace.Call:
    (one,) = trace.parse(line)
    return one


def log_until(name: str, end: str) -> str:
    """The log of a run that was killed at the first call of that name."""
    return LOG[: LOG.index(f"\n{name}(") + 1] + end


def test_parse_counts_calls_by_name() -> None:
    assert [(one.name, one.ordinal) for one in CALLS if one.name in ("setns", "sendto")] == [
        ("setns", 1),
        ("setns", 2),
        ("sendto", 1),
        ("sendto", 2),
    ]


def test_parse_puts_the_halves_of_a_call_together() -> None:
    log = (
        "14    sendto(7<NETLINK:[ROUTE:14]>, [{nlmsg_len=40, nlmsg_type=0x13, <unfinished ...>\n"
        "15    setns(3</mnt/netns/c1>, 0x40000000) = 0\n"
        "15    --- SIGSTOP {si_signo=SIGSTOP, si_code=SI_KERNEL} ---\n"
        "14    <... sendto resumed>nlmsg_flags=0x5}], 40, 0, NULL, 0) = 40\n"
        "14    +++ killed by SIGKILL +++\n"
    )
    assert [(one.kind, one.is_done) for one in trace.parse(log)] == [("setns", True), ("netlink SETLINK", True)]
    assert trace.stops(log) == [15]


def test_stops_are_of_the_threads_that_called_whoever_is_first_in_the_log() -> None:
    child_of_go = "41    +++ exited with 0 +++\n"  # with which it tries whether it may use pidfds
    assert trace.stops(f"{child_of_go}39    --- SIGSTOP {{si_signo=19, si_code=0x80}} ---\n") == [39]


def test_call_that_the_kernel_makes_again_counts_once() -> None:
    again = 'pwrite64(6</proc/sys/net>, "0", 1, 0) = ? ERESTARTNOINTR (To be restarted)\n'
    done = 'pwrite64(6</proc/sys/net>, "0", 1, 0) = 1\n'
    assert [(one.ordinal, one.is_done) for one in trace.parse(again * 2 + done)] == [(1, True)]


def test_visible_is_what_reaches_others() -> None:
    assert [one.kind for one in CALLS if one.is_visible] == VISIBLE


@pytest.mark.parametrize(
    "line",
    [
        'renameat2(-100, "/a", -100, "/b", 0) = 0',
        'unlink("/a") = 0',
        'openat(-100</>, "/run/new", 0x241, 0666) = 3</run/new>',
        "ioctl(3<UDP:[1]>, 0x8914, {ifr_name=eth0}) = 0",
        "clone3({flags=0x4100, exit_signal=17}, 88) = 21",
        "fcntl(3</a>, 0x7, {l_type=0x1, l_whence=0, l_start=0, l_len=0}) = 0",
        "a_call_of_a_later_kernel(1) = 0",
    ],
)
def test_call_that_nobody_thought_of_is_visible(line: str) -> None:
    assert call(line).is_visible


@pytest.mark.parametrize(
    "line",
    [
        'openat(-100</>, "/mnt/netns/c1", 0x80800) = 3</mnt/netns/c1>',
        "ioctl(3</mnt/netns/c1>, 0xb703) = 1073741824 (CLONE_NEWNET)",
        "fcntl(3</a>, 0x406, 5) = 5</a>",
        "fcntl(3</a>, 0, 0) = 5</a>",
        'write(6<pipe:[10942034]>, "\\0", 1) = 1',
        "clone3({flags=0x3d0f00, exit_signal=0, stack=0x7f5e2b1f2000} => {parent_tid=[0]}, 88) = 31",
    ],
)
def test_call_that_changes_nothing_outside_is_private(line: str) -> None:
    assert not call(line).is_visible


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("vfork() = 21", "fork"),
        ("sendto(4<NETLINK:[1]>, [{nlmsg_len=24, nlmsg_type=0x16}], 24, 0, NULL, 0) = 24", "netlink GETADDR"),
        ("sendto(4<NETLINK:[1]>, [{nlmsg_len=24, nlmsg_type=0x99}], 24, 0, NULL, 0) = 24", "netlink 153"),
        ('write(2<pipe:[7]>, "enim: "..., 90) = 90', "write to stderr"),
        ('write(5</memfd:stdin>(deleted), "{"..., 200) = 200', "write to a file"),
        ('openat(-100</>, "/mnt/enim.log", 0x80d41, 0640) = 5</mnt/enim.log>', "open the log"),
        ("flock(5</mnt/enim.log>, 0x2) = 0", "lock the log"),
        ('write(5</mnt/enim.log>, "time="..., 200) = 200', "write to the log"),
        ('connect(5<UNIX:[7]>, {sa_family=0x1, sun_path="/dev/log"}, 11) = 0', "connect to the log"),
        ('sendto(5<UNIX:[7->8]>, "<174>Nov"..., 250, 0, NULL, 0) = 250', "write to the log"),
    ],
)
def test_kind_says_what_a_call_does(line: str, kind: str) -> None:
    assert call(line).kind == kind


def test_kill_points_are_before_and_after_each_visible_call() -> None:
    points = trace.kill_points(CALLS)
    assert [str(point) for point in points[4:6]] == [
        "before netlink SETLINK (sendto 1)",
        "after netlink SETLINK (sendto 1)",
    ]
    assert [point.call.kind for point in points[::2]] == VISIBLE
    assert [point.options("KILL")[1] for point in points[4:6]] == [
        "inject=sendto:error=EINTR:signal=KILL:when=1",
        "inject=recvfrom:error=EINTR:signal=KILL:when=1",
    ]


def test_question_that_is_repeated_has_kill_points_once() -> None:
    ask = "sendto(4<NETLINK:[1]>, [{nlmsg_len=24, nlmsg_type=0x16}], 24, 0, NULL, 0) = 24\n"
    points = trace.kill_points(trace.parse(ask * 3 + "exit_group(0) = ?\n"))
    assert [str(point) for point in points] == ["before netlink GETADDR (sendto 1)", "after netlink GETADDR (sendto 1)"]


def test_signal_that_is_blocked_comes_with_the_call_that_lets_it_in() -> None:
    log = "clone3({flags=0x4100}, 88) = 21\nrt_sigprocmask(0x2, [], NULL, 8) = 0\n"
    after = trace.kill_points(trace.parse(log))[1]
    assert after.options("TERM")[1] == "inject=rt_sigprocmask:signal=TERM:when=1"


def test_trace_without_a_visible_call_is_none() -> None:
    with pytest.raises(ValueError, match="none of the 1 calls in the trace can be seen from outside"):
        trace.kill_points(trace.parse("exit_group(0) = ?\n"))


def test_kill_before_a_call_is_a_run_in_which_it_did_not_happen() -> None:
    before, after = trace.kill_points(CALLS)[6:8]
    killed = log_until("connect", "connect(3, {sa_family=0x1}, 24) = ?\n+++ killed by SIGKILL +++\n")
    assert before.missed(CALLS, killed, "KILL") == ""
    assert after.missed(CALLS, killed, "KILL") == "it was killed after setns, setns, netlink SETLINK"


def test_kill_after_a_call_is_a_run_in_which_it_was_the_last() -> None:
    before, after = trace.kill_points(CALLS)[8:10]
    entering = 'openat(-100</>, "/proc/sys", 0x80002) = -1 EINTR (Interrupted system call) (INJECTED)\n'
    end = f"{entering}--- SIGTERM {{si_signo=15}} ---\n+++ killed by SIGTERM +++\n"
    killed = LOG[: LOG.index('openat(-100</>, "/proc/sys')] + end
    assert after.missed(CALLS, killed, "TERM") == ""
    assert before.missed(CALLS, killed, "TERM") != ""
    assert after.missed(CALLS, killed, "KILL") == f"it ended otherwise: {killed[-80:].strip()}"


def test_step_is_reached_after_its_call_only() -> None:
    points = trace.kill_points(CALLS, has_threads=True)
    assert [point.call.kind for point in points] == VISIBLE
    reached = [point for point in points if point.is_reached(CALLS, log_until("connect", ""))]
    assert [str(point) for point in reached] == ["after netlink SETLINK (sendto 1)"]
    assert (reached[0].is_step, reached[0].options("KILL")) == (True, trace.STEPS)


# The second thread connects while the first one has the kernel move a NIC; then the first one starts a child.
THREADS = """\
7     execve("/cni/enim", ["/cni/enim"], 0x7ffd48bb4888 /* 41 vars */) = 0
7     close(3</etc/ld.so.cache>)        = 0
7     rt_sigprocmask(0, ~[], [], 8)     = 0
7     clone3({flags=0x3d0f00, exit_signal=0, stack_size=0x7fff80}, 88 <unfinished ...>
8     set_robust_list(0x7f61d43ff9a0, 24) = 0
7     <... clone3 resumed> => {parent_tid=[8]}, 88) = 8
7     sendto(5<NETLINK:[1]>, [{nlmsg_len=52, nlmsg_type=0x13, <unfinished ...>
8     futex(0x7f61d4e6f0, 0x81, 1)      = 1
8     connect(3<UNIX-STREAM:[2]>, {sa_family=0x1, sun_path="/mnt/agent.sock"}, 24) = 0
8     close(4<UNIX-STREAM:[3]>)         = 0
8     madvise(0x7f61d3c00000, 8368128, 0x4) = 0
8     exit(0)                           = ?
8     +++ exited with 0 +++
7     <... sendto resumed>nlmsg_flags=0x5}], 52, 0, NULL, 0) = 52
7     futex(0x7f61d4e748, 0x189, 0, NULL, 0xffffffff) = 0
7     sendto(3<UNIX-STREAM:[2->4]>, "DELETE /v1/eni?con"..., 305, 0, NULL, 0) = 305
7     clone3({flags=0x4100, exit_signal=17}, 88 <unfinished ...>
9     connect(6<UNIX-STREAM:[5]>, {sa_family=0x1, sun_path="/a/child's"}, 24) = 0
9     execve("/cni/enim", ["/cni/enim"], 0x7ffd48bb4888 /* 41 vars */ <unfinished ...>
7     <... clone3 resumed>)             = 9
7     exit_group(0)                     = ?
7     +++ exited with 0 +++
"""


def test_thread_counts_its_own_calls_and_a_child_is_another_process() -> None:
    calls = trace.parse(THREADS)
    assert [(one.thread, one.name, one.ordinal) for one in calls if one.name in ("futex", "connect", "close")] == [
        (0, "close", 1),
        (1, "futex", 1),
        (1, "connect", 1),
        (1, "close", 1),
        (0, "futex", 1),
    ]


def test_kill_waits_for_a_call_that_no_other_thread_comes_to() -> None:
    points = trace.kill_points(trace.parse(THREADS))
    aims = {str(point): (point.at.name, point.at.ordinal) for point in points}
    assert aims == {
        "before netlink SETLINK (sendto 1)": ("sendto", 1),
        "after netlink SETLINK (sendto 1)": ("sendto", 2),  # how often it waits with futex is chance
        "before send to the agent (sendto 2)": ("sendto", 2),
        "after send to the agent (sendto 2)": ("clone3", 2),
        "before fork (clone3 2)": ("clone3", 2),
        "after fork (clone3 2)": ("exit_group", 1),
        "before connect (connect 1, thread 2)": ("connect", 1),
        "after connect (connect 1, thread 2)": ("madvise", 1),  # the first thread comes to a close, too
    }


def test_kill_that_can_be_aimed_at_no_call_stops_the_process_first() -> None:
    lasting = re.sub(r"8     (exit|\+\+\+).*\n", "", THREADS.replace("8     madvise", "8     rt_sigprocmask"))
    calls = trace.parse(lasting)
    (after,) = [point for point in trace.kill_points(calls) if str(point).startswith("after connect")]
    assert (after.is_step, after.options("KILL")) == (True, ("-e", "inject=close:signal=STOP:when=1"))
    until = THREADS.index("8     madvise")
    assert not after.is_reached(calls, THREADS[: THREADS.index("8     connect")])
    assert after.is_reached(calls, THREADS[:until])


def test_where_other_threads_are_is_chance_but_not_what_they_do() -> None:
    calls = trace.parse(THREADS)
    after = next(point for point in trace.kill_points(calls) if str(point).startswith("after netlink SETLINK"))
    killed = THREADS[: THREADS.index("7     sendto(3<")] + "7     sendto(3, 0) = ?\n7     +++ killed by SIGKILL +++\n"
    second = [line for line in killed.splitlines(keepends=True) if line.startswith("8     ")]
    without = "".join(line for line in killed.splitlines(keepends=True) if line not in second[2:])
    assert [after.missed(calls, log, "KILL") for log in (killed, without)] == ["", ""]
    other = killed.replace("8     madvise", "8     unlink")
    assert after.missed(calls, other, "KILL") == "thread 2 made other calls: connect, unlink"
