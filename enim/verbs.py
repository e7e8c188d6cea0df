"""PURE: which flow does what, for enim. Each is loaded when it is asked for."""

from enim import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enim import config, effects


def _add(checked: "config.Config") -> "effects.Flow":
    return commands.add(checked)


def _delete(checked: "config.Config") -> "effects.Flow":
    return commands.delete(checked)


def _check(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- see the module's docstring

    return upkeep.check(checked)


def _collect(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- as above

    return upkeep.collect(checked)


def _status(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- as above

    return upkeep.status(checked)


COMMANDS = {"ADD": _add, "DEL": _delete, "CHECK": _check, "GC": _collect, "STATUS": _status}
