"""The cache of open objects: bounds, counts, verification, threads and forks."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb.errors import FormatError, HashMismatchError, ObjectMissingError
from dreamdb.objects import Kind, decode_document, encode_document, seal, to_text
from dreamdb.store import ObjectCache, open_backend
from dreamdb.testing import CountingBackend, FaultBackend, FaultPlan, flip_bit
from dreamdb.testing.samples import run_together, sample_object, store_all
from tests.store.processes import in_fork

NAMES = iter(range(1_000_000))


def counted(nbytes: list[int], *, compress: bool = False) -> tuple[CountingBackend, list[bytes]]:
    backend = CountingBackend(open_backend(f"memory://cache-{next(NAMES)}"))
    objects = [sample_object(n, size, compress=compress) for n, size in enumerate(nbytes)]
    store_all(backend, *objects)
    backend.reset()
    return backend, [sealed.address for sealed in objects]


def test_an_object_is_opened_once() -> None:
    backend, (first, second) = counted([1_000, 2_000])
    cache = ObjectCache(backend.objects)
    opened = cache.open(first, Kind.FRAGMENT)
    assert cache.open(first, Kind.FRAGMENT) is opened
    cache.open(second, None)
    cache.open(second, Kind.FRAGMENT)
    assert backend.tally.opened == [first, second]
    assert (cache.counters.hits, cache.counters.misses) == (2, 2)
    assert cache.counters.stored_nbytes == backend.tally.nbytes["objects.open"]
    cache.forget(first)
    cache.forget(first)
    cache.open(first, Kind.FRAGMENT)
    assert backend.tally.calls["objects.open"] == 3


def test_the_least_recently_used_goes_first() -> None:
    backend, (a, b, c) = counted([100, 100, 100])
    cache = ObjectCache(backend.objects, max_objects=2)
    for address in (a, b, a, c, a):
        cache.open(address, Kind.FRAGMENT)
    assert backend.tally.opened == [a, b, c]
    cache.open(b, Kind.FRAGMENT)
    assert backend.tally.opened == [a, b, c, b]
    assert len(cache) == 2


@given(
    sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=6),
    order=st.lists(st.integers(0, 5), max_size=40),
    limit=st.integers(0, 8_000),
    number=st.integers(1, 6),
    compress=st.booleans(),
)
def test_bounds_hold_and_payloads_are_right(
    sizes: list[int], order: list[int], limit: int, number: int, compress: bool
) -> None:
    backend, addresses = counted(sizes, compress=compress)
    cache = ObjectCache(backend.objects, max_objects=number, max_nbytes=limit)
    for position in order:
        chosen = position % len(sizes)
        payload = cache.open(addresses[chosen], Kind.FRAGMENT).view()
        assert payload.nbytes == sizes[chosen]
        assert len(cache) <= number
        assert cache.nbytes <= limit
    for address in addresses:
        cache.forget(address)
    assert (len(cache), cache.nbytes) == (0, 0)


def test_documents_are_decoded_once_and_strictly() -> None:
    backend = CountingBackend(open_backend(f"memory://cache-{next(NAMES)}"))
    good = seal(Kind.CONTENT, [encode_document({"a": [1, 2]})], compress=False)
    bad = seal(Kind.CONTENT, [b'{"a": 1}'], compress=False)
    store_all(backend, good, bad)
    cache = ObjectCache(backend.objects)
    document = cache.parsed(good.address, Kind.CONTENT, decode_document)
    assert document == {"a": [1, 2]}
    assert cache.parsed(good.address, Kind.CONTENT, decode_document) is document
    assert backend.tally.calls["objects.open"] == 1
    with pytest.raises(FormatError, match="is not in canonical form") as caught:
        cache.parsed(bad.address, Kind.CONTENT, decode_document)
    assert caught.value.details["object"] == to_text(bad.address)


def test_another_kind_is_refused_cached_or_not() -> None:
    backend, (address,) = counted([500])
    cache = ObjectCache(backend.objects)
    with pytest.raises(FormatError, match="is a fragment, not a node"):
        cache.open(address, Kind.NODE)
    cache.open(address, Kind.FRAGMENT)
    with pytest.raises(FormatError, match="is a fragment, not a node"):
        cache.open(address, Kind.NODE)


def test_known_payloads_need_no_store() -> None:
    backend, _ = counted([])
    cache = ObjectCache(backend.objects)
    payload = bytearray(encode_document({"b": 2}))
    sealed = seal(Kind.MANIFEST, [payload], compress=False)
    cache.put_known(sealed.address, Kind.MANIFEST, payload)
    payload[0] = 0  # The caller may reuse its buffer.
    assert cache.parsed(sealed.address, Kind.MANIFEST, decode_document) == {"b": 2}
    opened = cache.open(sealed.address, Kind.MANIFEST)
    opened.verify(0, opened.nbytes)
    assert opened.verified
    assert opened.view().readonly
    assert backend.tally.calls["objects.open"] == 0


def test_missing_and_damaged_objects_are_not_kept() -> None:
    backend, (address,) = counted([40_000])
    broken = FaultBackend(backend, FaultPlan(damage={address: flip_bit(8 * 100)}))
    cache = ObjectCache(broken.objects)
    for _ in range(2):
        with pytest.raises(HashMismatchError):
            cache.open(address, Kind.FRAGMENT)
        with pytest.raises(ObjectMissingError):
            cache.open(sample_object(77).address, Kind.FRAGMENT)
    assert len(cache) == 0
    broken.plan = FaultPlan()
    assert cache.open(address, Kind.FRAGMENT).view().nbytes == 40_000


def test_threads_share_a_small_cache() -> None:
    sizes = [700 * n for n in range(1, 25)]
    backend, addresses = counted(sizes, compress=True)
    cache = ObjectCache(backend.objects, max_objects=7, max_nbytes=60_000)

    def read() -> None:
        for step in range(600):
            chosen = (step * 7 + threading.get_ident()) % len(sizes)
            payload = cache.open(addresses[chosen], Kind.FRAGMENT).view()
            assert payload.nbytes == sizes[chosen]

    run_together([read] * 4)
    assert len(cache) <= 7
    assert cache.nbytes <= 60_000
    assert cache.counters.hits + cache.counters.misses == 4 * 600


def test_a_child_forked_while_a_thread_reads_goes_on() -> None:
    sizes = [500 * n for n in range(1, 20)]
    backend, addresses = counted(sizes)
    cache = ObjectCache(backend.inner.objects, max_objects=5)
    done = threading.Event()

    def read_all() -> int:
        return sum(cache.open(a, Kind.FRAGMENT).view().nbytes for a in addresses)

    def keep_reading() -> None:
        while not done.is_set():
            read_all()

    thread = threading.Thread(target=keep_reading)
    patience = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # Threads change within a few instructions.
    thread.start()
    try:
        # Some of these forks happen while the thread holds the cache's lock.
        assert [in_fork(read_all) for _ in range(40)] == [sum(sizes)] * 40
    finally:
        sys.setswitchinterval(patience)
        done.set()
        thread.join()
