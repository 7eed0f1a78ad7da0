"""A folder of images whose sub-folders are their labels.

``root/cat/1.png`` has the label ``cat``.  When the folders below the root are all names of splits
(``root/train/cat/1.png``), they become the field ``split`` and the next ones the labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from dreamdb.adapters.reading import TARGET_NBYTES, FileOptions, unreadable
from dreamdb.errors import InvalidInputError

__all__ = ["IMAGE_SUFFIXES", "media_type", "read_images", "sample_images"]

IMAGE_SUFFIXES: Final = (
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff",
)  # fmt: skip
_SPLITS: Final = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
)
_LABEL: Final = pa.dictionary(pa.int32(), pa.string())

Files = Sequence[tuple[Path, Path]]


def media_type(head: bytes) -> str | None:
    """Return the media type that the first bytes of an image tell, or None.

    Parameters
    ----------
    head : bytes
        At least the first 12.
    """
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(b"BM"):
        return "bmp"
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "tiff"
    return None


def _has_splits(files: Files) -> bool:
    tops = {path.relative_to(root).parts[0] for path, root in files}
    deep = all(len(path.relative_to(root).parts) > 2 for path, root in files)
    return deep and all(name.lower() in _SPLITS for name in tops)


def _columns(files: Files) -> pa.Schema:
    fields = [
        pa.field("image", pa.binary()),
        pa.field("label", _LABEL),
        pa.field("path", pa.string()),
    ]
    if _has_splits(files):
        fields.append(pa.field("split", _LABEL))
    return pa.schema(fields)


def _read(path: Path) -> tuple[bytes, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, "an image", error) from None
    mime = media_type(content[:12])
    if mime is None:
        raise InvalidInputError(
            f"{path} is not an image: its first bytes are {content[:8]!r}",
            hint="remove the file, or convert it to PNG or JPEG",
            field="image",
            path=str(path),
        )
    return content, mime


def sample_images(files: Files, options: FileOptions) -> tuple[pa.Schema, pa.Table | None, str]:
    """Return the columns of an image folder, its first records, and the media type.

    Parameters
    ----------
    files : sequence of (Path, Path)
        Each file with the folder it was found in.
    options : FileOptions
        How they are read.

    Raises
    ------
    InvalidInputError
        When the first file is not an image.
    """
    columns = _columns(files)
    names = options.choose(columns.names, files[0][1])
    _, mime = _read(files[0][0])
    sample = None
    for batch in read_images(files[:16], options):
        sample = pa.Table.from_batches([batch])
        break
    return pa.schema([columns.field(name) for name in names]), sample, mime


def read_images(files: Files, options: FileOptions) -> Iterator[pa.RecordBatch]:
    """Yield an image folder as batches of ``image``, ``label``, ``path`` and perhaps ``split``.

    Parameters
    ----------
    files : sequence of (Path, Path)
        Each file with the folder it was found in.
    options : FileOptions
        How they are read.

    Raises
    ------
    InvalidInputError
        Naming a file that is not an image, or of another media type than the field's.
    """
    columns = _columns(files)
    names = options.choose(columns.names, files[0][1])
    # A media type that the caller has chosen stands for whatever the files hold.
    mixed = "image" in options.types
    known = options.known.get("image")
    mime = known.mime if known is not None else None
    rows: list[tuple[bytes, str | None, str, str | None]] = []
    nbytes = 0
    for path, root in files:
        content, found = _read(path)
        mime = mime or found
        if found != _short(mime) and not mixed:
            raise InvalidInputError(
                f"{path} is {found}, not {mime} as the field is: a field has one media type",
                hint=f"name the media type of the field 'image' to take all files as {mime}",
                field="image",
                path=str(path),
            )
        rows.append((content, *_names(path.relative_to(root), "split" in columns.names)))
        nbytes += len(content)
        if len(rows) >= options.batch_rows or nbytes >= TARGET_NBYTES:
            yield _batch(rows, columns).select(names)
            rows, nbytes = [], 0
    if rows:
        yield _batch(rows, columns).select(names)


def _short(mime: str) -> str:
    name = mime.removeprefix("image/").lower()
    return {"jpg": "jpeg", "tif": "tiff"}.get(name, name)


def _names(inside: Path, has_split: bool) -> tuple[str | None, str, str | None]:
    """Return label, path and split of a file by the folders it lies in."""
    folders = inside.parts[:-1]
    split = folders[0] if has_split else None
    folders = folders[1:] if has_split else folders
    return (folders[0] if folders else None), inside.as_posix(), split


def _batch(
    rows: list[tuple[bytes, str | None, str, str | None]], columns: pa.Schema
) -> pa.RecordBatch:
    lists = list(zip(*rows, strict=True))
    plain = [pa.binary(), pa.string(), pa.string(), pa.string()]
    arrays = []
    for index, column in enumerate(columns):
        array = pa.array(lists[index], plain[index])
        arrays.append(array.dictionary_encode() if column.type == _LABEL else array)
    return pa.RecordBatch.from_arrays(arrays, schema=columns)
