"""History as an object: text, Arrow, HTML.

Source: design/0004 section 4.
"""

from __future__ import annotations

import datetime
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

__all__ = ["Log", "LogRecord", "describe_operation", "format_time"]


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One manifest of a history.

    Parameters
    ----------
    manifest : str
        Its address.
    parents : tuple of str
        The manifests it follows.
    time_ns : int
        Nanoseconds since the epoch.
    author, message : str
        Who and why.
    operation : dict
        What was done: a name and counts.
    rows : int
        Records in it.
    refs : tuple of str
        Refs that name it.
    application : dict
        The caller's notes.
    cut : bool
        Whether history was cut here: parents of its own are not in this space.
    """

    manifest: str
    parents: tuple[str, ...]
    time_ns: int
    author: str
    message: str
    operation: dict[str, Any]
    rows: int
    refs: tuple[str, ...] = ()
    application: dict[str, str] | None = None
    cut: bool = False


def format_time(time_ns: int) -> str:
    """Return a time as ``YYYY-MM-DD HH:MM:SS`` UTC.

    Parameters
    ----------
    time_ns : int
        Nanoseconds since the epoch.
    """
    moment = datetime.datetime.fromtimestamp(time_ns // 1_000_000_000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def describe_operation(operation: dict[str, Any]) -> str:
    """Return an operation in a few words.

    Parameters
    ----------
    operation : dict
        What a manifest records.
    """
    if operation["name"] == "transaction":
        return "; ".join(describe_operation(step) for step in operation.get("steps", []))
    parts = [str(operation["name"])]
    if operation.get("fields"):
        parts.append(", ".join(operation["fields"]))
    if "old" in operation:
        parts.append(f"{operation['old']} -> {operation['new']}")
    for key, word in (("rows", "rows"), ("added", "added"), ("changed", "changed")):
        if key in operation:
            parts.append(f"{operation[key]:,} {word}")
    if "manifest" in operation:
        parts.append(str(operation["manifest"])[:10])
    if operation.get("reason"):
        parts.append(f"({operation['reason']})")
    return " ".join(parts)


class Log(Sequence[LogRecord]):
    """A list of manifests, newest first.

    Parameters
    ----------
    records : sequence of LogRecord
        The manifests.
    """

    def __init__(self, records: Sequence[LogRecord]) -> None:
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Log(self._records[index])
        return self._records[index]

    def __iter__(self) -> Iterator[LogRecord]:
        return iter(self._records)

    def graph(self) -> str:
        """Return the history as text, with a column per open line of descent."""
        lines: list[str] = []
        open_lines: list[str] = []
        for record in self._records:
            if record.manifest not in open_lines:
                open_lines.append(record.manifest)
            column = open_lines.index(record.manifest)
            marks = ["*" if i == column else "|" for i in range(len(open_lines))]
            refs = f" ({', '.join(record.refs)})" if record.refs else ""
            said = f"  {record.message}" if record.message else ""
            said += "  [history is cut here]" if record.cut else ""
            lines.append(
                f"{' '.join(marks)} {record.manifest[:10]}{refs} "
                f"{format_time(record.time_ns)} {record.author}: "
                f"{describe_operation(record.operation)} [{record.rows:,} rows]{said}"
            )
            lines += _redirect(open_lines, column, record.parents)
        return "\n".join(lines)

    def to_arrow(self) -> pa.Table:
        """Return one row per manifest."""
        records = self._records
        return pa.table(
            {
                "manifest": pa.array([r.manifest for r in records], pa.string()),
                "parents": pa.array([list(r.parents) for r in records], pa.list_(pa.string())),
                "time": pa.array([r.time_ns for r in records], pa.timestamp("ns")),
                "author": pa.array([r.author for r in records], pa.string()),
                "message": pa.array([r.message for r in records], pa.string()),
                "operation": pa.array(
                    [describe_operation(r.operation) for r in records], pa.string()
                ),
                "rows": pa.array([r.rows for r in records], pa.int64()),
                "refs": pa.array([list(r.refs) for r in records], pa.list_(pa.string())),
            }
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        shown = Log(self._records[:10]).graph()
        more = len(self._records) - 10
        return shown + (f"\n... {more} more" if more > 0 else "") if shown else "(no history)"

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(str(cell))}</td>"
                for cell in (
                    r.manifest[:10],
                    ", ".join(r.refs),
                    format_time(r.time_ns),
                    r.author,
                    describe_operation(r.operation),
                    f"{r.rows:,}",
                    r.message,
                )
            )
            + "</tr>"
            for r in self._records
        )
        names = ("manifest", "refs", "time", "author", "operation", "rows", "message")
        head = "".join(f"<th>{name}</th>" for name in names)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _redirect(open_lines: list[str], column: int, parents: Sequence[str]) -> list[str]:
    """Point a column at the record's parents; return the lines that show forks and joins."""
    extra: list[str] = []
    first = parents[0] if parents else None
    if first is None:
        open_lines.pop(column)
    elif first in open_lines:
        open_lines.pop(column)
        extra.append(" ".join("|" for _ in open_lines) + "/")
    else:
        open_lines[column] = first
    for parent in parents[1:]:
        if parent not in open_lines:
            open_lines.append(parent)
            extra.append(" ".join("|" for _ in open_lines[:-1]) + "\\")
    return extra
