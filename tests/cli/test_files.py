"""Readers of files: bounded batches, origins of records, formats by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamdb import FieldNotFoundError, InvalidInputError, NotFoundError
from dreamdb.adapters.files import FileSource, find_files
from dreamdb.adapters.image_folder import media_type
from dreamdb.adapters.reading import TARGET_NBYTES


def _write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path, compression="none")
    elif path.suffix == ".arrows":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".arrows"])
def test_batches_are_bounded_in_records_and_in_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    rows, width = 120, 1 << 20
    table = pa.table({"x": range(rows), "blob": [bytes([i]) * width for i in range(rows)]})
    _write(path, table)
    sizes = []
    read = []
    for batch in FileSource([path], batch_rows=50):
        sizes.append(batch.nbytes)
        assert batch.num_rows <= 50
        read += batch.column("x").to_pylist()
    assert read == list(range(rows))
    assert max(sizes) <= TARGET_NBYTES + 2 * width
    (few,) = {b.num_rows for b in FileSource([path], batch_rows=1)}
    assert few == 1


def test_images_are_bounded_in_bytes(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(10 << 20))
    sizes = [batch.nbytes for batch in FileSource([tmp_path])]
    assert len(sizes) == 2
    assert max(sizes) < TARGET_NBYTES + (11 << 20)


@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    batch_rows=st.integers(1, 9),
)
def test_every_record_knows_its_file(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], batch_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("origins")
    wanted = []
    for index, length in enumerate(lengths):
        path = folder / f"{index}.parquet"
        pq.write_table(pa.table({"x": pa.array(range(length), pa.int64())}), path)
        wanted += [(path, row) for row in range(length)]
    source = FileSource([folder], batch_rows=batch_rows)
    read = [x for batch in source for x in batch.column("x").to_pylist()]
    assert read == [row for _, row in wanted]
    assert [source.origin(row) for row in range(len(wanted))] == wanted
    assert source.num_rows() == len(wanted)


def test_formats_are_known_by_their_endings(tmp_path: Path) -> None:
    names = {
        "a.PARQUET": "parquet",
        "a.pq": "parquet",
        "a.feather": "arrow",
        "a.b.csv": "csv",
        "a.csv.gz": "csv",
        "a.jsonl.zst": "jsonl",
        "a.ndjson": "jsonl",
        "a.JPG": "images",
    }
    for name, wanted in names.items():
        (tmp_path / name).write_bytes(b"")
        found, files = find_files([tmp_path / name])
        assert found == wanted
        assert files == [(tmp_path / name, tmp_path)]
    for name in ("a", "a.gz", "a.parquet.gz", ".csv", "a.json.txt"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InvalidInputError, match="cannot tell the format"):
            find_files([tmp_path / name])


def test_the_first_bytes_tell_the_media_type() -> None:
    import io

    from PIL import Image

    for name in ("png", "jpeg", "gif", "webp", "bmp", "tiff"):
        out = io.BytesIO()
        Image.fromarray(np.zeros((3, 3), np.uint8)).save(out, format=name)
        assert media_type(out.getvalue()[:12]) == name
    for head in (b"", b"\x89PNG", b"RIFF\0\0\0\0WAVE", b"plain text...", b"%PDF-1.7"):
        assert media_type(head) is None


def test_wrong_arguments(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(InvalidInputError, match="'cvs' is not a format"):
        FileSource([tmp_path / "a.csv"], file_format="cvs")
    with pytest.raises(InvalidInputError, match="batch_rows"):
        FileSource([tmp_path / "a.csv"], batch_rows=0)
    with pytest.raises(InvalidInputError, match="no files"):
        FileSource([])
    with pytest.raises(NotFoundError, match="no parquet file"):
        FileSource([tmp_path], file_format="parquet")
    with pytest.raises(FieldNotFoundError, match="no column 'y'"):
        FileSource([tmp_path / "a.csv"], columns=["y"]).schema()
