"""Reused memory: never shared by two living arrays, and bounded."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pyarrow as pa

from dreamdb.tracks.buffers import SMALLEST, BufferPool, empty

LARGE = 4 * SMALLEST


def test_memory_is_used_again_once_nothing_refers_to_it() -> None:
    pool = BufferPool()
    first = pool.array(LARGE)
    place = first.ctypes.data
    first[:] = 7
    assert pool.idle_nbytes == 0
    del first
    gc.collect()
    assert pool.idle_nbytes == LARGE
    second = pool.array(LARGE - 5)
    assert second.ctypes.data == place
    assert second.shape == (LARGE - 5,)
    assert second.flags.writeable
    assert pool.idle_nbytes == 0


def test_a_slice_a_view_or_an_arrow_array_keeps_the_memory() -> None:
    pool = BufferPool()
    for keep in (
        lambda array: array[5:9],
        lambda array: array.view(np.float32).reshape(-1, 4)[:2].T,
        lambda array: pa.py_buffer(array),
        lambda array: memoryview(array)[3:],
        lambda array: pa.Array.from_buffers(pa.uint8(), LARGE, [None, pa.py_buffer(array)])[2:],
    ):
        array = pool.array(LARGE)
        array[:] = 1
        kept = keep(array)
        del array
        gc.collect()
        other = pool.array(LARGE)
        other[:] = 2
        assert pool.idle_nbytes == 0
        seen = kept if isinstance(kept, np.ndarray) else np.frombuffer(_bytes(kept), np.uint8)
        assert (np.ascontiguousarray(seen).view(np.uint8) == 1).all()
        del kept, seen, other
        gc.collect()
        assert pool.idle_nbytes == 2 * LARGE
        pool = BufferPool()


def _bytes(kept: object) -> bytes:
    if isinstance(kept, pa.Array):
        return bytes(kept.to_pylist())
    return bytes(kept)  # type: ignore[call-overload, no-any-return]


def test_what_lies_idle_is_bounded() -> None:
    pool = BufferPool(max_idle=3 * LARGE)
    arrays = [pool.array(LARGE) for _ in range(10)]
    del arrays
    gc.collect()
    assert pool.idle_nbytes == 3 * LARGE


def test_threads_never_share_memory() -> None:
    pool = BufferPool()
    wrong: list[int] = []

    def work(number: int) -> None:
        for step in range(200):
            array = pool.array(SMALLEST * (1 + step % 3))
            array[:] = number
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_shapes_and_types_are_those_of_numpy() -> None:
    for shape, dtype in (((3, 5), "f4"), ((0, 7), "f8"), ((200, 512), "f4"), ((1 << 20,), "u1")):
        got = empty(shape, np.dtype(dtype))
        assert got.shape == shape
        assert got.dtype == np.dtype(dtype)
        assert got.flags.c_contiguous
