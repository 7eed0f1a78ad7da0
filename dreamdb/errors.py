"""Every error the library raises, in one tree.

The class says what a handler can do, ``kind`` is the stable code for programs, ``hint`` is the
next command to run, ``details`` carries the values.  Each class also derives from the builtin
that fits, so ``except LookupError`` and ``except OSError`` keep working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, ClassVar

__all__ = [
    "AlreadyExistsError",
    "AnchorNotFoundError",
    "ConflictError",
    "DreamDBError",
    "ExpressionError",
    "FieldNotFoundError",
    "FormatError",
    "HashMismatchError",
    "IntegrityError",
    "InternalError",
    "InvalidInputError",
    "MergeConflictError",
    "MissingDependencyError",
    "NotFoundError",
    "ObjectMissingError",
    "ReadOnlyError",
    "RefConflictError",
    "RefNameError",
    "RefNotFoundError",
    "SchemaError",
    "SqlError",
    "StateError",
    "StorageError",
    "UnsupportedFormatError",
    "nearest_hint",
]


def _rebuild(
    cls: type[DreamDBError], message: str, hint: str | None, details: dict[str, Any]
) -> DreamDBError:
    return cls(message, hint=hint, **details)


class DreamDBError(Exception):
    """Base of all errors of this library.

    Parameters
    ----------
    message : str
        What failed, on what, and why.
    hint : str, optional
        The next step: a command, the nearest names.  Shown below the message.
    **details : Any
        The values involved; kept in ``details`` and as attributes of the dictionary.

    Notes
    -----
    The constructor takes one optional positional argument, so every class survives pickling
    through a DataLoader worker with its type, hint and details.
    """

    kind: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 70

    def __init__(self, message: str = "", *, hint: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.details = details
        if hint:
            self.add_note(f"hint: {hint}")

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self), self.hint, self.details)


class NotFoundError(DreamDBError, LookupError):
    """Something named does not exist."""

    kind = "not-found"
    exit_code = 3


class RefNotFoundError(NotFoundError):
    """No branch or snapshot of that name."""

    kind = "ref-not-found"


class ObjectMissingError(NotFoundError):
    """An object that a manifest names is not in the store."""

    kind = "object-missing"
    exit_code = 6


class FieldNotFoundError(NotFoundError):
    """The schema has no field of that name."""

    kind = "field-not-found"


class AnchorNotFoundError(NotFoundError):
    """No record has that anchor."""

    kind = "anchor-not-found"


class AlreadyExistsError(DreamDBError):
    """The name or anchor is taken."""

    kind = "already-exists"
    exit_code = 4


class ConflictError(DreamDBError, RuntimeError):
    """Another writer changed what this operation was based on."""

    kind = "conflict"
    exit_code = 5


class RefConflictError(ConflictError):
    """A compare-and-swap found another value (``details``: expected, actual)."""

    kind = "ref-conflict"


class MergeConflictError(ConflictError):
    """Both sides changed the same cells (``details``: conflicts, an Arrow table)."""

    kind = "merge-conflict"


class InvalidInputError(DreamDBError, ValueError):
    """An argument or a value is not acceptable; nothing was written."""

    kind = "invalid-input"
    exit_code = 2


class SchemaError(InvalidInputError):
    """A schema or a change of schema is not acceptable."""

    kind = "schema"


class RefNameError(InvalidInputError):
    """The text cannot be a ref name."""

    kind = "ref-name"


class ExpressionError(InvalidInputError):
    """A predicate cannot be parsed or evaluated."""

    kind = "expression"


class SqlError(InvalidInputError):
    """A SQL statement cannot be understood or run (``details``: line, column, position)."""

    kind = "sql"


class ReadOnlyError(DreamDBError, PermissionError):
    """A write through a snapshot, a pinned handle or a read-only space."""

    kind = "read-only"
    exit_code = 8


class IntegrityError(DreamDBError):
    """Stored bytes are not what their address or the format says."""

    kind = "integrity"
    exit_code = 6


class HashMismatchError(IntegrityError):
    """The bytes do not hash to their address."""

    kind = "hash-mismatch"


class FormatError(IntegrityError):
    """The bytes break the format."""

    kind = "format"


class UnsupportedFormatError(FormatError):
    """A newer format version or an unknown required feature."""

    kind = "unsupported-format"


class StorageError(DreamDBError, OSError):
    """The storage failed; ``transient`` says whether trying again may help."""

    kind = "storage"
    exit_code = 7

    @property
    def transient(self) -> bool:
        """Whether the same call may succeed later."""
        return bool(self.details.get("transient", False))


class StateError(DreamDBError):
    """A resume state of another snapshot, plan or world size."""

    kind = "state"
    exit_code = 5


class MissingDependencyError(DreamDBError, ImportError):
    """An optional package is needed; the hint names the extra to install."""

    kind = "missing-dependency"
    exit_code = 9


class InternalError(DreamDBError):
    """A defect of this library."""

    kind = "internal"


def nearest_hint(name: str, candidates: Iterable[str], what: str = "names") -> str | None:
    """Build the hint that lists the candidates closest to a misspelt name.

    Parameters
    ----------
    name : str
        What was asked for.
    candidates : iterable of str
        What exists.
    what : str
        Plural noun for the message.

    Returns
    -------
    str or None
        None when there are no candidates at all.
    """
    known = sorted(candidates)
    if not known:
        return None
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    shown = near or known[:8]
    listed = ", ".join(repr(n) for n in shown)
    return f"{'nearest' if near else 'known'} {what}: {listed}"
