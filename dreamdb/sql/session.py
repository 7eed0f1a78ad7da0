"""Statements of all kinds, each given to what runs it.

Source: design/0020.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from dreamdb.dataset import OpenSpace
from dreamdb.sql.embedders import Embedders
from dreamdb.sql.engine import Engine, Parameters
from dreamdb.sql.queries import Queries
from dreamdb.sql.result import Result
from dreamdb.sql.statements import Statement, split_statements
from dreamdb.sql.tables import Tables
from dreamdb.sql.version_tags import VersionTags
from dreamdb.sql.writing import Writer

__all__ = ["Session"]

_WRITES: Final = ("INSERT", "BULK", "UPDATE", "DELETE", "CREATE", "DROP")


class Session:
    """Runs statements over one space.

    Parameters
    ----------
    space : OpenSpace
        Where the tables lie.
    engine : Engine
        What computes queries.
    """

    def __init__(self, space: OpenSpace, engine: Engine) -> None:
        self.embedders = Embedders()
        self.tables = Tables(space)
        self.tags = VersionTags(space, self.tables)
        self._queries = Queries(self.tables, engine, self.embedders)
        self._writer = Writer(space, self.tables, self._queries, self.embedders)

    def execute(self, sql: str, parameters: Parameters = None) -> Result:
        """Run one or more statements and return the last one's result.

        Parameters
        ----------
        sql : str
            The statements.
        parameters : sequence or mapping, optional
            Values for the parameters of a single statement.
        """
        statements = list(split_statements(sql))
        if parameters is not None and len(statements) > 1:
            raise statements[1].error(
                "parameters are for one statement", hint="run the statements one by one"
            )
        *first, last = statements
        for statement in first:
            self._run(statement, None).close()
        return self._run(last, parameters)

    def query(self, sql: str, parameters: Parameters = None) -> Result:
        """Run one statement that does not write.

        Parameters
        ----------
        sql : str
            The statement.
        parameters : sequence or mapping, optional
            Values for its parameters.
        """
        first, *rest = split_statements(sql)
        if rest:
            raise rest[0].error("query takes one statement", hint="db.execute() runs several")
        if first.words(0, 1)[0] in _WRITES:
            raise first.error(
                f"{first.tokens[0].text.upper()} writes; query does not", hint="db.execute()"
            )
        return self._run(first, parameters)

    def _run(self, statement: Statement, parameters: Parameters) -> Result:
        if statement.starts_with("BULK", "INSERT"):
            statement = statement.without(1)
        if statement.starts_with("INSERT"):
            return self._writer.insert(statement, parameters)
        if statement.starts_with("UPDATE"):
            return self._writer.update(statement, parameters)
        if statement.starts_with("DELETE"):
            return self._writer.delete(statement, parameters)
        if statement.starts_with("CREATE", "TABLE"):
            return self._writer.create_table(statement, parameters)
        if statement.starts_with("DROP", "TABLE"):
            return self._writer.drop_table(statement)
        if statement.starts_with("CREATE", "VERSION", "TAG"):
            return self.tags.run_create(statement)
        if statement.starts_with("DROP", "VERSION", "TAG"):
            return self.tags.run_drop(statement)
        if statement.words(0, 4) == ("SHOW", "VERSION", "TAGS"):
            return self.tags.run_show()
        if statement.words(0, 3) == ("SHOW", "TABLES"):
            return Result.of_table(self._listed(statement))
        return self._queries.run(statement, parameters)

    def _listed(self, statement: Statement) -> pa.Table:
        """Return the tables, one row each, as they are at one moment."""
        names = dict.fromkeys(self.tables.branches(), (statement.tokens[0], False))
        found = self.tables.current(statement, names)
        tables = list(found.values())
        return pa.table(
            {
                "table": pa.array(list(found), pa.string()),
                "rows": pa.array([t.count() for t in tables], pa.int64()),
                "key": pa.array([t.key for t in tables], pa.string()),
                "columns": pa.array([list(t.schema) for t in tables], pa.list_(pa.string())),
                "manifest": pa.array([t.current_manifest() for t in tables], pa.string()),
            }
        )
