"""Looking after a space: reachability, garbage, verification."""

from dreamdb.maintain.complete import check_complete
from dreamdb.maintain.reach import GcReport, collect_garbage, reachable_objects, roots
from dreamdb.maintain.verify import Damage, VerifyReport, verify_space

__all__ = [
    "Damage",
    "GcReport",
    "VerifyReport",
    "check_complete",
    "collect_garbage",
    "reachable_objects",
    "roots",
    "verify_space",
]
