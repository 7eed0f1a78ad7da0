"""What every backend must do, as checks that anybody can run on their own.

Source: design/0006 section 8.  A check takes a function that opens one space, which is empty at
the start, and fails with an AssertionError.  Run them all with :func:`check_backend`, or one by
one from a test framework::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_contract(check, tmp_path):
        check(lambda: MyBackend(tmp_path))

A backend that offers documents, a trash, or objects with stamps keeps ``DOCUMENT_CHECKS``,
``TRASH_CHECKS`` and ``STAMP_CHECKS`` too; :func:`check_backend` looks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dreamdb.store import StampedObjects, trash_of
from dreamdb.testing import hold_checks, object_checks, ref_checks
from dreamdb.testing.document_checks import DOCUMENT_CHECKS, TRASH_CHECKS
from dreamdb.testing.samples import Check, OpenSpace
from dreamdb.testing.stamp_checks import STAMP_CHECKS

__all__ = ["CHECKS", "check_backend"]

CHECKS: Final[tuple[Check, ...]] = (
    *object_checks.CHECKS,
    *ref_checks.CHECKS,
    *hold_checks.CHECKS,
)
"""Every check, in an order that makes the first failure the most telling one."""


def check_backend(make_space: Callable[[], OpenSpace]) -> None:
    """Run every check that concerns a backend, each on an empty space of its own.

    Parameters
    ----------
    make_space : callable
        Makes an empty space and returns the function that opens it.

    Raises
    ------
    AssertionError
        From the first check that fails.
    """
    backend = make_space()()
    checks = list(CHECKS)
    if getattr(backend, "documents", None) is not None:
        checks += DOCUMENT_CHECKS
    if trash_of(backend) is not None:
        checks += TRASH_CHECKS
    if isinstance(backend.objects, StampedObjects):
        checks += STAMP_CHECKS
    for check in checks:
        check(make_space())
