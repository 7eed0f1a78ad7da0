"""The command line as a whole: errors, exit codes, envelopes, help, completion, pipes."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pyarrow as pa
import pytest

import dreamdb as vd
from dreamdb.cli import program
from tests.cli.running import REPOSITORY, done, process, run, spawn

COMMANDS = [
    "init", "ingest", "refs", "log", "inspect", "show", "head", "query", "sql", "stats", "branch",
    "snapshot", "diff", "compare-refs", "merge", "revert", "cherry-pick", "reset", "undo", "blame",
    "delete-ref", "restore", "reflog", "export", "verify", "gc", "expire", "du", "purge", "prove",
    "verify-proof", "doctor", "completion",
]  # fmt: skip

# Arguments of each command that reads or writes a space, here one that is not there.
NEED_A_SPACE = {
    "refs": [],
    "log": ["digits"],
    "inspect": ["digits"],
    "show": ["digits"],
    "head": ["digits"],
    "query": ["digits", "label = 1"],
    "sql": ["SELECT * FROM digits"],
    "stats": ["digits"],
    "branch": ["new", "digits"],
    "snapshot": ["new", "digits"],
    "compare-refs": ["digits", "other", "--field", "label"],
    "diff": ["digits", "other"],
    "merge": ["digits", "other"],
    "revert": ["digits", "other"],
    "cherry-pick": ["digits", "other"],
    "reset": ["digits", "other"],
    "undo": ["digits"],
    "blame": ["digits", "1", "label"],
    "delete-ref": ["digits"],
    "restore": ["digits"],
    "reflog": ["digits"],
    "export": ["digits", "out.parquet"],
    "verify": [],
    "gc": ["--dry-run"],
    "expire": ["3"],
    "du": [],
    "purge": ["digits", "1000"],
    "prove": ["digits", "1000", "-o", "unused.proof"],
}
# Arguments, exit code, kind of the error, and words of its message and hint.
WRONG = [
    (["log", "digit"], 3, "ref-not-found", ["'digit'", "'digits'"]),
    (["inspect", "sweep/c"], 3, "ref-not-found", ["'sweep/c'", "'sweep/a'"]),
    (["inspect", "a" * 53], 2, "invalid-input", ["aaa"]),
    (["show", "digits", "--anchor", "7"], 3, "anchor-not-found", ["7"]),
    (["show", "digits", "--position", "99"], 2, "invalid-input", ["99", "12"]),
    (["show", "digits", "--position", "0", "--key", "x"], 2, "usage", ["--anchor"]),
    (["show", "digits", "--field", "label"], 2, "usage", ["--field"]),
    (["show", "digits", "--key", "x"], 2, "invalid-input", ["no key"]),
    (["head", "digits", "--fields", "lable"], 3, "field-not-found", ["'lable'", "'label'"]),
    (["head", "digits", "-n", "many"], 2, "usage", ["'many'"]),
    (["head", "digits/"], 2, "ref-name", ["empty segment"]),
    (["query", "digits", "label ="], 2, "expression", ["label ="]),
    (["query", "digits", "lable = 1"], 3, "field-not-found", ["'lable'", "'label'"]),
    (["query", "digits", "split > 3"], 2, "expression", ["split"]),
    (["stats", "digits", "--values", "lable"], 3, "field-not-found", ["'label'"]),
    (["branch", "v1", "digits"], 4, "already-exists", ["'v1'"]),
    (["branch", "a b", "digits"], 2, "ref-name", ["' '"]),
    (["branch", "new"], 2, "invalid-input", ["3 branches", "digits, sweep/a, sweep/b"]),
    (["branch", "new", "digits", "--at", "2001-01-01"], 3, "not-found", ["first manifest"]),
    (["snapshot", "v1", "digits"], 4, "already-exists", ["'v1'"]),
    (["snapshot", "v2", "digits", "--meta", "x"], 2, "usage", ["NAME=VALUE"]),
    (["compare-refs", "digits", "v2", "--field", "label"], 3, "ref-not-found", ["'v2'", "'v1'"]),
    (["compare-refs", "digits", "--field", "lable"], 3, "field-not-found", ["'label'"]),
    (["compare-refs", "digits", "v1", "--field", "vector"], 2, "invalid-input", ["'vector'"]),
    (["compare-refs", "digits"], 2, "usage", ["--field"]),
    (["du", "digit"], 3, "ref-not-found", ["'digit'", "'digits'"]),
    (["expire", "some"], 2, "invalid-input", ["'some'", "30 days"]),
    (["purge", "digits"], 2, "usage", ["--where"]),
    (["purge", "digits", "7"], 3, "anchor-not-found", ["7"]),
    (["purge", "digits", "--where", "label = 9"], 2, "usage", ["no record"]),
    (["prove", "digits", "1000"], 2, "usage", ["--output"]),
    (["verify", "--absent", "7"], 2, "invalid-input", ["--ref"]),
    (["diff", "digits"], 2, "usage", ["--at"]),
    (["diff", "digits", "v2"], 3, "ref-not-found", ["'v2'", "'v1'"]),
    (["diff", "v1", "digits", "--fields", "lable"], 3, "field-not-found", ["'label'"]),
    (["diff", "v1", "digits", "--output", "x.txt"], 2, "invalid-input", ["x.txt"]),
    (["merge", "v1", "sweep/a"], 8, "read-only", ["v1"]),
    (["merge", "digits", "sweep/c"], 3, "ref-not-found", ["'sweep/c'"]),
    (["merge", "sweep/a", "sweep/b"], 5, "merge-conflict", ["3 conflicts", "prediction"]),
    (["merge", "sweep/a", "sweep/b", "--strategy", "fast-forward"], 5, "conflict", ["sweep/b"]),
    (["revert", "digits", "sweep/a"], 2, "invalid-input", ["not in the history"]),
    (["reset", "digits"], 2, "usage", ["--at"]),
    (["blame", "digits", "7", "label"], 3, "anchor-not-found", ["7"]),
    (["blame", "digits", "1000", "lable"], 3, "field-not-found", ["'label'"]),
    (["restore", "digits"], 3, "ref-not-found", ["no deletion"]),
    (
        ["compare-refs", "digits", "v1", "--field", "label", "--output", "x.txt"],
        2,
        "invalid-input",
        ["x.txt", ".parquet"],
    ),
    (
        ["compare-refs", "digits", "v1", "--field", "label", "--output", "/dev/null/x.csv"],
        7,
        "storage",
        ["/dev/null/x.csv"],
    ),
    (["delete-ref", "v2", "--yes"], 3, "ref-not-found", ["'v1'"]),
    (["reflog", "a b"], 2, "ref-name", ["' '"]),
    (["completion", "tcsh"], 2, "usage", ["tcsh", "bash"]),
    (["refs", "elsewhere"], 2, "invalid-input", ["two spaces"]),
    (["log", "--all", "digits"], 2, "usage", ["--all"]),
    (["comit"], 2, "usage", ["'comit'"]),
    (["brnch"], 2, "usage", ["'brnch'", "branch"]),
    (["head", "digits", "--feilds", "x"], 2, "usage", ["--feilds"]),
    (["--storage-option", "x", "refs"], 2, "usage", ["NAME=VALUE"]),
    (["--storage-option", "x=1", "refs"], 2, "invalid-input", ["'x'"]),
]


@pytest.mark.parametrize("name", NEED_A_SPACE)
def test_a_missing_space_is_explained(name: str, tmp_path: Path) -> None:
    where = tmp_path / "none"
    text = run(name, *NEED_A_SPACE[name], backend=where)
    assert (text.code, text.out) == (3, "")
    assert f"error: there is no space at {where.as_uri()}" in text.err
    assert "hint: " in text.err
    told = run("--json", name, *NEED_A_SPACE[name], backend=where)
    assert (told.code, told.error["kind"]) == (3, "not-found")
    assert not where.exists()


@pytest.mark.parametrize("name", NEED_A_SPACE)
def test_without_a_space_the_hint_says_how_to_name_one(name: str) -> None:
    outcome = run(name, *NEED_A_SPACE[name])
    assert outcome.code == 2
    assert "DREAMDB_BACKEND" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "kind", "words"), WRONG, ids=[" ".join(w[0]) for w in WRONG]
)
def test_wrong_arguments(
    sample_space: str, arguments: list[str], code: int, kind: str, words: list[str]
) -> None:
    told = run(*arguments, "--json", backend=sample_space)
    assert (told.code, told.error["kind"]) == (code, kind)
    text = run(*arguments, backend=sample_space)
    assert (text.code, text.out) == (code, "")
    said = f"{told.error['message']} {told.error['hint']}"
    for word in words:
        assert word in said
        assert word in text.err
    assert "Traceback" not in text.err
    assert vd.connect(sample_space).list_refs() == ["digits", "sweep/a", "sweep/b", "v1"]


def test_global_options_stand_anywhere(sample_space: str) -> None:
    wanted = done("--backend", sample_space, "--json", "refs").out
    assert done("refs", "--json", "-b", sample_space).out == wanted
    assert done("--json", "refs", sample_space).out == wanted
    assert run("refs", "--json", env={"DREAMDB_BACKEND": sample_space}).out == wanted


def test_quiet_leaves_out_notes(sample_space: str) -> None:
    assert done("head", "digits", "-n", 1, "-q", backend=sample_space).err == ""


def test_storage_options_reach_the_storage(tmp_path: Path) -> None:
    outcome = done("init", tmp_path / "s", "--storage-option", "single_writer=true", "--json")
    assert outcome.data["created"] is True


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    shown = done(name, "--help").out
    assert shown.startswith(f"Usage: dreamdb {name} ")
    assert "--backend" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_help_lists_every_command() -> None:
    shown = done("--help").out
    assert program.list_commands(click.Context(program)) == COMMANDS
    for name in COMMANDS:
        assert f"\n  {name} " in shown


def test_help_loads_nothing_heavy() -> None:
    probe = (
        "import sys\nfrom dreamdb.cli import program\n"
        "try:\n    program.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'pandas', 'polars', 'duckdb', 's3fs', 'sqlglot', 'tqdm', 'rich',"
        " 'PIL', 'dreamdb.adapters'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", probe],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_version() -> None:
    assert done("--version").out == f"dreamdb {vd.__version__}\n"


def test_a_defect_is_called_one(monkeypatch: pytest.MonkeyPatch, sample_space: str) -> None:
    def break_down(self: object) -> int:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(vd.Dataset, "count", break_down)
    outcome = run("head", "digits", backend=sample_space)
    assert outcome.code == 70
    assert "this is a defect: ZeroDivisionError: planted" in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in run("head", "digits", "-v", backend=sample_space).err
    told = run("head", "digits", "--json", backend=sample_space)
    assert (told.code, told.error["kind"]) == (70, "internal")


def test_each_error_class_gives_its_own_code(
    monkeypatch: pytest.MonkeyPatch, sample_space: str
) -> None:
    def classes(of: type[vd.DreamDBError]) -> list[type[vd.DreamDBError]]:
        return [of, *(one for below in of.__subclasses__() for one in classes(below))]

    for kind in classes(vd.DreamDBError):

        def fail(self: object, kind: type[vd.DreamDBError] = kind) -> int:
            raise kind("planted", hint="look there")

        monkeypatch.setattr(vd.Dataset, "count", fail)
        told = run("head", "digits", "--json", backend=sample_space)
        assert told.code == kind.exit_code
        assert told.error["kind"] == kind.kind


def test_text_cannot_drive_the_terminal(tmp_path: Path) -> None:
    table = pa.table({"x": ["a\x1b[2Jb\nc"]})
    vd.Dataset.create("odd", data=table, backend=tmp_path / "s", message="one\x1b[1mtwo")
    for arguments in (["head", "odd"], ["log", "odd"], ["inspect", "odd"], ["log", "--graph"]):
        shown = done(*arguments, backend=tmp_path / "s").out
        assert "\x1b" not in shown
        assert r"\x1b[" in shown
    assert done("head", "odd", "--json", backend=tmp_path / "s").data["rows"][0]["x"] == (
        "a\x1b[2Jb\nc"
    )


def test_json_holds_numbers_that_json_has_not(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), -float("inf"), 0.1]
    vd.Dataset.create("odd", data=pa.table({"x": values}), backend=tmp_path / "s")
    rows = done("head", "odd", "--json", backend=tmp_path / "s").data["rows"]
    assert [row["x"] for row in rows] == ["NaN", "Infinity", "-Infinity", 0.1]


# --- processes ----------------------------------------------------------------------------------


def test_the_module_runs(sample_space: str) -> None:
    outcome = process("refs", env={"DREAMDB_BACKEND": sample_space})
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == done("refs", sample_space).out
    outcome = process("--json", "refs", "no/such/place")
    assert (outcome.code, outcome.error["kind"]) == (3, "not-found")


def test_output_in_a_pipe_is_the_same_each_time(sample_space: str) -> None:
    for arguments in (["inspect", "v1"], ["head", "digits"], ["query", "digits", "--json"]):
        first = process(*arguments, "-b", sample_space, env={"COLUMNS": "40", "TERM": "dumb"})
        second = process(*arguments, "-b", sample_space, env={"COLUMNS": "200"})
        assert first.code == 0
        assert (first.out, first.err) == (second.out, second.err)


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    table = pa.table({"x": [f"{i:040d}" for i in range(20_000)]})
    vd.Dataset.create("long", data=table, backend=tmp_path / "s")
    started = spawn("query", "long", "--format", "csv", "-b", tmp_path / "s")
    assert started.stdout is not None
    assert started.stderr is not None
    assert started.stdout.readline() == b"_anchor,x\n"
    started.stdout.close()
    assert started.stderr.read() == b""
    started.stderr.close()
    assert started.wait() == 141


def test_progress_is_drawn_on_a_terminal_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, "-m", "dreamdb", "ingest", "d", "a.csv", "-b", "s"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    settings = {"cwd": tmp_path, "env": environment, "stdout": subprocess.DEVNULL}
    drawn: dict[str, bytes] = {}
    for extra in ("--no-progress", "--verbose"):
        subprocess.run([*command, extra], stderr=slave, check=True, **settings)  # type: ignore[call-overload]
        os.write(slave, b"<end>")
        drawn[extra] = b""
        while not drawn[extra].endswith(b"<end>"):
            drawn[extra] += os.read(master, 4_096)
    assert b"records" not in drawn["--no-progress"]
    assert b"records" in drawn["--verbose"]
    os.close(master)
    os.close(slave)
    outcome = process("ingest", "d", "a.csv", "-b", "s", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")


# --- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_serve_both_names(shell: str) -> None:
    script = done("completion", shell).out
    assert "_DREAMDB_COMPLETE" in script
    assert "_DREAMDB_CLI_COMPLETE" in script
    assert done("completion", shell, "--json").data["script"] + "\n" == script
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def _complete(words: str, cword: int) -> list[str]:
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "from dreamdb.cli import program; program.main(prog_name='dreamdb')",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "_DREAMDB_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(cword),
        },
    )
    assert result.stderr == ""
    return [line.split(",", 1)[1] for line in result.stdout.splitlines() if line]


def test_completion_knows_commands_refs_and_fields(sample_space: str) -> None:
    assert _complete("dreamdb in", 1) == ["init", "ingest", "inspect"]
    assert _complete(f"dreamdb -b {sample_space} log sw", 4) == ["sweep/a", "sweep/b"]
    assert _complete(f"dreamdb log --backend={sample_space} v", 3) == ["v1"]
    assert _complete(f"dreamdb -b {sample_space} ingest ", 4) == ["digits", "sweep/a", "sweep/b"]
    fields = _complete(f"dreamdb -b {sample_space} head digits --fields label,s", 6)
    assert fields == ["label,split"]
    assert _complete("dreamdb -b /no/such/place log ", 4) == []


def test_the_envelope_is_stable(sample_space: str) -> None:
    document = json.loads(done("head", "digits", "-n", 0, "--json", backend=sample_space).out)
    assert list(document) == ["dreamdb", "command", "data"]
    assert document["dreamdb"] == 1
    assert document["command"] == "head"
    document = json.loads(run("head", "nothing", "--json", backend=sample_space).out)
    assert list(document) == ["dreamdb", "error"]
    assert list(document["error"]) == ["kind", "message", "hint"]
