"""Transactions: several writes, one manifest, all or nothing."""

from __future__ import annotations

import pytest

import dreamdb as vd
from tests.dataset.spaces import again, by_anchor, numbered, records, stored


def test_several_verbs_make_one_manifest() -> None:
    ds = numbered(3)
    with ds.transaction("import", application={"run": "7"}) as tx:
        assert tx.append_many([{"_anchor": 30, "x": 3}, {"_anchor": 5, "x": -5}]) == 2
        assert tx.count() == 5
        assert tx.add_scalar_layer("p", "x", "int", [(30, 1), (5, 2)]) == 2
        assert tx.update([30], {"x": 33, "p": 11}) == 1
        assert tx.delete("x = 0") == 1
        assert tx.upsert([{"_anchor": 0, "x": 100}, {"_anchor": 5, "x": 55}]) == 2
        tx.rename_field("p", "q")
        tx.set_metadata({"source": "web"})
        # Nothing is visible outside before the end.
        assert ds.count() == again(ds).count() == 3
    want = [
        {"_anchor": 0, "x": 100, "q": None},
        {"_anchor": 5, "x": 55, "q": 2},
        {"_anchor": 10, "x": 1, "q": None},
        {"_anchor": 20, "x": 2, "q": None},
        {"_anchor": 30, "x": 33, "q": 11},
    ]
    assert records(ds) == records(again(ds)) == want
    last = ds.log()[0]
    assert len(ds.log()) == 3
    assert last.message == "import"
    assert last.application == {"run": "7"}
    assert [step["name"] for step in last.operation["steps"]] == [
        "append", "create layer", "update", "delete", "upsert", "rename field", "set metadata",
    ]  # fmt: skip
    assert vd.connect(ds.backend).verify().ok


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_discards_everything(error: BaseException) -> None:
    ds = numbered(3)
    refs, manifest = stored(ds.backend)[0], ds.current_manifest()
    with pytest.raises(type(error)), ds.transaction() as tx:  # noqa: PT012
        tx.append_many([{"x": 9}])
        tx.drop_field("x")
        raise error
    assert stored(ds.backend)[0] == refs
    assert ds.current_manifest() == manifest
    assert ds.append_many([{"_anchor": 30, "x": 3}]) == 1


def test_a_verb_that_fails_leaves_the_others() -> None:
    ds = numbered(3)
    with ds.transaction() as tx:
        tx.append_many([{"_anchor": 30, "x": 3}])
        with pytest.raises(vd.InvalidInputError, match="row 1"):
            tx.append_many([{"_anchor": 40, "x": 4}, {"_anchor": 50, "x": "five"}])
        with pytest.raises(vd.AlreadyExistsError, match="row 0"):
            tx.append_many([{"_anchor": 30, "x": 3}])
        with pytest.raises(vd.AnchorNotFoundError, match="40"):
            tx.delete([40])
        tx.update([30], {"x": 33})
    assert by_anchor(ds, "x") == {0: 0, 10: 1, 20: 2, 30: 33}


def test_an_empty_transaction_writes_nothing() -> None:
    ds = numbered(1)
    before = stored(ds.backend)
    with ds.transaction():
        pass
    with ds.transaction() as tx:
        tx.append_many([])
        tx.update([0], {"x": 0})
    assert stored(ds.backend)[0] == before[0]
    assert len(ds.log()) == 2


def test_a_transaction_is_used_once_and_inside_its_block() -> None:
    ds = numbered(1)
    tx = ds.transaction()
    with pytest.raises(vd.StateError, match="not open"):
        tx.append_many([{"x": 1}])
    with tx, pytest.raises(vd.StateError, match="open already"), tx:
        pass
    with pytest.raises(vd.StateError, match="not open"):
        tx.count()
    assert ds.count() == 1


def test_a_write_through_the_handle_meanwhile_is_kept() -> None:
    ds = numbered(0)
    with ds.transaction() as tx:
        tx.append_many([{"x": 1}])
        ds.append_many([{"x": 2}])
    assert sorted(ds["x"].to_pylist()) == [1, 2]
    with (  # noqa: PT012
        pytest.raises(vd.ConflictError, match="publish conflict on ref"),
        ds.transaction() as tx,
    ):
        tx.add_scalar_layer("p", None, "int", [])
        ds.add_scalar_layer("p", None, "int", [])
    assert len(ds.log()) == 4


def test_two_transactions_of_one_handle_both_arrive() -> None:
    ds = numbered(0)
    with ds.transaction() as outer:
        outer.append_many([{"x": 1}])
        with ds.transaction() as inner:
            inner.append_many([{"x": 2}])
    assert sorted(ds["x"].to_pylist()) == [1, 2]
    assert [r.operation["name"] for r in ds.log()] == ["append", "append", "create"]


def test_a_transaction_is_replayed_as_a_whole() -> None:
    ds = numbered(3)
    other = again(ds)
    with ds.transaction() as tx:
        tx.append_many([{"x": 100}])
        tx.add_scalar_layer("p", None, "int", [(0, 7)])
        other.append_many([{"x": 200}, {"x": 201}])
        other.add_scalar_layer("q", None, "int", [(10, 8)])
    assert sorted(ds["x"].to_pylist()) == [0, 1, 2, 100, 200, 201]
    assert by_anchor(ds, "p")[0] == 7
    assert by_anchor(ds, "q")[10] == 8
    with pytest.raises(vd.ConflictError), ds.transaction() as tx:  # noqa: PT012
        tx.append_many([{"x": 300}])
        tx.update([0], {"x": 1})
        other.refresh().update([0], {"x": 2})
    assert 300 not in ds.refresh()["x"].to_pylist()
    assert by_anchor(ds, "x")[0] == 2


def test_read_only_handles_have_no_transactions() -> None:
    ds = numbered(1)
    snapshot = ds.snapshot("v1")
    for handle in (
        vd.Dataset.open_ref("v1", ds.backend),
        vd.Dataset.open_at(snapshot, ds.backend),
        vd.Dataset.open_by_manifest(ds.current_manifest(), ds.backend),
        vd.Dataset.open_ref("main", ds.backend, at=ds.current_manifest()),
    ):
        for verb in (
            lambda h=handle: h.transaction(),
            lambda h=handle: h.append_many([{"x": 1}]),
            lambda h=handle: h.append({"x": [1]}),
            lambda h=handle: h.upsert([{"_anchor": 0, "x": 1}]),
            lambda h=handle: h.update([0], {"x": 1}),
            lambda h=handle: h.delete([0]),
            lambda h=handle: h.delete("x = 99"),
            lambda h=handle: h.add_scalar_layer("p", None, "int", []),
            lambda h=handle: h.drop_field("x"),
            lambda h=handle: h.rename_field("x", "y"),
            lambda h=handle: h.add_fields(vd.Schema().add_text("t")),
            lambda h=handle: h.set_metadata({"a": "b"}),
        ):
            with pytest.raises(vd.ReadOnlyError, match="cannot write"):
                verb()
        assert handle.count() == 1
