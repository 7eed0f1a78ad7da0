"""Repair: what is damaged or missing comes back from another space, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.objects import Kind, OpenedObject, to_text
from dreamdb.store import Backend
from dreamdb.testing import FaultBackend, FaultPlan, flip_bit, truncate
from dreamdb.types import Address
from tests.transfer.spaces import (
    addresses,
    backend_of,
    counting,
    duplicate,
    memory,
    needed,
    rows,
    sample,
    state,
)


def _hurt(backend: Backend, address: Address, how: int) -> None:
    """Damage or remove one object of a memory space."""
    objects: dict[Address, bytes] = backend._space.objects  # type: ignore[attr-defined]
    if how == 0:
        del objects[address]
    elif how == 1:
        objects[address] = flip_bit(8 * (len(objects[address]) - 1))(objects[address])
    else:
        objects[address] = truncate(len(objects[address]) // 2)(objects[address])


_WHOLE = memory()
sample(_WHOLE, 60)
_ALL = sorted(needed(_WHOLE))


@given(st.dictionaries(st.sampled_from(_ALL), st.integers(0, 2), min_size=1, max_size=6))
def test_any_damage_is_repaired(damage: dict[Address, int]) -> None:
    hurt = duplicate(_WHOLE)
    for address, how in damage.items():
        _hurt(hurt, address, how)
    space = vd.connect(hurt)
    planned = space.repair(_WHOLE, dry_run=True)
    assert not planned.ok
    assert planned.dry_run
    report = space.repair(_WHOLE)
    assert report.ok
    assert report.lost == {}
    assert set(report.repaired) == {to_text(address) for address in damage}
    # A dry run reads no further than a repair would.
    assert set(planned.repaired) <= set(report.repaired)
    assert len(report.repaired) == len(set(report.repaired))
    assert state(hurt) == state(_WHOLE)
    assert space.verify().ok


@pytest.mark.parametrize("kind", ["directory", "fsspec"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_on_a_disk_is_repaired(kind: str, how: str, tmp_path: Path) -> None:
    whole, hurt = memory(), backend_of(kind, tmp_path)
    ds = vd.Dataset.create("main", vd.Schema().add_embedding("v", 256), whole)
    ds.append({"v": np.random.default_rng(0).standard_normal((600, 256), dtype=np.float32)})
    vd.clone(whole, hurt)
    for address in sorted(addresses(hurt)):
        stored = bytes(hurt.objects.open(address))
        hurt.objects.delete(address)
        if how != "remove":
            damaged = flip_bit(8 * 65)(stored) if how == "flip" else stored[: len(stored) // 2]
            _write(hurt, kind, address, damaged)
        report = vd.connect(hurt).repair(whole)
        assert (report.ok, report.repaired) == (True, [to_text(address)])
        assert report.nbytes == len(stored)
    assert state(hurt) == state(whole)


def _write(backend: Any, kind: str, address: Address, body: bytes) -> None:
    from dreamdb.objects import object_key

    if kind == "directory":
        (Path(backend.path) / object_key(address)).write_bytes(body)
    else:
        backend._files.write(object_key(address), body)


def test_what_the_other_space_lacks_is_listed() -> None:
    whole, hurt = memory(), memory()
    ds = sample(hurt)
    vd.clone(hurt, whole)
    ds.append(rows(3_000, 3_010))
    new = needed(hurt, "main") - addresses(whole)
    old = needed(hurt, "v1")
    fragments = [a for a in sorted(new) if _kind(hurt, a) is Kind.FRAGMENT]
    lost, found = fragments[0], max(a for a in old if _kind(hurt, a) is Kind.FRAGMENT)
    _hurt(hurt, lost, 0)
    _hurt(hurt, found, 1)
    report = vd.connect(hurt).repair(whole)
    assert not report.ok
    assert report.repaired == [to_text(found)]
    assert list(report.lost) == [to_text(lost)]
    assert {d.object for d in report.after.damage} == {to_text(lost)}


def _kind(backend: Backend, address: Address) -> Kind:
    return OpenedObject(address, backend.objects.open(address), None).kind


def test_a_damaged_copy_repairs_nothing() -> None:
    whole, hurt = duplicate(_WHOLE), duplicate(_WHOLE)
    address = next(a for a in _ALL if _kind(_WHOLE, a) is Kind.NODE)
    _hurt(whole, address, 1)
    _hurt(hurt, address, 2)
    before = dict(hurt._space.objects)  # type: ignore[attr-defined]
    report = vd.connect(hurt).repair(whole)
    assert not report.ok
    assert report.repaired == []
    assert "does not" in report.lost[to_text(address)]
    assert hurt._space.objects == before  # type: ignore[attr-defined]


def test_a_dry_run_changes_nothing_and_a_whole_space_needs_nothing() -> None:
    whole, hurt = duplicate(_WHOLE), duplicate(_WHOLE)
    helper = counting(whole)
    with helper.measured() as tally:
        report = vd.connect(hurt).repair(helper)
    assert report.ok
    assert report.repaired == []
    assert tally.calls["objects.open"] == 0
    for address in _ALL[::3]:
        _hurt(hurt, address, 0)
    before = dict(hurt._space.objects)  # type: ignore[attr-defined]
    report = vd.connect(hurt).repair(whole, dry_run=True)
    assert not report.ok
    assert report.repaired
    assert hurt._space.objects == before  # type: ignore[attr-defined]


def test_a_repair_that_fails_half_way_can_go_on() -> None:
    hurt = duplicate(_WHOLE)
    for address in _ALL:
        if _kind(_WHOLE, address) is Kind.FRAGMENT:
            _hurt(hurt, address, 0)
    for reads in (1, 2):
        dying = FaultBackend(_WHOLE, FaultPlan(reads=reads))
        with pytest.raises(vd.StorageError, match="cannot reach"):
            vd.connect(hurt).repair(dying)
    assert vd.connect(hurt).repair(_WHOLE).ok
    assert state(hurt) == state(_WHOLE)


def test_shallow_and_partial_clones_are_repaired_to_what_they_were() -> None:
    for arguments in ({"shallow": True}, {"fields": ["x"]}):
        hurt = memory()
        vd.clone(_WHOLE, hurt, "main", **arguments)  # type: ignore[arg-type]
        kept = addresses(hurt)
        for address in sorted(kept):
            _hurt(hurt, address, 0)
            report = vd.connect(hurt).repair(_WHOLE)
            assert report.ok
            assert addresses(hurt) == kept
