"""Two versions of a table, record by record, as a query over both.

Source: design/0020 section 5.
"""

from __future__ import annotations

from dreamdb.dataset import Dataset
from dreamdb.model import ANCHOR
from dreamdb.sql.references import quoted

__all__ = ["difference"]


def difference(old_view: str, old: Dataset, new_view: str, new: Dataset) -> str:
    """Return the query of the records that two versions of a table hold differently.

    Its columns are ``change`` (``added``, ``removed``, ``changed``), ``_anchor``, and ``before``
    and ``after``: the fields that differ, as structs, null where there is no record.  Fields with
    the same tree in both versions are not read.

    Parameters
    ----------
    old_view, new_view : str
        What the engine calls them.
    old, new : Dataset
        The versions.
    """
    names = _differing(old, new)
    before = _struct(old, [name for name in names if name in old.schema])
    after = _struct(new, [name for name in names if name in new.schema])
    key = quoted(ANCHOR)
    none = "" if names or _moved(old, new) else " WHERE false"
    return (
        "(SELECT CASE WHEN a._row IS NULL THEN 'added' WHEN b._row IS NULL THEN 'removed' "
        f"ELSE 'changed' END AS change, {key}, a._row AS before, b._row AS after FROM "
        f"(SELECT {key}, {before} AS _row FROM {quoted(old_view)}{none}) a FULL JOIN "
        f"(SELECT {key}, {after} AS _row FROM {quoted(new_view)}{none}) b USING ({key}) "
        "WHERE a._row IS DISTINCT FROM b._row)"
    )


def _moved(old: Dataset, new: Dataset) -> bool:
    """Return whether records were added or removed."""
    before, after = old._view.content, new._view.content
    return (before.timeline, before.tombstones) != (after.timeline, after.tombstones)


def _differing(old: Dataset, new: Dataset) -> list[str]:
    """Return the fields whose values may differ, in the order of the newer version."""
    before, after = old._view.content, new._view.content
    everything = list(dict.fromkeys([*after.schema, *before.schema]))
    if _moved(old, new):
        return everything
    return [
        name
        for name in everything
        if name not in before.schema
        or name not in after.schema
        or before.schema[name].type != after.schema[name].type
        or before.tracks[name] != after.tracks[name]
    ]


def _struct(dataset: Dataset, names: list[str]) -> str:
    if not names:
        # A version without any of the fields still has its records.
        return "struct_pack(_ := true)"
    listed = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in names)
    return f"struct_pack({listed})"
