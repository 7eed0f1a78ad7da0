"""Writing: staging objects, planning cuts, applying changes, committing."""

from dreamdb.write.changes import (
    AddField,
    Change,
    DeleteRecords,
    DropField,
    RenameField,
    SetCells,
    SetMetadata,
    WriteLayer,
)
from dreamdb.write.commit import (
    CommitNote,
    Committed,
    check_notes,
    check_text,
    commit,
    create_branch,
    create_ref,
    make_manifest,
    stage_root,
)
from dreamdb.write.keys import KEY_KINDS, anchor_of_key
from dreamdb.write.records import AddRecords
from dreamdb.write.rows import Slab, anchor_array, check_anchors, slabs
from dreamdb.write.snapshots import create_snapshot, store_tag
from dreamdb.write.stage import Stage
from dreamdb.write.tracks import Removed, remove_records

__all__ = [
    "KEY_KINDS",
    "AddField",
    "AddRecords",
    "Change",
    "CommitNote",
    "Committed",
    "DeleteRecords",
    "DropField",
    "Removed",
    "RenameField",
    "SetCells",
    "SetMetadata",
    "Slab",
    "Stage",
    "WriteLayer",
    "anchor_array",
    "anchor_of_key",
    "check_anchors",
    "check_notes",
    "check_text",
    "commit",
    "create_branch",
    "create_ref",
    "create_snapshot",
    "make_manifest",
    "remove_records",
    "slabs",
    "stage_root",
    "store_tag",
]
