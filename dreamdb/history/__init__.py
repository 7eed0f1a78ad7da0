"""The manifest DAG and the refs that point into it."""

from dreamdb.history.dag import (
    ancestor_at_time,
    ancestors,
    first_parents,
    is_ancestor,
    load_manifest,
    manifests_since,
    merge_base,
    merge_bases,
    skip_address,
)
from dreamdb.history.refs import ResolvedRef, find_ref, resolve_address, resolve_ref
from dreamdb.history.renames import field_renames, renames_since

__all__ = [
    "ResolvedRef",
    "ancestor_at_time",
    "ancestors",
    "field_renames",
    "find_ref",
    "first_parents",
    "is_ancestor",
    "load_manifest",
    "manifests_since",
    "merge_base",
    "merge_bases",
    "renames_since",
    "resolve_address",
    "resolve_ref",
    "skip_address",
]
