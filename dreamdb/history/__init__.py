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
from dreamdb.history.renames import field_renames, renames_since

__all__ = [
    "ResolvedRef",
    "ancestor_at_time",
    "ancestors",
    "change_cuts",
    "field_renames",
    "find_ref",
    "first_parents",
    "is_ancestor",
    "load_manifest",
    "load_marks",
    "manifests_since",
    "merge_base",
    "merge_bases",
    "open_content",
    "read_cuts",
    "read_redaction",
    "redactions",
    "reload_cuts",
    "renames_since",
    "require_feature",
    "resolve_address",
    "resolve_content",
    "resolve_ref",
    "skip_address",
    "write_redaction",
]
