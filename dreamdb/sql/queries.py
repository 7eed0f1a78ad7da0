"""Queries: from what the user wrote to what the engine runs.

Source: design/0020 sections 2, 3 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from dreamdb.dataset import Dataset
from dreamdb.errors import DreamDBError, NotFoundError, SchemaError
from dreamdb.model import ANCHOR
from dreamdb.sql.arrow_source import RowCount, TableSource
from dreamdb.sql.differences import difference
from dreamdb.sql.embedders import Embedder, Embedders, embedded_columns, embedding_field
from dreamdb.sql.engine import Engine, Parameters
from dreamdb.sql.references import (
    Call,
    Edit,
    EditedText,
    find_calls,
    find_names,
    find_versions,
    quoted,
    read_version,
    version_of,
)
from dreamdb.sql.result import Result
from dreamdb.sql.statements import Statement, is_name
from dreamdb.sql.tables import Tables

__all__ = ["Queries"]

_FUNCTIONS: Final = ("SEMANTIC_MATCH", "VECTOR_SEARCH", "HISTORY", "DIFF")
_AGGREGATES: Final = frozenset({exp.Avg, exp.Count, exp.Max, exp.Min, exp.Sum})
# What a query may hold for us to tell the columns it looks at; anything else is left to the engine.
_ORDINARY: Final = _AGGREGATES | {
    exp.Add, exp.Alias, exp.And, exp.Between, exp.Boolean, exp.Cast, exp.Column, exp.DataType,
    exp.Distinct, exp.Div, exp.EQ, exp.From, exp.GT, exp.GTE, exp.Group, exp.Having,
    exp.Identifier, exp.In, exp.Is, exp.LT, exp.LTE, exp.Like, exp.Limit, exp.Literal, exp.Mul,
    exp.NEQ, exp.Neg, exp.Not, exp.Null, exp.Offset, exp.Or, exp.Order, exp.Ordered, exp.Paren,
    exp.Select, exp.Star, exp.Sub, exp.Table, exp.TableAlias, exp.Where,
}  # fmt: skip


@dataclass
class _Query:
    """A query on its way to the engine."""

    statement: Statement
    edits: list[Edit] = field(default_factory=list)
    datasets: dict[str, Dataset] = field(default_factory=dict)
    views: dict[str, pads.Dataset | pa.Table] = field(default_factory=dict)
    failures: list[BaseException] = field(default_factory=list)
    with_anchor: bool = False


class Queries:
    """Runs queries over the tables of a space.

    Parameters
    ----------
    tables : Tables
        Where names lead.
    engine : Engine
        What computes.
    embedders : Embedders
        What makes vectors of texts.
    """

    def __init__(self, tables: Tables, engine: Engine, embedders: Embedders) -> None:
        self._tables = tables
        self._engine = engine
        self._embedders = embedders

    def run(
        self,
        statement: Statement,
        parameters: Parameters = None,
        *,
        pinned: Mapping[str, Dataset] | None = None,
        compose: Callable[[EditedText], EditedText] | None = None,
        anchor: bool = False,
    ) -> Result:
        """Run one query.

        Parameters
        ----------
        statement : Statement
            What the user wrote.
        parameters : sequence or mapping, optional
            Values for ``?`` or ``$name``.
        pinned : mapping of str to Dataset, optional
            Tables that are known already: those that the statement writes to.
        compose : callable, optional
            Puts the query together, for statements that are not queries themselves.
        anchor : bool
            Whether tables have the column ``_anchor`` even if the statement does not name it.
        """
        query = self._prepare(statement, pinned or {})
        empty = EditedText(statement, query.edits)
        text = empty.copy() if compose is None else compose(empty)
        sql = text.sql
        anchor = anchor or query.with_anchor or statement.find(ANCHOR) is not None
        tree = _tree(sql) if compose is None else None
        total = _only_count(tree)
        if total is not None and len(query.datasets) == 1:
            (dataset,) = query.datasets.values()
            count = pa.array([dataset.count()], pa.int64())
            return Result.of_table(pa.table({total: count}))
        limit = _pushed_limit(tree)
        named = _named_columns(tree)
        counts_only = tree is not None and _reads_no_column(tree)
        for name, dataset in query.datasets.items():
            query.views[name] = (
                RowCount(dataset.count())
                if counts_only
                else TableSource(
                    dataset, anchor=anchor, limit=limit, named=named, failures=query.failures
                )
            )
        return self._engine.run(
            statement, sql, query.views, parameters, locate=text.locate, failures=query.failures
        )

    def _prepare(self, statement: Statement, pinned: Mapping[str, Dataset]) -> _Query:
        query = _Query(statement)
        taken: set[int] = set()
        matches: list[Call] = []
        for number, call in enumerate(find_calls(statement, _FUNCTIONS)):
            word = call.name.text.upper()
            if word == "SEMANTIC_MATCH":
                matches.append(call)
                continue
            if word in ("HISTORY", "DIFF") and not _in_from(statement, call):
                continue
            if word == "DIFF":
                taken.update(call.indices)
                query.edits.append(self._diff(query, call, number))
                continue
            make = self._vector_search if word == "VECTOR_SEARCH" else self._history
            view = f"{call.name.text.lower()} {number + 1}"
            query.views[view] = make(statement, call)
            taken.update(call.indices)
            query.edits.append(Edit(int(call.name.start), call.stop, quoted(view)))
        for found in find_versions(statement, taken):
            query.edits.append(found.edit)
            if found.view not in query.datasets:
                query.datasets[found.view] = self._tables.at(statement, found.table, found.version)
        self._add_current(query, taken, pinned)
        for call in matches:
            query.edits.append(self._semantic_match(query, call))
        return query

    def _diff(self, query: _Query, call: Call, number: int) -> Edit:
        """Return the comparison of two versions of a table, of the fields that differ."""
        statement = query.statement
        given = [a[0] for a in call.arguments if len(a) == 1]
        if len(given) != len(call.arguments) or len(given) not in (2, 3):
            raise statement.error(
                "diff takes two versions, and the table when there are several",
                call.name,
                hint="FROM diff('before', 'after', docs)",
            )
        named = given[2] if len(given) == 3 else None
        if named is None:
            tables = list(self._tables.branches())
            if len(tables) != 1:
                raise statement.error(
                    f"diff needs the table: there are {len(tables)}",
                    call.name,
                    hint=f"FROM diff('before', 'after', {tables[0] if tables else 'docs'})",
                )
            named = Token(TokenType.VAR, tables[0], start=call.name.start, end=call.name.end)
        sides = []
        for letter, token in zip("ab", given, strict=False):
            version = version_of(statement, token)
            name = f"diff {number + 1} {letter}"
            query.datasets[name] = self._tables.at(statement, named, version)
            sides.append((name, query.datasets[name]))
        query.with_anchor = True
        return Edit(int(call.name.start), call.stop, difference(*sides[0], *sides[1]))

    def _add_current(self, query: _Query, taken: set[int], pinned: Mapping[str, Dataset]) -> None:
        statement = query.statement
        names = find_names(statement, taken)
        found = dict(pinned)
        known = {name.casefold() for name in pinned}
        rest = {n: where for n, where in names.items() if n.casefold() not in known}
        found |= self._tables.current(statement, rest)
        for name, (token, certain) in rest.items():
            if certain and name not in found and not _belongs_to_engine(name):
                raise self._tables.missing(name, statement, token)
        folded: dict[str, str] = {}
        for name, dataset in found.items():
            other = folded.setdefault(name.casefold(), name)
            if other == name:
                query.datasets[name] = dataset
            elif found[other].name != dataset.name:
                raise statement.error(
                    f"{other!r} and {name!r} are two tables, which one statement cannot tell apart",
                    names[name][0],
                    hint="query them one after the other",
                )

    def _semantic_match(self, query: _Query, call: Call) -> Edit:
        statement = query.statement
        if len(call.arguments) != 3:
            raise statement.error(
                f"SEMANTIC_MATCH takes 3 arguments, not {len(call.arguments)}",
                call.name,
                hint="SEMANTIC_MATCH(column, 'text', threshold)",
            )
        where, text, limit = call.arguments
        if not where or not all(is_name(t) or t.token_type is TokenType.DOT for t in where):
            raise statement.error("SEMANTIC_MATCH needs a column", (*where, call.name)[0])
        if len(text) != 1 or text[0].token_type is not TokenType.STRING:
            raise statement.error(
                "SEMANTIC_MATCH needs a text in single quotes", (*text, call.name)[0]
            )
        threshold = _number(statement, limit, call.name, "a threshold such as 0.4")
        column, embedder = self._embedder_of(query, where[-1])
        vector = embedder.embed([text[0].text])[0]
        prefix = "".join(quoted(t.text) if is_name(t) else t.text for t in where[:-1])
        target = prefix + quoted(column)
        # A vector of zeros has no direction: its similarity is 0, as in search().
        cosine = f"array_cosine_similarity({target}, {_literal(vector)})"
        condition = f"((CASE WHEN isnan({cosine}) THEN 0 ELSE {cosine} END) >= {threshold})"
        return Edit(int(call.name.start), call.stop, condition)

    def _embedder_of(self, query: _Query, column: Token) -> tuple[str, Embedder]:
        """Return the vector column and the embedder that a column of the query's tables has."""
        names: dict[tuple[str, str], None] = {}
        texts = []
        for dataset in query.datasets.values():
            for name, embedder in embedded_columns(dataset).items():
                texts.append(name)
                if name.casefold() == column.text.casefold():
                    names[embedding_field(name), embedder] = None
        statement = query.statement
        if len(names) > 1:
            raise statement.error(
                f"the column {column.text!r} has another embedder in each of several tables",
                column,
                hint="match one table in a subquery of its own",
            )
        if not names:
            raise statement.error(
                f"the column {column.text!r} has no embedder",
                column,
                hint=f"columns with one: {', '.join(sorted(set(texts)))}"
                if texts
                else "CREATE TABLE docs (body TEXT EMBED WITH name)",
                kind=SchemaError,
                field=column.text,
            )
        ((target, name),) = names
        try:
            embedder_ = self._embedders[name]
        except NotFoundError as error:
            raise statement.error(str(error), column, hint=error.hint, kind=NotFoundError) from None
        for dataset in query.datasets.values():
            if target in dataset.schema and dataset.schema[target].type.dim != embedder_.dim:
                raise statement.error(
                    f"the embedder {name!r} has {embedder_.dim} dimensions, the column "
                    f"{column.text!r} of {dataset.name!r} {dataset.schema[target].type.dim}",
                    column,
                    kind=SchemaError,
                    hint="register the embedder that the table was filled with",
                    field=column.text,
                )
        return target, embedder_

    def _dataset_of(self, statement: Statement, tokens: Sequence[Token], call: Call) -> Dataset:
        """Return the table that an argument names, with its version."""
        table = tokens[0] if tokens else call.name
        if not tokens or not (is_name(table) or table.token_type is TokenType.STRING):
            raise statement.error(f"{call.name.text} needs a table", table)
        if len(tokens) == 1:
            found = self._tables.current(statement, {table.text: (table, True)})
            if table.text not in found:
                raise self._tables.missing(table.text, statement, table)
            return found[table.text]
        version = read_version(statement, tokens, 1) if len(tokens) == 4 else None
        if version is None:
            raise statement.error(f"{call.name.text} needs the name of a table", tokens[1])
        return self._tables.at(statement, table, version)

    def _vector_search(self, statement: Statement, call: Call) -> pa.Table:
        if len(call.arguments) != 4:
            raise statement.error(
                f"VECTOR_SEARCH takes 4 arguments, not {len(call.arguments)}",
                call.name,
                hint="VECTOR_SEARCH(table, column, 'text' or [numbers], k)",
            )
        dataset = self._dataset_of(statement, call.arguments[0], call)
        column = call.arguments[1][0] if call.arguments[1] else call.name
        if len(call.arguments[1]) != 1 or not is_name(column):
            raise statement.error("VECTOR_SEARCH needs a column", column)
        k = _number(statement, call.arguments[3], call.name, "a number of records")
        if k != int(k) or k < 1:
            raise statement.error("VECTOR_SEARCH needs a positive number", call.arguments[3][0])
        try:
            name = _column_name(dataset, column.text)
            target, vector = self._query_vector(statement, call, dataset, name)
            found = dataset.search(target, vector, int(k), fields=list(dataset.schema))
        except DreamDBError as error:
            raise statement.error(
                str(error), column, hint=error.hint, kind=type(error), **_free(error.details)
            ) from None
        names = [*dataset.schema, ANCHOR, "_score"]
        plain = [_without_extension(found.column(name)) for name in names]
        return pa.table(plain, names=names)

    def _query_vector(
        self, statement: Statement, call: Call, dataset: Dataset, column: str
    ) -> tuple[str, Any]:
        """Return the field to search and the query's vector."""
        tokens = call.arguments[2]
        embedders = embedded_columns(dataset)
        target = embedding_field(column) if column in embedders else column
        if len(tokens) == 1 and tokens[0].token_type is TokenType.STRING:
            if column not in embedders:
                raise SchemaError(
                    f"the column {column!r} has no embedder",
                    hint="give the query as numbers: [0.1, 0.2, ...]",
                    field=column,
                )
            return target, self._embedders[embedders[column]].embed([tokens[0].text])[0]
        text = statement.script[tokens[0].start : tokens[-1].end + 1] if tokens else ""
        inner = text.strip().removeprefix("[").removesuffix("]")
        try:
            return target, np.array([float(part) for part in inner.split(",")], np.float32)
        except ValueError:
            raise SchemaError(
                "the query of VECTOR_SEARCH is neither a text nor a list of numbers",
                hint="VECTOR_SEARCH(docs, body, 'text', 10) or ([0.1, 0.2], 10)",
            ) from None

    def _history(self, statement: Statement, call: Call) -> pa.Table:
        if len(call.arguments) > 1:
            raise statement.error("history takes one table, or none", call.name)
        if call.arguments:
            datasets = [self._dataset_of(statement, call.arguments[0], call)]
        else:
            listed = dict.fromkeys(self._tables.branches(), (call.name, True))
            datasets = list(self._tables.current(statement, listed).values())
        parts = []
        for dataset in datasets:
            told = dataset.log().to_arrow()
            names = pa.array([dataset.name or ""] * told.num_rows, pa.string())
            parts.append(told.add_column(0, "table", names))
        if not parts:
            raise statement.error(
                "there are no tables yet", call.name, kind=NotFoundError, hint="CREATE TABLE"
            )
        return pa.concat_tables(parts)


