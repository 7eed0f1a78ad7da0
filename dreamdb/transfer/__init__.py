"""Moving data between spaces: push, fetch, clone, repair.

A room of its own above ``maintain``: it reads one space and writes another, so it needs the
history, the trees and both ports, and repairing needs verification.
"""

from dreamdb.transfer.copier import Copier, Progress
from dreamdb.transfer.history import HistoryCopy
from dreamdb.transfer.moves import (
    Wanted,
    check_snapshot,
    fast_forward,
    follows,
)
from dreamdb.transfer.place import Place
from dreamdb.transfer.repair import RepairReport, repair_space
from dreamdb.transfer.report import RefMove, TransferReport
from dreamdb.transfer.verbs import copy_refs, fetch_refs, find_refs, push_ref

__all__ = [
    "Copier",
    "HistoryCopy",
    "Place",
    "Progress",
    "RefMove",
    "RepairReport",
    "TransferReport",
    "Wanted",
    "check_snapshot",
    "copy_refs",
    "fast_forward",
    "fetch_refs",
    "find_refs",
    "follows",
    "push_ref",
    "repair_space",
]
