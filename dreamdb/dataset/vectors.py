"""Codecs and indexes of a dataset's vectors.

Source: design/0017 section 2, design/0018 section 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamdb.dataset.indexing import IndexAccess
from dreamdb.dataset.searching import Searching
from dreamdb.dataset.vector_options import (
    bind_field,
    check_options,
    load_codec,
    metric_of_field,
)
from dreamdb.dataset.verbs import write_layer
from dreamdb.dataset.writing import Writing
from dreamdb.errors import InvalidInputError, SchemaError
from dreamdb.index import IndexRoot, index_root
from dreamdb.model import Field
from dreamdb.objects import from_text
from dreamdb.vectors import Codec
from dreamdb.write import Change, Recode, SetIndex, WriteLayer

__all__ = ["Vectors"]


class Vectors(Searching, Writing):
    """How vectors are stored and found."""

    @property
    def index(self) -> IndexAccess:
        """Build, drop, describe and evaluate indexes of vectors."""
        return IndexAccess(self)

    def reencode(
        self,
        field: str,
        codec: bytes | str | None,
        *,
        rerank: bool = False,
        vectors: Any = None,
        message: str | None = None,
    ) -> None:
        """Store the vectors of a field in another way, without ingesting anything again.

        Parameters
        ----------
        field : str
            An embedding field.
        codec : bytes, str or None
            As ``compressor`` in :meth:`Schema.add_embedding`; None or ``"float32"`` stores the
            vectors exactly.
        rerank : bool
            Keep the exact vectors, and use the codes for searching.
        vectors : optional
            Exact vectors in any form that :meth:`add_embedding_layer` takes as samples; needed to
            go back from codes, which do not hold them.
        message : str, optional
            Recorded in the manifest.

        Raises
        ------
        SchemaError
            For an unknown codec, or one of another dimension.
        InvalidInputError
            When exact vectors are wanted, only codes are stored, and ``vectors`` is missing or
            leaves records out; when a vector cannot be held by the codec.

        Notes
        -----
        Cost: reads the field once and writes it anew; other fields are not touched.  Older
        snapshots keep what they have.
        """
        self._require_writable()
        view = self._view
        (name,) = view.check_fields([field])
        old = view.content.schema[name]
        if old.type.kind != "embedding":
            raise SchemaError(f"{name!r} is {old.type}, not an embedding", field=name)
        wanted, index = self._rebound(old, codec, rerank)
        if vectors is not None:
            self._apply(self._rewritten(wanted, vectors, index), message)
            return
        if wanted.type.codec is None and old.type.codec is not None:
            raise InvalidInputError(
                f"{name!r} is stored as {old.type.codec.partition(':')[0]} codes: the exact "
                "vectors are not there",
                hint="give them: reencode(..., vectors=[(anchor, vector), ...]), or open an older "
                "snapshot that has them",
                field=name,
            )
        changes: list[Change] = [Recode(name, wanted.type.codec)]
        if index is not None:
            changes.append(SetIndex(name, index))
        self._apply_all(changes, message)

    def _rebound(
        self, old: Field, codec: bytes | str | None, rerank: bool
    ) -> tuple[Field, IndexRoot | None]:
        """Return the field as it shall be, and its index when there is one or shall be."""
        from dataclasses import replace

        options = check_options(None, codec, rerank)
        plain = replace(old, type=replace(old.type, codec=None))
        bound, index = bind_field(self._space.cache, plain, options)
        text = self._index_of(old.name)
        if text is None:
            return bound, index
        before = index_root(self._space.source, from_text(text))
        fine = before.codec if index is None else index.codec
        if bound.type.codec is not None:
            fine = Codec("rabitq-1", fine.dim, fine.seed)
        elif index is None and fine.bits == 1:
            fine = load_codec(self._space.cache, "rabitq-4", fine.dim)
        return bound, IndexRoot(fine, metric_of_field(old), before.centroids)

    def _rewritten(self, field: Field, vectors: Any, index: IndexRoot | None) -> Change:
        change = write_layer(self._view, field, vectors, "replace")
        assert isinstance(change, WriteLayer)
        view = self._view
        track = view.track(field.name)
        visible = view.row_of_visible(np.arange(view.count()))
        if track.nulls == 0 and len(change.anchors) < len(visible):
            raise InvalidInputError(
                f"there are vectors for {len(change.anchors)} of {len(visible)} records of "
                f"{field.name!r}",
                hint="give all of them",
                field=field.name,
            )
        change.index = index
        return change
