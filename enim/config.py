"""The facts of a plugin's process — environment and stdin — checked in the order of Go's ``skel``: a ``Config``.

    config.check_environment(environment)               # before stdin is read; read() does it again, at no cost
    checked = config.read(environment, stdin)           # every version, any verb
    checked = config.read(environment, stdin, versions=config.WITH_INTERFACES)          # exclusive-device
    checked.member("runtimeConfig", "deviceID")         # keys in any case, None if absent; jsonio.member for one object
    config.check_ifname(name); config.check_container_id(id); config.check_network_name(name)

Rules: every failure is a ``CniError`` with the code of contract A6. What skel checks is checked for every command. What
it leaves to the plugin (CNI_ARGS here, the rest in ``settings``) is strict on ADD and never makes DEL fail.

Source: cni ``pkg/skel/skel.go``, ``pkg/utils/utils.go``, ``pkg/types/args.go``; contract A1 to A4, A9; design D1.
"""

from enim import errors, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
WITH_INTERFACES = VERSIONS[2:]
NEWEST = VERSIONS[-1]

SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}  # the first version that has the verb

IFNAME_BYTES_MAX = 15  # IFNAMSIZ without the final NUL

_REQUIRED = {
    "CNI_COMMAND": ("ADD", "CHECK", "DEL", "GC", "STATUS"),
    "CNI_CONTAINERID": ("ADD", "CHECK", "DEL"),
    "CNI_NETNS": ("ADD", "CHECK"),
    "CNI_IFNAME": ("ADD", "CHECK", "DEL"),
    "CNI_PATH": ("ADD", "CHECK", "DEL", "GC", "STATUS"),
}
_ALPHANUMERIC = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
_NAME_CHARACTERS = _ALPHANUMERIC.union("_.-")
_GO_SPACES = frozenset(
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005"
    "\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
_ARGUMENTS = ("IP", "ip", "MAC", "K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID")


class Config:
    """One call of a plugin, checked.

    Args:
        environment: the process's whole environment, decoded with ``surrogateescape``.
        stdin: the bytes as they came, for a delegate.
        netconf: the same as a JSON object.
        version: the label that was asked for, which the answer carries; absent and "" are ``0.1.0``.
        shape: the member of ``VERSIONS`` whose result shape it means; differs from ``version`` for ``1.0.N`` only.
        network: ``name`` of the network configuration.
        arguments: CNI_ARGS, key → value, without ``IgnoreUnknown``.
    """

    __slots__ = (
        "arguments",
        "command",
        "container_id",
        "environment",
        "ifname",
        "netconf",
        "netns",
        "netns_override",
        "network",
        "path",
        "shape",
        "stdin",
        "strict",
        "type",
        "version",
    )

    def __init__(
        self, environment: "Mapping[str, str]", stdin: bytes, netconf: "dict[str, Any]", version: str, shape: str
    ) -> None:
        self.environment = environment
        self.stdin = stdin
        self.netconf = netconf
        self.version = version
        self.shape = shape
        self.command = environment["CNI_COMMAND"]
        self.container_id = environment.get("CNI_CONTAINERID", "")
        self.netns = environment.get("CNI_NETNS", "")
        self.ifname = environment.get("CNI_IFNAME", "")
        self.path = environment.get("CNI_PATH", "")
        self.netns_override = environment.get("CNI_NETNS_OVERRIDE", "").lower() in ("1", "true")
        self.network: str = jsonio.member(netconf, "name")
        self.strict = self.command not in ("DEL", "GC")
        self.type = self.text("type")
        self.arguments = read_arguments(environment.get("CNI_ARGS", ""), strict=self.strict)

    def member(self, *path: str) -> "Any":
        """The member of the network configuration at ``path``, keys in any case; None if any step is absent."""
        value: Any = self.netconf
        for key in path:
            if not isinstance(value, dict):
                return None
            value = jsonio.member(value, key)
        return value

    def text(self, *path: str) -> str:
        """The string at ``path``, "" if absent or null; anything else is an error if this call is strict, else ""."""
        value = self.member(*path)
        if isinstance(value, str):
            return value
        if value is not None and self.strict:
            raise errors.CniError(errors.INVALID_CONFIG, f"{'.'.join(path)} is no string", repr(value)[:256])
        return ""


def read(
    environment: "Mapping[str, str]",
    stdin: bytes,
    *,
    versions: tuple[str, ...] = VERSIONS,
    commands: tuple[str, ...] = ("ADD", "DEL"),
) -> Config:
    """Check everything that skel checks, in its order, then CNI_ARGS.

    Args:
        environment: the process's environment.
        stdin: all of it.
        versions: what the plugin accepts, members of ``VERSIONS``; ``1.0.0`` stands for every ``1.0.N``.
        commands: what the plugin can do.

    Raises:
        CniError: 4 environment, 6 not JSON, 7 name, 4 unknown command, 1 version, 4 CNI_ARGS.
    """
    check_environment(environment)
    netconf = _parse(stdin)
    name = jsonio.member(netconf, "name")
    if name is not None and not isinstance(name, str):
        raise errors.CniError(errors.DECODING_FAILURE, "name is no string", repr(name)[:256])
    check_network_name(name or "")
    if environment["CNI_COMMAND"] not in commands:
        command = environment["CNI_COMMAND"]
        raise errors.CniError(errors.INVALID_ENVIRONMENT, f"unknown CNI_COMMAND: {command}"[:256])
    version = jsonio.member(netconf, "cniVersion")
    if version is not None and not isinstance(version, str):
        raise errors.CniError(errors.DECODING_FAILURE, "cniVersion is no string", repr(version)[:256])
    version = version or VERSIONS[0]
    shape = shape_of(version, versions)
    if not shape:
        details = f"the configuration is {version[:64]!r}, the plugin supports {', '.join(versions)}"
        raise errors.CniError(errors.INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    since = SINCE.get(environment["CNI_COMMAND"], VERSIONS[0])
    if VERSIONS.index(shape) < VERSIONS.index(since):
        text = f"config version does not allow {environment['CNI_COMMAND']}"
        raise errors.CniError(errors.INCOMPATIBLE_VERSION, text, f"it is {version}, the verb came with {since}")
    return Config(environment, stdin, netconf, version, shape)


def shape_of(version: str, versions: tuple[str, ...] = VERSIONS) -> str:
    """The member of ``versions`` that ``version`` means: itself, or 1.0.0 for every 1.0.N (design D1); "" if none."""
    if version in versions:
        return version
    patch = version[4:] if version.startswith("1.0.") else ""
    if "1.0.0" in versions and patch.isascii() and patch.isdigit() and patch[0] != "0":
        return "1.0.0"
    return ""


def check_environment(environment: "Mapping[str, str]") -> None:
    """Check the CNI_* variables: the first invalid one is reported at once, the missing ones together.

    Raises:
        CniError: 4.
    """
    command = environment.get("CNI_COMMAND", "")
    missing = []
    for name, commands in _REQUIRED.items():
        value = environment.get(name, "")
        if not value and (command in commands or name == "CNI_COMMAND"):
            missing.append(name)
        elif command in commands and name == "CNI_CONTAINERID":
            check_container_id(value)
        elif command in commands and name == "CNI_IFNAME":
            check_ifname(value)
    if missing:
        raise errors.CniError(errors.INVALID_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")


def check_container_id(text: str) -> None:
    """An ASCII letter or digit, then those and ``_.-``. Raises CniError 4."""
    if not _is_name(text):
        raise errors.CniError(errors.INVALID_ENVIRONMENT, "invalid characters in containerID", text[:256])


def check_network_name(text: str) -> None:
    """As a container id. Raises CniError 7."""
    if not text:
        raise errors.CniError(errors.INVALID_CONFIG, "missing network name")
    if not _is_name(text):
        raise errors.CniError(errors.INVALID_CONFIG, "invalid characters found in network name", text[:256])


def check_ifname(text: str) -> None:
    """A name that the kernel gives to a link: 1 to 15 bytes, not ``.`` or ``..``, no ``/``, ``:`` or white space of Go.

    Raises:
        CniError: 4.
    """
    if not text:
        problem = "interface name is empty"
    elif len(text.encode("utf-8", "surrogateescape")) > IFNAME_BYTES_MAX:
        problem = f"interface name is longer than {IFNAME_BYTES_MAX} bytes"
    elif text in (".", ".."):
        problem = "interface name is . or .."
    elif not _GO_SPACES.isdisjoint(text) or "/" in text or ":" in text:
        problem = "interface name contains / or : or white space"
    else:
        return
    raise errors.CniError(errors.INVALID_ENVIRONMENT, problem, text[:256])


def read_arguments(text: str, *, strict: bool) -> dict[str, str]:
    """Read CNI_ARGS: ``K=V`` pairs between ``;``, the last of equal keys counts.

    An unknown key is an error unless ``IgnoreUnknown`` is among the pairs, wherever.
    If not strict, what cannot be read is skipped.

    Raises:
        CniError: 4, only if strict.
    """
    arguments = {}
    for pair in text.split(";") if text else ():
        key, equals, value = pair.partition("=")
        if equals and "=" not in value:
            arguments[key] = value
        elif strict:
            raise errors.CniError(errors.INVALID_ENVIRONMENT, f"CNI_ARGS: invalid pair {pair[:64]!r}", text[:256])
    ignore_unknown = arguments.pop("IgnoreUnknown", "0")
    if strict:
        _check_arguments(arguments, ignore_unknown.lower(), text)
    return arguments


def _check_arguments(arguments: dict[str, str], ignore_unknown: str, text: str) -> None:
    problem = ""
    if ignore_unknown in ("0", "false"):
        unknown = [key for key in arguments if key not in _ARGUMENTS]
        problem = f"unknown keys {', '.join(unknown)[:64]!r}" if unknown else ""
    elif ignore_unknown not in ("1", "true"):
        problem = f"IgnoreUnknown is no boolean: {ignore_unknown[:64]!r}"
    if problem:
        raise errors.CniError(errors.INVALID_ENVIRONMENT, f"CNI_ARGS: {problem}", text[:256])


def _parse(stdin: bytes) -> "dict[str, Any]":
    try:
        value = jsonio.loads(stdin)
    except ValueError as error:
        raise errors.CniError(
            errors.DECODING_FAILURE, "the network configuration is not JSON", str(error)[:256]
        ) from None
    if value is None:
        return {}
    if isinstance(value, dict):
        return value
    raise errors.CniError(errors.DECODING_FAILURE, "the network configuration is no JSON object")


def _is_name(text: str) -> bool:
    return text[:1] in _ALPHANUMERIC and _NAME_CHARACTERS.issuperset(text)
