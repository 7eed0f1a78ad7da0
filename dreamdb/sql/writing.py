"""Statements that write: CREATE TABLE, DROP TABLE, INSERT, UPDATE, DELETE.

Source: design/0020 section 7.  Each is one commit of one table: all of it becomes visible, or
nothing.  What a statement computes from the table's records is refused when another writer has
moved the table meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import Token, TokenType

from dreamdb.dataset import Dataset, OpenSpace, Schema, Space
from dreamdb.errors import (
    AlreadyExistsError,
    DreamDBError,
    InvalidInputError,
    NotFoundError,
    SchemaError,
)
from dreamdb.model import ANCHOR, Field, FieldList, default_rungs
from dreamdb.sql.clauses import (
    alias_of,
    checked_name,
    column_list,
    column_of,
    read_clauses,
    refuse_clauses,
    refuse_version,
    split_tokens,
    table_at,
    value_rows,
)
from dreamdb.sql.column_types import ColumnDefinition, engine_type, read_columns
from dreamdb.sql.embedders import Embedders, embedded_columns, embedding_field, embedding_note
from dreamdb.sql.engine import Parameters
from dreamdb.sql.queries import Queries
from dreamdb.sql.references import EditedText, quoted
from dreamdb.sql.result import Result
from dreamdb.sql.statements import Statement, is_name
from dreamdb.sql.tables import Tables
from dreamdb.types import FieldType

__all__ = ["Writer"]

_COSINE: Final = "dreamdb.flat-cosine"


def changed(count: int) -> Result:
    """Return the result of a statement that wrote.

    Parameters
    ----------
    count : int
        How many records it has added, changed or deleted.
    """
    table = pa.table({"rows": pa.array([count], pa.int64())})
    return Result.of_table(table, rows_changed=count)


class Writer:
    """Runs statements that write.

    Parameters
    ----------
    space : OpenSpace
        Where tables lie.
    tables : Tables
        Where names lead.
    queries : Queries
        Computes what is written.
    embedders : Embedders
        Make the embedding layers.
    """

    def __init__(
        self, space: OpenSpace, tables: Tables, queries: Queries, embedders: Embedders
    ) -> None:
        self._space = space
        self._tables = tables
        self._queries = queries
        self._embedders = embedders

    def create_table(self, statement: Statement, parameters: Parameters) -> Result:
        """Run CREATE TABLE: with columns, or AS a query.

        Parameters
        ----------
        statement : Statement
            The statement.
        parameters : sequence or mapping, optional
            Values for the query's parameters.
        """
        tokens = statement.tokens
        index, if_missing = 2, False
        if statement.words(2, 3) == ("IF", "NOT", "EXISTS"):
            index, if_missing = 5, True
        table = table_at(statement, index)
        rest = tokens[index + 1 :]
        if not rest:
            raise statement.error("CREATE TABLE needs columns, or AS and a query", table)
        existing = self._space.backend.refs.read(checked_name(statement, table))
        if existing is not None:
            if if_missing:
                return changed(0)
            raise statement.error(
                f"{table.text!r} exists already",
                table,
                kind=AlreadyExistsError,
                hint="CREATE TABLE IF NOT EXISTS, or choose another name",
                ref=table.text,
            )
        if rest[0].text.upper() == "AS" and len(rest) > 1:
            return self._create_as(statement, table, rest[1:], parameters)
        if (
            rest[0].token_type is not TokenType.L_PAREN
            or rest[-1].token_type is not TokenType.R_PAREN
        ):
            raise statement.error("CREATE TABLE needs columns in parentheses", rest[0])
        self._create(statement, table, read_columns(statement, rest[1:-1]))
        return changed(0)

    def _create(
        self, statement: Statement, table: Token, columns: Sequence[ColumnDefinition]
    ) -> None:
        fields: list[Field] = []
        notes: dict[str, str] = {}
        key = None
        for column in columns:
            try:
                fields.append(_field(column.name, column.type, len(fields), column.required))
                if column.embedder is not None:
                    dim = self._embedders[column.embedder].dim
                    layer = FieldType("embedding", dim=dim)
                    name = embedding_field(column.name)
                    fields.append(_field(name, layer, len(fields), False, parent=column.name))
                    notes[embedding_note(column.name)] = column.embedder
            except (SchemaError, NotFoundError) as error:
                raise statement.error(
                    str(error), column.token, hint=error.hint, kind=type(error)
                ) from None
            key = column.name if column.key else key
        folded = [f.name.casefold() for f in fields]
        for column in columns:
            if folded.count(column.name.casefold()) > 1:
                raise statement.error(
                    f"the column {column.name!r} is defined twice", column.token, kind=SchemaError
                )
        Dataset.create(
            table.text,
            Schema.of_fields(FieldList.of(fields)),
            self._space.given,
            key=key,
            metadata=notes,
            message="CREATE TABLE",
            storage_options=self._space.storage_options,
        )

    def _create_as(
        self, statement: Statement, table: Token, tokens: Sequence[Token], parameters: Parameters
    ) -> Result:
        source = Statement(statement.script, tuple(tokens))
        with self._queries.run(source, parameters) as result:
            schema = pa.schema([_storable(column) for column in result.schema])
            try:
                fields = Schema.from_arrow(schema)
            except SchemaError as error:
                raise statement.error(
                    str(error), table, hint=error.hint, kind=SchemaError
                ) from None
            made = Dataset.create(
                table.text,
                fields,
                self._space.given,
                data=(batch.cast(schema) for batch in result),
                message="CREATE TABLE AS",
                storage_options=self._space.storage_options,
            )
        return changed(made.count())

    def drop_table(self, statement: Statement) -> Result:
        """Run DROP TABLE; the reflog and the version tags keep what the table held.

        Parameters
        ----------
        statement : Statement
            The statement.
        """
        index, if_there = 2, False
        if statement.words(2, 2) == ("IF", "EXISTS"):
            index, if_there = 4, True
        table = table_at(statement, index)
        if len(statement.tokens) > index + 1:
            raise statement.error("DROP TABLE takes one name", statement.tokens[index + 1])
        if if_there and self._space.backend.refs.read(checked_name(statement, table)) is None:
            return changed(0)
        dataset = self._tables.writable(statement, table)
        Space(self._space).delete_ref(str(dataset.name), reason="DROP TABLE")
        return changed(0)

    def insert(self, statement: Statement, parameters: Parameters) -> Result:
        """Run INSERT INTO, INSERT OR REPLACE INTO, BULK INSERT INTO.

        Parameters
        ----------
        statement : Statement
            Without BULK.
        parameters : sequence or mapping, optional
            Values for the parameters.
        """
        replaces = statement.words(1, 2) == ("OR", "REPLACE")
        index = 3 if replaces else 1
        if statement.words(index, 1) != ("INTO",):
            raise statement.error("INSERT needs INTO", statement.tokens[min(index, 1)])
        table = table_at(statement, index + 1)
        refuse_version(statement, index + 2)
        dataset = self._tables.writable(statement, table)
        names, at = column_list(statement, dataset, index + 2)
        tokens = statement.tokens[at:]
        if not tokens:
            raise statement.error("INSERT needs VALUES or a query", table)
        refuse_clauses(statement, tokens)
        source = Statement(statement.script, tuple(tokens))
        if names is None:
            names = _fillable(dataset)
        self._check_embedders(statement, dataset, names)
        with self._source(source, dataset, names, parameters, table) as result:
            batches = self._with_embeddings(dataset, result)
            write = dataset.upsert if replaces else dataset.append
            try:
                count = write(batches, message="INSERT")
            except DreamDBError as error:
                raise _explained(statement, error, table) from error
        return changed(count)

    def _source(
        self,
        source: Statement,
        dataset: Dataset,
        names: Sequence[str],
        parameters: Parameters,
        table: Token,
    ) -> Result:
        """Return the rows to insert, with the names and types of the columns they go to."""
        types = [engine_type(dataset.schema[name].type) for name in names]
        pinned = {table.text: dataset}
        if source.words(0, 1) == ("VALUES",):
            cells = value_rows(source, names)

            def values(text: EditedText) -> EditedText:
                heads = ", ".join(f"v{i} AS {quoted(name)}" for i, name in enumerate(names))
                return _cast_values(text.add(f"SELECT {heads} FROM (VALUES "), cells, types).add(
                    f") AS source({', '.join(f'v{i}' for i in range(len(names)))})"
                )

            return self._queries.run(source, parameters, pinned=pinned, compose=values)

        def shape(text: EditedText) -> EditedText:
            return text.add("SELECT * FROM (").copy().add("\n) LIMIT 0")

        with self._queries.run(source, parameters, pinned=pinned, compose=shape) as empty:
            count = len(empty.schema)
        if count != len(names):
            raise source.error(
                f"the rows have {count} values for the {len(names)} columns {', '.join(names)}",
                hint="name the columns: INSERT INTO table (a, b) VALUES ...",
            )
        listed = ", ".join(
            f"CAST(v{i} AS {kind}) AS {quoted(name)}"
            for i, (name, kind) in enumerate(zip(names, types, strict=True))
        )
        aliases = ", ".join(f"v{i}" for i in range(count))

        def cast(text: EditedText) -> EditedText:
            return text.add(f"SELECT {listed} FROM (").copy().add(f"\n) AS source({aliases})")

        return self._queries.run(source, parameters, pinned=pinned, compose=cast)

    def _check_embedders(
        self, statement: Statement, dataset: Dataset, names: Sequence[str]
    ) -> None:
        """Refuse before anything is computed: the embedder must be there and fit the layer."""
        for column, name in embedded_columns(dataset).items():
            target = embedding_field(column)
            if column not in names or target in names or target not in dataset.schema:
                continue
            try:
                embedder = self._embedders[name]
            except NotFoundError as error:
                raise statement.error(
                    f"the column {column!r} needs it: {error}", hint=error.hint, kind=NotFoundError
                ) from None
            if embedder.dim != dataset.schema[target].type.dim:
                raise statement.error(
                    f"the embedder {name!r} has {embedder.dim} dimensions, the column "
                    f"{column!r} was made with {dataset.schema[target].type.dim}",
                    hint="register the embedder that the table was made with",
                    kind=SchemaError,
                    field=column,
                )

    def _with_embeddings(self, dataset: Dataset, result: Result) -> Iterator[pa.RecordBatch]:
        """Yield batches with the embedding layers of their text columns."""
        for batch in result:
            yield self._embed(dataset, _restored(dataset, batch))

    def _embed(self, dataset: Dataset, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = batch.schema.names
        for column, name in embedded_columns(dataset).items():
            target = embedding_field(column)
            if column in names and target not in names and target in dataset.schema:
                vectors = self._vectors(name, batch.column(column))
                batch = batch.append_column(target, vectors)
        return batch

    def _vectors(self, embedder: str, texts: pa.Array) -> pa.Array:
        """Return the vectors of texts; null for null."""
        found = self._embedders[embedder]
        listed = texts.to_pylist()
        there = [i for i, text in enumerate(listed) if text is not None]
        matrix = np.zeros((len(listed), found.dim), np.float32)
        if there:
            matrix[there] = found.embed([listed[i] for i in there])
        flat = pa.array(matrix.reshape(-1), pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, found.dim, mask=pc.is_null(texts))

    def update(self, statement: Statement, parameters: Parameters) -> Result:
        """Run UPDATE ... SET ... [FROM ...] [WHERE ...].

        Parameters
        ----------
        statement : Statement
            The statement.
        parameters : sequence or mapping, optional
            Values for the parameters.
        """
        table = table_at(statement, 1)
        refuse_version(statement, 2)
        dataset = self._tables.writable(statement, table)
        clauses = read_clauses(statement, 2, ("SET", "FROM", "WHERE"))
        if "SET" not in clauses:
            raise statement.error("UPDATE needs SET", table)
        alias = alias_of(statement, clauses[""], table)
        assigned = self._assignments(statement, dataset, clauses["SET"])
        self._check_embedders(statement, dataset, list(assigned))

        def compose(text: EditedText) -> EditedText:
            text.add(f"SELECT {quoted(alias)}.{quoted(ANCHOR)}")
            for name, tokens in assigned.items():
                kind = engine_type(dataset.schema[name].type)
                text.add(", CAST((").copy_tokens(tokens)
                text.add(f"\n) AS {kind}) AS {quoted(name)}")
            return _from_where(text, table.text, alias, clauses.get("FROM"), clauses.get("WHERE"))

        with self._queries.run(
            statement, parameters, pinned={table.text: dataset}, compose=compose, anchor=True
        ) as result:
            found = result.to_arrow()
        anchors = found.column(ANCHOR).combine_chunks()
        if len(pc.unique(anchors)) < len(anchors):
            raise statement.error(
                "several rows of FROM match one record of the table",
                table,
                hint="join it so that each record has one match",
            )
        if not len(anchors):
            return changed(0)
        batch = pa.RecordBatch.from_arrays(
            [_joined(found.column(name)) for name in assigned], list(assigned)
        )
        batch = self._embed(dataset, _restored(dataset, batch))
        values = dict(zip(batch.schema.names, batch.columns, strict=True))
        try:
            with dataset.transaction("UPDATE", strict=True) as tx:
                tx.update(anchors, values)
        except DreamDBError as error:
            raise _explained(statement, error, table) from error
        return changed(len(anchors))

    def _assignments(
        self, statement: Statement, dataset: Dataset, tokens: Sequence[Token]
    ) -> dict[str, list[Token]]:
        assigned: dict[str, list[Token]] = {}
        for part in split_tokens(tokens, TokenType.COMMA):
            simple = len(part) > 2 and is_name(part[0]) and part[1].token_type is TokenType.EQ
            if not simple:
                raise statement.error(
                    "SET needs column = value", part[0] if part else tokens[0] if tokens else None
                )
            name = column_of(statement, dataset, part[0])
            if name in assigned:
                raise statement.error(f"the column {name!r} is set twice", part[0])
            if name == dataset.key:
                raise statement.error(
                    f"{name!r} is the primary key and cannot be updated",
                    part[0],
                    hint="delete the record and insert it under its new key",
                    kind=InvalidInputError,
                    field=name,
                )
            assigned[name] = part[2:]
        return assigned

    def delete(self, statement: Statement, parameters: Parameters) -> Result:
        """Run DELETE FROM ... [USING ...] [WHERE ...].

        Parameters
        ----------
        statement : Statement
            The statement.
        parameters : sequence or mapping, optional
            Values for the parameters.
        """
        if statement.words(1, 1) != ("FROM",):
            raise statement.error("DELETE needs FROM")
        table = table_at(statement, 2)
        refuse_version(statement, 3)
        dataset = self._tables.writable(statement, table)
        clauses = read_clauses(statement, 3, ("USING", "WHERE"))
        alias = alias_of(statement, clauses[""], table)

        def compose(text: EditedText) -> EditedText:
            text.add(f"SELECT DISTINCT {quoted(alias)}.{quoted(ANCHOR)}")
            return _from_where(text, table.text, alias, clauses.get("USING"), clauses.get("WHERE"))

        with self._queries.run(
            statement, parameters, pinned={table.text: dataset}, compose=compose, anchor=True
        ) as result:
            anchors = result.to_arrow().column(ANCHOR).combine_chunks()
        if not len(anchors):
            return changed(0)
        try:
            with dataset.transaction("DELETE", strict=True) as tx:
                tx.delete(anchors)
        except DreamDBError as error:
            raise _explained(statement, error, table) from error
        return changed(len(anchors))


def _field(
    name: str, ftype: FieldType, order: int, required: bool, parent: str | None = None
) -> Field:
    rung, floor = default_rungs(ftype)
    algorithm = _COSINE if ftype.kind == "embedding" else None
    return Field(
        name,
        ftype,
        required=required,
        rung=rung,
        floor=floor,
        order=order,
        parent=parent,
        algorithm=algorithm,
    )


def _storable(column: pa.Field) -> pa.Field:
    """Return a column with a type that fields have: SQL's wide integers become int64."""
    kind = column.type
    if pa.types.is_decimal(kind):
        kind = pa.int64() if kind.scale == 0 else pa.float64()
    return pa.field(column.name, kind)


