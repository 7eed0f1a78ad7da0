"""The file system over versions of a space."""

from __future__ import annotations

import contextlib
import io

import fsspec
import pytest
from PIL import Image

import dreamdb as vd
import dreamdb.fsspec
from tests.adapters.records import fresh_url


def space() -> tuple[vd.Dataset, bytes]:
    """Return a dataset with images and texts, and one of its images."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3)).save(buffer, "PNG")
    schema = vd.Schema().add_image("image", "image/png").add_text("caption").add_scalar_int("n")
    ds = vd.Dataset.create("sweep/a", schema, fresh_url())
    ds.append_many(
        [
            {"_anchor": 10, "image": buffer.getvalue(), "caption": "ten", "n": 1},
            {"_anchor": 20, "image": None, "caption": "twenty ü", "n": 2},
        ]
    )
    ds.snapshot("sweep/a/kept")
    return ds, buffer.getvalue()


def test_every_value_is_a_file() -> None:
    ds, image = space()
    fs = fsspec.filesystem("dreamdb", backend=ds.backend)
    assert fs.find("sweep/a/caption") == ["sweep/a/caption/10.txt", "sweep/a/caption/20.txt"]
    assert fs.ls("", detail=False) == ["sweep"]
    assert fs.ls("sweep/a", detail=False) == ["sweep/a/kept", "sweep/a/image", "sweep/a/caption"]
    assert fs.glob("sweep/a/image/*.png") == ["sweep/a/image/10.png"]
    assert fs.cat("dreamdb://sweep/a/image/10.png") == image
    assert fs.cat("sweep/a/caption/20.txt").decode() == "twenty ü"
    assert fs.cat_file("sweep/a/caption/20.txt", 0, 3) == b"twe"
    assert fs.info("sweep/a/image/10.png")["size"] == len(image)
    assert fs.isdir("sweep/a/image")
    assert fs.isdir("sweep")
    assert not fs.exists("sweep/b")
    with fsspec.open("dreamdb://sweep/a/kept/image/10.png", backend=ds.backend) as file:
        assert Image.open(file).size == (4, 3)


def test_a_file_stays_what_it_is() -> None:
    ds, _ = space()
    fs = dreamdb.fsspec.DreamDBFileSystem(backend=ds.backend)
    assert fs.cat("sweep/a/caption/10.txt") == b"ten"
    key = fs.ukey("sweep/a/caption/10.txt")
    ds.update(10, {"caption": "changed"})
    assert fs.cat("sweep/a/caption/10.txt") == b"ten"
    fresh = dreamdb.fsspec.DreamDBFileSystem(backend=ds.backend)
    assert fresh.cat("sweep/a/caption/10.txt") == b"changed"
    assert fresh.cat("sweep/a/kept/caption/10.txt") == b"ten"
    assert fresh.ukey("sweep/a/caption/10.txt") != key


@pytest.mark.parametrize(
    "path",
    [
        "nothing", "sweep/a/nothing", "sweep/a/n/10.txt", "sweep/a/image/20.png",
        "sweep/a/image/10.jpg", "sweep/a/image/010.png", "sweep/a/image/11.png",
        "sweep/a/image/x.png", "sweep/a/image/99999999999999999999999.png",
        "sweep/a/image/10.png/more", "../sweep/a", "sweep/a/image/10",
    ],
)  # fmt: skip
def test_what_is_not_there(path: str) -> None:
    ds, _ = space()
    fs = fsspec.filesystem("dreamdb", backend=ds.backend)
    with pytest.raises(FileNotFoundError):
        fs.cat_file(path)


def test_it_is_read_only_and_needs_a_space() -> None:
    ds, _ = space()
    fs = fsspec.filesystem("dreamdb", backend=ds.backend)
    with pytest.raises(PermissionError, match="read-only"):
        fs.open("sweep/a/caption/10.txt", "wb")
    for change in (fs.rm_file, fs.mkdir):
        before = fs.find("")
        with contextlib.suppress(NotImplementedError, PermissionError):
            change("sweep/a/caption/10.txt")
        assert fs.find("") == before
    with pytest.raises(vd.InvalidInputError, match="needs the space"):
        fsspec.filesystem("dreamdb")
    with pytest.raises(IsADirectoryError):
        fs.cat_file("sweep/a/caption")
