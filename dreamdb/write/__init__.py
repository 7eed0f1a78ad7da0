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
    stage_root,
)
from dreamdb.write.indexes import Recode, SetIndex, publish
from dreamdb.write.keys import KEY_KINDS, anchor_of_key
from dreamdb.write.records import AddRecords
from dreamdb.write.rows import Slab, anchor_array, check_anchors, slabs
from dreamdb.write.stage import Stage

__all__ = [
    "KEY_KINDS",
    "AddField",
    "AddRecords",
    "Change",
    "CommitNote",
    "Committed",
    "DeleteRecords",
    "DropField",
    "Recode",
    "RenameField",
    "SetCells",
    "SetIndex",
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
    "publish",
    "slabs",
    "stage_root",
]
