"""Every backend keeps the contract that dreamdb.testing states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dreamdb.testing import CHECKS, Check, OpenSpace
from tests.store.spaces import MAKERS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_contract(make: Callable[[Path], OpenSpace], check: Check, tmp_path: Path) -> None:
    check(make(tmp_path))
