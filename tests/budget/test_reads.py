"""What reading may cost: objects opened, bytes, memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa

import dreamdb as vd
from tests.budget.counted import cold, counted, images, narrow


def test_open_and_count_at_ten_million_rows() -> None:
    backend = counted()
    ds = vd.Dataset.create("main", vd.Schema().add_scalar_int("x"), backend=backend)
    size = 2_000_000
    labels = pa.array(np.arange(size) % 1_000)
    ds.append(
        iter(
            [
                pa.table(
                    {"_anchor": pa.array(np.arange(size) + n * size, pa.uint64()), "x": labels}
                )
                for n in range(5)
            ]
        )
    )
    ds.delete([5, 9_999_999])
    handle, reads = cold(backend)
    assert handle.count() == 9_999_998
    assert len(reads.tally.opened) <= 4
    assert reads.tally.nbytes["objects.open"] <= 64 << 10
    assert reads.tally.calls["refs.read"] == 1
    # Opened and looked at closely: still not the data.
    handle, reads = cold(backend)
    repr(handle)
    handle.stats()
    assert reads.tally.nbytes["objects.open"] <= 1 << 20
    handle, reads = cold(backend)
    assert handle.take([7_777_777])["x"].to_pylist() == [777]
    assert len(reads.tally.opened) <= 16


def test_a_scan_of_labels_reads_no_image() -> None:
    backend = counted()
    ds = images(backend, 2_000)
    pictures = set(ds._view.track("image").addresses)
    assert len(pictures) > 4
    for read in (
        lambda h: h.scan(["label"]).to_arrow(),
        lambda h: list(h.iter_arrow_batches(100, ["label"], shuffle_seed=1)),
        lambda h: h.scan(["label"], where="label > 3").to_arrow(),
        lambda h: h["label"],
        lambda h: h.query_scalar("label", "==", 3),
        lambda h: h.distinct_values("label"),
        lambda h: h.splits({"a": 0.5, "b": 0.5}),
        lambda h: h.delete("label = 3"),
        lambda h: h.update(h.scan([], limit=1).to_arrow()["_anchor"], {"label": [77]}),
        lambda h: (h.count(), repr(h), h.stats(), h.log()),
    ):
        handle, reads = cold(backend)
        read(handle)
        assert not pictures & set(reads.tally.opened)


def test_a_scan_opens_each_fragment_about_once_and_then_never_again() -> None:
    backend = counted()
    narrow(backend, 100_000)
    handle, reads = cold(backend)
    assert sum(b.num_rows for b in handle.iter_arrow_batches(1_000)) == 100_000
    # The reader and what reads ahead may meet at an object that neither has yet.
    assert len(reads.tally.opened) <= len(set(reads.tally.opened)) + 8
    with reads.measured() as again:
        assert sum(b.num_rows for b in handle.iter_arrow_batches(1_000)) == 100_000
    assert not again.opened


def test_a_take_opens_only_the_fragments_it_touches() -> None:
    backend = counted()
    images(backend, 3_000)
    handle, reads = cold(backend)
    anchors = handle.scan([]).to_arrow()["_anchor"].to_pylist()
    fragments = len(handle._view.track("image").addresses)
    assert fragments >= 8
    with reads.measured() as tally:
        handle.take(anchors[1_000:1_010], ["image"])
    assert len(tally.opened) <= 4


def test_the_first_batch_reads_little_whatever_the_size() -> None:
    opened = []
    for rows in (500, 4_000):
        backend = counted()
        images(backend, rows)
        handle, reads = cold(backend)
        batches = handle.iter_arrow_batches(64, ["label"])
        next(batches)
        opened.append(len(reads.tally.opened))
    assert opened[1] <= opened[0] + 4


_MEASURE = """
    import sys, threading
    import numpy as np, pyarrow as pa, dreamdb as vd

    def anonymous():
        try:
            with open("/proc/self/status") as file:
                lines = [line for line in file if line.startswith("RssAnon")]
            return int(lines[0].split()[1]) * 1024
        except (OSError, IndexError):
            return pa.total_allocated_bytes()

    url, what = sys.argv[1:]
    generator = np.random.default_rng(0)

    def batches():
        for number in range(40):
            blobs = [generator.bytes(100_000) for _ in range(100)]
            yield pa.table({"image": blobs, "label": list(range(100))})

    if what == "warm":
        list(vd.Dataset.create("warm", data={"x": [1]}, backend=url).iter_arrow_batches())
        sys.exit()
    ds = None if what == "ingest" else vd.Dataset.open_ref("main", url)
    pa.table({"a": [1]})
    base = top = anonymous()
    stop = threading.Event()

    def watch():
        global top
        while not stop.wait(0.005):
            top = max(top, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    rows = 0
    if what == "ingest":
        schema = vd.Schema().add_image("image").add_scalar_int("label")
        rows = vd.Dataset.create("main", schema, backend=url).append(batches())
    elif what == "scan":
        for batch in ds.iter_arrow_batches(64):
            rows += batch.num_rows
    elif what == "shuffle":
        for batch in ds.iter_arrow_batches(64, shuffle_seed=1):
            rows += batch.num_rows
    elif what == "where":
        for batch in ds.iter_arrow_batches(64, where="label >= 0"):
            rows += batch.num_rows
    stop.set()
    watcher.join()
    print(rows, max(top, anonymous()) - base)
"""


def _measure(url: str, what: str) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_MEASURE), url, what],
        capture_output=True,
        text=True,
        check=True,
    )
    rows, nbytes = done.stdout.split()
    return int(rows), int(nbytes)


def test_memory_is_bounded_while_the_dataset_is_not(tmp_path: Path) -> None:
    url = str(tmp_path / "space")
    # 400 MB; a slab of 64 MB, what is on its way to the disk, and what is being hashed.
    rows, nbytes = _measure(url, "ingest")
    assert rows == 4_000
    assert nbytes <= 320 << 20
    for what in ("scan", "shuffle", "where"):
        rows, nbytes = _measure(url, what)
        assert rows == 4_000
        assert nbytes <= 160 << 20, what
