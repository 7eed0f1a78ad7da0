"""Mappings: columns computed sample by sample, such as tokens from a text.

Source: design/0019 section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from blake3 import blake3

from dreamdb.errors import InvalidInputError, MissingDependencyError

__all__ = ["Map", "Mapped", "Tokenize"]


class Mapped:
    """A mapping that knows its output; ``>> "name"`` makes it."""

    inputs: tuple[str, ...]
    output: str

    def compute(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the output for some samples.

        Parameters
        ----------
        columns : sequence of sequences
            The inputs, each of one value per sample.
        """
        raise NotImplementedError

    def describe(self) -> str:
        """Return what the output depends on, as text."""
        raise NotImplementedError


@dataclass(frozen=True)
class Map(Mapped):
    """Any function of a sample.

    Parameters
    ----------
    function : callable
        Takes the inputs of one sample; a function at module level, so that workers find it.
    inputs : str or sequence of str
        Columns.
    output : str
        Set by ``>>``.

    Examples
    --------
    >>> mapped = Map(str.upper, "caption") >> "title"
    >>> mapped.compute([["a cat"]])
    ['A CAT']
    """

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    output: str = ""

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InvalidInputError(f"a mapping needs a function, not {self.function!r}")
        names = (self.inputs,) if isinstance(self.inputs, str) else tuple(self.inputs)
        object.__setattr__(self, "inputs", names)

    def __rshift__(self, output: str) -> Map:
        return replace(self, output=_checked(output))

    def compute(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the function's results.

        Parameters
        ----------
        columns : sequence of sequences
            The inputs.
        """
        return [self.function(*values) for values in zip(*columns, strict=True)]

    def describe(self) -> str:
        """Return the function's name and the columns."""
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        module = getattr(self.function, "__module__", "")
        return f"{self.output} = {module}.{name}({', '.join(self.inputs)})"


@dataclass(frozen=True)
class Tokenize(Mapped):
    """Tokens of a text.

    Parameters
    ----------
    column : str
        The text.
    tokenizer : object
        A ``tokenizers.Tokenizer``, a transformers tokenizer, the path of a ``tokenizer.json``, or
        any function from a text to numbers.
    max_length : int, optional
        Longer texts are cut.
    output : str
        Set by ``>>``.
    """

    column: str
    tokenizer: Any
    max_length: int | None = None
    output: str = ""

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise InvalidInputError(f"max_length must be positive, not {self.max_length}")
        if isinstance(self.tokenizer, str):
            object.__setattr__(self, "tokenizer", _load(self.tokenizer))
        elif not callable(self.tokenizer) and not hasattr(self.tokenizer, "encode_batch"):
            raise InvalidInputError(
                f"{self.tokenizer!r} is not a tokenizer",
                hint="a tokenizers.Tokenizer, a transformers tokenizer, a path, or a function",
            )

    @property
    def inputs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The text's column."""
        return (self.column,)

    def __rshift__(self, output: str) -> Tokenize:
        return replace(self, output=_checked(output))

    def compute(self, columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the tokens of some texts.

        Parameters
        ----------
        columns : sequence of sequences
            The texts; None gives None.

        Returns
        -------
        list of ndarray of int64
            One per text.
        """
        texts = list(columns[0])
        there = [text for text in texts if text is not None]
        found = iter(self._encode(there))
        cut = slice(None, self.max_length)
        return [None if text is None else np.asarray(next(found), np.int64)[cut] for text in texts]

    def _encode(self, texts: list[str]) -> list[Any]:
        if not texts:
            return []
        if hasattr(self.tokenizer, "encode_batch"):
            return [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        if hasattr(self.tokenizer, "convert_tokens_to_ids"):
            return list(self.tokenizer(texts)["input_ids"])
        return [self.tokenizer(text) for text in texts]

    def describe(self) -> str:
        """Return the tokenizer's fingerprint and the column."""
        return f"{self.output} = tokenize({self.column}, {self._name()}, {self.max_length})"

    def _name(self) -> str:
        written = getattr(self.tokenizer, "to_str", None)
        if written is None:
            inner = getattr(self.tokenizer, "backend_tokenizer", None)
            written = getattr(inner, "to_str", None)
        if written is not None:
            return blake3(written().encode()).digest(length=8).hex()
        name = getattr(self.tokenizer, "__qualname__", type(self.tokenizer).__qualname__)
        return f"{getattr(self.tokenizer, '__module__', '')}.{name}"


def _checked(output: str) -> str:
    if not isinstance(output, str) or not output:
        raise InvalidInputError(f"a mapping's output needs a name, not {output!r}")
    return output


def _load(path: str) -> Any:
    from pathlib import Path

    if not Path(path).is_file():
        raise InvalidInputError(
            f"there is no tokenizer at {path!r}",
            hint="the path of a tokenizer.json, or the tokenizer itself",
        )
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise MissingDependencyError(
            "reading a tokenizer.json needs the package tokenizers",
            hint="pip install 'dreamdb[text]'",
        ) from None
    return Tokenizer.from_file(path)
