"""PURE: Python sources in their compiled form, as the interpreter makes it that runs this file.

Rules: standard library only, and no syntax that the plugins' oldest Python lacks: ``interpreter`` runs this file by
path, with another interpreter than this one.

Source: PEP 552 (a compiled file's header, unchecked hashes), PEP 3147 (its name).
"""

from __future__ import annotations

import json
import marshal
import sys
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_HASHED_AND_UNCHECKED = (1).to_bytes(4, "little")  # the flags of a compiled file


def compiled(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """Compile sources, path → content; path of the compiled file → its content."""
    files = {}
    for path, content in sources.items():
        code = compile(content, path, "exec", dont_inherit=True, optimize=0)
        header = MAGIC_NUMBER + _HASHED_AND_UNCHECKED + source_hash(content)
        files[cache_from_source(path, optimization="")] = header + marshal.dumps(code)
    return files


def main() -> None:
    """Compile what stdin holds, both ways as JSON: path → bytes in hexadecimal."""
    sources = {path: bytes.fromhex(content) for path, content in json.load(sys.stdin).items()}
    json.dump({path: content.hex() for path, content in compiled(sources).items()}, sys.stdout)


if __name__ == "__main__":
    main()
