"""The tables that a query names, in which version, and what we rewrite before the engine sees it.

Source: design/0020 section 2.  The query's own text stays as it is; only ``AT VERSION`` and our
functions are replaced, token by token, so that whatever the engine's dialect knows keeps working.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlglot import Token, TokenType

from dreamdb.sql.statements import Statement, is_name

__all__ = [
    "Call",
    "Edit",
    "EditedText",
    "Version",
    "VersionedTable",
    "find_calls",
    "find_names",
    "find_versions",
    "quoted",
    "read_version",
    "version_of",
]

_BEFORE_TABLES: Final = frozenset(
    {"FROM", "JOIN", "UPDATE", "USING", "TABLE", "DESCRIBE", "PIVOT", "UNPIVOT"}
)
_MAYBE_TABLES: Final = frozenset({",", "(", "SUMMARIZE"})
# Behind these words a comma is followed by something else than a table.
_NO_TABLES: Final = (
    "SELECT", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "OFFSET", "SET", "VALUES", "WINDOW",
    "QUALIFY", "PARTITION", "WITH",
)  # fmt: skip
# Words that begin a clause behind a table, although the tokenizer takes them for names.
_CLAUSES: Final = frozenset(
    {
        "ANTI", "ASOF", "AT", "LATERAL", "NATURAL", "PIVOT", "POSITIONAL", "QUALIFY", "SAMPLE",
        "SEMI", "TABLESAMPLE", "UNPIVOT", "WINDOW",
    }
)  # fmt: skip
MAX_TIME: Final = 1 << 64


def quoted(name: str) -> str:
    """Return a name in double quotes, as SQL writes any name safely.

    Parameters
    ----------
    name : str
        The name.
    """
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Version:
    """Which state of a table a query means.

    Parameters
    ----------
    kind : str
        ``"version"``: a tag, a snapshot, a manifest or a time; ``"branch"``: another branch.
    value : str or int
        A name, or microseconds since the epoch.
    token : Token
        Where it says so.
    """

    kind: str
    value: str | int
    token: Token

    def __str__(self) -> str:
        shown = self.value if isinstance(self.value, int) else f"'{self.value}'"
        return f"AT {self.kind.upper()} {shown}"


@dataclass(frozen=True)
class Edit:
    """A part of the script that is replaced.

    Parameters
    ----------
    start, stop : int
        Which part, as offsets.
    text : str
        What stands there instead.
    """

    start: int
    stop: int
    text: str


@dataclass(frozen=True)
class VersionedTable:
    """A table named with a version.

    Parameters
    ----------
    table : Token
        Its name.
    version : Version
        Which state.
    edit : Edit
        Names the view instead.
    view : str
        What the engine calls it.
    """

    table: Token
    version: Version
    edit: Edit
    view: str


@dataclass(frozen=True)
class Call:
    """A function call.

    Parameters
    ----------
    name : Token
        The function.
    arguments : list of tuple of Token
        The tokens of each argument.
    stop : int
        Offset behind the closing parenthesis.
    indices : range
        Which tokens of the statement it is made of.
    """

    name: Token
    arguments: list[tuple[Token, ...]] = field(default_factory=list)
    stop: int = 0
    indices: range = range(0)


def find_calls(statement: Statement, names: Iterable[str]) -> list[Call]:
    """Return the calls of some functions, outermost first.

    Parameters
    ----------
    statement : Statement
        Where to look.
    names : iterable of str
        Functions, in upper case.
    """
    wanted, found, tokens = set(names), [], statement.tokens
    for index, token in enumerate(tokens[:-1]):
        follows = tokens[index + 1].token_type is TokenType.L_PAREN
        if follows and token.token_type is not TokenType.IDENTIFIER:
            if is_name(token) and token.text.upper() in wanted:
                found.append(_read_call(statement, index))
    return found


def _read_call(statement: Statement, index: int) -> Call:
    tokens = statement.tokens
    arguments: list[tuple[Token, ...]] = []
    held: list[Token] = []
    depth = 0
    for at in range(index + 1, len(tokens)):
        kind = tokens[at].token_type
        if kind in (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE):
            depth += 1
            if depth == 1:
                continue
        elif kind in (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE):
            depth -= 1
            if not depth:
                if held or arguments:
                    arguments.append(tuple(held))
                stop = int(tokens[at].end) + 1
                return Call(tokens[index], arguments, stop, range(index, at + 1))
        if kind is TokenType.COMMA and depth == 1:
            arguments.append(tuple(held))
            held = []
        else:
            held.append(tokens[at])
    raise statement.error(f"the parenthesis of {tokens[index].text} is not closed", tokens[index])


def read_version(statement: Statement, tokens: Sequence[Token], index: int) -> Version | None:
    """Return the version clause that begins at a token, or None when there is none.

    Parameters
    ----------
    statement : Statement
        For positions.
    tokens : sequence of Token
        Where to look.
    index : int
        Which token.
    """
    if index + 1 >= len(tokens) or tokens[index].token_type is TokenType.IDENTIFIER:
        return None
    words = [t.text.upper() for t in tokens[index : index + 2]]
    if words[0] != "AT" or words[1] not in ("VERSION", "BRANCH"):
        return None
    kind = words[1].lower()
    given = tokens[index + 2] if index + 2 < len(tokens) else None
    found = None if given is None else _version(kind, given)
    if found is not None:
        return found
    what = "a tag in single quotes, or microseconds since 1970" if kind == "version" else "a name"
    raise statement.error(
        f"AT {words[1]} needs {what}",
        tokens[index] if given is None else given,
        hint=f"AT {words[1]} 'name'" + (" or AT VERSION 1715385600000000" * (kind == "version")),
    )


def _version(kind: str, given: Token) -> Version | None:
    if given.token_type is TokenType.STRING:
        return Version(kind, given.text, given)
    if given.token_type is TokenType.NUMBER and kind == "version" and given.text.isdigit():
        time = int(given.text)
        return Version(kind, time, given) if time < MAX_TIME else None
    return None


def version_of(statement: Statement, token: Token) -> Version:
    """Return the version that an argument names.

    Parameters
    ----------
    statement : Statement
        For the position.
    token : Token
        A tag in single quotes, or microseconds since 1970.
    """
    found = _version("version", token)
    if found is None:
        raise statement.error(
            "a version is a tag in single quotes, or microseconds since 1970", token
        )
    return found


def find_versions(statement: Statement, taken: set[int]) -> list[VersionedTable]:
    """Return every ``table AT VERSION ...`` and ``table AT BRANCH ...``, with its edit.

    Parameters
    ----------
    statement : Statement
        Where to look.
    taken : set of int
        Tokens that are not looked at; those of the clauses found are added.
    """
    tokens, found = statement.tokens, []
    for index in range(1, len(tokens)):
        if index in taken:
            continue
        version = read_version(statement, tokens, index)
        if version is None:
            continue
        table, alias = _table_before(statement, index)
        first = tokens.index(table)
        view = f"{table.text} {version}"
        text = quoted(view)
        if alias is not None:
            text += f" AS {quoted(alias.text)}"
        elif not _alias_follows(tokens, index + 3):
            text += f" AS {quoted(table.text)}"
        taken.update(range(first, index + 3))
        edit = Edit(int(table.start), int(tokens[index + 2].end) + 1, text)
        found.append(VersionedTable(table, version, edit, view))
    return found


def _table_before(statement: Statement, index: int) -> tuple[Token, Token | None]:
    """Return the table, and its alias, that stand before a version clause."""
    tokens = statement.tokens
    before = tokens[index - 1]
    if not is_name(before):
        raise statement.error("AT VERSION follows the name of a table", tokens[index])
    if index >= 3 and tokens[index - 2].text.upper() == "AS" and is_name(tokens[index - 3]):
        return tokens[index - 3], before
    plain = (TokenType.VAR, TokenType.IDENTIFIER)
    if index >= 2 and tokens[index - 2].token_type in plain and before.token_type in plain:
        return tokens[index - 2], before
    return before, None


def _alias_follows(tokens: Sequence[Token], index: int) -> bool:
    if index >= len(tokens):
        return False
    token = tokens[index]
    if token.token_type is TokenType.IDENTIFIER or token.text.upper() == "AS":
        return True
    return token.token_type is TokenType.VAR and token.text.upper() not in _CLAUSES


def find_names(statement: Statement, taken: set[int]) -> dict[str, tuple[Token, bool]]:
    """Return the names that may be tables: each with a token, and whether it must be one.

    Parameters
    ----------
    statement : Statement
        Where to look.
    taken : set of int
        Tokens that belong to something else.

    Notes
    -----
    A column that has a table's name is found too, which does no harm: the table is made known to
    the engine and not used.
    """
    tokens = statement.tokens
    local = {
        tokens[i].text.casefold()
        for i in range(len(tokens) - 2)
        if is_name(tokens[i])
        and tokens[i + 1].text.upper() == "AS"
        and tokens[i + 2].text.upper() in ("(", "MATERIALIZED", "NOT")
    }
    found: dict[str, tuple[Token, bool]] = {}
    # For each open parenthesis, whether names behind a comma may be tables.
    lists_tables = [False]
    for index, token in enumerate(tokens):
        before = tokens[index - 1].text.upper() if index else ""
        certain = before in _BEFORE_TABLES
        possible = certain or (before in _MAYBE_TABLES and lists_tables[-1])
        plain = token.token_type is not TokenType.IDENTIFIER
        word = token.text.upper() if plain and token.token_type is not TokenType.STRING else ""
        if token.token_type is TokenType.L_PAREN:
            lists_tables.append(lists_tables[-1] and before in (*_BEFORE_TABLES, ",", "("))
        elif token.token_type is TokenType.R_PAREN and len(lists_tables) > 1:
            lists_tables.pop()
        elif word.startswith(_NO_TABLES):
            lists_tables[-1] = False
        elif word in _BEFORE_TABLES or word == "SUMMARIZE":
            lists_tables[-1] = True
        if index in taken or not possible or not is_name(token):
            continue
        after = tokens[index + 1].token_type if index + 1 < len(tokens) else None
        if after in (TokenType.L_PAREN, TokenType.DOT) and before != "TABLE":
            continue
        known = found.get(token.text)
        certain = certain and token.text.casefold() not in local
        if known is None or (certain and not known[1]):
            found[token.text] = (token, certain)
    return found


class EditedText:
    """The text for the engine, put together from parts of the statement and of our own.

    Parameters
    ----------
    statement : Statement
        What the user wrote.
    edits : iterable of Edit
        Which parts of it are replaced wherever they are copied; they do not overlap.
    """

    def __init__(self, statement: Statement, edits: Iterable[Edit]) -> None:
        self._statement = statement
        self._edits = sorted(edits, key=lambda e: e.start)
        # Each part with where in the script it begins, and whether it is a copy.
        self._parts: list[tuple[str, int, bool]] = []

    def add(self, text: str) -> EditedText:
        """Add text of our own.

        Parameters
        ----------
        text : str
            The text.
        """
        self._parts.append((text, self._statement.start, False))
        return self

    def copy(self, start: int | None = None, stop: int | None = None) -> EditedText:
        """Add a part of the statement, edited.

        Parameters
        ----------
        start, stop : int, optional
            Offsets into the script; default: the whole statement.
        """
        at = self._statement.start if start is None else start
        end = int(self._statement.tokens[-1].end) + 1 if stop is None else stop
        script = self._statement.script
        for edit in self._edits:
            if edit.start < at or edit.stop > end:
                continue
            self._parts.append((script[at : edit.start], at, True))
            self._parts.append((edit.text, edit.start, False))
            at = edit.stop
        self._parts.append((script[at:end], at, True))
        return self

    def copy_tokens(self, tokens: Sequence[Token]) -> EditedText:
        """Add the part of the statement that some tokens span.

        Parameters
        ----------
        tokens : sequence of Token
            At least one.
        """
        return self.copy(int(tokens[0].start), int(tokens[-1].end) + 1)

    @property
    def sql(self) -> str:
        """What was put together."""
        return "".join(text for text, _, _ in self._parts)

    def locate(self, position: int) -> int:
        """Return where in the script an offset into :attr:`sql` comes from.

        Parameters
        ----------
        position : int
            The offset.
        """
        begin = 0
        for text, origin, copied in self._parts:
            if position < begin + len(text):
                return origin + position - begin if copied else origin
            begin += len(text)
        return self._statement.start
