"""Print lines and tokens per module, the largest first, and what each package adds up to.

Tokens are what the interpreter reads: comments, docstrings and blank lines are not counted.
"""

from __future__ import annotations

import io
import statistics
import sys
import token
import tokenize
from collections import defaultdict
from pathlib import Path

_SILENT = {
    token.COMMENT,
    token.NL,
    token.NEWLINE,
    token.INDENT,
    token.DEDENT,
    token.ENCODING,
    token.ENDMARKER,
}


def num_tokens(text: str) -> int:
    """Return the number of tokens that are neither layout, comment nor docstring."""
    count = 0
    at_start_of_line = True
    for found in tokenize.generate_tokens(io.StringIO(text).readline):
        if found.type in _SILENT:
            at_start_of_line = True
            continue
        if not (at_start_of_line and found.type == token.STRING):
            count += 1
        at_start_of_line = False
    return count


def main(root: Path) -> None:
    """Print the table for one source directory."""
    rows = []
    packages: dict[str, int] = defaultdict(int)
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        lines = len(text.splitlines())
        if not lines:
            continue
        name = path.relative_to(root)
        rows.append((lines, num_tokens(text), name))
        packages[name.parts[0] if len(name.parts) > 1 else "."] += lines
    for lines, tokens, name in sorted(rows, reverse=True):
        print(f"{lines:6} {tokens:7}  {name}")
    print()
    for package, lines in sorted(packages.items(), key=lambda item: -item[1]):
        print(f"{lines:6}  {package}")
    lengths = [lines for lines, _, _ in rows]
    print(
        f"\n{sum(lengths)} lines in {len(rows)} files, "
        f"median {statistics.median(lengths):g}, largest {max(lengths)}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).resolve().parents[1] / "dreamdb")