def _in_from(statement: Statement, call: Call) -> bool:
    index = call.indices.start
    before = statement.tokens[index - 1].text.upper() if index else ""
    return before in ("FROM", "JOIN", ",")


def _belongs_to_engine(name: str) -> bool:
    return name.casefold().startswith(("duckdb_", "pg_", "sqlite_", "information_schema"))


def _free(details: Mapping[str, Any]) -> dict[str, Any]:
    taken = ("line", "column", "position")
    return {name: value for name, value in details.items() if name not in taken}


def _number(statement: Statement, tokens: Sequence[Token], call: Token, what: str) -> float:
    text = "".join(t.text for t in tokens)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise statement.error(f"{call.text} needs {what}", tokens[0] if tokens else call)
    return value


def _literal(vector: Any) -> str:
    numbers = ", ".join(repr(float(value)) for value in vector)
    return f"CAST([{numbers}] AS FLOAT[{len(vector)}])"


def _column_name(dataset: Dataset, name: str) -> str:
    same = [field for field in dataset.schema if field.casefold() == name.casefold()]
    return same[0] if len(same) == 1 else dataset.schema[name].name


def _without_extension(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([c.storage for c in column.chunks], column.type.storage_type)


def _tree(sql: str) -> Any:
    """Return the syntax tree of a query; None when only the engine understands it."""
    if sql.lstrip()[:7].upper() == "EXPLAIN":
        return None
    try:
        return sqlglot.parse_one(sql, dialect="duckdb")
    except (SqlglotError, RecursionError):
        return None


def _only_count(tree: Any) -> str | None:
    """Return the column's name when a query asks for the number of rows of one table."""
    if not _is_ordinary(tree) or len(tree.expressions) != 1:
        return None
    if {name for name, value in tree.args.items() if value} - {"expressions", "from_", "from"}:
        return None
    asked = tree.expressions[0]
    counted = asked.unalias()
    if not isinstance(counted, exp.Count) or not isinstance(counted.this, exp.Star):
        return None
    source = tree.args.get("from_") or tree.args.get("from")
    table = source.this if source is not None else None
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        return None
    plain = {name for name, value in table.args.items() if value} <= {"this", "alias"}
    return (asked.alias or "count_star()") if plain else None


def _reads_no_column(tree: Any) -> bool:
    """Return whether a query needs the number of rows of its tables and nothing else."""
    return _is_ordinary(tree) and tree.find(exp.Column) is None


def _is_ordinary(tree: Any) -> bool:
    """Return whether a query holds nothing that could name columns in ways we do not see."""
    if not isinstance(tree, exp.Select):
        return False
    for node in tree.walk():
        if type(node) not in _ORDINARY:
            return False
        if isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count):
            return False
        # Columns of a table may be renamed by its alias.
        if isinstance(node, exp.TableAlias) and node.args.get("columns"):
            return False
        if isinstance(node, exp.Select) and not node.expressions:
            return False
    return True


