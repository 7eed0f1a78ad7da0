"""The engine: DuckDB, shut off from the machine, and its errors as the library's.

Source: design/0020 section 4.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow.dataset as pads

from dreamdb.errors import (
    DreamDBError,
    FieldNotFoundError,
    InvalidInputError,
    MissingDependencyError,
    RefNotFoundError,
    SqlError,
    StorageError,
)
from dreamdb.sql.result import Result
from dreamdb.sql.statements import Statement

__all__ = ["Engine", "Parameters"]

Parameters = Sequence[Any] | Mapping[str, Any] | None

_BATCH_ROWS: Final = 65_536
_LINE: Final = re.compile(r"\n\s*LINE (\d+): (.*)\n( *)\^", re.S)
_COLUMN: Final = re.compile(
    r'column "?([^"!]+?)"? not found|does not have a column named "([^"]+)"'
)
_TABLE: Final = re.compile(r"(?:Table|View)(?: Function)? with name (.+?) does not exist")
_FUNCTION: Final = re.compile(r"Function with name (\S+) does not exist")
_QUOTED: Final = re.compile(r"""["']([\w .$-]+)["'(]""")
_CONFIG: Final = {
    # A statement never reads Python's variables, nor fetches code from the network.
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


class Engine:
    """A DuckDB instance that knows no tables of its own.

    Parameters
    ----------
    external_access : bool
        Whether statements may read files of the machine.
    memory_limit : str, optional
        Such as ``"4GB"``; what does not fit is spilt to temporary files.
    threads : int, optional
        How many threads a statement uses.

    Raises
    ------
    MissingDependencyError
        When DuckDB is not installed.
    """

    def __init__(
        self, *, external_access: bool, memory_limit: str | None, threads: int | None
    ) -> None:
        try:
            import duckdb
        except ImportError:
            raise MissingDependencyError(
                "SQL needs DuckDB, which is not installed", hint="pip install 'dreamdb[sql]'"
            ) from None
        self._duckdb = duckdb
        self._spill = tempfile.TemporaryDirectory(prefix="dreamdb-sql-")
        config: dict[str, Any] = {
            **_CONFIG,
            "temp_directory": self._spill.name,
            "enable_external_access": str(external_access).lower(),
        }
        if memory_limit is not None:
            config["memory_limit"] = str(memory_limit)
        if threads is not None:
            config["threads"] = str(int(threads))
        try:
            self._root = duckdb.connect(":memory:", config=config)
            self._root.execute("SET lock_configuration = true")
        except duckdb.Error as error:
            self._spill.cleanup()
            raise InvalidInputError(f"the engine refuses its settings: {error}") from None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Free what the engine holds; idempotent."""
        self._root.close()
        self._spill.cleanup()

    def run(
        self,
        statement: Statement,
        sql: str,
        views: Mapping[str, pads.Dataset],
        parameters: Parameters,
        *,
        locate: Any,
        failures: list[BaseException],
    ) -> Result:
        """Run one query.

        Parameters
        ----------
        statement : Statement
            What the user wrote, for errors.
        sql : str
            What the engine gets.
        views : mapping of str to Dataset
            The tables, by the name that ``sql`` gives them.
        parameters : sequence or mapping
            Values for ``?`` or ``$name``.
        locate : callable
            From an offset into ``sql`` to one into the script.
        failures : list
            What the tables' scanners could not do.
        """

        def translate(error: Exception) -> BaseException:
            if failures:
                return failures[0]
            if isinstance(error, DreamDBError):
                return error
            return self._translated(statement, sql, error, locate)

        with self._lock:
            cursor = self._root.cursor()
        try:
            self._require_query(statement, sql, cursor)
            for name, source in views.items():
                cursor.register(name, source)
            relation = cursor.sql(sql, params=_listed(parameters))
            if relation is None:
                raise SqlError("the statement returns no rows")
            reader = relation.to_arrow_reader(_BATCH_ROWS)
        except Exception as error:  # noqa: BLE001 - each becomes one of our own
            cursor.close()
            raise translate(error) from None
        return Result(reader, translate=translate, close=cursor.close)

    def _require_query(self, statement: Statement, sql: str, cursor: Any) -> None:
        """Refuse whatever is not one query: the engine's own settings, files and tables."""
        kinds = [part.type for part in cursor.extract_statements(sql)]
        allowed = (self._duckdb.StatementType.SELECT, self._duckdb.StatementType.EXPLAIN)
        if len(kinds) != 1 or kinds[0] not in allowed:
            word = statement.tokens[0].text.upper()
            raise statement.error(
                f"{word} is not supported",
                hint="SELECT, INSERT, BULK INSERT, UPDATE, DELETE, CREATE TABLE, DROP TABLE, "
                "CREATE | DROP VERSION TAG, SHOW VERSION TAGS, SHOW TABLES, DESCRIBE, EXPLAIN",
            )

    def _translated(
        self, statement: Statement, sql: str, error: Exception, locate: Any
    ) -> BaseException:
        """Return the library's error for one of the engine's, with its place in the script."""
        if not isinstance(error, (self._duckdb.Error, OSError, ValueError, TypeError)):
            return error
        text = str(error)
        first = text.split("\n\nLINE")[0].strip()
        hint = None
        if "\n" in first:
            first, _, hint = first.partition("\n")
            hint = " ".join(hint.split())[:400]
        at = _position(statement, sql, text, locate)
        if isinstance(error, self._duckdb.OutOfMemoryException):
            return StorageError(
                f"the query needs more memory than it may use, and spilling did not help: {first}",
                hint="Database(..., memory_limit='8GB'), or make the query smaller",
            )
        if isinstance(error, self._duckdb.PermissionException):
            hint = "files are read by SQL only with Database(..., external_access=True)"
            return statement.error(first, at, hint=hint)
        column = _COLUMN.search(text)
        if column:
            name = column[1] or column[2]
            if hint and hint.startswith("Candidate"):
                hint = "nearest columns: " + hint.partition(":")[2].strip()
            return statement.error(
                f"there is no column {name!r}",
                statement.find(name) or at,
                hint=hint,
                kind=FieldNotFoundError,
                field=name,
            )
        table = _TABLE.search(text)
        if table:
            name = table[1].strip('"')
            return statement.error(
                f"there is no table {name!r}",
                statement.find(name) or at,
                kind=RefNotFoundError,
                hint="SHOW TABLES lists them",
                ref=name,
            )
        return statement.error(first, at, hint=hint)


def _listed(parameters: Parameters) -> Any:
    if parameters is None:
        return None
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


def _position(statement: Statement, sql: str, text: str, locate: Any) -> int:
    """Return where an error of the engine is, as an offset into the script."""
    found = _LINE.search(text)
    if found:
        number, shown, indent = int(found[1]), found[2].split("\n")[0], len(found[3])
        lines = sql.split("\n")
        # Long lines are shown in part, with dots where they were cut.
        part = shown.removeprefix("...").removesuffix("...")
        begin = lines[number - 1].find(part) if number <= len(lines) else -1
        prefix = len(f"LINE {number}: ") + (3 if shown.startswith("...") else 0)
        if begin >= 0:
            before = sum(len(line) + 1 for line in lines[: number - 1])
            return int(locate(before + begin + max(0, indent - prefix)))
    for name in [*_FUNCTION.findall(text), *_QUOTED.findall(text)]:
        token = statement.find(name)
        if token is not None:
            return int(token.start)
    return statement.start
