"""What enim itself reads from a ``Config``: whom the ENI is for, which agent to ask, which routes, whether it wishes.

Rules: strict on ADD: what was asked for and cannot be understood is an error, never ignored. ``owner`` and ``socket``,
which DEL needs too, never fail there.

Source: contract A9 to A11 (CNI_ARGS, ``args.cni``, ``runtimeConfig``); design D3, D4.
"""

from enim import errors, result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enim import config

DEFAULT_SOCKET = "/var/run/cce-network-v2/cce-network.sock"
SOCKET_BYTES_MAX = 107  # sun_path of unix(7) without the final NUL
HOST_DEVICE = "host-device"
WISHES = ("IP", "ip", "MAC")  # keys of CNI_ARGS


def owner(checked: "config.Config") -> str:
    """Whom the ENI is for: the pod's ``namespace/name``, else ``<network name>/<container id>`` (design D3)."""
    namespace = checked.arguments.get("K8S_POD_NAMESPACE")
    name = checked.arguments.get("K8S_POD_NAME")
    return f"{namespace}/{name}" if namespace and name else f"{checked.network}/{checked.container_id}"


def socket(checked: "config.Config") -> str:
    """Path of the agent's socket: ``ipam.socket``, else the environment's CCE_SOCK, else the real agent's default.

    Raises:
        CniError: 7, on ADD, if ``ipam.socket`` is no path that a socket can have. On DEL it then counts as absent.
    """
    path = checked.text("ipam", "socket")
    if not is_socket_path(path):
        if checked.strict:
            raise errors.CniError(errors.INVALID_CONFIG, "ipam.socket is no path of a socket", path[:256])
        path = ""
    return path or checked.environment.get("CCE_SOCK", "") or DEFAULT_SOCKET


def is_socket_path(path: str) -> bool:
    """Whether a socket can have this path, which "" is, too."""
    try:
        return "\0" not in path and len(path.encode()) <= SOCKET_BYTES_MAX
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False


def connect_ms(checked: "config.Config", longest_ms: int) -> int:
    """How long to try to connect to the agent, milliseconds: ``ipam.connect-timeout``, in seconds, if that is shorter.

    Raises:
        CniError: 7, on ADD, if it is no whole number from 1 on. On DEL it then counts as absent.
    """
    seconds = checked.member("ipam", "connect-timeout")
    if seconds is None:
        return longest_ms
    if type(seconds) is not int or seconds < 1:
        if checked.strict:
            text = "ipam.connect-timeout is no whole number of seconds from 1 on"
            raise errors.CniError(errors.INVALID_CONFIG, text, f"{seconds!r}"[:256])
        return longest_ms
    return min(1000 * seconds, longest_ms)


def refuse_unusable(checked: "config.Config") -> None:
    """Raise CniError 7 if ``ipam`` does not say in a usable way which agent to ask, and for how long."""
    socket(checked)
    connect_ms(checked, 0)


def routes(checked: "config.Config") -> tuple[result.Route, ...]:
    """The routes of ``ipam.routes``. Raises CniError 7."""
    if not isinstance(checked.member("ipam"), dict):
        raise errors.CniError(errors.INVALID_CONFIG, "ipam is no object")
    listed = checked.member("ipam", "routes")
    if listed is None:
        return ()  # and ``result`` is not loaded before the agent is at work
    try:
        return result.parse_routes(listed)
    except ValueError as error:
        raise errors.CniError(errors.INVALID_CONFIG, f"ipam.routes: {error}"[:256]) from None


def default_route(checked: "config.Config") -> bool:
    """Whether a family without a default route of its own gets one: ``ipam.default-route``, else yes.

    Raises:
        CniError: 7, it is no boolean.
    """
    value = checked.member("ipam", "default-route")
    if value not in (None, True, False) or type(value) is int:
        raise errors.CniError(errors.INVALID_CONFIG, "ipam.default-route is no boolean", repr(value)[:256])
    return value is not False


def may_wish(checked: "config.Config") -> bool:
    """Whether the call may want a certain ENI; if not, ``wishes`` need not be loaded."""
    return (
        checked.type == HOST_DEVICE
        or any(key in checked.arguments for key in WISHES)
        or checked.member("args", "cni") is not None
        or checked.member("runtimeConfig") is not None
    )
