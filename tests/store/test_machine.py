"""Random histories of a space against a model of dictionaries."""

from __future__ import annotations

import itertools
import shutil
import tempfile

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dreamdb.errors import RefConflictError
from dreamdb.store import Backend, LogEntry, RefValue, open_backend
from dreamdb.testing.samples import numbered_address, payload_of, sample_object
from dreamdb.types import Address

SPACES = itertools.count()
NAMES = st.sampled_from(["main", "Main", "sweep", "sweep/x"])
NUMBERS = st.integers(1, 6)
ABSENT = st.none()
OBJECTS = {n: sample_object(n, 100 * 7**n, compress=n % 2 == 0) for n in range(1, 6)}


class SpaceMachine(RuleBasedStateMachine):
    """Each rule does one thing to the space and to the model."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.backend: Backend = open_backend(self.new_url())
        self.refs: dict[str, Address] = {}
        self.logs: dict[str, list[LogEntry]] = {}
        self.objects: set[Address] = set()
        self.time = 0

    def new_url(self) -> str:
        raise NotImplementedError

    @rule()
    def reopen(self) -> None:
        self.backend = open_backend(self.backend.url)

    @rule(name=NAMES, held=ABSENT | NUMBERS, new=ABSENT | NUMBERS)
    def swap(self, name: str, held: int | None, new: int | None) -> None:
        expected = None if held is None else RefValue(numbered_address(held))
        value = None if new is None else numbered_address(new)
        before = self.refs.get(name)
        if before != (expected and expected.address):
            with pytest.raises(RefConflictError) as caught:
                self.backend.refs.swap(name, expected, value)
            assert caught.value.details["actual"] == before
            return
        self.backend.refs.swap(name, expected, value)
        self.refs.pop(name, None)
        if value is not None:
            self.refs[name] = value

    @rule(name=NAMES, new=ABSENT | NUMBERS)
    def move(self, name: str, new: int | None) -> None:
        held = self.backend.refs.read(name)
        value = None if new is None else numbered_address(new)
        self.backend.refs.swap(name, held, value)
        self.refs.pop(name, None)
        if value is not None:
            self.refs[name] = value

    @rule(name=NAMES, who=st.text(max_size=5))
    def log(self, name: str, who: str) -> None:
        self.time += 1
        entry = LogEntry(self.time, self.refs.get(name), None, who, "test")
        self.backend.refs.append_log(name, entry)
        self.logs.setdefault(name, []).append(entry)

    @rule(numbers=st.lists(st.sampled_from(sorted(OBJECTS)), max_size=4), finish=st.booleans())
    def upload(self, numbers: list[int], finish: bool) -> None:
        upload = self.backend.objects.upload()
        seen: set[Address] = set()
        for number in numbers:
            address = OBJECTS[number].address
            assert upload.put(OBJECTS[number]) == (address not in self.objects | seen)
            seen.add(address)
        if finish:
            upload.finish()
            self.objects |= seen
        else:
            upload.abort()

    @rule(number=st.sampled_from(sorted(OBJECTS)))
    def delete(self, number: int) -> None:
        with self.backend.objects.hold_exclusive():
            self.backend.objects.delete(OBJECTS[number].address)
        self.objects.discard(OBJECTS[number].address)

    @invariant()
    def agrees_with_the_model(self) -> None:
        found = [(name, value.address) for name, value in self.backend.refs.list()]
        assert found == sorted(self.refs.items())
        assert list(self.backend.refs.logs()) == sorted(self.logs)
        assert {address for address, _ in self.backend.objects.list()} == self.objects
        for name, entries in self.logs.items():
            assert self.backend.refs.read_log(name) == entries
        for sealed in OBJECTS.values():
            if sealed.address in self.objects:
                assert len(payload_of(self.backend, sealed.address)) == sealed.raw_nbytes
            else:
                assert self.backend.objects.size(sealed.address) is None


class MemoryMachine(SpaceMachine):
    def new_url(self) -> str:
        return f"memory://machine-{next(SPACES)}"


class LocalMachine(SpaceMachine):
    def new_url(self) -> str:
        self.folder = tempfile.mkdtemp(prefix="dreamdb-test-")
        return f"{self.folder}/space"

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


@pytest.mark.parametrize("machine", [MemoryMachine, LocalMachine])
def test_histories_agree_with_a_model(machine: type[SpaceMachine]) -> None:
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=25))
