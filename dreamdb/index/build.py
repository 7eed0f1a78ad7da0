"""Building segments for the groups that have none.

Source: design/0018 sections 4 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dreamdb.errors import FormatError, SchemaError
from dreamdb.index.centroids import SpatialIndex, normalised
from dreamdb.index.groups import Group, chunk_groups
from dreamdb.index.root import Indexed, IndexRoot
from dreamdb.index.segment import encode_segment
from dreamdb.objects import Kind
from dreamdb.tracks import Source, Track, validity, vectors_of
from dreamdb.types import Address, Bytes
from dreamdb.vectors.engine import rotate
from dreamdb.vectors.rotation import rotation_of

__all__ = ["build_root", "cell_centres", "index_root", "metric_vectors", "read_vectors"]

Floats = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Put = Callable[[Kind, Sequence[Bytes]], Address]


def index_root(source: Source, address: Address) -> IndexRoot:
    """Return the root of an index.  Cost: 1 object read, cached."""
    return IndexRoot.decode(source.cache.open(address, Kind.INDEX).view())


def cell_centres(source: Source, root: IndexRoot) -> Floats:
    """Return the centroids of an index; one at the origin when it has no spatial index.

    Raises
    ------
    FormatError
        When they do not fit the index.
    """
    if root.centroids is None:
        return np.zeros((1, root.codec.dim), np.float32)
    payload = source.cache.open(root.centroids, Kind.SPATIAL_INDEX).view()
    spatial = SpatialIndex.decode(payload)
    if spatial.dim != root.codec.dim or spatial.metric != root.metric:
        raise FormatError("the centroids of an index are of another dimension or metric")
    return spatial.centroids


def metric_vectors(vectors: Floats, metric: str) -> Floats:
    """Return vectors as an index of that metric compares them."""
    return normalised(vectors) if metric == "cosine" else vectors


def read_vectors(track: Track, start: int, stop: int) -> tuple[Positions, Floats]:
    """Return the rows of ``[start, stop)`` that are not null, relative to start, and vectors."""
    rows, parts, at = [], [], 0
    for array in track.chunks(start, stop):
        valid = np.flatnonzero(validity(array))
        if len(valid):
            vectors = vectors_of(track, array)
            parts.append(vectors if len(valid) == len(array) else vectors[valid])
            rows.append(valid + at)
        at += len(array)
    if not parts:
        dim = int(track.declared.dim or 0)
        return np.empty(0, np.int64), np.empty((0, dim), np.float32)
    return np.concatenate(rows), np.concatenate(parts)


def build_root(
    source: Source,
    track: Track,
    root: IndexRoot,
    known: Sequence[IndexRoot],
    put: Put,
    *,
    build: bool = True,
) -> IndexRoot:
    """Return an index that follows a track.

    Parameters
    ----------
    source : Source
        Where the centroids come from.
    track : Track
        An embedding's track; its fragments must be readable.
    root : IndexRoot
        How the index is made.
    known : sequence of IndexRoot
        Older indexes made in the same way; their segments are taken over.
    put : callable
        ``put(kind, parts)`` stores an object.
    build : bool
        Also make the segments that are missing; otherwise those rows are searched exactly.

    Notes
    -----
    Cost: reads and encodes the rows of each group that has no segment.
    """
    if root.codec.dim != track.declared.dim:
        raise SchemaError(
            f"the index is of dimension {root.codec.dim}, the field of {track.declared.dim}"
        )
    made: dict[str, Indexed] = {}
    for one in (root, *known):
        if replace(one, segments={}) == replace(root, segments={}):
            made.update(one.segments)
    groups = chunk_groups(track)
    segments = {g.digest: made[g.digest] for g in groups if g.digest in made}
    missing = [g for g in groups if g.digest not in segments] if build else []
    if missing:
        centres = cell_centres(source, root)
        turned = rotate(rotation_of(root.codec.seed, root.codec.dim), centres)
        for group in missing:
            if group.digest not in segments:
                found = _build_segment(track, group, root, centres, turned, put)
                if found is not None:
                    segments[group.digest] = found
    return replace(root, segments=segments)


def _build_segment(
    track: Track, group: Group, root: IndexRoot, centres: Floats, turned: Floats, put: Put
) -> Indexed | None:
    rows, vectors = read_vectors(track, group.start, group.stop)
    parts = encode_segment(
        metric_vectors(vectors, root.metric),
        rows,
        group.stop - group.start,
        root.codec,
        root.metric,
        centres,
        turned,
    )
    if parts is None:
        return None
    return Indexed(put(Kind.INDEX_SEGMENT, parts), len(rows))
