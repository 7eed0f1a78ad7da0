"""How batches are formed: budgets, buckets, packing, composition and the end of an epoch.

Source: design/0019 section 4.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dreamdb.errors import InvalidInputError
from dreamdb.training.columns import Values

__all__ = [
    "BatchBudget",
    "BucketKey",
    "DropPartial",
    "KeepPartial",
    "Packing",
    "StratifiedByStream",
    "WindowedBucket",
]

Sizes = npt.NDArray[np.int64]


class DropPartial:
    """The last samples of an epoch that do not fill a step are left out."""


class KeepPartial:
    """The last samples of an epoch are spread over the ranks."""


@dataclass(frozen=True)
class StratifiedByStream:
    """Batches resemble the mixture.

    Parameters
    ----------
    column : str
        ``"stream_id"``.
    scope : str
        ``"step"``: the batches of a step together, at no cost in padding; ``"batch"``: every
        batch by itself, which pads more.
    """

    column: str = "stream_id"
    scope: str = "step"

    def __post_init__(self) -> None:
        if self.column != "stream_id":
            raise InvalidInputError(
                f"batches can be stratified by 'stream_id', not by {self.column!r}",
                hint="make a stream of each value: vd.mix([...])",
            )
        if self.scope not in ("step", "batch"):
            raise InvalidInputError(f"scope={self.scope!r} is not known", hint="'step' or 'batch'")


@dataclass(frozen=True)
class BatchBudget:
    """What one batch of one rank may cost; samples count as large as the largest beside them.

    Parameters
    ----------
    max_tokens, max_frames, max_bytes, max_samples : int, optional
        Limits, all of which hold.
    """

    max_tokens: int | None = None
    max_frames: int | None = None
    max_bytes: int | None = None
    max_samples: int | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in self.__dict__.items() if value is not None}
        if not given:
            raise InvalidInputError("a budget needs a limit", hint="BatchBudget(max_tokens=65_536)")
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"{name} must be a positive integer, not {value!r}")


@dataclass(frozen=True)
class BucketKey:
    """What similar samples have alike.

    Parameters
    ----------
    expression : str
        A column, or arithmetic over columns: ``"len(tokens)"``, ``"width * height"``.
    stored : str, optional
        A column that holds the value, so that planning reads it instead of computing it; it is
        compared with the truth when a batch is made.
    """

    expression: str
    stored: str | None = None

    def __post_init__(self) -> None:
        _ = self._tree

    @cached_property
    def _tree(self) -> ast.expr:
        try:
            tree = ast.parse(self.expression, mode="eval").body
        except (SyntaxError, ValueError):
            raise _bad_key(self.expression) from None
        _names_in(tree, self.expression)
        return tree

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the expression names."""
        return _names_in(self._tree, self.expression)

    @property
    def length_of(self) -> str | None:
        """The column whose length this is; None for other keys."""
        tree = self._tree
        if isinstance(tree, ast.Call) and isinstance(tree.args[0], ast.Name):
            return tree.args[0].id
        return None

    def sizes(self, columns: Mapping[str, Values]) -> Sizes:
        """Return the key's value for each sample.

        Parameters
        ----------
        columns : mapping of str to (values, valid)
            What the expression names.

        Raises
        ------
        InvalidInputError
            When a value is missing or negative, or a column holds no numbers.
        """
        found = np.asarray(_evaluate(self._tree, columns))
        if found.dtype.kind not in "iuf":
            raise InvalidInputError(f"the bucket key {self.expression!r} is not a number")
        if found.dtype.kind == "f":
            found = np.ceil(found)
        sizes = found.astype(np.int64)
        if len(sizes) and int(sizes.min()) < 0:
            raise InvalidInputError(f"the bucket key {self.expression!r} is negative for a sample")
        return sizes


def _bad_key(expression: str) -> InvalidInputError:
    return InvalidInputError(
        f"{expression!r} is not a bucket key",
        hint="a column, or + - * // over columns and len(column), such as 'width * height'",
    )


