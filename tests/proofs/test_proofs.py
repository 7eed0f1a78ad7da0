"""Certificates: what they prove, against the dataset; and that nobody can make another one."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

import dreamdb as vd
from dreamdb.objects import from_text
from dreamdb.proofs import Certificate

_NUMBERS = itertools.count()
FIELDS = ["i", "f", "b", "s", "c", "t", "when", "blob", "v", "m", "l"]


def make(rows: int, *, spread: int = 10, seed: int = 0) -> vd.Dataset:
    """Return a dataset of every kind of field, with nulls and deleted records."""
    rng = np.random.default_rng(seed)
    schema = (
        vd.Schema()
        .add_scalar_int("i")
        .add_scalar_float("f")
        .add_scalar_bool("b")
        .add_scalar_string("s")
        .add_scalar_categorical("c")
        .add_text("t")
        .add_scalar_timestamp("when")
        .add_binary("blob")
        .add_embedding("v", 16)
        .add_tensor("m", "int16", (2, 3))
        .add_list("l", "string")
    )
    backend = f"memory://proofs-{next(_NUMBERS)}"
    ds = vd.Dataset.create("main", schema, backend=backend)
    anchors = np.cumsum(rng.integers(1, spread, rows)).tolist()
    ds.append_many([_record(n, a, rng) for n, a in enumerate(anchors)])
    ds.delete(anchors[5::7])
    return ds


def _record(number: int, anchor: int, rng: Any) -> dict[str, Any]:
    out = {
        "_anchor": anchor,
        "i": number * 3,
        "f": number / 7,
        "b": number % 2 == 0,
        "s": f"name {number % 5}",
        "c": f"class {number % 3}",
        "t": f"a text of {number} " * 4,
        "when": np.datetime64(number * 1_001, "ns"),
        "blob": rng.bytes(30 + number % 50),
        "v": rng.normal(size=16).astype(np.float32),
        "m": np.arange(6, dtype=np.int16).reshape(2, 3) + number,
        "l": [f"{number}", "x"],
    }
    return {k: (None if k in FIELDS and (number + n) % 11 == 0 else v)
            for n, (k, v) in enumerate(out.items())}  # fmt: skip


def equal(found: Any, wanted: Any) -> bool:
    """Return whether a proved value is the value of a record."""
    if isinstance(found, np.ndarray):
        return bool(np.array_equal(found.ravel(), np.asarray(wanted).ravel()))
    if isinstance(found, np.datetime64) and not isinstance(wanted, np.datetime64):
        return int(found.astype(np.int64)) == getattr(wanted, "value", None)
    return bool(found == wanted)


SMALL = make(300)


def test_every_record_is_proved_with_its_values() -> None:
    ds = SMALL
    manifest = ds.current_manifest()
    table = ds.scan().to_arrow()
    stored = {row["_anchor"]: row for row in table.to_pylist()}
    timeline = {int(a) for a in ds._view.anchors()}
    for anchor in [*range(120), *sorted(stored)[-4:], max(timeline) + 1, (1 << 64) - 1]:
        proof = vd.verify_proof(ds.maintain.prove(anchor, FIELDS), manifest)
        assert proof.anchor == anchor
        assert proof.manifest == manifest
        if anchor in stored:
            assert proof.status == "present"
            assert proof
            assert list(proof.values) == FIELDS
            row = stored[anchor]
            assert all(equal(proof.values[n], row[n]) for n in FIELDS)
        else:
            assert proof.status == ("deleted" if anchor in timeline else "absent")
            assert not proof
            assert proof.values == {}


def test_versions_are_told_apart() -> None:
    ds = make(40)
    snap = ds.snapshot("v1", "for training")
    anchor = int(ds.scan([]).to_arrow()["_anchor"][3].as_py())
    ds.update([anchor], {"i": [77]}, message="corrected")
    ds.append_many([{"_anchor": 9_999, "i": 1}])
    old = vd.prove("v1", anchor, "i", backend=ds.backend)
    new = vd.prove("main", anchor, ["i"], backend=ds.backend)
    told = vd.verify_proof(old, snap)
    assert told.values["i"] != 77
    assert vd.verify_proof(new, ds.current_manifest()).values == {"i": 77}
    assert not vd.verify_proof(vd.prove(snap, 9_999, backend=ds.backend), snap)
    assert vd.verify_proof(vd.prove("main", 9_999, backend=ds.backend), ds.current_manifest())
    with pytest.raises(vd.FormatError, match="of the manifest"):
        vd.verify_proof(old, ds.current_manifest())
    assert vd.verify_proof(old, bytes(from_text(str(snap["manifest"])))) == told
    assert (told.author, told.message) == (ds.log()[2].author, ds.log()[2].message)


def test_an_empty_version_proves_absence() -> None:
    schema = vd.Schema().add_scalar_int("i")
    ds = vd.Dataset.create("main", schema, backend=f"memory://proofs-{next(_NUMBERS)}")
    assert vd.verify_proof(ds.maintain.prove(3, ["i"]), ds.current_manifest()).status == "absent"


def test_bad_questions() -> None:
    ds = SMALL
    for anchor in (-1, 1 << 64, "3", 1.5, True, None):
        with pytest.raises(vd.InvalidInputError, match="anchor"):
            ds.maintain.prove(anchor)  # type: ignore[arg-type]
    with pytest.raises(vd.FieldNotFoundError, match="'ii'"):
        ds.maintain.prove(3, ["ii"])
    with pytest.raises(vd.InvalidInputError, match="twice"):
        ds.maintain.prove(3, ["i", "i"])
    good = ds.maintain.prove(3)
    for manifest in ("", "x", 3, None, {}, b"short"):
        with pytest.raises(vd.InvalidInputError):
            vd.verify_proof(good, manifest)  # type: ignore[arg-type]
    for certificate in ("text", None, 3):
        with pytest.raises(vd.InvalidInputError, match="bytes"):
            vd.verify_proof(certificate, ds.current_manifest())  # type: ignore[arg-type]
    with pytest.raises(vd.RefNotFoundError):
        vd.prove("mian", 3, backend=ds.backend)


def resealed(body: bytes) -> bytes:
    """Return a forged certificate with a checksum that fits."""
    return body + blake3(body).digest()


PRESENT = int(SMALL.scan([]).to_arrow()["_anchor"][100].as_py())
CERTIFICATES = [SMALL.maintain.prove(PRESENT, FIELDS), SMALL.maintain.prove(PRESENT + 10_000)]
TOLD = [vd.verify_proof(c, SMALL.current_manifest()) for c in CERTIFICATES]


def same(one: vd.Proof, other: vd.Proof) -> bool:
    """Return whether two proofs say the same."""
    plain = [(p.manifest, p.anchor, p.status, p.time_ns, list(p.values)) for p in (one, other)]
    return plain[0] == plain[1] and all(equal(one.values[n], other.values[n]) for n in one.values)


@given(which=st.integers(0, 1), data=st.data())
def test_no_changed_byte_is_accepted(which: int, data: st.DataObject) -> None:
    certificate = bytearray(CERTIFICATES[which])
    at = data.draw(st.integers(0, len(certificate) - 1))
    certificate[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(vd.FormatError):
        vd.verify_proof(certificate, SMALL.current_manifest())


@given(which=st.integers(0, 1), data=st.data())
def test_a_forger_who_mends_the_checksum_gets_nowhere(which: int, data: st.DataObject) -> None:
    body = bytearray(CERTIFICATES[which][:-32])
    for _ in range(data.draw(st.integers(1, 3))):
        how = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
        at = data.draw(st.integers(0, len(body) - 1))
        if how == "flip":
            body[at] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del body[at : at + data.draw(st.integers(1, 40))]
        elif how == "insert":
            body[at:at] = data.draw(st.binary(min_size=1, max_size=40))
        else:
            to = data.draw(st.integers(0, len(body) - 1))
            body[at], body[to] = body[to], body[at]
        if not body:
            return
    try:
        proof = vd.verify_proof(resealed(bytes(body)), SMALL.current_manifest())
    except vd.FormatError:
        return
    # Only what changes no meaning is left: another anchor or other fields of a claim that the same
    # objects happen to prove, or a byte that the compression does not use.
    assert proof.manifest == SMALL.current_manifest()
    if proof.anchor == TOLD[which].anchor and list(proof.values) == list(TOLD[which].values):
        assert same(proof, TOLD[which])
    stored = {r["_anchor"]: r for r in SMALL.scan().to_arrow().to_pylist()}
    assert proof.present == (proof.anchor in stored)
    assert all(equal(v, stored[proof.anchor][n]) for n, v in proof.values.items())


@given(st.data())
def test_parts_of_other_versions_prove_nothing(data: st.DataObject) -> None:
    """A certificate put together from those of another version, or lacking a part, is refused."""
    manifest = SMALL.current_manifest()
    mine = Certificate.decode(CERTIFICATES[0])
    addresses = list(mine.parts)
    victim = data.draw(st.sampled_from(addresses))
    other = Certificate.decode(OTHER.maintain.prove(PRESENT, FIELDS))
    del mine.parts[victim]
    with pytest.raises(vd.FormatError):
        vd.verify_proof(mine.encode(), manifest)
    mine.parts.update(other.parts)
    with pytest.raises(vd.FormatError):
        vd.verify_proof(mine.encode(), manifest)


OTHER = make(300, seed=1)


def test_more_than_is_needed_is_refused() -> None:
    mine = Certificate.decode(CERTIFICATES[0])
    extra = Certificate.decode(CERTIFICATES[1])
    mine.parts.update(Certificate.decode(OTHER.maintain.prove(PRESENT)).parts)
    with pytest.raises(vd.FormatError, match="prove nothing"):
        vd.verify_proof(mine.encode(), SMALL.current_manifest())
    assert extra.claim["anchor"] == PRESENT + 10_000
    mine = Certificate.decode(CERTIFICATES[0])
    mine.claim["anchor"] = PRESENT + 10_000
    with pytest.raises(vd.FormatError):
        vd.verify_proof(mine.encode(), SMALL.current_manifest())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"DDPROOF",
        struct.pack("<7sBII", b"DDPROOF", 1, 1 << 31, 0),
        struct.pack("<7sBII", b"DDPROOF", 1, 0, 1 << 31),
        struct.pack("<7sBII", b"DDPROOF", 1, 2, 0) + b"{}",
        struct.pack("<7sBII", b"DDPROOF", 1, 2, 1) + b"{}" + bytes(20),
        # A part that says it grows to a gigabyte.
        struct.pack("<7sBII", b"DDPROOF", 1, 2, 1)
        + b"{}"
        + struct.pack("<BBHIIQ", 2, 2, 0, 10, 1 << 30, 1 << 30)
        + bytes(10),
        struct.pack("<7sBII", b"DDPROOF", 1, 2, 1)
        + b"{}"
        + struct.pack("<BBHIIQ", 2, 1, 0, 2, 2, (1 << 31) + 5)
        + bytes(2),
    ],
)
def test_hostile_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(vd.FormatError):
        vd.verify_proof(resealed(body), SMALL.current_manifest())


def test_a_later_version_of_certificates_is_refused() -> None:
    body = bytearray(CERTIFICATES[0][:-32])
    body[7] = 2
    with pytest.raises(vd.UnsupportedFormatError, match="pip install"):
        vd.verify_proof(resealed(bytes(body)), SMALL.current_manifest())


@pytest.mark.parametrize(("spread", "most"), [(2, 256 << 10), (1 << 44, 512 << 10)])
def test_certificates_are_small_and_read_little(spread: int, most: int) -> None:
    """Anchors one after the other, and anchors as hashes of keys spread them: 8 bytes each."""
    schema = vd.Schema().add_scalar_float("f").add_embedding("v", 64)
    ds = vd.Dataset.create("main", schema, backend=f"memory://proofs-{next(_NUMBERS)}")
    rng = np.random.default_rng(2)
    rows = 100_000
    anchors = np.cumsum(rng.integers(1, spread, rows, dtype=np.uint64))
    vectors = rng.normal(size=(rows, 64)).astype(np.float32)
    numbers = rng.normal(size=rows)
    ds.append({"_anchor": anchors, "f": numbers, "v": vectors})
    for at in (0, 1, rows // 2, rows - 1, *rng.integers(0, rows, 5).tolist()):
        certificate = ds.maintain.prove(int(anchors[at]), ["f", "v"])
        assert len(certificate) <= most
        proof = vd.verify_proof(certificate, ds.current_manifest())
        assert proof.values["f"] == numbers[at]
        assert np.array_equal(proof.values["v"], vectors[at])
        gone = ds.maintain.prove(int(anchors[at]) + 1, ["f"])
        taken = int(anchors[at]) + 1 in anchors[max(0, at - 2) : at + 3].tolist()
        assert bool(vd.verify_proof(gone, ds.current_manifest())) == taken
