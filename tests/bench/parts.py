"""Runs an installed plugin and tells how long each part of the call took: started by ``budget`` in place of a launcher.

    python3 -ISE parts.py LAUNCHER COMPILED MODULE      environment and stdin as for the plugin

The plugin's stdout is stdout; on stderr, marshalled: {part: ms}. A part is an effect's class, ``modules`` (reading and
running the plugins' own modules), or ``flow`` (all else). What lies within a part and is one of its own is not in it.
"""

import marshal
import posix
import sys
import time

SPENT: dict = {}
WITHIN: list = []  # for each part under way, ns that others took within it


def timed(part, function):
    """The function, its time counted for ``part``."""

    def call(*given, **named):
        began = time.perf_counter_ns()
        WITHIN.append(0)
        try:
            return function(*given, **named)
        finally:
            took = time.perf_counter_ns() - began
            SPENT[part] = SPENT.get(part, 0) + took - WITHIN.pop()
            if WITHIN:
                WITHIN[-1] += took

    return call


def counted(handlers):
    """The handlers, each one's time counted for its effect's class."""
    return {kind: timed(kind, handler) for kind, handler in handlers.items()}


def main(launcher: str, compiled: str, module: str) -> int:
    """Run the plugin; its exit code."""
    sys.modules["__main__"].__file__ = launcher  # by which exclusive-device knows the enim of its own installation
    folder = compiled.rpartition("/")[0] + "/enim"
    names: dict = {"__name__": "loading"}
    with open(f"{folder}/loading.py") as source:  # noqa: PTH123 -- see above: pathlib would be in the figures
        exec(source.read(), names)
    asker, call = names["_asker"], f"{module} {posix.environ[b'CNI_COMMAND'].decode()}"
    names["_asker"] = lambda *given: timed("modules", asker(*given))
    package = names["load"](posix.open(compiled, posix.O_RDONLY), "enim", call)
    names["gc"].disable()
    process = package.process
    entry = getattr(package, module)
    handlers = getattr(entry, "HANDLERS", process.HANDLERS)
    verbs, versions = package.verbs, package.config.VERSIONS
    if module == "exclusive_main":
        verbs, versions = package.exclusive_verbs, package.config.WITH_INTERFACES
    handlers, process.HANDLERS = counted(handlers), counted(process.HANDLERS)
    return timed("flow", process.run)(entry.ABOUT, verbs.COMMANDS, handlers, versions=versions)


if __name__ == "__main__":
    CODE = main(*sys.argv[1:])
    posix.write(2, marshal.dumps({part: ns / 1e6 for part, ns in SPENT.items()}))
    posix._exit(CODE)
