"""What a command shows: tables, facts and paragraphs, laid out as plain text.

The width is fixed, so that the same result gives the same text on every terminal and in a pipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

__all__ = ["WIDTH", "Block", "Column", "Facts", "Paragraph", "Table", "clip", "printable"]

WIDTH: Final = 100
_NARROWEST: Final = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Parameters
    ----------
    title : str
        Its heading.
    right : bool
        Align to the right, for numbers.
    whole : bool
        Never shorten its cells, for names that will be copied.
    """

    title: str
    right: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below headings.

    Parameters
    ----------
    columns : sequence of Column
        The headings.
    rows : sequence of sequence of str
        The cells.
    empty : str
        What to say when there are no rows.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    empty: str = "(none)"

    def render(self) -> str:
        """Return the table as text."""
        if not self.rows:
            return self.empty
        cells = [[printable(cell) for cell in row] for row in self.rows]
        widths = self._widths(cells)
        lines = [self._line([column.title for column in self.columns], widths)]
        lines += [self._line(row, widths) for row in cells]
        return "\n".join(lines)

    def _widths(self, cells: list[list[str]]) -> list[int]:
        widths = [
            max([len(column.title), *(len(row[index]) for row in cells)])
            for index, column in enumerate(self.columns)
        ]
        smallest = [
            width if column.whole else min(width, max(len(column.title), _NARROWEST))
            for width, column in zip(widths, self.columns, strict=True)
        ]
        # The widest column gives way first, one character at a time.
        while sum(widths) + 2 * (len(widths) - 1) > WIDTH:
            spare = [width - least for width, least in zip(widths, smallest, strict=True)]
            if not any(spare):
                break
            widest = max((w, i) for i, w in enumerate(widths) if spare[i])[1]
            widths[widest] -= 1
        return widths

    def _line(self, row: Sequence[str], widths: list[int]) -> str:
        parts = []
        for cell, width, column in zip(row, widths, self.columns, strict=True):
            shown = clip(cell, width)
            parts.append(shown.rjust(width) if column.right else shown.ljust(width))
        return "  ".join(parts).rstrip()


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, one pair per line.

    Parameters
    ----------
    pairs : sequence of (str, str)
        What is known; pairs with an empty value are left out.
    """

    pairs: Sequence[tuple[str, str]]

    def render(self) -> str:
        """Return the facts as text."""
        known = [(name, value) for name, value in self.pairs if value]
        width = max((len(name) for name, _ in known), default=0)
        return "\n".join(f"{name:<{width}}  {printable(value)}" for name, value in known)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Text as it is, below an optional heading.

    Parameters
    ----------
    text : str
        May have several lines.
    """

    text: str = field(default="")

    def render(self) -> str:
        """Return the text."""
        return "\n".join(printable(line) for line in self.text.split("\n"))


Block: TypeAlias = Table | Facts | Paragraph


def clip(text: str, width: int) -> str:
    """Return text shortened to a width, with dots where something is missing."""
    if len(text) <= width:
        return text
    return text[: width - 3] + "..." if width > 3 else text[:width]


def printable(text: str) -> str:
    """Return text that cannot move the cursor or change a terminal: controls are escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
