"""EDGE: what a path says of a network namespace, without entering it.

Source: namespaces(7), ioctl_nsfs(2); incidents K9.
"""

import posix

OWN_NETNS = "/proc/thread-self/ns/net"
CLONE_NEWNET = 0x40000000

_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h


def is_own_netns(path: str) -> bool:
    """Is ``path`` the network namespace of this process? False for what cannot be looked at."""
    try:
        theirs, ours = posix.stat(path), posix.stat(OWN_NETNS)
    except (OSError, ValueError):
        return False
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def netns_alive(path: str) -> bool:
    """Does ``path`` name a network namespace that can be entered?

    All namespace files lie on the kernel's one nsfs, so they share its st_dev; what an unmounted namespace leaves lies
    elsewhere (incidents K9). Nothing else is opened: that might block, or act.

    Raises:
        OSError: this process cannot tell: it may not look there, or has no descriptor left.
    """
    try:
        if posix.stat(path).st_dev != posix.stat(OWN_NETNS).st_dev:
            return False
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except ValueError:
        return False
    except OSError as error:
        import errno  # noqa: PLC0415 -- where all goes well nobody needs it

        if error.errno in (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return False
    import fcntl  # noqa: PLC0415 -- the only use

    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        return False
    finally:
        posix.close(descriptor)
