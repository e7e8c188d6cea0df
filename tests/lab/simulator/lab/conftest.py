"""The plugins of others, as this machine could have them: none, or from an apt-get of our own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.lab import plugins

SPEAKS_CNI = (
    '#!/bin/sh\necho "{\\"cniVersion\\": \\"1.0.0\\", \\"supportedVersions\\": [\\"0.4.0\\", \\"$CNI_COMMAND\\"]}"\n'
)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def write_program() -> Callable[[Path, str], Path]:
    """A function that writes an executable file."""
    return write


@pytest.fixture
def write_plugin() -> Callable[[Path], Path]:
    """A function that writes an executable file that answers VERSION."""
    return lambda path: write(path, SPEAKS_CNI)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where an ordinary user's plugins go; and no others are on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNI_PATH", raising=False)
    monkeypatch.setattr(plugins, "SYSTEM_DIRECTORIES", (str(tmp_path / "usr/lib/cni"),))
    return tmp_path / "cache/enim/cni/bin"


@pytest.fixture
def apt(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    return Apt(tmp_path / "apt", monkeypatch)


class Apt:
    """A Debian of our own: ``apt-get`` and ``dpkg-deb`` that know one package, once its list has been updated."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = directory / "log"
        self._directory = directory
        monkeypatch.setenv("PATH", f"{directory}/bin:/usr/bin:/bin")
        self.use()

    def use(
        self,
        *,
        updated: bool = True,
        has: tuple[str, ...] = plugins.PLUGINS,
        reachable: bool = True,
        broken_source: bool = False,
    ) -> None:
        """Args: are the lists there, what does the package have, is there a network, does another source fail?"""
        lists = self._directory / "lists"
        write(self._directory / "plugin", SPEAKS_CNI)
        lists.unlink(missing_ok=True)
        if updated:
            lists.touch()
        unpack = f"mkdir -p $target && for name in {' '.join(has)}; do cp {self._directory}/plugin $target/$name; done"
        # An update without a network is a success to apt-get, one with a source that is no archive a failure.
        update = f"touch {lists}" if reachable else 'echo "W: no route to the archive" >&2'
        apt = f"""#!/bin/sh
            echo "$@" >>{self._log}
            for word; do
                case $word in
                    update) {update}; exit {100 if broken_source else 0} ;;
                    install|download) [ -e {lists} ] || {{ echo "E: Unable to locate package" >&2; exit 100; }} ;;
                esac
                case $word in
                    install) target={plugins.SYSTEM_DIRECTORIES[0]}; {unpack} ;;
                    download) touch plugins_1_amd64.deb ;;
                esac
            done
        """
        write(self._directory / "bin/apt-get", apt)
        dpkg = f"#!/bin/sh\ntarget=$3/{plugins.SYSTEM_DIRECTORIES[0]}\n{unpack}\n"
        write(self._directory / "bin/dpkg-deb", dpkg)

    def verbs(self) -> list[str]:
        """What apt-get was asked to do, in order."""
        known = ("update", "download", "install")
        return [next(word for word in line.split() if word in known) for line in self._log.read_text().splitlines()]
