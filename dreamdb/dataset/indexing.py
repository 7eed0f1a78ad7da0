"""``ds.index``: building, describing, evaluating and dropping indexes.

Source: design/0018 sections 2 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dreamdb.dataset.vector_options import (
    DEFAULT_CODEC,
    check_options,
    load_codec,
    load_spatial_index,
    metric_of_field,
)
from dreamdb.errors import InvalidInputError, NotFoundError, SchemaError
from dreamdb.index import IndexRoot, index_root, open_reader, train_centroids
from dreamdb.model import Field
from dreamdb.objects import Kind, from_text, seal
from dreamdb.read import SearchOptions, search_nearest
from dreamdb.tracks import gather, validity, vectors_of
from dreamdb.types import Address
from dreamdb.vectors import Codec
from dreamdb.write import SetIndex, publish

if TYPE_CHECKING:
    from dreamdb.dataset.vectors import Vectors

__all__ = ["Evaluation", "IndexAccess", "IndexInfo"]

_PER_CELL = 64


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What an index is and what it covers.

    Parameters
    ----------
    field : str
        The field.
    kind : str
        ``"ivf"`` or ``"flat"``.
    metric : str
        ``cosine``, ``dot`` or ``l2``.
    codec : str
        The finer code of the candidates.
    cells, nprobe : int
        How many cells there are, and how many a search looks at by default.
    segments : int
        How many segments hold the indexed vectors.
    indexed, unindexed : int
        Vectors in segments, and rows that are compared exactly until they have one.
    nbytes : int
        Bytes of the segments.
    spatial_index : bytes or None
        Address of the centroids.
    """

    field: str
    kind: str
    metric: str
    codec: str
    cells: int
    nprobe: int
    segments: int
    indexed: int
    unindexed: int
    nbytes: int
    spatial_index: bytes | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How much of the exact answer an index finds.

    Parameters
    ----------
    field : str
        The field.
    k, queries : int
        What was asked.
    recall : float
        Share of the exact nearest records that were found, over all queries.
    worst : float
        The smallest share of any query.
    nprobe : int
        Cells looked at.
    """

    field: str
    k: int
    queries: int
    recall: float
    worst: float
    nprobe: int

    def __str__(self) -> str:
        return (
            f"{self.field}: recall@{self.k} {self.recall:.4f} over {self.queries} queries "
            f"(worst {self.worst:.2f}), nprobe {self.nprobe}"
        )


class IndexAccess:
    """Indexes of one dataset.

    Parameters
    ----------
    dataset : Dataset
        Whose.
    """

    def __init__(self, dataset: Vectors) -> None:
        self._dataset = dataset

    def build(
        self,
        field: str,
        kind: str | None = None,
        *,
        cells: int | None = None,
        spatial_index: bytes | str | None = None,
        compressor: bytes | str | None = None,
        iterations: int = 8,
        seed: int = 0,
        message: str | None = None,
    ) -> IndexInfo:
        """Index a field, or give segments to rows that have none yet.

        Parameters
        ----------
        field : str
            An embedding field.
        kind : str, optional
            ``"ivf"``, or ``"flat"``, which has one cell: every code is looked at.  Default: as the
            field is indexed already, else ``"ivf"``.
        cells : int, optional
            Cells of an ``ivf`` index; default near the root of the number of vectors, and never
            more than there are vectors.
        spatial_index : bytes or str, optional
            Published centroids, instead of training new ones on the field's own vectors.
        compressor : bytes or str, optional
            A RaBitQ codec for the candidates; default ``rabitq-4``, 1 bit where the field is
            stored as codes.
        iterations, seed : int
            Of the training.
        message : str, optional
            Recorded in the manifest.

        Returns
        -------
        IndexInfo
            What there is now.

        Raises
        ------
        SchemaError
            For a field that is no embedding, an unknown codec or spatial index.

        Notes
        -----
        Cost: reads the field's vectors once, a sample twice; appends index their own rows.
        """
        dataset = self._dataset
        dataset._require_writable()
        own = self._embedding(field)
        if kind not in (None, "ivf", "flat"):
            raise InvalidInputError(f"there is no index of kind {kind!r}", hint="'ivf' or 'flat'")
        options = check_options(spatial_index, compressor, False)
        before = self._root(field)
        anew = kind is not None or cells is not None or options != check_options(None, None, False)
        if before is not None and not anew:
            root = replace(before, segments={})
        else:
            root = IndexRoot(self._codec(own, options.compressor), metric_of_field(own))
            given = options.spatial_index
            if given is not None:
                dim = int(own.type.dim or 0)
                load_spatial_index(dataset._space.cache, given, dim, root.metric)
                root = replace(root, centroids=given)
            elif kind != "flat":
                centroids = self._train(own, cells, iterations=iterations, seed=seed)
                root = replace(root, centroids=centroids)
        dataset._apply(SetIndex(field, root), message)
        found = self._one(field)
        assert found is not None
        return found

    def drop(self, field: str, *, message: str | None = None) -> None:
        """Stop indexing a field; older manifests keep their index.

        Parameters
        ----------
        field : str
            An indexed field.
        message : str, optional
            Recorded in the manifest.

        Raises
        ------
        NotFoundError
            When it has no index.
        """
        self._dataset._require_writable()
        self._embedding(field)
        if self._dataset._index_of(field) is None:
            raise NotFoundError(f"the field {field!r} has no index", field=field)
        self._dataset._apply(SetIndex(field, None), message)

    def info(self, field: str | None = None) -> list[IndexInfo]:
        """Return what is indexed, and how far the indexes cover the records.

        Parameters
        ----------
        field : str, optional
            Only this one.
        """
        if field is not None:
            self._embedding(field)
        schema = self._dataset._view.content.schema
        names = list(schema) if field is None else [field]
        found = [self._one(name) for name in names if schema[name].type.kind == "embedding"]
        return [one for one in found if one is not None]

    def evaluate(
        self,
        queries: Any,
        k: int = 10,
        *,
        field: str | None = None,
        nprobe: int | None = None,
        rerank: int | bool | None = None,
    ) -> Evaluation:
        """Return how much of the exact answer the index finds.

        Parameters
        ----------
        queries : array-like of float32, shape (n, dim)
            Queries such as will be asked.
        k : int
            Records per query.
        field : str, optional
            Which; needed when several fields are indexed.
        nprobe, rerank
            As in :meth:`Dataset.search`.

        Returns
        -------
        Evaluation
            Printed, one line.

        Notes
        -----
        Cost: one exact search, and one through the index.
        """
        if field is None:
            names = [one.field for one in self.info()]
            if len(names) != 1:
                raise InvalidInputError(
                    f"{len(names)} fields are indexed: {names}",
                    hint="evaluate(..., field=...)" if names else "ds.index.build(field) first",
                )
            field = names[0]
        info = self._one(field)
        if info is None:
            raise NotFoundError(
                f"the field {field!r} has no index", hint=f"ds.index.build({field!r})", field=field
            )
        view, text = self._dataset._view, self._dataset._index_of(field)
        asked = SearchOptions(None, nprobe, rerank, exact=False)
        mine = search_nearest(view, field, text, queries, k, options=asked)
        best = search_nearest(view, field, None, queries, k, options=SearchOptions(exact=True))
        shares = _shares(mine, best)
        return Evaluation(
            field,
            k,
            len(shares),
            float(np.mean(shares)) if len(shares) else 1.0,
            float(np.min(shares)) if len(shares) else 1.0,
            info.nprobe if nprobe is None else nprobe,
        )

    def _embedding(self, name: str) -> Field:
        view = self._dataset._view
        view.check_fields([name])
        own = view.content.schema[name]
        if own.type.kind != "embedding":
            raise SchemaError(f"{name!r} is {own.type}, not an embedding", field=name)
        return own

    def _root(self, name: str) -> IndexRoot | None:
        text = self._dataset._index_of(name)
        return None if text is None else index_root(self._dataset._space.source, from_text(text))

    def _codec(self, own: Field, given: Address | str | None) -> Codec:
        dim, cache = int(own.type.dim or 0), self._dataset._space.cache
        if given is None and own.type.codec is not None:
            stored = own.type.codec.partition(":")[2]
            return Codec("rabitq-1", dim, bytes.fromhex(stored) or bytes(32))
        codec = load_codec(cache, DEFAULT_CODEC if given is None else given, dim)
        if not codec.bits:
            raise SchemaError(
                f"an index has RaBitQ codes, not {codec.name}", hint="compressor='rabitq-4'"
            )
        return codec

    def _train(self, own: Field, cells: int | None, *, iterations: int, seed: int) -> Address:
        """Train centroids on a sample of the field's vectors and publish them."""
        view = self._dataset._view
        track = view.track(own.name)
        count = view.count()
        if cells is None:
            cells = 1 << max(0, round(np.log2(max(1, count) ** 0.5)))
        elif isinstance(cells, bool) or not isinstance(cells, (int, np.integer)) or cells < 1:
            raise InvalidInputError(f"cells must be a positive integer, not {cells!r}")
        wanted = min(count, int(cells) * _PER_CELL)
        # Evenly spread: the sample depends on the records alone.
        index = np.arange(wanted, dtype=np.int64) * count // max(1, wanted)
        array = gather(track, view.row_of_visible(index))
        vectors: npt.NDArray[np.float32] = vectors_of(track, array)
        vectors = vectors[validity(array)]
        dim = int(own.type.dim or 0)
        if not len(vectors):
            vectors = np.zeros((1, dim), np.float32)
        vectors = vectors[np.abs(vectors).max(axis=1) <= 2.0**40]
        spatial = train_centroids(
            vectors if len(vectors) else np.zeros((1, dim), np.float32),
            dim,
            max(1, min(int(cells), len(vectors))),
            iterations=iterations,
            seed=seed,
            metric=metric_of_field(own),
        )
        publish(
            self._dataset._space.backend,
            seal(Kind.SPATIAL_INDEX, [spatial.encode()], compress=False),
        )
        return spatial.address

    def _one(self, name: str) -> IndexInfo | None:
        dataset = self._dataset
        text = dataset._index_of(name)
        if text is None:
            return None
        reader = open_reader(dataset._view, name, from_text(text))
        root = reader.root
        return IndexInfo(
            name,
            root.kind,
            root.metric,
            root.codec.name,
            reader.cells,
            reader.default_nprobe(),
            len(reader.segments),
            reader.indexed,
            reader.loose_rows,
            sum(segment.nbytes for segment in reader.segments),
            root.centroids,
        )


def _shares(mine: Any, best: Any) -> npt.NDArray[np.float64]:
    """Return for each query which share of the exact records was found."""
    found: dict[int, set[int]] = {}
    exact: dict[int, set[int]] = {}
    for table, sets in ((mine, found), (best, exact)):
        pairs = zip(
            table.column("_query").to_pylist(), table.column("_anchor").to_pylist(), strict=True
        )
        for query, anchor in pairs:
            sets.setdefault(query, set()).add(anchor)
    return np.array([len(exact[q] & found.get(q, set())) / len(exact[q]) for q in sorted(exact)])