_ARITHMETIC = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.FloorDiv: np.floor_divide,
}


def _names_in(tree: ast.expr, text: str) -> tuple[str, ...]:
    if isinstance(tree, ast.Name):
        return (tree.id,)
    if isinstance(tree, ast.Constant) and type(tree.value) is int:
        return ()
    if isinstance(tree, ast.BinOp) and type(tree.op) in _ARITHMETIC:
        return tuple(dict.fromkeys((*_names_in(tree.left, text), *_names_in(tree.right, text))))
    if (
        isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Name)
        and tree.func.id == "len"
        and len(tree.args) == 1
        and not tree.keywords
        and isinstance(tree.args[0], ast.Name)
    ):
        return (tree.args[0].id,)
    raise _bad_key(text)


def _evaluate(tree: ast.expr, columns: Mapping[str, Values]) -> Any:
    if isinstance(tree, ast.Constant):
        return tree.value
    if isinstance(tree, ast.BinOp):
        verb = _ARITHMETIC[type(tree.op)]
        return verb(_evaluate(tree.left, columns), _evaluate(tree.right, columns))
    name = tree.id if isinstance(tree, ast.Name) else tree.args[0].id  # type: ignore[attr-defined]
    values, valid = columns[name]
    if (valid is not None and not valid.all()) or (
        isinstance(values, list) and any(value is None for value in values)
    ):
        raise InvalidInputError(
            f"a sample has no {name!r}, and batches are formed by it",
            hint=f"filter(vd.col({name!r}).is_valid())",
            column=name,
        )
    if isinstance(tree, ast.Name):
        return values
    if isinstance(values, np.ndarray):
        if values.ndim < 2:
            raise InvalidInputError(f"the numbers of {name!r} have no length")
        return np.full(len(values), values.shape[1], np.int64)
    return np.fromiter(map(len, values), np.int64, len(values))


@dataclass(frozen=True)
class WindowedBucket:
    """Batches of similar samples, formed window by window within a budget.

    Parameters
    ----------
    window_size : int
        Samples that are sorted together, over all ranks.
    keys : sequence of BucketKey
        What they are sorted by, the most important first.
    budget : BatchBudget
        What one batch may cost.
    group : int
        Batches alike that follow each other, so that the ranks of a step have equal work.
    """

    window_size: int
    keys: Sequence[BucketKey]
    budget: BatchBudget
    group: int = 8

    def __post_init__(self) -> None:
        keys = (self.keys,) if isinstance(self.keys, BucketKey) else tuple(self.keys)
        object.__setattr__(self, "keys", keys)
        if not keys or not all(isinstance(key, BucketKey) for key in keys):
            raise InvalidInputError("buckets need keys", hint="keys=[BucketKey('len(tokens)')]")
        if not isinstance(self.budget, BatchBudget):
            raise InvalidInputError(
                "buckets need a budget", hint="budget=BatchBudget(max_tokens=65_536)"
            )
        for name in ("window_size", "group"):
            _positive(name, getattr(self, name))


@dataclass(frozen=True)
class Packing:
    """Several samples in one row, so that next to nothing is padded.

    Parameters
    ----------
    max_tokens : int
        Length of a row.
    key : BucketKey or str
        Length of a sample.
    window_size : int
        Samples that are packed together, over all ranks.
    """

    max_tokens: int
    key: BucketKey | str = "len(tokens)"
    window_size: int = 8_192

    def __post_init__(self) -> None:
        key = BucketKey(self.key) if isinstance(self.key, str) else self.key
        object.__setattr__(self, "key", key)
        _positive("max_tokens", self.max_tokens)
        _positive("window_size", self.window_size)

    @property
    def length(self) -> BucketKey:
        """Length of a sample."""
        assert isinstance(self.key, BucketKey)
        return self.key


def _positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{name} must be a positive integer, not {value!r}")
