"""What a plugin prints besides a result, the error object and the answer to VERSION; and a delegate's error object.

Only a call that fails, or that asks for versions, needs it.

Source: CNI SPEC section 5 "Error"; cni ``pkg/types/types.go``, ``pkg/skel``; contract A4 (VERSION), A6.
"""

from enim import config, errors, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ERROR_TEXT_MAX = 512  # characters; a delegate, or a path, can be longer
CODE_MAX = 2**32 - 1  # Go's uint on the smallest machine: no runtime could read a larger one
NO_NOT_FOUND = (("not found", "unknown"), ("no such file or directory", "missing"))


def error(failure: errors.CniError, label: str, command: str) -> bytes:
    """Print the error object: all four keys of the specification.

    On DEL its texts lose what makes containerd's go-cni take a failed DEL for a success (contract A6, "text trap").
    """
    msg, details = failure.msg[:ERROR_TEXT_MAX], failure.details[:ERROR_TEXT_MAX]
    if command == "DEL":
        msg, details = _without_not_found(msg), _without_not_found(details)
    return jsonio.dumps({"cniVersion": label, "code": failure.code, "msg": msg, "details": details})


def _without_not_found(text: str) -> str:
    for trap, harmless in NO_NOT_FOUND:
        while (start := _ascii_lower(text).find(trap)) >= 0:
            text = text[:start] + harmless + text[start + len(trap) :]
    return text


def _ascii_lower(text: str) -> str:
    """In lower case, and as long as before, which ``str.lower`` does not promise."""
    return "".join([letter.lower() if letter.isascii() else letter for letter in text])


def versions(asked: str, supported: tuple[str, ...]) -> bytes:
    """Print the answer to VERSION: ``asked`` is echoed, or the newest if nothing was asked."""
    return jsonio.dumps({"cniVersion": asked or supported[-1], "supportedVersions": supported})


def asked_version(stdin: bytes) -> str:
    """The version that ``stdin`` names, for VERSION; "" if it names none or is no configuration. Never fails."""
    version = _lenient_version(stdin)
    return version if isinstance(version, str) else ""


def error_version(stdin: bytes, versions: tuple[str, ...] = config.VERSIONS) -> str:
    """What an error carries as ``cniVersion``: what ``stdin`` asks for if the plugin accepts that, else its newest.

    Never fails: the error may be that ``stdin`` is no configuration.
    """
    version = _lenient_version(stdin)
    asked = version or config.VERSIONS[0] if isinstance(version, str) else ""
    return asked if config.shape_of(asked, versions) else versions[-1]


def _lenient_version(stdin: bytes) -> "Any":
    """What a configuration says or, by saying nothing, means; None if ``stdin`` is no JSON object."""
    try:
        value = jsonio.loads(stdin)
    except ValueError:
        return None
    return (jsonio.member(value, "cniVersion") or "") if isinstance(value, dict) else None


def read_error(stdout: bytes) -> "errors.CniError | None":
    """The error that a delegate printed, as it is; None if that is none."""
    try:
        value = jsonio.loads(stdout)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    code, msg, details = [jsonio.member(value, key) for key in ("code", "msg", "details")]
    if type(code) is not int or not 0 < code <= CODE_MAX or not isinstance(msg, str):
        return None
    return errors.CniError(code, msg, details if isinstance(details, str) else "")


def no_error(plugin: str, code: int, stdout: bytes) -> errors.CniError:
    """The error of a delegate that failed and printed none."""
    ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    text = f"the IPAM plugin {plugin} {ended} and printed no CNI error"
    return errors.CniError(errors.DELEGATE_FAILURE, text, stdout[:256].decode("utf-8", "replace"))
