"""Random histories of a space against the reference model."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import given

from dreamdb.objects import check_ref_name, decode_ref_key, encode_ref_key
from dreamdb.store import open_backend
from dreamdb.testing import OpenSpace, SpaceModel
from dreamdb.testing.histories import check_random_histories
from dreamdb.testing.samples import numbered_address, sample_object, store_all
from dreamdb.testing.strategies import ref_names

SPACES = itertools.count()


def new_memory() -> OpenSpace:
    name = f"memory://machine-{next(SPACES)}"
    return lambda: open_backend(name)


def test_histories_in_memory_agree_with_the_model() -> None:
    check_random_histories(new_memory)


def test_histories_in_directories_agree_with_the_model() -> None:
    with tempfile.TemporaryDirectory(prefix="dreamdb-test-") as folder:

        def new_directory() -> OpenSpace:
            path = Path(folder) / str(next(SPACES))
            return lambda: open_backend(path)

        check_random_histories(new_directory, examples=15)


def test_a_wrong_backend_is_found_out() -> None:
    def forgetful() -> OpenSpace:
        backend = new_memory()()
        backend.refs.append_log = lambda name, entry: None  # type: ignore[method-assign]
        return lambda: backend

    with pytest.raises(AssertionError):
        check_random_histories(forgetful, examples=20, steps=5)


def test_the_model_says_what_differs() -> None:
    backend = new_memory()()
    model = SpaceModel()
    assert model.differences(backend) == []
    store_all(backend, sample_object(1))
    backend.refs.swap("main", None, numbered_address(1))
    assert [line.split()[0] for line in model.differences(backend)] == ["refs", "1"]
    assert model.move("main", None, numbered_address(1))
    assert not model.move("main", None, numbered_address(2))
    model.objects[sample_object(1).address] = 100
    model.documents["cuts"] = b"x"
    assert model.differences(backend) == ["cuts differs"]


@given(ref_names())
def test_names_that_are_drawn_may_name_refs(name: str) -> None:
    assert check_ref_name(name) == name
    assert decode_ref_key(encode_ref_key(name)) == name
