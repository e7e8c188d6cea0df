"""The composition root of ``enim-lab``: chooses the lab, the world and the reports. Each sub-command imports what it
needs.

Exit status: 0 all passed, 1 something failed, 2 the input was wrong, 3 this machine cannot do it, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
from pathlib import Path
from typing import Any

import click

from simulator import errors, install_command, model

LIBRARY = Path(__file__).parent / "library"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
INTERRUPTED = 130  # what a shell gives a program that SIGINT ended


class _ExitStatus(click.Group):
    """Turns our errors into a sentence on stderr and an exit status; nobody meets a traceback for bad input."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except errors.ScenarioError as error:
            return self._end(error, 2)
        except errors.SimulatorError as error:
            return self._end(error, 3)
        except KeyboardInterrupt:
            return self._end("interrupted", INTERRUPTED)

    def main(self, *args: Any, **options: Any) -> Any:
        """The same, for what is printed where nothing can be."""
        _open_streams()
        try:
            return super().main(*args, **options)
        except OSError as error:
            if error.filename is not None or error.errno not in _UNWRITABLE:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries again at its end
            return self._end(f"stdout cannot be written: {error.strerror}. Send it elsewhere", 3)

    @staticmethod
    def _end(error: Exception | str, status: int) -> object:
        click.echo(f"enim-lab: {error}", err=True)
        sys.exit(status)


