"""The clauses of statements that write, found by their words.

Source: design/0020 section 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlglot import Token, TokenType

from dreamdb.dataset import Dataset
from dreamdb.errors import FieldNotFoundError, InvalidInputError, ReadOnlyError, nearest_hint
from dreamdb.objects import check_ref_name
from dreamdb.sql.statements import Statement, is_name

__all__ = [
    "alias_of",
    "checked_name",
    "column_list",
    "column_of",
    "read_clauses",
    "refuse_clauses",
    "refuse_version",
    "split_tokens",
    "table_at",
    "value_rows",
]

_OPEN: Final = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSE: Final = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_QUERY_WORDS: Final = ("SELECT", "WITH", "VALUES", "FROM", "TABLE", "PIVOT", "(")


def table_at(statement: Statement, index: int) -> Token:
    """Return the name of a table at a token; refuse names in several parts.

    Parameters
    ----------
    statement : Statement
        The statement.
    index : int
        Which token.
    """
    if index >= len(statement.tokens) or not is_name(statement.tokens[index]):
        at = statement.tokens[min(index, len(statement.tokens) - 1)]
        raise statement.error("the name of a table is missing", at)
    after = statement.tokens[index + 1] if index + 1 < len(statement.tokens) else None
    if after is not None and after.token_type is TokenType.DOT:
        raise statement.error(
            "a table has one name, without a schema before it",
            statement.tokens[index],
            hint='quote a name that holds a dot: "a.b"',
        )
    return statement.tokens[index]


def checked_name(statement: Statement, table: Token) -> str:
    """Return a table name that a ref can have.

    Parameters
    ----------
    statement : Statement
        The statement.
    table : Token
        The name of the table.
    """
    try:
        return check_ref_name(table.text)
    except InvalidInputError as error:
        raise statement.error(str(error), table, hint=error.hint, kind=type(error)) from None


def refuse_version(statement: Statement, index: int) -> None:
    """Refuse AT VERSION and AT BRANCH: versions are read-only.

    Parameters
    ----------
    statement : Statement
        The statement.
    index : int
        Which token.
    """
    words = statement.words(index, 2)
    if words in (("AT", "VERSION"), ("AT", "BRANCH")):
        raise statement.error(
            "a version cannot be written",
            statement.tokens[index],
            kind=ReadOnlyError,
            hint="leave AT out to write to the table; a branch is a table of its own name",
        )


def refuse_clauses(statement: Statement, tokens: Sequence[Token]) -> None:
    """Refuse the clauses of INSERT that have no counterpart.

    Parameters
    ----------
    statement : Statement
        The statement.
    tokens : sequence of Token
        Where to look.
    """
    depth = 0
    for index, token in enumerate(tokens):
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        word = token.text.upper() if token.token_type is not TokenType.STRING else ""
        after = tokens[index + 1].text.upper() if index + 1 < len(tokens) else ""
        if depth:
            continue
        if word == "RETURNING":
            raise statement.error("RETURNING is not supported", token)
        if word == "ON" and after == "CONFLICT":
            raise statement.error(
                "ON CONFLICT is not supported",
                token,
                hint="INSERT OR REPLACE INTO changes records whose key is stored",
            )
        if word == "DEFAULT" and after == "VALUES":
            raise statement.error("DEFAULT VALUES is not supported", token)


def column_of(statement: Statement, dataset: Dataset, token: Token) -> str:
    """Return the field that a token names, whatever its case.

    Parameters
    ----------
    statement : Statement
        The statement.
    dataset : Dataset
        The table.
    token : Token
        The name.
    """
    same = [name for name in dataset.schema if name.casefold() == token.text.casefold()]
    if not same:
        raise statement.error(
            f"the table {dataset.name!r} has no column {token.text!r}",
            token,
            hint=nearest_hint(token.text, dataset.schema, "columns"),
            kind=FieldNotFoundError,
            field=token.text,
        )
    return same[0]


def column_list(statement: Statement, dataset: Dataset, index: int) -> tuple[list[str] | None, int]:
    """Return the columns that INSERT names, if it does, and where its rows begin.

    Parameters
    ----------
    statement : Statement
        The statement.
    dataset : Dataset
        The table.
    index : int
        Which token.
    """
    tokens = statement.tokens
    if index >= len(tokens) or tokens[index].token_type is not TokenType.L_PAREN:
        return None, index
    if statement.words(index + 1, 1)[:1] and statement.words(index + 1, 1)[0] in _QUERY_WORDS:
        return None, index
    names: list[str] = []
    for at in range(index + 1, len(tokens)):
        if tokens[at].token_type is TokenType.R_PAREN:
            return names, at + 1
        if tokens[at].token_type is TokenType.COMMA:
            continue
        if not is_name(tokens[at]):
            break
        name = column_of(statement, dataset, tokens[at])
        if name in names:
            raise statement.error(f"the column {name!r} is named twice", tokens[at])
        names.append(name)
    raise statement.error("the list of columns is not closed", tokens[index])


def value_rows(source: Statement, names: Sequence[str]) -> list[list[list[Token]]]:
    """Return the tokens of every value of VALUES, row by row.

    Parameters
    ----------
    source : Statement
        VALUES and what follows.
    names : sequence of str
        The columns that are filled.
    """
    rows: list[list[list[Token]]] = []
    for group in split_tokens(source.tokens[1:], TokenType.COMMA):
        closed = group and group[-1].token_type is TokenType.R_PAREN
        if not closed or group[0].token_type is not TokenType.L_PAREN:
            raise source.error(
                "VALUES needs rows in parentheses", group[0] if group else source.tokens[0]
            )
        row = split_tokens(group[1:-1], TokenType.COMMA)
        if len(row) != len(names) or not all(row):
            raise source.error(
                f"the row has {len([cell for cell in row if cell])} values for the {len(names)} "
                f"columns {', '.join(names)}",
                group[0],
                hint="name the columns: INSERT INTO table (a, b) VALUES ...",
            )
        rows.append(row)
    return rows


def read_clauses(
    statement: Statement, index: int, words: Sequence[str]
) -> dict[str, tuple[Token, ...]]:
    """Return the tokens of each clause of a statement, by the word that begins it.

    Parameters
    ----------
    statement : Statement
        The statement.
    index : int
        Which token.
    words : sequence of str
        The words, in the order in which they may come.
    """
    found: dict[str, list[Token]] = {"": []}
    current, depth = "", 0
    left = list(words)
    for token in statement.tokens[index:]:
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        plain = token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER)
        word = token.text.upper() if plain and not depth else ""
        if word == "RETURNING":
            raise statement.error("RETURNING is not supported", token)
        if word in left:
            current = word
            left = left[left.index(word) + 1 :]
            found[current] = []
        else:
            found[current].append(token)
    for word, tokens in found.items():
        if word and not tokens:
            raise statement.error(f"{word} is empty", statement.tokens[-1])
    return {word: tuple(tokens) for word, tokens in found.items()}


def alias_of(statement: Statement, tokens: Sequence[Token], table: Token) -> str:
    """Return the alias of the table that a statement changes; its name when there is none.

    Parameters
    ----------
    statement : Statement
        The statement.
    tokens : sequence of Token
        Where to look.
    table : Token
        The name of the table.
    """
    rest = [t for t in tokens if t.text.upper() != "AS"]
    if len(rest) > 1 or (rest and not is_name(rest[0])):
        raise statement.error("the alias of the table is not understood", rest[0])
    return str(rest[0].text) if rest else str(table.text)


def split_tokens(tokens: Sequence[Token], at: TokenType) -> list[list[Token]]:
    """Return the parts of a list, divided outside parentheses.

    Parameters
    ----------
    tokens : sequence of Token
        Where to look.
    at : TokenType
        What divides the parts.
    """
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.token_type in _OPEN) - (token.token_type in _CLOSE)
        if token.token_type is at and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
