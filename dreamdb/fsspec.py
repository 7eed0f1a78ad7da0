"""Versions of a space as a read-only file system: ``dreamdb://ref/field/anchor.ext``.

Source: design/0020 section 9.  Every field of media, bytes or text is a folder with one file per
record.  Importing this module registers the protocol; installing the package does so too.

>>> import dreamdb as vd
>>> import dreamdb.fsspec
>>> schema = vd.Schema().add_text("body")
>>> ds = vd.Dataset.create("docs", schema, "memory://fsspec-docs")
>>> ds.append_many([{"_anchor": 7, "body": "seven"}])
1
>>> fs = dreamdb.fsspec.DreamDBFileSystem(backend="memory://fsspec-docs")
>>> fs.ls("docs/body", detail=False)
['docs/body/7.txt']
>>> fs.cat("dreamdb://docs/body/7.txt")
b'seven'
"""

from __future__ import annotations

import io
from typing import Any, ClassVar, Final

import fsspec
from fsspec.spec import AbstractFileSystem

from dreamdb.dataset import BackendLike, Dataset, Space, connect
from dreamdb.errors import InvalidInputError, NotFoundError, RefNameError
from dreamdb.types import BLOB_KINDS

__all__ = ["DreamDBFileSystem"]

_TEXTS: Final = frozenset({"text", "string"})
_SUFFIXES: Final = {"jpeg": "jpg", "mpeg": "mp3", "plain": "txt", "quicktime": "mov"}


