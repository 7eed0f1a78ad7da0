"""Documents and trees: what objects say, independent of how values or bytes are stored."""

from dreamdb.model.catalog import CATALOG_FEATURE, Catalog
from dreamdb.model.cuts import LADDER, OPEN, Cuts, nearest_rung, next_rung, rung_ends, track_cuts
from dreamdb.model.documents import (
    Content,
    Manifest,
    Tag,
    check_space,
    new_space,
    skip_generation,
)
from dreamdb.model.node import Entries, Node, empty_entries, entry_dtype, stats_kind
from dreamdb.model.schema import (
    ANCHOR,
    TIMELINE_RUNGS,
    TOMBSTONE_RUNGS,
    Field,
    FieldList,
    check_algorithm,
    check_field_name,
    default_rungs,
    field_type,
    row_nbytes,
)
from dreamdb.model.tree import build_tree, edit_tree, leaf_entries, walk_nodes

__all__ = [
    "ANCHOR",
    "CATALOG_FEATURE",
    "LADDER",
    "OPEN",
    "TIMELINE_RUNGS",
    "TOMBSTONE_RUNGS",
    "Catalog",
    "Content",
    "Cuts",
    "Entries",
    "Field",
    "FieldList",
    "Manifest",
    "Node",
    "Tag",
    "build_tree",
    "check_algorithm",
    "check_field_name",
    "check_space",
    "default_rungs",
    "edit_tree",
    "empty_entries",
    "entry_dtype",
    "field_type",
    "leaf_entries",
    "nearest_rung",
    "new_space",
    "next_rung",
    "row_nbytes",
    "rung_ends",
    "skip_generation",
    "stats_kind",
    "track_cuts",
    "walk_nodes",
]