def _named_columns(tree: Any) -> frozenset[str] | None:
    """Return the columns that a query of one table looks at; None when that cannot be told."""
    if not _is_ordinary(tree) or len(list(tree.find_all(exp.Table))) != 1:
        return None
    named = set()
    for column in tree.find_all(exp.Column):
        # s.a may be a member of the column s.
        named |= {part.name.casefold() for part in column.parts}
    table = tree.find(exp.Table)
    # The table's own name as a column is the whole row.
    whole = {table.name.casefold(), table.alias_or_name.casefold()}
    alone = {n.name.casefold() for n in tree.find_all(exp.Column) if not n.table}
    return None if whole & alone else frozenset(named)


def _pushed_limit(tree: Any) -> int | None:
    """Return how many records of its one table a query needs; None when that cannot be told."""
    if not isinstance(tree, exp.Select):
        return None
    used = {name for name, value in tree.args.items() if value}
    if not used <= {"expressions", "from_", "from", "limit", "offset"} or "limit" not in used:
        return None
    plain = {*_ORDINARY, exp.Star} - _AGGREGATES
    if any(type(node) not in plain for node in tree.walk()):
        return None
    if len(list(tree.find_all(exp.Table))) != 1:
        return None
    total = 0
    for name in ("limit", "offset"):
        node = tree.args.get(name)
        if node is None:
            continue
        value = node.expression
        options = {key for key, given in node.args.items() if given} - {"expression"}
        if options or not isinstance(value, exp.Literal) or not value.this.isdigit():
            return None
        total += int(value.this)
    return total
