"""Every backend keeps the contract that dreamdb.testing states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dreamdb.testing import (
    CHECKS,
    DOCUMENT_CHECKS,
    STAMP_CHECKS,
    TRASH_CHECKS,
    Check,
    OpenSpace,
)
from tests.store.spaces import (
    MAKERS,
    counted,
    faultless,
    leased,
    local,
    local_single_writer,
    memory,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_contract(make: Callable[[Path], OpenSpace], check: Check, tmp_path: Path) -> None:
    check(make(tmp_path))


@pytest.mark.parametrize("check", DOCUMENT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_documents(make: Callable[[Path], OpenSpace], check: Check, tmp_path: Path) -> None:
    check(make(tmp_path))


@pytest.mark.parametrize("check", TRASH_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "make", [local, local_single_writer, memory, counted, faultless], ids=lambda make: make.__name__
)
def test_trash(make: Callable[[Path], OpenSpace], check: Check, tmp_path: Path) -> None:
    check(make(tmp_path))


@pytest.mark.parametrize("check", STAMP_CHECKS, ids=lambda check: check.__name__)
def test_stamps(check: Check, tmp_path: Path) -> None:
    check(memory(tmp_path))


def test_leases_offer_documents_and_no_trash(tmp_path: Path) -> None:
    backend = leased(tmp_path)()
    assert getattr(backend, "documents", None) is not None
    assert getattr(backend, "trash", None) is None
