"""Column definitions of CREATE TABLE as fields, and fields as the engine's types.

Source: design/0020 section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError

from dreamdb.errors import SchemaError
from dreamdb.model import check_field_name, field_type
from dreamdb.sql.references import quoted
from dreamdb.sql.statements import Statement, is_name
from dreamdb.types import FieldType

__all__ = ["ColumnDefinition", "engine_type", "read_columns"]

_SCALARS: Final = {
    "bool": "BOOLEAN",
    "int": "BIGINT",
    "float": "DOUBLE",
    "timestamp": "TIMESTAMP_NS",
    "string": "VARCHAR",
    "text": "VARCHAR",
    "categorical": "VARCHAR",
    "image": "BLOB",
    "video": "BLOB",
    "audio": "BLOB",
    "binary": "BLOB",
}
_ELEMENTS: Final = {
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float16": "FLOAT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}
_DTYPES: Final = {
    "TINYINT": "int8",
    "SMALLINT": "int16",
    "INT": "int32",
    "BIGINT": "int64",
    "UTINYINT": "uint8",
    "USMALLINT": "uint16",
    "UINT": "uint32",
    "UBIGINT": "uint64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
}
_KINDS: Final = {
    **dict.fromkeys(
        ("TINYINT", "SMALLINT", "INT", "BIGINT", "UTINYINT", "USMALLINT", "UINT", "UBIGINT"), "int"
    ),
    **dict.fromkeys(("FLOAT", "DOUBLE", "DECIMAL"), "float"),
    **dict.fromkeys(("VARCHAR", "NVARCHAR", "CHAR", "NCHAR", "TEXT", "UUID"), "string"),
    **dict.fromkeys(
        ("DATE", "DATETIME", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMP_S", "TIMESTAMP_MS",
         "TIMESTAMP_NS", "TIMESTAMPNTZ", "TIMESTAMPLTZ"),
        "timestamp",
    ),
    **dict.fromkeys(("BLOB", "BINARY", "VARBINARY"), "binary"),
    "BOOLEAN": "bool",
    "ENUM": "categorical",
}  # fmt: skip
_MEDIA: Final = {"IMAGE": "jpeg", "AUDIO": "wav", "VIDEO": "mp4"}
_SUPPORTED: Final = (
    "BIGINT, DOUBLE, BOOLEAN, VARCHAR, TEXT, CATEGORICAL, TIMESTAMP, BLOB, FLOAT[n] (an "
    "embedding), T[n] (a tensor), T[] (a list), STRUCT(...), IMAGE('png'), AUDIO, VIDEO"
)


@dataclass(frozen=True)
class ColumnDefinition:
    """One column of CREATE TABLE.

    Parameters
    ----------
    name : str
        The field.
    type : FieldType
        What its values are.
    required : bool
        Whether null is refused.
    key : bool
        Whether it is the primary key.
    embedder : str or None
        What makes its embedding layer.
    token : Token
        Where it is defined.
    """

    name: str
    type: FieldType
    required: bool
    key: bool
    embedder: str | None
    token: Token


def engine_type(ftype: FieldType) -> str:
    """Return the engine's type for values of a field.

    Parameters
    ----------
    ftype : FieldType
        The field's type.
    """
    if ftype.kind == "embedding":
        return f"FLOAT[{ftype.dim}]"
    if ftype.kind == "tensor":
        size = 1
        for extent in ftype.shape or ():
            size *= extent
        return f"{_ELEMENTS[ftype.dtype or 'float32']}[{size}]"
    if ftype.kind == "list" and ftype.item is not None:
        return f"{engine_type(ftype.item)}[]"
    if ftype.kind == "struct":
        members = ", ".join(f"{quoted(n)} {engine_type(t)}" for n, t in ftype.fields or ())
        return f"STRUCT({members})"
    return _SCALARS[ftype.kind]


def read_columns(statement: Statement, tokens: Sequence[Token]) -> list[ColumnDefinition]:
    """Return the columns that stand between the parentheses of CREATE TABLE.

    Parameters
    ----------
    statement : Statement
        For positions.
    tokens : sequence of Token
        What stands between them.

    Raises
    ------
    SqlError, SchemaError
        Naming what is not supported, and where.
    """
    columns: list[ColumnDefinition] = []
    keys: list[tuple[str, Token]] = []
    for part in _split(tokens):
        if not part:
            raise statement.error("a column is missing", tokens[0] if tokens else None)
        if part[0].text.upper() in ("PRIMARY KEY", "PRIMARY"):
            named = [t for t in part[1:] if is_name(t) and t.text.upper() != "KEY"]
            keys += [(t.text, t) for t in named]
        else:
            columns.append(_column(statement, part))
    keys += [(c.name, c.token) for c in columns if c.key]
    if len({name.casefold() for name, _ in keys}) > 1:
        raise statement.error(
            "a table has one column as its primary key",
            keys[1][1],
            hint="join the columns into one, such as a text 'a/b'",
            kind=SchemaError,
        )
    if not columns:
        raise statement.error("a table needs columns", kind=SchemaError)
    for name, token in keys:
        if name.casefold() not in {c.name.casefold() for c in columns}:
            raise statement.error(f"there is no column {name!r}", token, kind=SchemaError)
    wanted = {name.casefold() for name, _ in keys}
    return [
        c
        if c.name.casefold() not in wanted
        else ColumnDefinition(c.name, c.type, True, True, c.embedder, c.token)
        for c in columns
    ]


def _split(tokens: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.token_type in (TokenType.L_PAREN, TokenType.L_BRACKET):
            depth += 1
        elif token.token_type in (TokenType.R_PAREN, TokenType.R_BRACKET):
            depth -= 1
        if token.token_type is TokenType.COMMA and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _column(statement: Statement, tokens: Sequence[Token]) -> ColumnDefinition:
    name, rest = tokens[0], list(tokens[1:])
    if not is_name(name):
        raise statement.error(f"{name.text!r} is not the name of a column", name)
    try:
        check_field_name(name.text)
    except SchemaError as error:
        raise statement.error(str(error), name, hint=error.hint, kind=SchemaError) from None
    embedder = _take_embedder(statement, rest)
    if not rest:
        raise statement.error(
            f"the column {name.text!r} has no type", name, hint=_SUPPORTED, kind=SchemaError
        )
    special = _special_type(statement, rest)
    declared = rest if special is None else rest[special[1] :]
    # What is left is parsed as the column of a statement of its own.
    word = "BLOB" if special is not None else ""
    text = statement.script[declared[0].start : declared[-1].end + 1] if declared else ""
    try:
        tree = sqlglot.parse_one(f"CREATE TABLE t (c {word} {text})", dialect="duckdb")
        definition = tree.this.expressions[0] if tree.this.expressions else None
    except (SqlglotError, RecursionError, AttributeError):
        definition = None
    if not isinstance(definition, exp.ColumnDef) or definition.kind is None:
        raise statement.error(
            f"the type of the column {name.text!r} is not understood: {text[:80]}",
            rest[0],
            hint=_SUPPORTED,
            kind=SchemaError,
        )
    required = key = False
    for constraint in definition.constraints:
        kind = constraint.args.get("kind")
        if isinstance(kind, exp.PrimaryKeyColumnConstraint):
            key = required = True
        elif isinstance(kind, exp.NotNullColumnConstraint):
            required = required or not kind.args.get("allow_null")
        else:
            raise statement.error(
                f"the constraint {constraint.sql('duckdb')} is not supported",
                rest[0],
                hint="PRIMARY KEY and NOT NULL are",
                kind=SchemaError,
                field=name.text,
            )
    try:
        ftype = special[0] if special is not None else _field_type(definition.kind)
    except SchemaError as error:
        raise statement.error(
            f"the column {name.text!r}: {error}", rest[0], hint=error.hint or _SUPPORTED,
            kind=SchemaError, field=name.text,
        ) from None  # fmt: skip
    if special is None and rest[0].token_type is TokenType.TEXT and rest[0].text.upper() == "TEXT":
        ftype = FieldType("string" if key else "text")
    if embedder is not None and ftype.kind not in ("text", "string"):
        raise statement.error(
            f"EMBED WITH needs a column of texts, {name.text!r} is {ftype}",
            rest[0],
            kind=SchemaError,
            field=name.text,
        )
    return ColumnDefinition(name.text, ftype, required, key, embedder, name)


def _take_embedder(statement: Statement, tokens: list[Token]) -> str | None:
    """Take ``EMBED WITH name`` out of a definition, and return the name."""
    for index, token in enumerate(tokens):
        if token.text.upper() == "EMBED" and token.token_type is TokenType.VAR:
            named = tokens[index + 2] if index + 2 < len(tokens) else None
            if tokens[index + 1 : index + 2] and tokens[index + 1].text.upper() == "WITH":
                if named is not None and (is_name(named) or named.token_type is TokenType.STRING):
                    del tokens[index : index + 3]
                    return str(named.text)
            raise statement.error("EMBED WITH needs the name of an embedder", token)
    return None


def _special_type(statement: Statement, tokens: Sequence[Token]) -> tuple[FieldType, int] | None:
    """Return a type that SQL does not have, and how many tokens name it."""
    word = tokens[0].text.upper()
    if tokens[0].token_type is TokenType.IDENTIFIER:
        return None
    argument = None
    count = 1
    if len(tokens) > 3 and tokens[1].token_type is TokenType.L_PAREN:
        if tokens[3].token_type is TokenType.R_PAREN:
            argument, count = tokens[2], 4
    if word == "CATEGORICAL":
        return FieldType("categorical"), 1
    if word in _MEDIA:
        mime = _MEDIA[word] if argument is None else argument.text
        return _checked(statement, tokens[0], word.lower(), mime=mime), count
    if word in ("VECTOR", "EMBEDDING"):
        if argument is None or not argument.text.isdigit():
            raise statement.error(
                f"{word} needs a dimension", tokens[0], hint=f"{word}(384)", kind=SchemaError
            )
        return _checked(statement, tokens[0], "embedding", dim=int(argument.text)), count
    return None


def _checked(statement: Statement, token: Token, kind: str, **members: object) -> FieldType:
    try:
        return field_type(kind, **members)
    except SchemaError as error:
        raise statement.error(str(error), token, hint=error.hint, kind=SchemaError) from None


def _field_type(kind: exp.DataType) -> FieldType:
    name = str(getattr(kind.this, "value", kind.this)).upper()
    if name in ("ARRAY", "LIST"):
        inner = kind.expressions[0]
        sizes = kind.args.get("values") or ()
        if not sizes:
            return field_type("list", item=_field_type(inner))
        shape = [int(size.this) for size in sizes]
        # FLOAT[3][4] is an array of 4 arrays of 3.
        while _name_of(inner) in ("ARRAY", "LIST"):
            below = inner.args.get("values")
            if not below:
                raise SchemaError("an array of lists is not supported")
            shape += [int(size.this) for size in below]
            inner = inner.expressions[0]
        dtype = _DTYPES.get(_name_of(inner))
        if dtype is None:
            raise SchemaError(f"an array of {_name_of(inner)} is not supported")
        if dtype == "float32" and len(shape) == 1:
            return field_type("embedding", dim=shape[0])
        return field_type("tensor", dtype=dtype, shape=tuple(shape))
    if name == "STRUCT":
        members = [(m.name, _field_type(m.kind)) for m in kind.expressions]
        return field_type("struct", fields=members)
    found = _KINDS.get(name)
    if found is None:
        raise SchemaError(f"the type {name} is not supported", hint=_SUPPORTED)
    return FieldType(found)


def _name_of(kind: exp.DataType) -> str:
    return str(getattr(kind.this, "value", kind.this)).upper()
