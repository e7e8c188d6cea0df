"""Errors of the plugins: the coded error that reaches the runtime, and what the outside does to a flow.

A ``CniError`` is what a runtime reads on stdout; once coded, an error is never wrapped again.
``WireError`` is about the agent's words; the other three are outcomes that a driver throws into a flow at a yield.

Source: CNI SPEC section 5 "Error" (codes below 100 are the specification's), libcni ``pkg/types`` (8 and 999).
"""

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
INTERNAL = 999

REFUSED = 100  # the agent refused: this container already holds an ENI under another interface or network
AGENT_FAILURE = 101  # the agent answered an error that a retry does not cure
BAD_AGENT_REPLY = 102  # the agent answered something that is not an allocation
NOT_GRANTED = 103  # the agent's addresses do not satisfy the requested ones
WRONG_DEVICE = 104  # the ENI of the answer is not where it must be, or not the NIC that the upper plugin moved
LINK_FAILURE = 105  # the kernel refused to move, rename or configure the NIC
DELEGATE_FAILURE = 106  # the delegated plugin could not be run or did not speak CNI
CHANGED = 107  # CHECK: what ADD made is not there any more


class CniError(Exception):
    """One error object of CNI SPEC section 5.

    Args:
        code: see the constants of this module.
        msg: one sentence: what was wrong, and with what.
        details: what an operator needs besides, such as the raw text of the agent; may be empty.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(code, msg, details)
        self.code = code
        self.msg = msg
        self.details = details


def coded(failure: Exception) -> Exception:
    """The CniError that an outcome of the kernel or the system is; anything else stays what it is."""
    if isinstance(failure, KernelError):
        return CniError(LINK_FAILURE, f"cannot {failure.operation}"[:256], failure.text[:256])
    if isinstance(failure, OSError):
        return CniError(IO_FAILURE, "the operating system refused what the plugin needs", str(failure)[:256])
    return failure


class WireError(Exception):
    """The peer broke the protocol.

    Args:
        status: what a server answers to it; 502 where a reply is what was broken.
        text: one sentence.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


class Unreachable(Exception):
    """The agent's socket could not be connected: nothing was sent, so a retry is safe."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(errno, text)
        self.errno = errno
        self.text = text


class Interrupted(Exception):
    """The request may have been received, but no whole answer came: the outcome is unknown."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class KernelError(Exception):
    """The kernel refused an operation on a link or a network namespace.

    Args:
        operation: what was tried, with its object, for example ``move eth0 out of /run/netns/p1``.
        errno: the errno of the refusal.
        text: its text.
    """

    def __init__(self, operation: str, errno: int, text: str) -> None:
        super().__init__(operation, errno, text)
        self.operation = operation
        self.errno = errno
        self.text = text
