"""The docker lab needs an engine, the one that DOCKER_HOST names or the usual one; else it is skipped by name."""

from collections.abc import Iterator

import pytest

from simulator.errors import LabError
from simulator.lab import containers, image


def pytest_configure(config: pytest.Config) -> None:
    """The SDK leaves the sockets of its streams, and one that cannot be connected, to the garbage collector."""
    config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="session")
def engine() -> Iterator[containers.Engine]:
    """An engine that has the node's image."""
    try:
        opened = containers.Engine()
    except LabError as error:
        pytest.skip(str(error))
    with opened:
        image.ensure(opened, lambda _line: None)
        yield opened


@pytest.fixture(scope="session")
def node_image(engine: containers.Engine) -> str:
    return image.ensure(engine, lambda _line: None)


@pytest.fixture(scope="session")
def power(engine: containers.Engine, node_image: str) -> str:
    """How privileged a container of this engine can be."""
    return engine.power(node_image, containers.labels())
