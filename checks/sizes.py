"""Size limits that keep modules and functions readable in one sitting: `python -m checks.sizes`.

The limits are gates, not aims: most modules are under 200 lines and most functions under 15.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAX_MODULE_LINES = 400
MAX_TEST_MODULE_LINES = 600
MAX_FUNCTION_LINES = 50
# Each exception names its module, or `module::function`, and gives the reason. One that is not needed is an error.
EXCEPTIONS: dict[str, str] = {}
_NOT_OURS = {".venv", ".venv-bench", "data"}


def source_files(root: Path) -> list[Path]:
    """Return every Python file of the project below `root`, in the order of their names."""
    return sorted(path for path in root.rglob("*.py") if path.relative_to(root).parts[0] not in _NOT_OURS)


def function_lengths(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted name and the length in lines of each function, from `def` to its last line.

    Lines of a nested function count for the outer one as well.
    """
    for node in ast.iter_child_nodes(tree):
        name = prefix
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{node.name}."
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1
        yield from function_lengths(node, name)


def oversized(root: Path) -> dict[str, str]:
    """Return a sentence for each module and function that is too long, by its name as in EXCEPTIONS."""
    sentences: dict[str, str] = {}
    for path in source_files(root):
        text, name = path.read_text(), str(path.relative_to(root))
        lines = text.count("\n")
        limit = MAX_TEST_MODULE_LINES if name.startswith("tests/") else MAX_MODULE_LINES
        if lines > limit:
            sentences[name] = f"{name} has {lines} lines, the limit is {limit}"
        for function, length in function_lengths(ast.parse(text)):
            if length > MAX_FUNCTION_LINES:
                key = f"{name}::{function}"
                sentences[key] = f"{key} has {length} lines, the limit is {MAX_FUNCTION_LINES}"
    return sentences


def check(root: Path, exceptions: dict[str, str]) -> list[str]:
    """Return a sentence for everything too long without an exception, and for every exception not needed."""
    sentences = oversized(root)
    unexpected = [sentence for name, sentence in sentences.items() if name not in exceptions]
    return unexpected + [f"{name} is within the limits: delete its exception" for name in exceptions.keys() - sentences]


def main() -> int:
    """Print what is too long. Return 1 if anything is."""
    problems = check(ROOT, EXCEPTIONS)
    print("\n".join(problems) if problems else "sizes: every module and function within the limits")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
