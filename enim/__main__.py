"""EDGE: the enim IPAM plugin. It carries no effect out by itself: see ``process``."""

from enim import commands, process

ABOUT = "enim: a CNI IPAM plugin for exclusive cloud network interfaces"


def main() -> None:
    """Run as the runtime asks, by environment and stdin; end the process."""
    process.end(process.run(ABOUT, {"ADD": commands.add, "DEL": commands.delete}, process.HANDLERS))


if __name__ == "__main__":
    main()
