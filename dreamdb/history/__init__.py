"""The manifest DAG and the refs that point into it."""

from dreamdb.history.cuts import cut_parents, skip_line, stored_manifest
from dreamdb.history.dag import (
    ancestor_at_time,
    ancestors,
    first_parents,
    is_ancestor,
    load_manifest,
    merge_base,
    skip_address,
)
from dreamdb.history.refs import (
    ResolvedRef,
    check_new_name,
    find_ref,
    is_tracking,
    resolve_address,
    resolve_ref,
    tracking_name,
)

__all__ = [
    "ResolvedRef",
    "ancestor_at_time",
    "ancestors",
    "check_new_name",
    "cut_parents",
    "find_ref",
    "first_parents",
    "is_ancestor",
    "is_tracking",
    "load_manifest",
    "merge_base",
    "resolve_address",
    "resolve_ref",
    "skip_address",
    "skip_line",
    "stored_manifest",
    "tracking_name",
]
