"""A backend as another package would write it: one SQLite file, and the tools that test it.

SQLite gives compare-and-swap in one transaction.  It has no lock that a commit could hold for a
while, so commits take leases: the package's backend is wrapped in ``LeasedBackend``.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import dreamdb as vd
from dreamdb.errors import InternalError, InvalidInputError, ObjectMissingError, RefConflictError
from dreamdb.objects import SealedObject, check_ref_name, object_key, to_text
from dreamdb.store import (
    LeasedBackend,
    LeaseTerms,
    LogEntry,
    RefValue,
    StoredDocument,
    Upload,
)
from dreamdb.store.document_keys import check_document_key, check_folder
from dreamdb.store.ref_values import check_new, encode_body, parse_body
from dreamdb.store.reflog import decode_entry, encode_entry
from dreamdb.testing import (
    CHECKS,
    DOCUMENT_CHECKS,
    STAMP_CHECKS,
    Check,
    CountingBackend,
    Fault,
    FaultBackend,
    OpenSpace,
    SimulatedCrash,
    enumerate_faults,
)
from dreamdb.testing.histories import check_random_histories
from dreamdb.types import Address

TABLES = (
    "create table if not exists objects (address blob primary key, body blob not null)",
    "create table if not exists refs (name text primary key, body blob not null)",
    "create table if not exists logs (number integer primary key, name text, line blob)",
    "create table if not exists documents (key text primary key, body blob not null)",
)


class SqliteBackend:
    """Both ports, and documents, in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite://{path}"
        self.objects = SqliteObjects(self)
        self.refs = SqliteRefs(self)
        self.documents = SqliteDocuments(self)
        with self.connected() as database:
            for statement in TABLES:
                database.execute(statement)

    @contextlib.contextmanager
    def connected(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction."""
        database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            database.execute("pragma synchronous = off")  # A test need not survive a power cut.
            database.execute("begin immediate")
            yield database
            database.execute("commit")
        finally:
            database.close()

    def ask(self, query: str, *values: Any) -> list[Any]:
        """Run one statement."""
        with self.connected() as database:
            return list(database.execute(query, values))

    def read_space(self) -> bytes | None:
        found = self.documents.read("space.json")
        return None if found is None else found.body

    def create_space(self, document: bytes) -> bool:
        try:
            self.documents.swap("space.json", None, document)
        except RefConflictError:
            return False
        return True


class SqliteObjects:
    """Immutable objects by address."""

    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend

    def upload(self) -> Upload:
        return SqliteUpload(self._backend)

    def open(self, address: Address) -> memoryview:
        found = self._backend.ask("select body from objects where address = ?", bytes(address))
        if not found:
            name = to_text(address)
            raise ObjectMissingError(f"object {name} is not in the store", object=name)
        return memoryview(found[0][0])

    def read(self, address: Address, start: int, stop: int) -> memoryview:
        if start < 0:
            raise InvalidInputError(f"a range cannot start at {start}")
        return self.open(address)[start : max(start, stop)]

    def size(self, address: Address) -> int | None:
        query = "select length(body) from objects where address = ?"
        found = self._backend.ask(query, bytes(address))
        return int(found[0][0]) if found else None

    def list(self) -> Iterator[tuple[Address, int]]:
        for address, size in self._backend.ask("select address, length(body) from objects"):
            yield Address(address), size

    def delete(self, address: Address) -> None:
        self._backend.ask("delete from objects where address = ?", bytes(address))

    def stamp(self, address: Address) -> bytes | None:
        query = "select substr(body, 33, 8) from objects where address = ?"
        found = self._backend.ask(query, bytes(address))
        return bytes(found[0][0]) if found else None

    def delete_stamped(self, address: Address, stamp: bytes) -> bool:
        query = "delete from objects where address = ? and substr(body, 33, 8) = ? returning 1"
        return bool(self._backend.ask(query, bytes(address), stamp))

    def replace(self, sealed: SealedObject) -> None:
        query = "insert or replace into objects values (?, ?)"
        self._backend.ask(query, bytes(sealed.address), sealed.to_bytes())

    def hold(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # Leases do it.

    def hold_exclusive(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


class SqliteUpload:
    """Objects of one commit, written in one transaction."""

    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend
        self._pending: dict[Address, bytes] = {}
        self._state = "open"

    def put(self, sealed: SealedObject) -> bool:
        object_key(sealed.address)  # Refuses what is not an address.
        if self._state != "open":
            raise InternalError(f"this upload is {self._state}")
        if sealed.address in self._pending or self._backend.objects.size(sealed.address):
            return False
        # Threads may come here together; the first one has put it.
        return self._pending.setdefault(sealed.address, body := sealed.to_bytes()) is body

    def finish(self) -> None:
        if self._state == "aborted":
            raise InternalError("this upload is aborted")
        with self._backend.connected() as database:
            rows = [(bytes(a), body) for a, body in self._pending.items()]
            database.executemany("insert or ignore into objects values (?, ?)", rows)
        self._pending.clear()
        self._state = "finished"

    def abort(self) -> None:
        self._pending.clear()
        if self._state == "open":
            self._state = "aborted"


class SqliteRefs:
    """Mutable names, moved by compare-and-swap."""

    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend

    def read(self, name: str) -> RefValue | None:
        query = "select body from refs where name = ?"
        found = self._backend.ask(query, check_ref_name(name))
        return parse_body(found[0][0], name) if found else None

    def swap(
        self,
        name: str,
        expected: RefValue | None,
        new: Address | None,
        carried: bytes | None = None,
    ) -> RefValue | None:
        check_ref_name(name)
        check_new(name, new, carried)
        with self._backend.connected() as database:
            found = database.execute("select body from refs where name = ?", (name,)).fetchone()
            actual = None if found is None else parse_body(found[0], name).address
            wanted = None if expected is None else expected.address
            if actual != wanted:
                raise RefConflictError(f"ref {name!r} moved", expected=wanted, actual=actual)
            database.execute("delete from refs where name = ?", (name,))
            if new is None:
                return None
            body = encode_body(new, carried)
            database.execute("insert into refs values (?, ?)", (name, body))
        return parse_body(body, name)

    def list(self) -> Iterator[tuple[str, RefValue]]:
        for name, body in sorted(self._backend.ask("select name, body from refs")):
            yield name, parse_body(body, name)

    def append_log(self, name: str, entry: LogEntry) -> None:
        query = "insert into logs (name, line) values (?, ?)"
        self._backend.ask(query, check_ref_name(name), encode_entry(entry))

    def read_log(self, name: str) -> Any:
        query = "select line from logs where name = ? order by number"
        found = self._backend.ask(query, check_ref_name(name))
        return [decode_entry(line, name=name, number=n) for n, (line,) in enumerate(found)]

    def logs(self) -> Iterator[str]:
        yield from sorted(name for (name,) in self._backend.ask("select distinct name from logs"))


class SqliteDocuments:
    """Small documents, moved by compare-and-swap."""

    def __init__(self, backend: SqliteBackend) -> None:
        self._backend = backend

    def read(self, key: str) -> StoredDocument | None:
        check_document_key(key)
        found = self._backend.ask("select body from documents where key = ?", key)
        return StoredDocument(found[0][0]) if found else None

    def swap(
        self, key: str, expected: StoredDocument | None, new: bytes | None
    ) -> StoredDocument | None:
        check_document_key(key)
        with self._backend.connected() as database:
            found = database.execute("select body from documents where key = ?", (key,)).fetchone()
            if (found and found[0]) != (expected and expected.body):
                raise RefConflictError(f"{key} was changed", key=key)
            database.execute("delete from documents where key = ?", (key,))
            if new is not None:
                database.execute("insert into documents values (?, ?)", (key, new))
        return None if new is None else StoredDocument(new)

    def list(self, folder: str) -> Iterator[str]:
        start = check_folder(folder) + "/"
        for (key,) in sorted(self._backend.ask("select key from documents")):
            if key.startswith(start):
                yield key.removeprefix(start)


# ---------------------------------------------------------------- and its tests

NUMBERS = itertools.count()


def opener(folder: Path) -> OpenSpace:
    """Return what opens one new space."""
    path = folder / f"{next(NUMBERS)}.sqlite"
    return lambda: LeasedBackend(SqliteBackend(path), LeaseTerms(60.0, 0.002))


@pytest.mark.parametrize("check", [*CHECKS, *DOCUMENT_CHECKS], ids=lambda check: check.__name__)
def test_contract(check: Check, tmp_path: Path) -> None:
    check(opener(tmp_path))


@pytest.mark.parametrize("check", STAMP_CHECKS, ids=lambda check: check.__name__)
def test_stamps(check: Check, tmp_path: Path) -> None:
    check(lambda: SqliteBackend(tmp_path / "space.sqlite"))


def test_random_histories(tmp_path: Path) -> None:
    check_random_histories(lambda: opener(tmp_path), examples=5, steps=12)


def test_a_dataset_lives_in_it(tmp_path: Path) -> None:
    backend = opener(tmp_path)()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=backend)
    ds.append_many([{"_anchor": i, "x": i} for i in range(20)])
    ds.branch("side").append_many([{"_anchor": 99, "x": 99}])
    vd.connect(backend).delete_ref("side")
    ds.snapshot("v1")
    assert vd.Dataset.open_ref("v1", opener_of(backend)).count() == 20
    assert vd.connect(backend).verify().ok
    assert vd.connect(backend).gc().garbage == ()
    # The tip of each line, the deleted one's too as long as its reflog is young.
    assert vd.connect(backend).expire(1, dry_run=False).kept == 2
    assert ds.maintain.purge([3], dry_run=False).records == 1
    assert vd.connect(backend).gc(dry_run=False, trash=False).removed > 0
    assert vd.connect(opener_of(backend)).verify().ok


def opener_of(backend: Any) -> Any:
    """Return another handle of the same space."""
    return LeasedBackend(SqliteBackend(backend.inner.path), backend.terms)


def test_requests_are_counted_and_faults_enumerated(tmp_path: Path) -> None:
    counting = CountingBackend(SqliteBackend(tmp_path / "counted.sqlite"))
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=counting)
    with counting.measured() as tally:
        ds.append_many([{"x": 1}])
    assert tally.calls["refs.swap"] == 1
    probe = FaultBackend(SqliteBackend(tmp_path / "probe.sqlite"))
    _append(probe)
    for plan in enumerate_faults(probe.mutations):
        if plan.fault is Fault.TORN_WRITE:
            continue  # A transaction is whole or not there.
        inner = SqliteBackend(tmp_path / f"{next(NUMBERS)}.sqlite")
        with contextlib.suppress(SimulatedCrash, vd.DreamDBError):
            _append(FaultBackend(inner, plan))
        if inner.refs.read("main") is not None:
            assert vd.Dataset.open_ref("main", inner).count() in (0, 1)
            assert vd.connect(inner).verify().ok


def _append(backend: Any) -> None:
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=backend)
    ds.append_many([{"_anchor": 1, "x": 1}])
