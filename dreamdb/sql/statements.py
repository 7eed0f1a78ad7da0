"""Statements: a text cut into tokens, each with its place for error messages.

Source: design/0020 section 2.  sqlglot's tokenizer knows strings, comments and quoted names, so
nothing inside them is ever taken for a clause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from sqlglot import Token, TokenType
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import SqlglotError

from dreamdb.errors import DreamDBError, SqlError

__all__ = ["Statement", "is_name", "split_statements"]

Failure = TypeVar("Failure", bound=DreamDBError)

_NOT_NAMES = frozenset(
    {
        TokenType.STRING,
        TokenType.NUMBER,
        TokenType.NATIONAL_STRING,
        TokenType.RAW_STRING,
        TokenType.HEREDOC_STRING,
        TokenType.UNICODE_STRING,
        TokenType.BYTE_STRING,
        TokenType.HEX_STRING,
        TokenType.BIT_STRING,
    }
)


class _Tokenizer(DuckDB.Tokenizer):
    # EXPLAIN and others would swallow the rest of the statement as one string.
    COMMANDS: ClassVar[set[TokenType]] = set()


def is_name(token: Token) -> bool:
    """Return whether a token can be a name: a word, or anything in double quotes.

    Parameters
    ----------
    token : Token
        The token.
    """
    if token.token_type is TokenType.IDENTIFIER:
        return True
    return token.token_type not in _NOT_NAMES and token.text.replace("_", "a").isalnum()


@dataclass(frozen=True)
class Statement:
    """One statement of a script.

    Parameters
    ----------
    script : str
        The whole text, so that positions are those the user sees.
    tokens : tuple of Token
        The statement's own tokens, without the semicolon.
    """

    script: str
    tokens: tuple[Token, ...]

    @property
    def start(self) -> int:
        """Where the statement begins in the script."""
        return int(self.tokens[0].start)

    @property
    def text(self) -> str:
        """The statement as written."""
        return self.script[self.start : self.tokens[-1].end + 1]

    def words(self, first: int, count: int) -> tuple[str, ...]:
        """Return some tokens in upper case; quoted names and strings as empty texts.

        Parameters
        ----------
        first, count : int
            Which tokens; those beyond the end are left out.
        """
        return tuple(
            "" if t.token_type in _NOT_NAMES or t.token_type is TokenType.IDENTIFIER
            # PRIMARY KEY and some others are one token.
            else t.text.upper()
            for t in self.tokens[first : first + count]
        )  # fmt: skip

    def starts_with(self, *words: str) -> bool:
        """Return whether the statement begins with these words.

        Parameters
        ----------
        *words : str
            In upper case.
        """
        return self.words(0, len(words)) == words

    def without(self, count: int) -> Statement:
        """Return the statement without its first tokens.

        Parameters
        ----------
        count : int
            How many to leave out.
        """
        return Statement(self.script, self.tokens[count:])

    def place(self, at: int) -> tuple[int, int]:
        """Return line and column of an offset into the script, both counted from 1.

        Parameters
        ----------
        at : int
            The offset.
        """
        line = self.script.count("\n", 0, at) + 1
        return line, at - (self.script.rfind("\n", 0, at) + 1) + 1

    def error(
        self,
        message: str,
        at: int | Token | None = None,
        *,
        hint: str | None = None,
        kind: type[Failure] = SqlError,  # type: ignore[assignment]
        **details: Any,
    ) -> Failure:
        """Return an error that says where in the statement it is.

        Parameters
        ----------
        message : str
            What is wrong.
        at : int or Token, optional
            Where; default: the statement's beginning.
        hint : str, optional
            What to do.
        kind : type
            The class of the error.
        **details : Any
            Kept in the error.
        """
        offset = self.start if at is None else at if isinstance(at, int) else int(at.start)
        line, column = self.place(offset)
        return kind(
            f"{message} (line {line}, column {column})",
            hint=hint,
            line=line,
            column=column,
            position=offset,
            **details,
        )

    def find(self, name: str) -> Token | None:
        """Return the first token with a text, whatever its case.

        Parameters
        ----------
        name : str
            The text.
        """
        wanted = name.casefold()
        return next((t for t in self.tokens if t.text.casefold() == wanted), None)


def split_statements(script: str) -> Iterator[Statement]:
    """Yield the statements of a script.

    Parameters
    ----------
    script : str
        One or more statements with semicolons between them.

    Raises
    ------
    SqlError
        When it has none, or a string or comment is not closed.
    """
    if not isinstance(script, str):
        raise SqlError(f"SQL is a text, not a {type(script).__name__}")
    if "\0" in script:
        raise SqlError("the statement holds a zero byte")
    try:
        tokens: Sequence[Token] = _Tokenizer().tokenize(script)
    except SqlglotError as error:
        # The tokenizer says where by quoting the text; what remains open begins there.
        raise SqlError(
            f"the statement cannot be read: {str(error).splitlines()[0][:160]}",
            hint="is a quote or a comment not closed?",
        ) from None
    held: list[Token] = []
    found = False
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            if held:
                found = True
                yield Statement(script, tuple(held))
            held = []
        else:
            held.append(token)
    if held:
        found = True
        yield Statement(script, tuple(held))
    if not found:
        raise SqlError("there is no statement", hint="for example: SELECT count(*) FROM docs")
