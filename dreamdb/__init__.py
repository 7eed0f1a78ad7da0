"""DreamDB: git for machine-learning datasets.

>>> import dreamdb as vd
>>> ds = vd.Dataset.create("digits", vd.Schema().add_scalar_int("label"), backend="memory://doc")
>>> ds.append_many([{"label": 3}, {"label": 7}])
2
>>> snap = ds.snapshot("before-training")
>>> vd.Dataset.open_at(snap, backend="memory://doc").count()
2
"""

import importlib as _importlib
import logging as _logging
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from dreamdb._versions import __version__, show_versions
    from dreamdb.adapters.exporting import export
    from dreamdb.adapters.importing import import_files
    from dreamdb.dataset import (
        Dataset,
        Log,
        MergeReport,
        RefInfo,
        Scan,
        Schema,
        Space,
        Transaction,
        compare_refs,
        connect,
        diff,
        merge_base,
        prove,
        publish_codec,
        publish_rabitq_compressor,
        train_and_publish_ivf_centroids,
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
        SqlError,
        StateError,
        StorageError,
        UnsupportedFormatError,
    )
    from dreamdb.proofs import Proof, verify_proof
    from dreamdb.read import Comparison, Diff, col
    from dreamdb.sql import Database
    from dreamdb.training import Stream, mix, relation
    from dreamdb.write import Conflict

_logging.getLogger("dreamdb").addHandler(_logging.NullHandler())

__all__ = [
    "AlreadyExistsError",
    "AnchorNotFoundError",
    "Comparison",
    "Conflict",
    "ConflictError",
    "Database",
    "Dataset",
    "Diff",
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
    "MergeReport",
    "MissingDependencyError",
    "NotFoundError",
    "ObjectMissingError",
    "Proof",
    "ReadOnlyError",
    "RefConflictError",
    "RefInfo",
    "RefNameError",
    "RefNotFoundError",
    "Scan",
    "Schema",
    "SchemaError",
    "Space",
    "SqlError",
    "StateError",
    "StorageError",
    "Stream",
    "Transaction",
    "UnsupportedFormatError",
    "__version__",
    "col",
    "compare_refs",
    "connect",
    "diff",
    "export",
    "import_files",
    "merge_base",
    "mix",
    "prove",
    "publish_codec",
    "publish_rabitq_compressor",
    "relation",
    "show_versions",
    "train_and_publish_ivf_centroids",
    "verify_proof",
]

# Public names load their module when first used, so that the import itself, and every command's
# --help, is quick.
_HOMES = {
    "dreamdb._versions": (
        "__version__",
        "show_versions",
    ),
    "dreamdb.adapters.exporting": ("export",),
    "dreamdb.adapters.importing": ("import_files",),
    "dreamdb.dataset": (
        "Dataset",
        "Log",
        "MergeReport",
        "RefInfo",
        "Scan",
        "Schema",
        "Space",
        "Transaction",
        "compare_refs",
        "connect",
        "prove",
        "diff",
        "merge_base",
        "publish_codec",
        "publish_rabitq_compressor",
        "train_and_publish_ivf_centroids",
    ),
    "dreamdb.errors": (
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
    ),
    "dreamdb.proofs": (
        "Proof",
        "verify_proof",
    ),
    "dreamdb.read": (
        "Comparison",
        "Diff",
        "col",
    ),
    "dreamdb.sql": ("Database",),
    "dreamdb.training": (
        "Stream",
        "mix",
        "relation",
    ),
    "dreamdb.write": ("Conflict",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> _Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'dreamdb' has no attribute {name!r}")
    value = getattr(_importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
