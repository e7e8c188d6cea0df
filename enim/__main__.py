"""EDGE: the enim IPAM plugin. It carries no effect out by itself: see ``process``."""

from enim import process, verbs

ABOUT = "enim: a CNI IPAM plugin for exclusive cloud network interfaces"


def main() -> None:
    """Run as the runtime asks, by environment and stdin; end the process."""
    process.end(process.run(ABOUT, verbs.COMMANDS, process.HANDLERS))


if __name__ == "__main__":
    main()
