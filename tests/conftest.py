"""The folder of a test is its marker: tests/unit → ``unit``, tests/lab → ``lab`` …"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        tier = item.path.relative_to(HERE).parts[0]
        item.add_marker(getattr(pytest.mark, tier))
