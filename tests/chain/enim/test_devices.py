"""Which link a device has, in a tree of directories as sysfs shows it."""

import pytest

from enim import devices


@pytest.fixture
def buses(tmp_path):
    for path in (
        "pci/devices/0000:04:00.5/net/ens5",
        "pci/devices/0000:00:03.0/virtio0/net/ens3",
        "pci/devices/0000:00:04.0/driver",
        "auxiliary/devices/mlx5_core.sf.4/net/enp8s0f0s88",
    ):
        (tmp_path / path).mkdir(parents=True)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("0000:04:00.5", "ens5"),
        ("0000:00:03.0", "ens3"),
        ("mlx5_core.sf.4", "enp8s0f0s88"),
        *((device, "") for device in ("0000:00:04.0", "eni1", "", ".", "..", "../devices/0000:04:00.5", "a\0b")),
    ],
)
def test_name_of_a_pci_a_virtio_and_an_auxiliary_device(buses, device, name):
    assert devices.name_of(device, buses) == name
