"""Looking after a space: reachability, garbage, verification."""

from dreamdb.maintain.collect import (
    TRASH_KEEP_NS,
    GcReport,
    RestoreReport,
    collect_garbage,
    restore_trash,
)
from dreamdb.maintain.complete import check_complete
from dreamdb.maintain.condemn import collect_leased
from dreamdb.maintain.expire import ExpireReport, expire_history
from dreamdb.maintain.garbage import Garbage
from dreamdb.maintain.mark import Marks
from dreamdb.maintain.purge import AbsenceReport, PurgeReport, check_absent, purge_records
from dreamdb.maintain.reach import reachable_objects
from dreamdb.maintain.roots import roots
from dreamdb.maintain.usage import DiskUsage, FieldUsage, RefUsage, disk_usage
from dreamdb.maintain.verify import Damage, VerifyReport, verify_space

__all__ = [
    "TRASH_KEEP_NS",
    "AbsenceReport",
    "Damage",
    "DiskUsage",
    "ExpireReport",
    "FieldUsage",
    "Garbage",
    "GcReport",
    "Marks",
    "PurgeReport",
    "RefUsage",
    "RestoreReport",
    "VerifyReport",
    "check_absent",
    "check_complete",
    "collect_garbage",
    "collect_leased",
    "disk_usage",
    "expire_history",
    "purge_records",
    "reachable_objects",
    "restore_trash",
    "roots",
    "verify_space",
]
