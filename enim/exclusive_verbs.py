"""PURE: which flow does what, for exclusive-device. Each is loaded when it is asked for."""

from enim import exclusive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enim import config, effects


def _add(checked: "config.Config") -> "effects.Flow":
    return exclusive.add(checked)


def _delete(checked: "config.Config") -> "effects.Flow":
    return exclusive.delete(checked)


def _check(checked: "config.Config") -> "effects.Flow":
    from enim import exclusive_upkeep  # noqa: PLC0415 -- see the module's docstring

    return exclusive_upkeep.check(checked)


def _collect(checked: "config.Config") -> "effects.Flow":
    from enim import exclusive_upkeep  # noqa: PLC0415 -- as above

    return exclusive_upkeep.collect(checked)


def _status(checked: "config.Config") -> "effects.Flow":
    from enim import exclusive_upkeep  # noqa: PLC0415 -- as above

    return exclusive_upkeep.status(checked)


COMMANDS = {"ADD": _add, "DEL": _delete, "CHECK": _check, "GC": _collect, "STATUS": _status}
