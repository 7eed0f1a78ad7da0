"""Random histories of a space against the reference model.  Needs ``hypothesis``.

Source: design/0006 section 8.  In a test of your backend::

    def test_random_histories():
        check_random_histories(make_space)
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dreamdb.errors import RefConflictError
from dreamdb.objects import SealedObject
from dreamdb.store import LogEntry, RefValue, documents_of
from dreamdb.testing.model import SpaceModel
from dreamdb.testing.samples import OpenSpace, numbered_address, payload_of, sample_object
from dreamdb.testing.strategies import log_entries, sealed_objects
from dreamdb.types import Address

__all__ = ["SpaceHistory", "check_random_histories"]

# Few of each, so that they meet.
_NAMES = st.sampled_from(["main", "Main", "sweep", "sweep/x"])
_VALUES = st.none() | st.integers(1, 6).map(numbered_address)
_KEYS = st.sampled_from(["cuts", "leases/a", "redactions/b"])
_BODIES = st.none() | st.sampled_from([b"", b"one", b"two"])
_OBJECTS = st.integers(1, 5).map(lambda n: sample_object(n, 100 * 7**n)) | sealed_objects()


class SpaceHistory(RuleBasedStateMachine):
    """Each rule does one thing to a space and to the model; subclasses say which space."""

    def __init__(self) -> None:
        super().__init__()
        self.open_space = self.new_space()
        self.backend = self.open_space()
        self.model = SpaceModel()
        self.has_documents = getattr(self.backend, "documents", None) is not None

    def new_space(self) -> OpenSpace:
        """Return the function that opens an empty space."""
        raise NotImplementedError

    @rule()
    def reopen(self) -> None:
        """Go on with another handle."""
        self.backend = self.open_space()

    @rule(name=_NAMES, expected=_VALUES, new=_VALUES)
    def swap(self, name: str, expected: Address | None, new: Address | None) -> None:
        """Move a ref from a value that it may or may not have."""
        held = None if expected is None else RefValue(expected)
        before = self.model.refs.get(name)
        try:
            self.backend.refs.swap(name, held, new)
        except RefConflictError as error:
            told = error.details["actual"]
            assert told == before != expected
        else:
            assert self.model.move(name, expected, new)

    @rule(name=_NAMES, new=_VALUES)
    def move(self, name: str, new: Address | None) -> None:
        """Move a ref from the value that it has."""
        held = self.backend.refs.read(name)
        address = None if held is None else held.address
        assert address == self.model.refs.get(name)
        self.backend.refs.swap(name, held, new)
        assert self.model.move(name, address, new)

    @rule(name=_NAMES, entry=log_entries())
    def log(self, name: str, entry: LogEntry) -> None:
        """Add to a reflog; entries are given in the order of their times."""
        last = max((e.time_ns for es in self.model.logs.values() for e in es), default=0)
        entry = LogEntry(last + 1, entry.old, entry.new, entry.who, entry.why)
        self.backend.refs.append_log(name, entry)
        self.model.logs.setdefault(name, []).append(entry)

    @rule(objects=st.lists(_OBJECTS, max_size=4), finish=st.booleans())
    def upload(self, objects: list[SealedObject], finish: bool) -> None:
        """Store some objects, or give the upload up."""
        upload = self.backend.objects.upload()
        seen: dict[Address, int] = {}
        for sealed in objects:
            new = sealed.address not in self.model.objects and sealed.address not in seen
            assert upload.put(sealed) == new
            seen[sealed.address] = sealed.raw_nbytes
        if finish:
            upload.finish()
            self.model.objects |= seen
        else:
            upload.abort()

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete an object as a collector does."""
        if not self.model.objects:
            return
        address = data.draw(st.sampled_from(sorted(self.model.objects)))
        with self.backend.objects.hold_exclusive():
            self.backend.objects.delete(address)
        del self.model.objects[address]

    @rule(key=_KEYS, expected=_BODIES, new=_BODIES)
    def change(self, key: str, expected: bytes | None, new: bytes | None) -> None:
        """Replace a document, when it is what is expected."""
        if not self.has_documents:
            return
        documents = documents_of(self.backend)
        found = documents.read(key)
        assert (None if found is None else found.body) == self.model.documents.get(key)
        if (found and found.body) != expected:
            return
        documents.swap(key, found, new)
        assert self.model.change(key, expected, new)

    @invariant()
    def agrees_with_the_model(self) -> None:
        """Require that the space holds what the model holds."""
        assert self.model.differences(self.backend) == []
        for address, nbytes in self.model.objects.items():
            assert len(payload_of(self.backend, address)) == nbytes


def check_random_histories(
    make_space: Callable[[], OpenSpace], *, examples: int = 25, steps: int = 25
) -> None:
    """Run random histories of a backend against the reference model.

    Parameters
    ----------
    make_space : callable
        Makes an empty space and returns the function that opens it.
    examples, steps : int
        How many histories, and how long each may be.

    Raises
    ------
    AssertionError
        With the shortest history that was found to go wrong.
    """

    class History(SpaceHistory):
        def new_space(self) -> OpenSpace:
            return make_space()

    run_state_machine_as_test(
        History, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None)
    )
