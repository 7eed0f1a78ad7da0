"""clone, fetch, pull, push and verify --repair-from on a command line."""

from __future__ import annotations

from pathlib import Path

import dreamdb as vd
from tests.cli.conftest import ROWS
from tests.cli.running import done, run


def test_clone(space: str, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    data = done("clone", space, target, "--json").data
    assert data["refs"] == ["digits", "sweep/a", "sweep/b", "v1"]
    assert data["url"] == target.as_uri()
    assert data["objects"] > 0
    assert data["nbytes"] > 0
    text = done("clone", space, target).out
    assert "digits, sweep/a, sweep/b, v1" in text
    assert "0 objects" in text
    assert vd.connect(target).verify().ok


def test_clone_one_version_of_some_fields(space: str, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    done("clone", space, target, "--ref", "v1", "--shallow", "-f", "label,split", "-q")
    assert vd.connect(target).list_refs() == ["v1"]
    assert "cut" in done("log", "v1", backend=target).out
    assert done("verify", target, "--json").data["elsewhere"] > 0
    shown = done("head", "v1", "-n", "1", "--json", backend=target).data
    assert shown
    wrong = run("clone", space, tmp_path / "other", "--field", "lable", "--json")
    assert (wrong.code, wrong.error["kind"]) == (3, "field-not-found")
    assert "'label'" in wrong.error["hint"]
    assert not (tmp_path / "other").exists()
    assert run("clone", space, tmp_path / "other", "--shallow").code == 2


def test_push_pull_and_fetch(space: str, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    done("clone", space, target)
    vd.Dataset.open_ref("digits", target).append_many([{"_anchor": 5_000, "label": 1}])
    pushed = done("push", space, "digits", "--json", backend=target).data
    assert [r["name"] for r in pushed["refs"]] == ["digits"]
    assert pushed["manifests"] == 1
    assert "up to date" in done("push", space, "digits", backend=target).out
    vd.Dataset.open_ref("digits", space).append_many([{"_anchor": 5_001, "label": 2}])
    pulled = done("pull", space, "digits", backend=target).out
    assert "remotes/origin/digits" in pulled
    assert vd.Dataset.open_ref("digits", target).count() == ROWS + 2
    fetched = done("fetch", space, "sweep/a", "--name", "lab", "--json", backend=target).data
    assert [r["name"] for r in fetched["refs"]] == ["remotes/lab/sweep/a"]
    # Both go on: refused, until it is forced.
    for where, anchor in ((space, 6_000), (str(target), 6_001)):
        vd.Dataset.open_ref("digits", where).append_many([{"_anchor": anchor, "label": 0}])
    for command in ("push", "pull"):
        refused = run(command, space, "digits", "--json", backend=target)
        assert (refused.code, refused.error["kind"]) == (5, "conflict")
    assert "forced" in done("push", space, "digits", "--force", backend=target).out
    assert "push: forced" in done("reflog", "digits", backend=space).out
    # The only branch need not be named.
    lone = tmp_path / "lone"
    done("clone", space, lone, "--ref", "digits")
    assert "up to date" not in done("pull", space, backend=lone).out
    assert "up to date" in done("push", space, backend=lone).out


def test_verify_repairs(space: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    done("clone", space, whole)
    victim = max((Path(space) / "objects").rglob("*"), key=lambda p: (p.is_file(), str(p)))
    victim.unlink()
    assert run("verify", space).code == 1
    dry = run("verify", space, "--repair-from", whole, "--dry-run", "--json")
    assert dry.code == 1
    assert dry.data["repaired"]["objects"] == [victim.name]
    assert not victim.exists()
    text = done("verify", space, "--repair-from", whole).out
    assert victim.name in text
    assert "all is well" in text
    assert victim.exists()
    again = done("verify", space, "--repair-from", whole, "--json").data
    assert again["repaired"]["objects"] == []
    assert run("verify", space, "--dry-run").code == 2


def _checks(*arguments: object) -> dict[str, tuple[str, str]]:
    found = run("doctor", *arguments, "--json").data["checks"]
    return {check["name"]: (check["status"], check["detail"]) for check in found}


def test_doctor_looks_at_refs_processes_and_origins(space: str, tmp_path: Path) -> None:
    whole = _checks(space)
    assert whole["processes"][0] == "ok"
    assert whole["refs"] == ("ok", "4 refs lead to their contents")
    assert not {"origin", "history"} & set(whole)
    assert "processes" not in _checks(space, "--storage-option", "single_writer=true")
    target = tmp_path / "copy"
    done("clone", space, target, "--ref", "v1", "--shallow", "--field", "label")
    part = _checks(target)
    assert part["history"][0] == part["origin"][0] == "ok"
    assert "label" in part["origin"][1]
    Path(space).rename(tmp_path / "moved")
    assert "it is gone" in _checks(target)["origin"][1]
    # A ref whose manifest is gone.
    address = vd.Dataset.open_ref("v1", target).current_manifest()
    (target / "objects" / address[2] / address).unlink()
    status, detail = _checks(target)["refs"]
    assert status == "failed"
    assert "v1" in detail
    assert run("doctor", target).code == 1
