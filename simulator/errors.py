"""The error tree of the testbed.

SimulatorError
├── ScenarioError      the author of a scenario file is at fault: file, line, column
├── LabError           this machine cannot hold the lab: cause and cure
└── WorldFault         the outside failed an effect: thrown into a flow at the yield
    ├── KernelFault    an operation on a link or a network namespace
    ├── StoreFault     the journal could not be made durable
    └── CloudFault     the hardware or the cloud API
InvariantBroken (AssertionError) is a bug of ours: stop.
"""


class SimulatorError(Exception):
    """Root of what the testbed reports to its user without a traceback."""


class ScenarioError(SimulatorError):
    """A scenario file is wrong.

    Args:
        file: its path as the user gave it.
        line: 1-based; 0 if the whole file is meant.
        column: 1-based; 0 if the whole line is meant.
        message: what is wrong, with the offending text and a suggestion where there is one.
    """

    def __init__(self, file: str, line: int, column: int, message: str) -> None:
        place = ":".join(str(part) for part in (file, line, column) if part)
        super().__init__(f"{place}: {message}")
        self.file = file
        self.line = line
        self.column = column
        self.message = message


class LabError(SimulatorError):
    """This machine cannot do what was asked.

    Args:
        cause: what failed, in one sentence.
        cure: what to do about it; may be empty.
    """

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"{cause}. {cure}" if cure else cause)
        self.cause = cause
        self.cure = cure

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.cause, self.cure)


class WorldFault(SimulatorError):
    """The outside failed an effect.

    Args:
        operation: what was tried, with its object.
        errno: the errno, or 0 where there is none.
        text: what the outside said, at most 256 characters.
    """

    def __init__(self, operation: str, errno: int, text: str) -> None:
        super().__init__(f"{operation}: {text[:256]}")
        self.operation = operation
        self.errno = errno
        self.text = text[:256]

    def __reduce__(self) -> tuple[type, tuple[str, int, str]]:
        return type(self), (self.operation, self.errno, self.text)


class KernelFault(WorldFault):
    """The kernel refused an operation on a link or a network namespace."""


class StoreFault(WorldFault):
    """The journal could not be made durable: nothing of it counts as done."""


class CloudFault(WorldFault):
    """The hardware or the cloud API failed."""


class InvariantBroken(AssertionError):
    """A state that our own code must never reach."""
