"""Version tags: names for the state of all tables at one moment.

Source: design/0020 section 5.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from sqlglot import Token, TokenType

from dreamdb import config
from dreamdb.dataset import OpenSpace
from dreamdb.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from dreamdb.history import load_manifest
from dreamdb.model import Catalog
from dreamdb.objects import check_ref_name
from dreamdb.sql.result import Result
from dreamdb.sql.statements import Statement
from dreamdb.sql.tables import Tables
from dreamdb.types import Address
from dreamdb.write import check_text, create_version_tag, delete_ref

__all__ = ["PRECISIONS", "TrainingOptions", "VersionTags", "check_seed"]

PRECISIONS: Final = ("float32", "sq8", "rabitq")
"""How vectors are written when a tag is exported for training."""

_PRECISION: Final = "training.precision"
_SEED: Final = "training.seed"
_REMEMBERED: Final = 65_536
MAX_SEED: Final = (1 << 64) - 1


def check_seed(seed: object) -> int | None:
    """Return a seed, checked.

    Parameters
    ----------
    seed : object
        An integer from 0 to 2**64 - 1, or None.

    Raises
    ------
    InvalidInputError
        For anything else.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
        raise InvalidInputError(f"a training seed is an integer from 0 to 2**64 - 1, not {seed!r}")
    return seed


@dataclass(frozen=True)
class TrainingOptions:
    """How a tag is exported for training.

    Parameters
    ----------
    precision : str
        One of :data:`PRECISIONS`.
    seed : int or None
        Shuffles the records; None keeps their order.
    """

    precision: str = "float32"
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InvalidInputError(
                f"{self.precision!r} is not a training precision",
                hint=f"one of {', '.join(PRECISIONS)}",
            )
        check_seed(self.seed)

    def to_notes(self) -> dict[str, str]:
        """Return the notes that a catalog keeps of them."""
        notes = {_PRECISION: self.precision}
        if self.seed is not None:
            notes[_SEED] = str(self.seed)
        return notes

    @classmethod
    def of_notes(cls, notes: Mapping[str, str]) -> TrainingOptions | None:
        """Return the options that a catalog keeps; None when it is not meant for training.

        Parameters
        ----------
        notes : mapping of str to str
            A catalog's metadata.
        """
        if _PRECISION not in notes:
            return None
        seed = notes.get(_SEED)
        return cls(notes[_PRECISION], None if seed is None else int(seed))


