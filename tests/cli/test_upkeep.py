"""The commands that look after a space, compared with the library."""

from __future__ import annotations

from pathlib import Path

import dreamdb as vd
from tests.cli.conftest import ROWS
from tests.cli.running import done, process, run


def test_du(space: str) -> None:
    usage = vd.connect(space).du()
    data = done("du", "--json", backend=space).data
    assert (data["nbytes"], data["needed_nbytes"]) == (usage.nbytes, usage.needed_nbytes)
    assert [r["name"] for r in data["refs"]] == [r.name for r in usage.refs]
    for told, ref in zip(data["refs"], usage.refs, strict=True):
        assert told["unique_nbytes"] + told["shared_nbytes"] == told["nbytes"] == ref.nbytes
        assert [f["name"] for f in told["fields"]] == [f.name for f in ref.fields]
    (one,) = done("du", "sweep/a", "--json", backend=space).data["refs"]
    assert one["name"] == "sweep/a"
    text = done("du", "sweep/a", "--fields", backend=space).out
    assert "  prediction" in text
    assert "alone" in text


def test_expire_and_gc(space: str) -> None:
    ds = vd.Dataset.open_ref("digits", space)
    for number in range(5):
        ds.set_metadata({"number": str(number)}, message=f"note {number}")
    count, tip = ds.count(), ds.current_manifest()
    looked = done("expire", "2", backend=space)
    assert "add --yes" in looked.err
    assert "note 2" in looked.out
    assert len(done("log", "digits", "--json", backend=space).data["manifests"]) == 8
    data = done("expire", "2", "--yes", "--json", backend=space).data
    assert data["dry_run"] is False
    assert [e["message"] for e in data["expired"]][:3] == ["note 2", "note 1", "note 0"]
    collected = process("gc", "--yes", "--json", "--backend", space).data
    assert collected["removed"] >= len(data["expired"])
    again = process("log", "digits", "--json", "--backend", space).data["manifests"]
    assert again[0]["manifest"] == tip
    assert [m["message"] for m in again[:2]] == ["note 4", "note 3"]
    assert process("verify", space, "--json").data["ok"] is True
    assert process("inspect", "digits", "--json", "--backend", space).data["rows"] == count
    assert "nothing expires" in done("expire", "30 days", backend=space).out


def test_purge_and_verify_absent(space: str) -> None:
    held = run("verify", space, "--absent", "1003", "--ref", "digits")
    assert held.code == 1
    assert "still held" in held.out
    looked = done("purge", "digits", "1003", "--json", backend=space).data
    assert looked["dry_run"] is True
    assert vd.Dataset.open_ref("v1", space).count() == ROWS
    data = done(
        "purge", "digits", "1003", "--where", "label = 1", "--reason", "asked", "--yes", "--json",
        backend=space,
    ).data  # fmt: skip
    assert data["records"] == 1 + ROWS // 3
    assert set(data["refs"]) == {"digits", "sweep/a", "sweep/b", "v1"}
    assert data["removed"] > 0
    told = process("verify", space, "--absent", "1003", "--absent", "1001", "--ref", "v1", "--json")
    assert told.code == 0
    assert told.data["absent"]["ok"] is True
    assert {r["why"] for r in told.data["redacted"]} == {"asked"}
    text = process("verify", space, "--absent", "1003", "--ref", "digits")
    assert "every byte" in text.out
    assert "redacted" in text.out
    assert process("inspect", "v1", "--json", "--backend", space).data["rows"] == ROWS - 5


def test_prove_and_verify_proof(space: str, tmp_path: Path) -> None:
    manifest = vd.Dataset.open_ref("v1", space).current_manifest()
    file = tmp_path / "label.proof"
    made = done(
        "prove", "v1", "1004", "--fields", "label,vector,taken", "-o", file, "--json", backend=space
    ).data
    assert made["nbytes"] == file.stat().st_size
    told = done("verify-proof", file, manifest, "--json").data
    assert (told["anchor"], told["status"]) == (1004, "present")
    assert told["values"]["label"] == 1
    assert told["values"]["vector"] == [4.0 + i for i in range(8)]
    assert told["values"]["taken"].endswith(".000000004")
    assert "1004: present" in done("verify-proof", file, manifest).out
    done("prove", "v1", "77", "-o", file, backend=space)
    absent = run("verify-proof", file, manifest, "--json")
    assert absent.code == 1
    assert absent.data["status"] == "absent"
    body = bytearray(file.read_bytes())
    body[40] ^= 1
    file.write_bytes(body)
    forged = run("verify-proof", file, manifest, "--json")
    assert (forged.code, forged.error["kind"]) == (6, "format")
    assert run("verify-proof", file, "nonsense").code == 2
