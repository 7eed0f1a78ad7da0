"""Values of records: short for people, exact or described for programs.

Media are shown by their size; read them with ``dreamdb show --output`` or ``Dataset.open_blob``.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["batch_rows", "csv_text", "json_value", "short_text", "time_text"]

_LONGEST: Final = 40
_SHOWN_NUMBERS: Final = 3
_NS: Final = 1_000_000_000


def column_values(array: pa.Array) -> list[Any]:
    """Return a column as Python values; times as ISO 8601 text with all nine digits."""
    import pyarrow as pa

    if isinstance(array, pa.ExtensionArray):
        return column_values(array.storage)
    if pa.types.is_timestamp(array.type):
        ticks = array.cast(pa.timestamp("ns", array.type.tz)).cast(pa.int64()).to_pylist()
        return [None if tick is None else time_text(tick) for tick in ticks]
    values: list[Any] = array.to_pylist()
    return values


def time_text(time_ns: int) -> str:
    """Return nanoseconds since the epoch as ISO 8601 text, UTC."""
    seconds, fraction = divmod(time_ns, _NS)
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    text = moment.isoformat()
    return f"{text}.{fraction:09d}".rstrip("0") if fraction else text


def batch_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Yield one dictionary per record of a stream of batches."""
    for batch in batches:
        names = batch.schema.names
        columns = [column_values(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield dict(zip(names, row, strict=True))


def json_value(value: Any) -> Any:
    """Return a value as JSON can hold it.

    Bytes become ``{"nbytes": n, "head": "<hex of the first 16>"}``; NaN and the infinities, which
    JSON has no numbers for, become text.
    """
    if isinstance(value, bytes):
        return {"nbytes": len(value), "head": value[:16].hex()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {str(name): json_value(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return json_value(value.item())
    return str(value)


def short_text(value: Any, longest: int = _LONGEST) -> str:
    """Return a value in at most so many characters."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        text = f"<{len(value):,} bytes>"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, (list, tuple)):
        shown = ", ".join(short_text(item, 12) for item in value[:_SHOWN_NUMBERS])
        more = f", ... {len(value):,} values" if len(value) > _SHOWN_NUMBERS else ""
        text = f"[{shown}{more}]"
    elif isinstance(value, Mapping):
        text = "{" + ", ".join(f"{k}: {short_text(v, 12)}" for k, v in value.items()) + "}"
    else:
        text = str(value)
    return text if len(text) <= longest else text[: longest - 3] + "..."


def csv_text(values: Iterable[Any]) -> str:
    """Return one line of CSV (RFC 4180, without its line end); null is an empty cell."""
    import csv
    import io
    import json

    cells = []
    for value in values:
        if isinstance(value, (bytes, list, tuple, Mapping)):
            cells.append(json.dumps(json_value(value), ensure_ascii=False))
        else:
            cells.append("" if value is None else value)
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()