def _cast_values(
    text: EditedText, rows: Sequence[Sequence[Sequence[Token]]], types: Sequence[str]
) -> EditedText:
    """Add VALUES in which each value is converted by itself, as INSERT does."""
    for number, row in enumerate(rows):
        text.add(", (" if number else "(")
        for index, (cell, kind) in enumerate(zip(row, types, strict=True)):
            text.add(", CAST((" if index else "CAST((")
            if len(cell) == 1 and cell[0].text.upper() == "DEFAULT":
                text.add("NULL")
            else:
                text.copy_tokens(cell)
            text.add(f"\n) AS {kind})")
        text.add(")")
    return text


def _fillable(dataset: Dataset) -> list[str]:
    """Return the columns that INSERT fills when it names none: all but embedding layers."""
    made = {embedding_field(column) for column in embedded_columns(dataset)}
    return [name for name in dataset.schema if name not in made]


def _from_where(
    text: EditedText,
    table: str,
    alias: str,
    others: Sequence[Token] | None,
    where: Sequence[Token] | None,
) -> EditedText:
    text.add(f"\nFROM {quoted(table)} AS {quoted(alias)}")
    if others:
        text.add(", ").copy_tokens(others)
    if where:
        text.add("\nWHERE (").copy_tokens(where)
        text.add("\n)")
    return text


def _joined(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _restored(dataset: Dataset, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with the tensors' own types, which the engine knows as flat arrays."""
    wanted = dataset.schema.to_arrow()
    columns = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = wanted.field(name).type
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.ExtensionArray.from_storage(kind, column.cast(kind.storage_type))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _explained(statement: Statement, error: DreamDBError, table: Token) -> DreamDBError:
    """Return an error of the library with its place in the statement."""
    if "position" in error.details:
        return error
    free = {k: v for k, v in error.details.items() if k not in ("line", "column", "position")}
    made: Any = statement.error(str(error), table, hint=error.hint, kind=type(error), **free)
    return made
