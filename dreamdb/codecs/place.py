"""Where a refused value stands: the field, the member inside it, the row."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.types import FieldType

__all__ = ["Place", "a_field"]


def a_field(ftype: FieldType) -> str:
    """Return a field's type with article, for messages: ``an int field``."""
    article = "an" if ftype.kind[0] in "aei" else "a"
    return f"{article} {ftype} field"


@dataclass(frozen=True, slots=True)
class Place:
    """Turns positions inside converted arrays into rows of the caller's data.

    Parameters
    ----------
    field : str
        The field's name.
    path : str
        The field's name, followed by the struct member or ``[]`` for list items.
    first_row : int
        Row of the caller's data at which the array starts.
    owners : ndarray of int64, optional
        For list items: the array row that each item belongs to.
    """

    field: str
    path: str
    first_row: int
    owners: npt.NDArray[np.int64] | None = None

    def member(self, name: str) -> Place:
        """Return the place of a struct's member."""
        return replace(self, path=f"{self.path}.{name}")

    def items(self, owners: npt.NDArray[np.int64]) -> Place:
        """Return the place of a list's items, given the array row of each."""
        return replace(self, path=f"{self.path}[]", owners=owners)

    def among(self, rows: npt.NDArray[np.int64]) -> Place:
        """Return the place of a selection, given the array row of each of its rows."""
        return replace(self, owners=rows)

    def starting_at(self, row: int) -> Place:
        """Return the place of a part that starts ``row`` rows further on."""
        return replace(self, first_row=self.first_row + row)

    def error(self, row: int | None, problem: str, hint: str | None = None) -> InvalidInputError:
        """Return the error that says what is wrong at a row, or with the column as a whole.

        Parameters
        ----------
        row : int or None
            Position in the array being converted.
        problem : str
            What is wrong with the value; follows the place in the message.
        hint : str, optional
            What to do.
        """
        if row is None:
            return InvalidInputError(f"field {self.path!r}: {problem}", hint=hint, field=self.field)
        if self.owners is not None:
            row = int(self.owners[row])
        row += self.first_row
        return InvalidInputError(
            f"field {self.path!r}, row {row}: {problem}", hint=hint, field=self.field, row=row
        )