def _open_streams() -> None:
    """A stream that was closed is /dev/null from now on, and no file that is opened later takes its place."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != descriptor:
                os.dup2(null, descriptor)
                os.close(null)
            setattr(sys, name, open(descriptor, "w" if descriptor else "r", closefd=False))  # noqa: SIM115 -- not a path


@click.group(cls=_ExitStatus, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="enim")
def main() -> None:
    """The testbed of enim: reproduces what a container runtime can do wrong with an ENI, and checks that none leaks."""


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--lab",
    type=click.Choice(["userns", "docker", "sim"]),
    help="What the node runs in; else userns if it works, else sim.",
)
@click.option(
    "--backend",
    type=click.Choice(model.BACKENDS),
    help="What ENIs are, in userns and docker; else the first that this kernel has.",
)
@click.option(
    "--bin-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Look for others' plugins here first, in userns.",
)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdicts as JUnit XML.")
@click.option("--trace", type=click.Path(dir_okay=False, path_type=Path), help="Write every event as JSON lines.")
@click.option(
    "-k", "expression", default="", metavar="EXPR", help="Only runs whose name has this text ('and', 'or', 'not')."
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1, 64), help="Runs at a time, in userns and docker; else one per processor."
)
@click.option("-v", "--verbose", is_flag=True, help="A line per step.")
def run(
    *,
    paths: tuple[Path, ...],
    lab: str | None,
    backend: model.Backend | None,
    bin_dir: Path | None,
    junit: Path | None,
    trace: Path | None,
    expression: str,
    jobs: int | None,
    verbose: bool,
) -> None:
    """Run scenario files, or all files of a folder; without PATHS, the library that comes with enim."""
    from rich.console import Console

    from simulator.composition import Report, run_scenarios
    from simulator.report import console, jsonl, live, progress
    from simulator.report import junit as junit_report

    terminal = Console(force_terminal=sys.stdout.isatty())
    reports: list[Report] = [console.ConsoleReport(terminal, verbose=verbose)]
    under_way = progress.Progress()
    with contextlib.ExitStack() as stack:
        if junit is not None:
            reports.append(junit_report.JunitReport(junit))
        if trace is not None:
            reports.append(stack.enter_context(jsonl.TraceReport(trace)))
        area = stack.enter_context(live.LiveArea(terminal, under_way))
        workers = jobs or os.cpu_count() or 1
        try:
            tell = functools.partial(click.echo, err=True)
            files = paths or _library()
            status = run_scenarios(
                files,
                lab,
                expression,
                reports,
                jobs=workers,
                backend=backend,
                progress=area,
                tell=tell,
                bin_dir=bin_dir and bin_dir.resolve(),
            )
            sys.exit(status)
        except KeyboardInterrupt:
            stack.close()
            click.echo(f"enim-lab: interrupted: {console.visible(under_way.summary())}", err=True)
            sys.exit(INTERRUPTED)


@main.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
def lint(paths: tuple[Path, ...]) -> None:
    """Check scenario files and run nothing; without PATHS, the library that comes with enim."""
    from simulator.scenario import load

    problems = []
    files = load.find(paths or _library())
    for file in files:
        try:
            load.load(file)
        except errors.ScenarioError as error:
            problems.append(error)
    for problem in problems:
        click.echo(problem)
    click.echo(f"{len(files) - len(problems)} of {len(files)} scenario files are right", err=bool(problems))
    sys.exit(2 if problems else 0)


@main.command()
@click.argument("what", type=click.Choice(["scenario", "agent"]), default="scenario")
def schema(what: str) -> None:
    """Print the JSON Schema of scenario files, for editors; or of the agent the OpenAPI document, for its clients."""
    import json

    from simulator.agent import openapi
    from simulator.scenario import schema as scenario_schema

    document = openapi.document() if what == "agent" else scenario_schema.Scenario.model_json_schema(by_alias=True)
    click.echo(json.dumps(document, indent=2))


def _library() -> tuple[Path, ...]:
    """The scenarios in the wheel, or beside the package in a checkout."""
    checkout = Path(__file__).parent.parent / "scenarios"
    return (LIBRARY,) if LIBRARY.is_dir() else (checkout,)


@main.command()
@click.option("--socket", required=True, type=click.Path(path_type=Path), help="Unix socket to serve on.")
@click.option("--state", required=True, type=click.Path(path_type=Path), help="Its journal; survives a kill -9.")
@click.option("--enis", required=True, type=click.IntRange(0, 250), help="Fake ENIs to have in this network namespace.")
@click.option("--control", type=click.Path(path_type=Path), help="A second, private socket for test control.")
def agent(socket: Path, state: Path, enis: int, control: Path | None) -> None:
    """Serve /v1/eni as the node agent does, with fake ENIs in the network namespace this is started in.

    The ENIs belong to a hardware process that outlives the agent, as real ones would.

    GET /v1/x-enim/metrics on the same socket is for Prometheus, GET /v1/x-enim/openapi.json says all that is served.
    """
    from simulator.real import server

    server.run_agent(socket, state, enis, control)


@main.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--lab", type=click.Choice(["userns", "docker", "sim"]), help="As for run; sim reports virtual time.")
@click.option("--chain", type=click.Choice(["exclusive-device", "host-device"]), help="Only this upper plugin.")
@click.option("--concurrency", type=click.IntRange(1, 32), default=1, help="Pods, or runs of FILE, at once.")
@click.option("--count", type=click.IntRange(1, 100_000), help="Rounds; else what fits into a minute, at most 100.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
def bench(
    *,
    file: Path | None,
    lab: str | None,
    chain: str | None,
    concurrency: int,
    count: int | None,
    json_path: Path | None,
) -> None:
    """Measure ADD and DEL with the pool warm, exhausted and reclaiming, beside other plugins; or those of a scenario
    FILE.
    """
    from rich.console import Console

    from simulator import benchmark
    from simulator.bench import screen

    options = benchmark.Options(file, lab, chain, concurrency, count)
    with benchmark.json_file(json_path) as write:
        with screen.progress(Console(stderr=True)) as progress:
            found, failures = benchmark.run(options, progress, functools.partial(click.echo, err=True))
        write(found)
    screen.show(found, Console())
    for failure in failures:
        click.echo(f"enim-lab: a run failed: {failure}", err=True)
    sys.exit(1 if failures else 0)


@main.command()
@click.option("--install", is_flag=True, help="Get the plugins of others: as root with apt, else into your own cache.")
def doctor(*, install: bool) -> None:
    """Try what the labs need on this machine, and name the cause and the cure where something fails."""
    from simulator.lab import doctor as lab_doctor
    from simulator.lab import plugins

    def attempt(backend: model.Backend, scratch: Path) -> dict[str, str]:
        from simulator.real import trial  # Linux only, and so is the lab that this runs in

        return trial.attempt(backend, scratch)

    def engine() -> None:
        from simulator.lab import containers  # its library takes long to import

        containers.Engine().close()

    if install and plugins.missing():
        plugins.install(click.echo)
    findings = lab_doctor.diagnose(attempt, engine)
    for finding in findings:
        click.echo(finding)
    sys.exit(3 if any(finding.required and not finding.ok for finding in findings) else 0)


@main.group()
def image() -> None:
    """The image of a node of the docker lab."""


@image.command("build")
def image_build() -> None:
    """Make it: from a Dockerfile where its base can be pulled, else from Debian's packages. Only what has changed."""
    from simulator.lab import containers
    from simulator.lab import image as lab_image

    with containers.Engine() as engine:
        lab_image.build(engine, click.echo)


@main.command()
@click.option("--all", "everything", is_flag=True, help="Of every run, also of those that go on.")
def down(*, everything: bool) -> None:
    """Remove the containers of docker labs whose runner is dead."""
    from simulator.lab import containers

    with containers.Engine() as engine:
        count = engine.sweep(everything=everything)
    click.echo(f"removed {count} containers")


main.add_command(install_command.install)


if __name__ == "__main__":
    main()
