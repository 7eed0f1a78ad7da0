"""The public handles: Dataset, Space, Schema, and what they return."""

from dreamdb.dataset.comparing import diff, locate_version, merge_base
from dreamdb.dataset.dataset import Dataset
from dreamdb.dataset.handle import Handle
from dreamdb.dataset.indexing import Evaluation, IndexAccess, IndexInfo
from dreamdb.dataset.locate import find_manifest, manifest_at
from dreamdb.dataset.log import Log, LogRecord, describe_operation, format_time
from dreamdb.dataset.maintained import Maintenance, prove
from dreamdb.dataset.merging import STRATEGIES, MergeReport
from dreamdb.dataset.publishing import (
    publish_codec,
    publish_rabitq_compressor,
    train_and_publish_ivf_centroids,
)
from dreamdb.dataset.representation import format_nbytes
from dreamdb.dataset.restoring import restore_version_tag
from dreamdb.dataset.scan import Scan
from dreamdb.dataset.schema import Schema
from dreamdb.dataset.session import BackendLike, OpenSpace, open_space
from dreamdb.dataset.space import RefInfo, Space, compare_refs, connect
from dreamdb.dataset.writing import Transaction

__all__ = [
    "STRATEGIES",
    "BackendLike",
    "Dataset",
    "Evaluation",
    "Handle",
    "IndexAccess",
    "IndexInfo",
    "Log",
    "LogRecord",
    "Maintenance",
    "MergeReport",
    "OpenSpace",
    "RefInfo",
    "Scan",
    "Schema",
    "Space",
    "Transaction",
    "compare_refs",
    "connect",
    "describe_operation",
    "diff",
    "find_manifest",
    "format_nbytes",
    "format_time",
    "locate_version",
    "manifest_at",
    "merge_base",
    "open_space",
    "prove",
    "publish_codec",
    "publish_rabitq_compressor",
    "restore_version_tag",
    "train_and_publish_ivf_centroids",
]
