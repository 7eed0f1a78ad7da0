"""What only a directory can show: files, modes, syncs, and what failures leave behind."""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamdb.errors import (
    DreamDBError,
    FormatError,
    IntegrityError,
    InvalidInputError,
    ReadOnlyError,
    StorageError,
)
from dreamdb.objects import Kind, OpenedObject, object_key, to_text
from dreamdb.store import LogEntry, ObjectCache, RefValue
from dreamdb.store.local import LocalBackend
from dreamdb.testing.samples import (
    numbered_address,
    numbered_value,
    payload_of,
    sample_object,
    store_all,
)
from tests.store.processes import as_ordinary_user


@pytest.fixture
def space(tmp_path: Path) -> LocalBackend:
    backend = LocalBackend(tmp_path / "space")
    backend.create_space(b"{}")
    return backend


def entry(number: int) -> LogEntry:
    return LogEntry(number, None, numbered_address(number), "ada", "reset")


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@contextlib.contextmanager
def limited(which: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def test_objects_are_read_only_files_under_their_key(space: LocalBackend) -> None:
    sealed = sample_object(1)
    store_all(space, sealed)
    path = Path(space.path) / object_key(sealed.address)
    assert path.read_bytes() == sealed.to_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert files_below(Path(space.path) / "tmp") == []


def test_opening_a_backend_creates_nothing(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "nowhere")
    assert backend.read_space() is None
    assert backend.refs.read("main") is None
    assert list(backend.refs.list()) == []
    assert list(backend.objects.list()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(InvalidInputError, match="is a file"):
        LocalBackend(file)
    with pytest.raises(DreamDBError):
        LocalBackend(file / "below").create_space(b"{}")


def test_links_to_one_directory_have_one_url(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert LocalBackend(tmp_path / "link").url == LocalBackend(tmp_path / "real" / ".").url


def test_a_space_copied_without_its_empty_folders_works(space: LocalBackend) -> None:
    for folder in (Path(space.path) / "objects").iterdir():
        folder.rmdir()
    for name in ("objects", "refs", "logs", "tmp"):
        (Path(space.path) / name).rmdir()
    for file in (Path(space.path) / "locks").iterdir():
        file.unlink()
    (Path(space.path) / "locks").rmdir()
    again = LocalBackend(space.path)
    assert store_all(again, sample_object(1)) == [True]
    again.refs.swap("main", None, numbered_address(1))
    again.refs.append_log("main", entry(1))
    with again.objects.hold():
        assert numbered_value(again.refs.read("main")) == 1
    assert again.refs.read_log("main") == [entry(1)]


def test_abort_removes_every_temporary(space: LocalBackend) -> None:
    upload = space.objects.upload()
    for number, nbytes in enumerate((10, 5_000, 400_000)):
        upload.put(sample_object(number, nbytes))
    assert len(files_below(Path(space.path) / "tmp")) == 3
    upload.abort()
    assert files_below(Path(space.path) / "tmp") == []
    assert list(space.objects.list()) == []


def test_nothing_is_visible_before_finish(space: LocalBackend) -> None:
    upload = space.objects.upload()
    upload.put(sample_object(1))
    assert space.objects.size(sample_object(1).address) is None
    upload.finish()
    assert space.objects.size(sample_object(1).address) is not None


def test_syncs_of_a_commit_are_few(space: LocalBackend) -> None:
    before = space.syncs
    store_all(space, sample_object(10_000))
    assert space.syncs - before == 2  # The file and its folder.
    before = space.syncs
    held = space.refs.swap("main", None, numbered_address(1))
    space.refs.swap("main", held, numbered_address(2))
    # Per move the folder; the file is written synchronously where the system can.
    assert space.syncs - before == (2 if hasattr(os, "O_DSYNC") else 4)
    before = space.syncs
    store_all(space, sample_object(10_000))
    assert space.syncs - before == 1  # Another process may not have synced the name.


@pytest.mark.parametrize("nbytes", [0, 10, 63, 64, 200])
def test_a_truncated_object_is_an_error_and_a_put_heals_it(
    space: LocalBackend, nbytes: int
) -> None:
    sealed = sample_object(1, 1_000)
    store_all(space, sealed)
    path = Path(space.path) / object_key(sealed.address)
    path.chmod(0o644)
    path.write_bytes(sealed.to_bytes()[:nbytes])
    with pytest.raises(FormatError, match=f"object {to_text(sealed.address)}"):
        OpenedObject(sealed.address, space.objects.open(sealed.address), Kind.FRAGMENT)
    assert store_all(space, sealed) == [True]
    assert bytes(space.objects.open(sealed.address)) == sealed.to_bytes()


def test_an_object_compressed_otherwise_is_kept(space: LocalBackend) -> None:
    plain, squeezed = sample_object(1, 9_000), sample_object(1, 9_000, compress=True)
    assert plain.address == squeezed.address
    assert store_all(space, squeezed) == [True]
    assert store_all(space, plain) == [False]
    assert space.objects.size(plain.address) == squeezed.nbytes


def test_foreign_files_are_passed_over(space: LocalBackend) -> None:
    sealed = sample_object(1)
    store_all(space, sealed)
    space.refs.swap("main", None, numbered_address(1))
    root = Path(space.path)
    for name in (".DS_Store", "UPPER", "a%2F", "x.lock"):
        (root / "refs" / name).write_bytes(b"junk")
        (root / "logs" / name).write_bytes(b"junk")
        (root / "objects" / name).write_bytes(b"junk")
    shard = (root / object_key(sealed.address)).parent
    (shard / "notes.txt").write_bytes(b"junk")
    (root / "objects" / "zz").mkdir()
    (root / "objects" / "zz" / object_key(sealed.address).split("/")[2]).write_bytes(b"misplaced")
    assert list(space.refs.list()) == [("main", RefValue(numbered_address(1)))]
    assert list(space.refs.logs()) == []
    assert list(space.objects.list()) == [(sealed.address, sealed.nbytes)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x1e",
        b"\x1e" + bytes(31),
        b"\x1e" + bytes(33),
        bytes(33),
        b"\x1e" * 4_000,
        b"\x1e" * 40_000,
        bytes(sample_object(1).address) + sample_object(2).to_bytes(),
        bytes(sample_object(1).address) + sample_object(1).to_bytes()[:-1],
    ],
)
def test_a_damaged_ref_is_named(space: LocalBackend, body: bytes) -> None:
    held = space.refs.swap("sweep/A", None, numbered_address(1))
    (file,) = files_below(Path(space.path) / "refs")
    file.write_bytes(body)
    with pytest.raises(IntegrityError, match="sweep/A"):
        space.refs.read("sweep/A")
    with pytest.raises(IntegrityError, match="sweep/A"):
        list(space.refs.list())
    with pytest.raises(IntegrityError, match="sweep/A"):
        space.refs.swap("sweep/A", held, numbered_address(2))
    assert file.read_bytes() == body


@pytest.mark.parametrize("tail", [b"{", b'{"new":null,"old"', b"\x00" * 10_000])
def test_a_torn_log_line_is_dropped(space: LocalBackend, tail: bytes) -> None:
    space.refs.append_log("main", entry(1))
    (file,) = files_below(Path(space.path) / "logs")
    with file.open("ab") as log:
        log.write(tail)
    assert space.refs.read_log("main") == [entry(1)]
    space.refs.append_log("main", entry(2))
    assert space.refs.read_log("main") == [entry(1), entry(2)]


@pytest.mark.parametrize("line", [b"", b"{}", b"junk", b'{"new":null}'])
def test_a_damaged_log_line_is_named(space: LocalBackend, line: bytes) -> None:
    space.refs.append_log("main", entry(1))
    (file,) = files_below(Path(space.path) / "logs")
    with file.open("ab") as log:
        log.write(line + b"\n")
    with pytest.raises(IntegrityError, match="entry 2 of the log of ref 'main'"):
        space.refs.read_log("main")


@pytest.mark.parametrize("nbytes", [5_000, 400_000])
def test_a_full_disk_publishes_nothing(space: LocalBackend, nbytes: int) -> None:
    store_all(space, sample_object(1))
    upload = space.objects.upload()
    upload.put(sample_object(2))
    with limited(resource.RLIMIT_FSIZE, 4_096), pytest.raises(StorageError) as caught:
        upload.put(sample_object(3, nbytes))
    assert "nothing was published" in str(caught.value)
    assert caught.value.details["errno"]
    with pytest.raises(StorageError, match="failed before"):
        upload.finish()
    assert files_below(Path(space.path) / "tmp") == []
    assert [address for address, _ in space.objects.list()] == [sample_object(1).address]
    assert store_all(space, sample_object(2), sample_object(3, nbytes)) == [True, True]


def test_a_failing_ref_write_leaves_the_old_value(space: LocalBackend) -> None:
    held = space.refs.swap("main", None, numbered_address(1))
    with limited(resource.RLIMIT_FSIZE, 16), pytest.raises(StorageError, match="ref 'main'"):
        space.refs.swap("main", held, numbered_address(2))
    assert numbered_value(space.refs.read("main")) == 1
    assert files_below(Path(space.path) / "tmp") == []
    assert numbered_value(space.refs.swap("main", held, numbered_address(3))) == 3


def test_few_descriptors_are_enough(space: LocalBackend) -> None:
    objects = [sample_object(n, 70_000) for n in range(120)]
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    roomy = ObjectCache(space.objects, max_objects=4_096)
    with limited(resource.RLIMIT_NOFILE, free + 40):
        assert all(store_all(space, *objects))
        # One cache knows the limit, the other meets it.
        for cache in (ObjectCache(space.objects, max_objects=4_096), roomy):
            for sealed in objects + objects:
                payload = cache.open(sealed.address, Kind.FRAGMENT).view()
                assert payload.nbytes == 70_000
            assert cache.counters.evictions > 0
            cache.clear()


def test_an_upload_keeps_a_bounded_number_of_files_open(space: LocalBackend) -> None:
    upload = space.objects.upload()
    most = 0
    for number in range(600):
        upload.put(sample_object(number))
        most = max(most, len(files_below(Path(space.path) / "tmp")))
    upload.finish()
    assert most <= 257
    assert len(list(space.objects.list())) == 600


def test_only_temporaries_of_dead_writers_are_removed(space: LocalBackend) -> None:
    living = space.objects.upload()
    living.put(sample_object(1))
    orphan = Path(space.path) / "tmp" / "1-1-orphan"
    orphan.write_bytes(b"half an object")
    assert space.remove_stale_temporaries() == 0  # Too young to tell.
    assert space.remove_stale_temporaries(min_age_s=-1) == 1
    assert not orphan.exists()
    living.finish()
    assert space.objects.size(sample_object(1).address) is not None
    assert space.remove_stale_temporaries(min_age_s=-1) == 0


def test_lock_files_of_deleted_refs_go(space: LocalBackend) -> None:
    for number in range(5):
        held = space.refs.swap(f"sweep/{number}", None, numbered_address(1))
        space.refs.swap(f"sweep/{number}", held, None)
    assert [file.name for file in files_below(Path(space.path) / "locks")] == [".space"]


def read_only_session(root: str) -> list[str]:
    """Read everything, try every write; return what went wrong."""
    wrong = []
    space = LocalBackend(root)
    sealed = sample_object(1)
    if not payload_of(space, sealed.address):
        wrong.append("object")
    if numbered_value(space.refs.read("main")) != 1 or len(list(space.refs.list())) != 1:
        wrong.append("ref")
    if space.read_space() != b"{}" or len(space.refs.read_log("main")) != 1:
        wrong.append("space")
    held = space.refs.read("main")
    writes = {
        "put": lambda: store_all(space, sample_object(2)),
        "swap": lambda: space.refs.swap("main", held, numbered_address(2)),
        "create": lambda: space.refs.swap("new", None, numbered_address(2)),
        "remove": lambda: space.refs.swap("main", held, None),
        "log": lambda: space.refs.append_log("main", entry(2)),
        "delete": lambda: space.objects.delete(sealed.address),
        "hold": lambda: space.objects.hold().__enter__(),
    }
    for name, write in writes.items():
        try:
            write()
        except ReadOnlyError:
            continue
        wrong.append(name)
    return wrong


def test_a_read_only_directory_reads_and_says_so_on_writes() -> None:
    with as_ordinary_user() as (folder, run):
        space = LocalBackend(folder / "space")
        space.create_space(b"{}")
        store_all(space, sample_object(1))
        space.refs.swap("main", None, numbered_address(1))
        space.refs.append_log("main", entry(1))
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        assert run(read_only_session, space.path) == []


def test_handles_pickle_as_their_path(space: LocalBackend) -> None:
    space.refs.swap("main", None, numbered_address(7))
    again = pickle.loads(pickle.dumps(space))  # noqa: S301 - our own bytes
    assert again.url == space.url
    assert numbered_value(again.refs.read("main")) == 7
