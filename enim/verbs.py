"""PURE: which flow does what, for enim. What no pod waits for is loaded when it is asked for."""

from enim import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enim import config, effects


def _check(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- see the module's docstring

    return upkeep.check(checked)


def _collect(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- as above

    return upkeep.collect(checked)


def _status(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- as above

    return upkeep.status(checked)


COMMANDS = {"ADD": commands.add, "DEL": commands.delete, "CHECK": _check, "GC": _collect, "STATUS": _status}
