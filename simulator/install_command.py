"""``enim-lab install``: its options, and what it says. What it does is ``installation``'s.

Rules: an option that is given means something, or is refused: what only a conflist has wants the conflist's file, and
an empty text is no name. Exit status as ``__main__`` has it; 1 is a ``--check`` that found something.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TypeAlias

import click

_Content: TypeAlias = tuple[str | None, str | None, str | None]  # chain, network and socket of the conflist, if given


def _network_name(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    from enim import config
    from enim.errors import CniError

    try:
        if name is not None:
            config.check_network_name(name)
    except CniError as error:
        raise click.BadParameter(f"{name!r}: {error.msg}") from None
    return name


def _socket_path(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
    from enim import settings

    if path is not None and not (path.startswith("/") and settings.is_socket_path(path)):
        raise click.BadParameter(f"{path!r} is no absolute path that a socket can have")
    return path


def _not_empty(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """An empty one, such as that of a variable that is not set, would mean the working directory."""
    if value == "":
        raise click.BadParameter("it is empty; name one, or leave the option out")
    return value


@click.command()
@click.option(
    "--bin-dir", default="/opt/cni/bin", type=click.Path(file_okay=False), show_default=True, callback=_not_empty
)
@click.option(
    "--python",
    callback=_not_empty,
    help="The plugins' interpreter, CPython 3.9 or newer: a path or a name; else this one.",
)
@click.option("--check", is_flag=True, help="Change nothing; say what is not as an installation leaves it.")
@click.option("--uninstall", is_flag=True, help="Take the plugins away, and the conflist if nobody has changed it.")
@click.option(
    "--conflist", type=click.Path(dir_okay=False), callback=_not_empty, help="Write a network for them, last."
)
@click.option(
    "--chain",
    type=click.Choice(["exclusive-device", "host-device"]),
    help="The upper plugin in the conflist; else exclusive-device.",
)
@click.option("--network", callback=_network_name, help="The network's name in the conflist; else podnet.")
@click.option("--socket", callback=_socket_path, help="The agent's socket in the conflist; else the plugin's choice.")
def install(
    *,
    bin_dir: str,
    python: str | None,
    check: bool,
    uninstall: bool,
    conflist: str | None,
    chain: str | None,
    network: str | None,
    socket: str | None,
) -> None:
    """Put enim and exclusive-device on this node, precompiled; an upgrade replaces nothing that still runs."""
    if check and uninstall:
        raise click.UsageError("--check and --uninstall do not go together")
    for option, value in (("--chain", chain), ("--network", network), ("--socket", socket)):
        if value is not None and conflist is None:
            raise click.UsageError(f"{option} is for a conflist; name its file with --conflist")
    directory, file, content = Path(bin_dir), Path(conflist) if conflist else None, (chain, network, socket)
    if check:
        _check(directory, python or "", file, content)
    elif uninstall:
        _uninstall(directory, file, content)
    else:
        _install(directory, python or sys.executable, file, content)


def _install(directory: Path, python: str, file: Path | None, content: _Content) -> None:
    from simulator import installation

    installation.clean_up_at_sigterm()
    installation.put(directory, python)
    click.echo(f"installed enim and exclusive-device in {directory}")
    if file is not None:
        installation.write_conflist(file, *_completed(*content))
        click.echo(f"wrote {file}")


def _check(directory: Path, python: str, file: Path | None, content: _Content) -> None:
    from simulator import installation

    problems = installation.problems(directory, python)
    if file is not None:
        problems += installation.conflist_problems(file, *_completed(*content))
    well = f"{directory} has enim and exclusive-device as this installation would leave them"
    click.echo("\n".join(problems) or (f"{well}, and {file} is as it would write it" if file else well))
    sys.exit(1 if problems else 0)


def _uninstall(directory: Path, file: Path | None, content: _Content) -> None:
    """The conflist first: where a runtime finds none, it calls no plugin."""
    from simulator import installation

    why = "" if file is None else installation.remove_conflist(file, *content)
    if file is not None:
        click.echo(f"did not remove {file}: {why}" if why else f"removed {file}", err=bool(why))
    removed = installation.remove(directory)
    click.echo("\n".join(f"removed {path}" for path in removed) or f"nothing of enim is in {directory}")
    for path in installation.foreign(directory):
        click.echo(f"left {path}, which is no plugin of enim-lab's", err=True)


def _completed(chain: str | None, network: str | None, socket: str | None) -> tuple[str, str, str]:
    """What a conflist has where an option does not say it."""
    from simulator.chain import conflist

    return chain or conflist.CHAINS[0], network or conflist.NAME, socket or ""
