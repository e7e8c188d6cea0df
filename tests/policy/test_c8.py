"""No defect of the contract's list C8 goes without the test that shows that ours does not have it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "tests" / "chain" / "enim" / f"test_c8_{name}.py" for name in ("enim", "exclusive_device")]
DEFECTS = range(1, 32)


def test_every_defect_has_a_test_that_is_named_after_it() -> None:
    functions = [
        node.name
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    numbers = [int(match[1]) for name in functions if (match := re.match(r"test_c8_(\d\d)_", name))]
    assert (len(numbers), sorted(set(numbers))) == (len(functions), list(DEFECTS))