class VersionTags:
    """Makes, lists and drops the version tags of a space.

    Parameters
    ----------
    space : OpenSpace
        The space.
    tables : Tables
        What is tagged.
    """

    def __init__(self, space: OpenSpace, tables: Tables) -> None:
        self._space = space
        self._tables = tables
        # Manifests never change: each is parsed once.
        self._times: dict[Address, int] = {}

    def _time_of(self, manifest: Address) -> int:
        found = self._times.get(manifest)
        if found is None:
            found = load_manifest(self._space.cache, manifest).time_ns
            if len(self._times) >= _REMEMBERED:
                self._times.clear()
            self._times[manifest] = found
        return found

    def create(
        self, name: str, training: TrainingOptions | None = None, message: str = ""
    ) -> Catalog:
        """Tag the state of all tables.

        Parameters
        ----------
        name : str
            The tag's name.
        training : TrainingOptions, optional
            How it is exported.
        message : str
            Why it was made.

        Raises
        ------
        AlreadyExistsError
            When a ref has that name.
        NotFoundError
            When there are no tables.

        Notes
        -----
        Cost: 1 ref read, 2 listings of refs, 1 cached object read per table, 1 document read, 1 ref
        creation.
        """
        check_ref_name(name)
        check_text(message, "the message")
        space = self._space
        if space.backend.refs.read(name) is not None:
            raise AlreadyExistsError(
                f"{name!r} exists already in {space.url}",
                hint="tags never move: choose another name, or DROP VERSION TAG first",
                ref=name,
            )
        with space.backend.objects.hold():
            tables = self._tables.branches(self._tables.listed())
            if not tables:
                raise NotFoundError(
                    "there are no tables to tag", hint="CREATE TABLE first", ref=name
                )
            latest = max(self._time_of(manifest) for manifest in tables.values())
            # A whole number of microseconds, at which AT VERSION shows just these manifests.
            moment = -(-max(time.time_ns(), latest) // 1_000) * 1_000
            notes = training.to_notes() if training is not None else {}
            catalog = Catalog(name, tables, config.author(), message, moment, notes)
            create_version_tag(space.backend, space.source, catalog)
        return catalog

    def drop(self, name: str) -> None:
        """Remove a tag; its reflog keeps what it named.

        Parameters
        ----------
        name : str
            The tag.
        """
        value, _ = self._tables.version_tag(name)
        space = self._space
        author = config.author()
        delete_ref(space.backend, space.source, name, value, who=author, why="DROP VERSION TAG")

    def run_create(self, statement: Statement) -> Result:
        """Run CREATE VERSION TAG 'name' [FOR TRAINING [...]].

        Parameters
        ----------
        statement : Statement
            The statement.
        """
        name = _tag_name(statement, 3)
        precision: str | None = None
        seed: int | None = None
        training = False
        index = 4
        while index < len(statement.tokens):
            token = statement.tokens[index]
            if statement.words(index, 2) == ("FOR", "TRAINING") and not training:
                training, index = True, index + 2
                continue
            if training and statement.words(index, 3) == ("WITH", "TRAINING", "PRECISION"):
                index, precision = index + 4, _precision(statement, index + 3, precision)
                continue
            if training and statement.words(index, 2) == ("TRAINING", "PRECISION"):
                index, precision = index + 3, _precision(statement, index + 2, precision)
                continue
            with_seed = statement.words(index, 3) == ("WITH", "TRAINING", "SEED")
            if training and (with_seed or statement.words(index, 2) == ("TRAINING", "SEED")):
                at = index + 2 + with_seed
                index, seed = at + 1, _seed(statement, at, seed)
                continue
            raise statement.error(
                f"{token.text!r} is not expected here",
                token,
                hint="CREATE VERSION TAG 'name' [FOR TRAINING [WITH TRAINING PRECISION "
                "'float32' | 'sq8' | 'rabitq'] [TRAINING SEED n]]",
            )
        options = TrainingOptions(precision or "float32", seed) if training else None
        try:
            catalog = self.create(name.text, options)
        except (AlreadyExistsError, InvalidInputError, NotFoundError) as error:
            raise statement.error(
                str(error), name, hint=error.hint, kind=type(error), **error.details
            ) from None
        return Result.of_table(_described({name.text: catalog}))

    def run_drop(self, statement: Statement) -> Result:
        """Run DROP VERSION TAG [IF EXISTS] 'name'.

        Parameters
        ----------
        statement : Statement
            The statement.
        """
        if_there = statement.words(3, 2) == ("IF", "EXISTS")
        name = _tag_name(statement, 5 if if_there else 3)
        if statement.tokens[-1] is not name:
            raise statement.error("DROP VERSION TAG takes one name", statement.tokens[-1])
        try:
            self.drop(name.text)
        except (InvalidInputError, NotFoundError) as error:
            if not (if_there and isinstance(error, NotFoundError)):
                raise statement.error(
                    str(error), name, hint=error.hint, kind=type(error), **error.details
                ) from None
        return Result.of_table(_described({}))

    def run_show(self) -> Result:
        """Run SHOW VERSION TAGS."""
        return Result.of_table(_described(self._tables.catalogs()))


def _tag_name(statement: Statement, index: int) -> Token:
    tokens = statement.tokens
    if index >= len(tokens) or tokens[index].token_type is not TokenType.STRING:
        raise statement.error(
            "a version tag needs a name in single quotes",
            tokens[min(index, len(tokens) - 1)],
            hint="CREATE VERSION TAG 'train-v1'",
        )
    return tokens[index]


def _precision(statement: Statement, index: int, before: str | None) -> str:
    token = statement.tokens[min(index, len(statement.tokens) - 1)]
    if before is not None:
        raise statement.error("the precision is given twice", token)
    if token.token_type is not TokenType.STRING or token.text not in PRECISIONS:
        raise statement.error(
            f"{token.text!r} is not a training precision",
            token,
            hint="one of " + ", ".join(f"'{p}'" for p in PRECISIONS),
        )
    return str(token.text)


def _seed(statement: Statement, index: int, before: int | None) -> int:
    token = statement.tokens[min(index, len(statement.tokens) - 1)]
    if before is not None:
        raise statement.error("the seed is given twice", token)
    digits = token.token_type is TokenType.NUMBER and token.text.isdigit()
    if index >= len(statement.tokens) or not digits or int(token.text) > MAX_SEED:
        raise statement.error("a training seed is an integer from 0 to 2**64 - 1", token)
    return int(token.text)


def _described(catalogs: Mapping[str, Catalog]) -> pa.Table:
    """Return tags as a table, one row each."""
    options = [TrainingOptions.of_notes(c.metadata) for c in catalogs.values()]
    tags = list(catalogs.values())
    return pa.table(
        {
            "tag": pa.array(list(catalogs), pa.string()),
            "version": pa.array([c.time_ns // 1_000 for c in tags], pa.int64()),
            "time": pa.array([c.time_ns for c in tags], pa.timestamp("ns")),
            "author": pa.array([c.author for c in tags], pa.string()),
            "training": pa.array([o is not None for o in options], pa.bool_()),
            "precision": pa.array([o and o.precision for o in options], pa.string()),
            "seed": pa.array([o.seed if o else None for o in options], pa.uint64()),
            "tables": pa.array([sorted(c.tables) for c in tags], pa.list_(pa.string())),
        }
    )
