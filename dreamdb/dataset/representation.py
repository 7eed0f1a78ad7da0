"""How a dataset shows itself in a terminal and in a notebook.

Source: design/0004 section 9.
"""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING, Any

import numpy as np

from dreamdb.tracks.gather import gather

if TYPE_CHECKING:
    from dreamdb.dataset.dataset import Dataset

__all__ = ["dataset_html", "dataset_text", "format_nbytes"]

_MAX_FIELDS = 8
_THUMBNAILS = 4
_MAX_THUMBNAIL_NBYTES = 200_000
_SAMPLE = 4_096


def format_nbytes(nbytes: int) -> str:
    """Return a number of bytes with a unit: ``1.2 MB``.

    Parameters
    ----------
    nbytes : int
        How many.
    """
    size = float(nbytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def _state(dataset: Dataset) -> str:
    return "read-only" if dataset.read_only else "branch"


def dataset_text(dataset: Dataset) -> str:
    """Return a dataset in at most 12 lines.

    Parameters
    ----------
    dataset : Dataset
        What to show.
    """
    view = dataset._view
    schema = view.content.schema
    lines = [
        f"Dataset {dataset.name or '(by manifest)'!r} ({_state(dataset)}) in {dataset.backend}",
        f"  manifest {dataset.current_manifest()[:16]}...  {dataset.count():,} records",
    ]
    names = list(schema)
    for name in names[:_MAX_FIELDS]:
        track = view.track(name)
        notes = [str(track.declared), format_nbytes(track.nbytes)]
        if track.nulls:
            notes.append(f"{track.nulls:,} null")
        if name == schema.key:
            notes.append("key")
        lines.append(f"  {name}: {', '.join(notes)}")
    if len(names) > _MAX_FIELDS:
        lines.append(f"  ... {len(names) - _MAX_FIELDS} more fields")
    return "\n".join(lines)


def dataset_html(dataset: Dataset) -> str:
    """Return a table of the fields, with thumbnails and small histograms.

    Parameters
    ----------
    dataset : Dataset
        What to show.
    """
    view = dataset._view
    rows = []
    for name in view.content.schema:
        track = view.track(name)
        cells = (
            html.escape(name),
            html.escape(str(track.declared)),
            format_nbytes(track.nbytes),
            f"{track.nulls:,}",
            _preview(dataset, name),
        )
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    title = html.escape(
        f"{dataset.name or dataset.current_manifest()[:16]} ({_state(dataset)}), "
        f"{dataset.count():,} records"
    )
    head = "".join(f"<th>{h}</th>" for h in ("field", "type", "bytes", "nulls", "values"))
    return (
        f"<div><b>{title}</b><br><code>{html.escape(dataset.current_manifest())}</code>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _first_rows(dataset: Dataset, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    view = dataset._view
    return view.row_of_visible(np.arange(min(count, view.count()), dtype=np.int64))


def _preview(dataset: Dataset, name: str) -> str:
    view = dataset._view
    track = view.track(name)
    kind = track.ftype.kind
    if not view.count():
        return ""
    if kind == "image":
        values = gather(track, _first_rows(dataset, _THUMBNAILS)).to_pylist()
        return "".join(_thumbnail(v, track.ftype.mime or "") for v in values if v)
    if kind in ("int", "float", "bool", "timestamp"):
        return _histogram(gather(track, _first_rows(dataset, _SAMPLE)).to_pylist())
    if kind in ("string", "categorical", "text"):
        values = gather(track, _first_rows(dataset, 3)).to_pylist()
        return html.escape(", ".join(repr(v)[:40] for v in values))
    return ""


def _thumbnail(value: bytes, mime: str) -> str:
    if len(value) > _MAX_THUMBNAIL_NBYTES:
        return f"[{format_nbytes(len(value))}]"
    media = mime if "/" in mime else f"image/{mime}"
    data = base64.b64encode(value).decode("ascii")
    return f'<img height="32" src="data:{html.escape(media, quote=True)};base64,{data}">'


def _histogram(values: list[Any]) -> str:
    numbers = np.array([float(v) for v in values if isinstance(v, (bool, int, float))])
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return ""
    counts, edges = np.histogram(numbers, bins=16)
    top = max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{i * 6}" y="{24 - 24 * c / top:.1f}" width="5" height="{24 * c / top:.1f}"/>'
        for i, c in enumerate(counts.tolist())
    )
    span = html.escape(f"{edges[0]:g} to {edges[-1]:g}")
    return f'<svg width="96" height="24" fill="#567">{bars}</svg> {span}'