class DreamDBFileSystem(AbstractFileSystem):
    """Media, bytes and texts of every ref of a space, as files.

    ``dreamdb://<ref>/<field>/<anchor>.<ext>``; a ref with slashes in its name is a folder of
    folders.  A file stays what it is as long as this object lives: each ref is read once, at the
    version that it has then.

    Parameters
    ----------
    backend : str, PathLike or Backend
        The space.
    storage_options : dict, optional
        Credentials and settings of the space's own file system.
    **options : Any
        As for every fsspec file system.
    """

    protocol: ClassVar[str] = "dreamdb"
    root_marker: ClassVar[str] = ""
    # Instances are cached by their arguments, and a branch moves.
    cachable: ClassVar[bool] = False

    def __init__(
        self,
        backend: BackendLike | None = None,
        storage_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if backend is None:
            raise InvalidInputError(
                "a dreamdb:// path needs the space it is in",
                hint="fsspec.open('dreamdb://ref/field/1.png', backend='path/to/space')",
            )
        self._space: Space = connect(backend, storage_options=storage_options)
        self._opened: dict[str, Dataset] = {}

    @property
    def fsid(self) -> str:
        """The space's URL."""
        return f"dreamdb:{self._space.url}"

    def _dataset(self, ref: str) -> Dataset:
        found = self._opened.get(ref)
        if found is None:
            opened = self._space.open(ref)
            found = Dataset.open_by_manifest(
                opened.current_manifest(),
                self._space._space.given,
                storage_options=self._space._space.storage_options,
            )
            self._opened[ref] = found
        return found

    def _refs(self) -> list[str]:
        return [ref.name for ref in self._space.refs() if ref.kind != "tag"]

    def _split(self, path: str) -> tuple[str, str | None, str | None]:
        """Return ref, field and file of a path; the longest ref that fits."""
        parts = [part for part in self._strip_protocol(path).split("/") if part]
        refs = set(self._refs())
        for count in range(len(parts), 0, -1):
            ref = "/".join(parts[:count])
            rest = parts[count:]
            if ref in refs and len(rest) <= 2:
                return ref, *[*rest, None, None][:2]
        raise FileNotFoundError(path)

    def _fields(self, dataset: Dataset) -> dict[str, str]:
        """Return the fields that are folders, with the ending of their files."""
        out = {}
        for name in dataset.schema:
            ftype = dataset.schema[name].type
            if ftype.kind in _TEXTS:
                out[name] = "txt"
            elif ftype.kind in BLOB_KINDS:
                short = (ftype.mime or "bin").rpartition("/")[2].lower().removeprefix("x-")
                out[name] = _SUFFIXES.get(short, short)
        return out

    def _folder(self, name: str) -> dict[str, Any]:
        return {"name": name, "size": 0, "type": "directory"}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """Return what is in a folder.

        Parameters
        ----------
        path : str
            The folder: nothing, a ref, or a ref and a field.
        detail : bool
            Dictionaries instead of names; the size of a file is told by :meth:`info`.
        **options : Any
            Not used.

        Raises
        ------
        FileNotFoundError
            When there is none.
        """
        found = self._list(self._strip_protocol(path).strip("/"))
        return found if detail else [entry["name"] for entry in found]

    def _list(self, path: str) -> list[dict[str, Any]]:
        prefix = f"{path}/" if path else ""
        below = sorted(
            {r[len(prefix) :].split("/")[0] for r in self._refs() if r.startswith(prefix)}
        )
        entries = [self._folder(prefix + name) for name in below]
        try:
            ref, field, file = self._split(path)
        except FileNotFoundError:
            if entries or not path:
                return entries
            raise
        dataset = self._dataset(ref)
        fields = self._fields(dataset)
        if field is None:
            known = {entry["name"] for entry in entries}
            return entries + [
                self._folder(f"{ref}/{name}") for name in fields if f"{ref}/{name}" not in known
            ]
        if field not in fields:
            raise FileNotFoundError(path)
        if file is not None:
            return [self.info(path)]
        present = dataset.scan([], where=_present(field)).to_arrow().column("_anchor").to_pylist()
        return [
            {"name": f"{ref}/{field}/{anchor}.{fields[field]}", "size": None, "type": "file"}
            for anchor in present
        ]

    def _value(self, path: str) -> bytes:
        ref, field, file = self._split(path)
        dataset = self._dataset(ref)
        fields = self._fields(dataset)
        if field is None or (file is None and field in fields):
            raise IsADirectoryError(path)
        if file is None:
            raise FileNotFoundError(path)
        stem, _, suffix = file.partition(".")
        if field not in fields or suffix != fields[field] or not stem.isdigit():
            raise FileNotFoundError(path)
        anchor = int(stem)
        if str(anchor) != stem or anchor >= 1 << 64:
            raise FileNotFoundError(path)
        try:
            value = dataset.take([anchor], [field]).column(field)[0].as_py()
        except NotFoundError:
            value = None
        if value is None:
            raise FileNotFoundError(path)
        return value.encode() if isinstance(value, str) else value

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Return name, size and type of a file or folder.

        Parameters
        ----------
        path : str
            The file or folder.
        **options : Any
            Not used.
        """
        name = self._strip_protocol(path).strip("/")
        try:
            ref, field, file = self._split(name)
        except (FileNotFoundError, RefNameError):
            if not name or any(r.startswith(f"{name}/") for r in self._refs()):
                return self._folder(name)
            raise FileNotFoundError(path) from None
        if file is None:
            if field is not None and field not in self._fields(self._dataset(ref)):
                raise FileNotFoundError(path)
            return self._folder(name)
        return {"name": name, "size": len(self._value(name)), "type": "file"}

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **options: Any,
    ) -> io.BytesIO:
        if mode != "rb":
            raise PermissionError(
                f"dreamdb:// is read-only: {path} cannot be opened with mode {mode!r}"
            )
        return io.BytesIO(self._value(path))

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        """Return the bytes of a file.

        Parameters
        ----------
        path : str
            The file.
        start, end : int, optional
            Which of them; negative ones count from the end.
        **options : Any
            Not used.
        """
        return self._value(path)[start:end]

    def ukey(self, path: str) -> str:
        """Return what names the content of a file: its version and path.

        Parameters
        ----------
        path : str
            The file.
        """
        ref, _, _ = self._split(path)
        return f"{self._dataset(ref).current_manifest()}:{self._strip_protocol(path)}"


def _present(field: str) -> Any:
    from dreamdb.read import col

    return col(field).is_valid()


fsspec.register_implementation("dreamdb", DreamDBFileSystem, clobber=True)
