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
    create_ref,
    make_manifest,
    stage_root,
)
from dreamdb.write.conflicts import Conflict, Conflicts, Resolution
from dreamdb.write.indexes import Recode, SetIndex, follow_indexes, publish
from dreamdb.write.keys import KEY_KINDS, anchor_of_key
from dreamdb.write.merge_commit import MergeOutcome, apply_change, merge_into
from dreamdb.write.moves import deleted_value, move_branch, previous_tip, restore_ref
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
    "Conflict",
    "Conflicts",
    "DeleteRecords",
    "DropField",
    "MergeOutcome",
    "Recode",
    "Removed",
    "RenameField",
    "Resolution",
    "SetCells",
    "SetIndex",
    "SetMetadata",
    "Slab",
    "Stage",
    "WriteLayer",
    "anchor_array",
    "anchor_of_key",
    "apply_change",
    "check_anchors",
    "check_notes",
    "check_text",
    "commit",
    "create_ref",
    "create_snapshot",
    "deleted_value",
    "follow_indexes",
    "make_manifest",
    "merge_into",
    "move_branch",
    "previous_tip",
    "publish",
    "remove_records",
    "restore_ref",
    "slabs",
    "stage_root",
    "store_tag",
]
