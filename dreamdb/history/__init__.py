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
from dreamdb.history.marks import (
    change_cuts,
    load_marks,
    open_content,
    read_cuts,
    read_redaction,
    redactions,
    reload_cuts,
    require_feature,
    resolve_content,
    write_redaction,
)
from dreamdb.history.refs import ResolvedRef, find_ref, resolve_address, resolve_ref

__all__ = [
    "ResolvedRef",
    "ancestor_at_time",
    "ancestors",
    "change_cuts",
    "find_ref",
    "first_parents",
    "is_ancestor",
    "load_manifest",
    "load_marks",
    "merge_base",
    "open_content",
    "read_cuts",
    "read_redaction",
    "redactions",
    "reload_cuts",
    "require_feature",
    "resolve_address",
    "resolve_content",
    "resolve_ref",
    "skip_address",
    "write_redaction",
]
