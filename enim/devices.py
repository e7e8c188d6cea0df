"""EDGE: which link a device has, by what sysfs shows; loaded only where a call names a device by its place on a bus.

Source: Linux ``Documentation/ABI/testing/sysfs-bus-pci`` and ``sysfs-class-net``; contract B1 (host-device).
"""

import posix

BUSES = "/sys/bus"
KINDS = ("pci", "auxiliary")


def name_of(device: str, buses: str = BUSES) -> str:
    """The name of its link, "" if none is shown. A virtio NIC is one step below its PCI device.

    Args:
        device: its id on the bus.
        buses: where sysfs has them.
    """
    if not device or "/" in device or device in (".", ".."):
        return ""
    for kind in KINDS:
        path = f"{buses}/{kind}/devices/{device}"
        below = [f"{path}/{entry}" for entry in _entries(path) if entry.startswith("virtio")]
        for place in (path, *below):
            for name in _entries(f"{place}/net"):
                return name
    return ""


def _entries(path: str) -> list[str]:
    try:
        return sorted(posix.listdir(path))
    except (OSError, ValueError):
        return []
