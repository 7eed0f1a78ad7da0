"""What every backend must do, as checks that anybody can run on their own.

Source: design/0006 section 8.  A check takes a function that opens one space, which is empty at
the start, and fails with an AssertionError.  Run them all with :func:`check_backend`, or one by
one from a test framework::

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_contract(check, tmp_path):
        check(lambda: MyBackend(tmp_path))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dreamdb.testing import hold_checks, object_checks, ref_checks
from dreamdb.testing.samples import Check, OpenSpace

__all__ = ["CHECKS", "check_backend"]

CHECKS: Final[tuple[Check, ...]] = (
    *object_checks.CHECKS,
    *ref_checks.CHECKS,
    *hold_checks.CHECKS,
)
"""Every check, in an order that makes the first failure the most telling one."""


def check_backend(make_space: Callable[[], OpenSpace]) -> None:
    """Run every check, each on an empty space of its own.

    Parameters
    ----------
    make_space : callable
        Makes an empty space and returns the function that opens it.

    Raises
    ------
    AssertionError
        From the first check that fails.
    """
    for check in CHECKS:
        check(make_space())
