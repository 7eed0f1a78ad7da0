"""How a diff shows itself: a few lines, or a table with thumbnails of changed images.

Source: design/0008 section 5, design/0004 section 9.
"""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from dreamdb.read.difference import Diff

__all__ = ["difference_html", "difference_lines"]

_MAX_LINES: Final = 12
_EXAMPLES: Final = 4
_MAX_THUMBNAIL_NBYTES: Final = 200_000


def difference_lines(diff: Diff) -> list[str]:
    """Return a diff in at most 12 lines."""
    lines = [
        f"Diff {_short(diff.before)} -> {_short(diff.after)}",
        f"  records: {diff.rows_added:,} added, {diff.rows_removed:,} removed",
    ]
    lines += [f"  {change}" for change in diff.schema_changes]
    lines += [f"  {name}: {count:,} changed" for name, count in diff.changed.items()]
    lines += [f"  note {name!r} changed" for name in diff.metadata_changes]
    if diff.is_empty:
        return [lines[0], "  no difference"]
    if len(lines) > _MAX_LINES:
        rest = len(lines) - _MAX_LINES + 1
        lines = [*lines[: _MAX_LINES - 1], f"  ... {rest} more"]
    return lines


def _short(name: str) -> str:
    return f"{name[:16]}..." if len(name) == 53 and name.isalnum() else name


def difference_html(diff: Diff) -> str:
    """Return a diff as tables; all text is escaped, large images are left out."""
    title = html.escape(f"{_short(diff.before)} → {_short(diff.after)}")
    facts = [f"{diff.rows_added:,} added", f"{diff.rows_removed:,} removed"]
    facts += [html.escape(str(change)) for change in diff.schema_changes]
    facts += [f"note {html.escape(name)}" for name in diff.metadata_changes]
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count:,}</td><td>{_examples(diff, name)}</td></tr>"
        for name, count in diff.changed.items()
    )
    table = (
        "<table><thead><tr><th>field</th><th>changed</th><th>old → new</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        if rows
        else ""
    )
    return f"<div><b>{title}</b><br>{', '.join(facts)}{table}</div>"


def _examples(diff: Diff, name: str) -> str:
    """Return the first changed cells of a field, old beside new."""
    ftype, pairs = diff.first_cells(name, _EXAMPLES)
    shown = []
    for old, new in pairs:
        if ftype.kind == "image":
            cells = [_thumbnail(value, ftype.mime or "") for value in (old, new)]
        else:
            cells = [html.escape(_text(value)) for value in (old, new)]
        shown.append(f"{cells[0]} → {cells[1]}")
    return "<br>".join(shown)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return f"[{len(value):,} bytes]"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _thumbnail(value: bytes | None, mime: str) -> str:
    if value is None or len(value) > _MAX_THUMBNAIL_NBYTES:
        return html.escape(_text(value))
    media = mime if "/" in mime else f"image/{mime}"
    data = base64.b64encode(value).decode("ascii")
    return f'<img height="32" src="data:{html.escape(media, quote=True)};base64,{data}">'
