"""Nearest-vector indexes: immutable segments that follow the fragments of a track."""

from dreamdb.index.build import build_root, index_root
from dreamdb.index.centroids import SpatialIndex, train_centroids
from dreamdb.index.groups import MIN_RUNG, Group, chunk_groups
from dreamdb.index.reader import Found, IndexReader, open_reader
from dreamdb.index.root import METRICS, Indexed, IndexRoot
from dreamdb.index.segment import Segment, encode_segment

__all__ = [
    "METRICS",
    "MIN_RUNG",
    "Found",
    "Group",
    "IndexReader",
    "IndexRoot",
    "Indexed",
    "Segment",
    "SpatialIndex",
    "build_root",
    "chunk_groups",
    "encode_segment",
    "index_root",
    "open_reader",
    "train_centroids",
]
