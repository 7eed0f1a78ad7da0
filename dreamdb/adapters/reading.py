"""What readers of files share: options, sizes, and errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dreamdb.errors import (
    DreamDBError,
    FieldNotFoundError,
    InvalidInputError,
    StorageError,
    nearest_hint,
)
from dreamdb.types import FieldType

__all__ = ["BLOCK_NBYTES", "TARGET_NBYTES", "FileOptions", "bad_value", "unreadable"]

TARGET_NBYTES: Final = 32 << 20
"""A batch holds about so many bytes at most."""

BLOCK_NBYTES: Final = 4 << 20
"""Text is parsed in blocks of so many bytes; types are inferred from the first."""


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How files are read.

    Parameters
    ----------
    batch_rows : int
        At most so many records per batch.
    types : mapping of str to FieldType
        Columns whose type the caller has chosen.
    columns : sequence of str or None
        Which columns to read; None for all.
    stored : mapping of str to FieldType
        Columns whose type the dataset has already.
    block_nbytes : int
        Size of the blocks in which text is parsed.
    """

    batch_rows: int
    types: Mapping[str, FieldType] = field(default_factory=dict)
    columns: Sequence[str] | None = None
    stored: Mapping[str, FieldType] = field(default_factory=dict)
    block_nbytes: int = BLOCK_NBYTES

    @property
    def known(self) -> dict[str, FieldType]:
        """Columns whose type need not be inferred."""
        return {**self.stored, **self.types}

    def choose(self, names: Sequence[str], path: Path) -> list[str]:
        """Return the columns to read from those of a file.

        Parameters
        ----------
        names : sequence of str
            The file's columns.
        path : Path
            The file, for messages.

        Raises
        ------
        FieldNotFoundError
            When the file lacks one that was asked for.
        InvalidInputError
            When the file has two of one name.
        """
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidInputError(
                f"{path} has the column {twice[0]!r} twice",
                hint="give each column a name of its own",
                field=twice[0],
            )
        if self.columns is None:
            return list(names)
        for name in self.columns:
            if name not in names:
                raise FieldNotFoundError(
                    f"{path} has no column {name!r}",
                    hint=nearest_hint(name, names, "columns"),
                    field=name,
                )
        return list(self.columns)


def unreadable(path: Path, what: str, error: Exception) -> DreamDBError:
    """Return the error for a file that cannot be opened or parsed.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        What it was read as.
    error : Exception
        Why that failed.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return StorageError(f"{path} cannot be read: {error.strerror or error}", path=str(path))
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InvalidInputError(
        f"{path} cannot be read as {what}: {first}",
        hint="check that the file is whole and has the format that its name says",
        path=str(path),
    )


def bad_value(path: Path, name: str, row: int, line: int, why: str) -> InvalidInputError:
    """Return the error for one value of a text file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The field.
    row : int
        Record within the file, counted from 0.
    line : int
        Line of the file, counted from 1.
    why : str
        What is wrong with it.
    """
    return InvalidInputError(
        f"field {name!r} in row {row} ({path}, line {line}): {why}",
        hint=f"correct the value, or choose another type for {name!r}, such as string",
        field=name,
        path=str(path),
        line=line,
    )
