"""Embedders: functions that make vectors of texts, registered by name.

Source: design/0020 section 6.  A column declared ``EMBED WITH name`` says so in the dataset's
metadata, so it travels with every version; the vectors are a layer beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dreamdb.dataset import Dataset
from dreamdb.errors import InvalidInputError, NotFoundError, nearest_hint
from dreamdb.model import check_field_name

__all__ = [
    "Embedder",
    "Embedders",
    "embedded_columns",
    "embedding_field",
    "embedding_note",
    "sentence_transformer",
]

Vectors = npt.NDArray[np.float32]

_NOTE: Final = "sql.embed."
_BATCH: Final = 256


def embedding_field(column: str) -> str:
    """Return the name of the layer that holds the vectors of a text column.

    Parameters
    ----------
    column : str
        The column.
    """
    return check_field_name(f"{column}__embedding")


def embedding_note(column: str) -> str:
    """Return the name of the metadata note that tells a column's embedder.

    Parameters
    ----------
    column : str
        The column.
    """
    return _NOTE + column


def embedded_columns(dataset: Dataset) -> dict[str, str]:
    """Return the embedder of every column that has one.

    Parameters
    ----------
    dataset : Dataset
        The table.
    """
    return {
        name.removeprefix(_NOTE): embedder
        for name, embedder in dataset.metadata.items()
        if name.startswith(_NOTE) and name.removeprefix(_NOTE) in dataset.schema
    }


def sentence_transformer(model: Any) -> Callable[[Sequence[str]], Any]:
    """Return the function that a sentence-transformers model, or one like it, is registered as.

    Parameters
    ----------
    model : object
        Has ``encode(list of str)``, which returns one vector per text.

    Examples
    --------
    >>> db.register_embedder(  # doctest: +SKIP
    ...     "minilm", sentence_transformer(SentenceTransformer("all-MiniLM-L6-v2")), 384
    ... )
    """
    if not callable(getattr(model, "encode", None)):
        raise InvalidInputError(
            f"a {type(model).__name__} has no method encode()",
            hint="pass the model itself, such as SentenceTransformer('all-MiniLM-L6-v2')",
        )

    def embed(texts: Sequence[str]) -> Any:
        return model.encode(list(texts))

    return embed


@dataclass(frozen=True)
class Embedder:
    """A function from texts to vectors.

    Parameters
    ----------
    name : str
        What statements call it.
    function : callable
        Takes a list of texts, returns vectors, one row per text.
    dim : int
        Length of each vector.
    """

    name: str
    function: Callable[[Sequence[str]], Any]
    dim: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text.

        Parameters
        ----------
        texts : sequence of str
            The texts.

        Returns
        -------
        ndarray of float32, shape (n, dim)

        Raises
        ------
        InvalidInputError
            When the function returns another shape, or values that are not finite.
        """
        out = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), _BATCH):
            part = list(texts[start : start + _BATCH])
            given = self.function(part)
            try:
                rows = np.asarray(given, dtype=np.float32)
            except (TypeError, ValueError) as error:
                raise InvalidInputError(
                    f"the embedder {self.name!r} returned no matrix: {error}",
                    hint="it takes a list of texts and returns one vector for each",
                ) from None
            if rows.shape != (len(part), self.dim):
                raise InvalidInputError(
                    f"the embedder {self.name!r} returned the shape {rows.shape} for "
                    f"{len(part)} texts; it was registered with dim={self.dim}",
                    hint="register it with the dimension that it has",
                )
            if not bool(np.isfinite(rows).all()):
                raise InvalidInputError(
                    f"the embedder {self.name!r} returned NaN or infinity",
                    text=part[int(np.argmin(np.isfinite(rows).all(axis=1)))],
                )
            out[start : start + len(part)] = rows
        return out


class Embedders(Mapping[str, Embedder]):
    """The embedders of one database, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Embedder] = {}

    def register(self, name: str, function: Callable[[Sequence[str]], Any], dim: int) -> None:
        """Add or replace an embedder.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``-``, ``.``.
        function : callable
            Takes a list of texts, returns one vector for each.
        dim : int
            Length of each vector.
        """
        check_field_name(name)
        if not callable(function):
            raise InvalidInputError(
                f"the embedder {name!r} is a {type(function).__name__}, not a function",
                hint="for a sentence-transformers model: dreamdb.sql.sentence_transformer(model)",
            )
        if (
            isinstance(dim, bool)
            or not isinstance(dim, (int, np.integer))
            or not 1 <= dim <= 1 << 20
        ):
            raise InvalidInputError(f"dim must be a positive integer, not {dim!r}")
        self._known[name] = Embedder(name, function, int(dim))

    def __getitem__(self, name: str) -> Embedder:
        found = self._known.get(name)
        if found is None:
            raise NotFoundError(
                f"the embedder {name!r} is not registered",
                hint=nearest_hint(name, self._known, "embedders")
                or f"db.register_embedder({name!r}, function, dim)",
            )
        return found

    def __iter__(self) -> Any:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
