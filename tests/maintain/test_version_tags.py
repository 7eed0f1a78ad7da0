"""Version tags beside the collector, expiry, purges and leases: they keep what snapshots keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamdb as vd
from dreamdb.history import open_catalog
from dreamdb.maintain import check_absent, expire_history, verify_space
from dreamdb.objects import from_text
from dreamdb.store import Backend, LeasedBackend, open_backend
from dreamdb.store.leases import Condemned
from dreamdb.testing import CountingBackend
from dreamdb.types import Address
from tests.maintain.spaces import collect, fresh, make, open_caches, well
from tests.maintain.test_collect import reached
from tests.maintain.test_leases import quick

SECRET = 30


def tagged(backend: Any) -> vd.Database:
    """Return a database whose tag ``kept`` is older than the tips of both tables."""
    left, right = make(backend, 20, "left"), make(backend, 8, "right")
    make(backend, 4, "other")
    db = vd.Database(backend, threads=1)
    db.create_version_tag("kept", message="before the changes")
    for number in range(4):
        left.update([10], {"x": [1_000 + number]})
    right.delete([20])
    return db


def tables(backend: Backend, tag: str = "kept") -> dict[str, Address]:
    """Return what a tag names, read with nothing in the caches."""
    value = backend.refs.read(tag)
    assert value is not None
    catalog = open_catalog(open_caches(backend).cache, tag, value)
    assert catalog is not None
    return dict(catalog.tables)


def shown(backend: Backend, tag: str = "kept") -> dict[str, list[dict[str, Any]]]:
    """Return the records of every table of a tag, read with nothing in the caches."""
    return {
        name: vd.Dataset(open_caches(backend), name, manifest, None).scan().to_arrow().to_pylist()
        for name, manifest in tables(backend, tag).items()
    }


def damage(path: Path, at: int) -> None:
    """Flip one bit of a file."""
    body = bytearray(path.read_bytes())
    body[at] ^= 1
    path.chmod(0o644)
    path.write_bytes(body)


def test_a_tag_is_one_ref() -> None:
    backend = CountingBackend(fresh())
    with tagged(backend) as db:
        db.tables()
        with backend.measured() as tally:
            db.create_version_tag("second")
        assert tally.calls["refs.swap"] == 1
        assert tally.calls["refs.list"] == 2
        assert not any(name.startswith("objects.put") for name in tally.calls)
        value = backend.refs.read("second")
        assert value is not None
        assert value.carried is not None
        assert backend.objects.size(value.address) is None
        before = shown(backend.inner, "second")
        db.execute("DROP VERSION TAG 'second'")
        assert backend.objects.size(value.address) is not None
        db.restore_version_tag("second")
        assert shown(backend.inner, "second") == before


def test_a_long_catalog_is_an_object() -> None:
    backend = fresh()
    ds = make(backend, 4, "main", commits=1)
    for number in range(250):
        ds.branch(f"run/{number:03}")
    with vd.Database(backend, threads=1) as db:
        db.create_version_tag("all")
        value = backend.refs.read("all")
        assert value is not None
        assert value.carried is None
        assert len(tables(backend, "all")) == 251
        assert collect(backend).garbage == ()
        assert well(backend)
        db.execute("DROP VERSION TAG 'all'")
    assert [one.kind for one in collect(backend).garbage] == ["catalog"]


def test_what_a_tag_names_outlives_its_tables() -> None:
    backend = fresh()
    with tagged(backend) as db:
        seen = shown(backend)
        db.execute("DROP TABLE left; DROP TABLE right")
        assert collect(backend, trash=False).removed > 0
        assert shown(backend) == seen
        assert well(backend)
        db.execute("DROP VERSION TAG 'kept'")
        report = collect(backend, trash=False)
        kinds = [one.kind for one in report.garbage]
        assert kinds[0] == "catalog"
        assert kinds.count("manifest") == 8
        assert well(backend)
        with pytest.raises(vd.ObjectMissingError, match="was collected"):
            db.restore_version_tag("kept")


def test_expiry_keeps_what_a_tag_names() -> None:
    backend = fresh()
    with tagged(backend):
        seen, named = shown(backend), set(tables(backend).values())
        report = expire_history(backend, open_caches(backend).source, 1, dry_run=False)
        assert report.expired
        assert not named & {from_text(address) for address, _, _ in report.expired}
        collect(backend, trash=False)
        assert shown(backend) == seen
        assert well(backend)


def test_a_purge_reaches_into_tags_and_moves_none() -> None:
    backend = fresh()
    with tagged(backend) as db:
        seen, before = shown(backend), backend.refs.read("kept")
        tip = from_text(db.table("left").current_manifest())
        anchors = np.array([SECRET], np.uint64)
        report = db.table("left").maintain.purge([SECRET], dry_run=False)
        assert report.refs == ("kept", "left")
        assert report.moved == ("left",)
        assert backend.refs.read("kept") == before
        # The other table has a record of that anchor too: another dataset, which is not meant.
        expected = {
            name: [r for r in rows if name != "left" or r["_anchor"] != SECRET]
            for name, rows in seen.items()
        }
        assert shown(backend) == expected
        assert db.query("SELECT count(*) FROM left AT VERSION 'kept'").fetchall() == [(19,)]
        collect(backend, trash=False)
        assert check_absent(backend, open_caches(backend).source, tip, anchors).ok
        assert well(backend)


def test_usage_of_a_tag() -> None:
    backend = fresh()
    with tagged(backend):
        usage = vd.connect(backend).du(["kept"])
    needed = set().union(*(reached(backend, manifest) for manifest in tables(backend).values()))
    sizes = {bytes(address): size for address, size in backend.objects.list()}
    (ref,) = usage.refs
    assert (ref.name, ref.kind, ref.fields) == ("kept", "tag", ())
    assert (ref.objects, ref.nbytes) == (len(needed), sum(sizes[one] for one in needed))
    assert ref.unique_nbytes == 0


def test_datasets_and_tags_are_restored_by_their_own_verbs() -> None:
    backend = fresh()
    with tagged(backend) as db:
        seen, space = shown(backend), vd.connect(backend)
        db.execute("DROP TABLE right")
        space.delete_ref("kept")
        with pytest.raises(vd.InvalidInputError, match="version tag of the whole database"):
            space.restore("kept")
        with pytest.raises(vd.InvalidInputError, match="was a dataset"):
            db.restore_version_tag("right")
        with pytest.raises(vd.RefNotFoundError):
            db.restore_version_tag("never")
        assert db.tags() == []
        db.restore_version_tag("kept")
        with pytest.raises(vd.AlreadyExistsError):
            db.restore_version_tag("kept")
        assert shown(backend) == seen
        assert well(backend)


def test_damage_is_told(tmp_path: Path) -> None:
    backend = open_backend(tmp_path)
    with tagged(backend) as db:
        ref = tmp_path / "refs" / "kept"
        good, told = ref.read_bytes(), tables(backend)
        for at in range(0, len(good), 7):
            damage(ref, at)
            damaged = open_backend(tmp_path)
            found = verify_space(damaged, open_caches(damaged).source, data=False)
            if 32 <= at - 33 < 40:
                # The nonce of the envelope is random.
                assert tables(damaged) == told, at
            else:
                assert "kept" in str(found.damage), at
                with pytest.raises(vd.IntegrityError):
                    tables(damaged)
            ref.write_bytes(good)
        db.execute("DROP TABLE left")
        text = vd.connect(backend).reflog("left")[0]["old"]
        (tmp_path / "objects" / text[2] / text).unlink()
        assert vd.connect(open_backend(tmp_path)).verify().damage
        kept = tables(backend)["left"]
        content = vd.Dataset(open_caches(backend), "left", kept, None).content_id
        (tmp_path / "objects" / content[2] / content).unlink()
        report = vd.connect(open_backend(tmp_path)).verify()
        assert any(one.object == content and "kept" in one.refs for one in report.damage)


def test_a_tag_of_what_is_being_collected_is_refused() -> None:
    backend = fresh()
    with tagged(backend):
        value = backend.refs.read("kept")
    assert value is not None
    assert value.carried is not None
    leased = quick(backend)
    condemned = Condemned("collector", False, frozenset([tables(backend)["right"]]))
    _condemn(leased, condemned)
    before = leased.refs.read("kept")
    leased.refs.swap("kept", before, None)
    with pytest.raises(vd.ConflictError, match="is being collected"):
        leased.refs.swap("kept", None, value.address, value.carried)
    assert backend.refs.read("kept") is None


def _condemn(backend: LeasedBackend, condemned: Condemned) -> None:
    backend.documents.swap("condemned", backend.documents.read("condemned"), condemned.encode())
