"""EDGE: the enim IPAM plugin. It carries no effect out by itself: see ``process``."""

from enim import commands, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enim import config, effects

ABOUT = "enim: a CNI IPAM plugin for exclusive cloud network interfaces"


def main() -> None:
    """Run as the runtime asks, by environment and stdin; end the process."""
    process.end(process.run(ABOUT, COMMANDS, process.HANDLERS))


def _check(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- ADD and DEL, for which a pod waits, do without

    return upkeep.check(checked)


def _collect(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- as above

    return upkeep.collect(checked)


def _status(checked: "config.Config") -> "effects.Flow":
    from enim import upkeep  # noqa: PLC0415 -- as above

    return upkeep.status(checked)


COMMANDS = {"ADD": commands.add, "DEL": commands.delete, "CHECK": _check, "GC": _collect, "STATUS": _status}


if __name__ == "__main__":
    main()
