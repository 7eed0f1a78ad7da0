"""DreamDB: git for machine-learning datasets.

>>> import dreamdb as vd
>>> ds = vd.Dataset.create("digits", vd.Schema().add_scalar_int("label"), backend="memory://doc")
>>> ds.append_many([{"label": 3}, {"label": 7}])
2
>>> snap = ds.snapshot("before-training")
>>> vd.Dataset.open_at(snap, backend="memory://doc").count()
2
"""

import logging as _logging

from dreamdb._versions import __version__, show_versions
from dreamdb.dataset import (
    Dataset,
    Log,
    RefInfo,
    Scan,
    Schema,
    Space,
    Transaction,
    compare_refs,
    connect,
)
from dreamdb.errors import (
    AlreadyExistsError,
    AnchorNotFoundError,
    ConflictError,
    DreamDBError,
    ExpressionError,
    FieldNotFoundError,
    FormatError,
    HashMismatchError,
    IntegrityError,
    InternalError,
    InvalidInputError,
    MergeConflictError,
    MissingDependencyError,
    NotFoundError,
    ObjectMissingError,
    ReadOnlyError,
    RefConflictError,
    RefNameError,
    RefNotFoundError,
    SchemaError,
    StateError,
    StorageError,
    UnsupportedFormatError,
)
from dreamdb.read import Comparison, col

_logging.getLogger("dreamdb").addHandler(_logging.NullHandler())

__all__ = [
    "AlreadyExistsError",
    "AnchorNotFoundError",
    "Comparison",
    "ConflictError",
    "Dataset",
    "DreamDBError",
    "ExpressionError",
    "FieldNotFoundError",
    "FormatError",
    "HashMismatchError",
    "IntegrityError",
    "InternalError",
    "InvalidInputError",
    "Log",
    "MergeConflictError",
    "MissingDependencyError",
    "NotFoundError",
    "ObjectMissingError",
    "ReadOnlyError",
    "RefConflictError",
    "RefInfo",
    "RefNameError",
    "RefNotFoundError",
    "Scan",
    "Schema",
    "SchemaError",
    "Space",
    "StateError",
    "StorageError",
    "Transaction",
    "UnsupportedFormatError",
    "__version__",
    "col",
    "compare_refs",
    "connect",
    "show_versions",
]
