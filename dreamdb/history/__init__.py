"""The manifest DAG and the refs that point into it."""

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
    find_ref,
    manifests_of,
    open_catalog,
    resolve_address,
    resolve_ref,
)

__all__ = [
    "ResolvedRef",
    "ancestor_at_time",
    "ancestors",
    "find_ref",
    "first_parents",
    "is_ancestor",
    "load_manifest",
    "manifests_of",
    "merge_base",
    "open_catalog",
    "resolve_address",
    "resolve_ref",
    "skip_address",
]
