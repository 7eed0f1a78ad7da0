"""A space as a SQL database.

Source: design/0020.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dreamdb.dataset import BackendLike, Dataset, open_space, restore_version_tag
from dreamdb.errors import StateError
from dreamdb.sql.result import Result

if TYPE_CHECKING:
    from dreamdb.sql.engine import Parameters

__all__ = ["Database"]


class Database:
    """A space whose datasets are tables.

    Every branch of the space is a table.  Statements that write are one commit each.  Statements
    read the state of one moment, and never files of the machine.

    Parameters
    ----------
    path_or_url : str, PathLike or Backend
        The space; it is made when there is none.
    storage_options : mapping, optional
        Credentials and settings of the file system.
    external_access : bool
        Whether statements may read files and URLs with the engine's own functions.
    memory_limit : str, optional
        How much a query may hold in memory, such as ``"4GB"``; more is spilt to temporary files.
    threads : int, optional
        How many threads a query uses; default: all cores.

    Raises
    ------
    MissingDependencyError
        When DuckDB is not installed.

    Examples
    --------
    >>> db = Database("memory://sql-docs")
    >>> _ = db.execute("CREATE TABLE docs (id BIGINT PRIMARY KEY, body TEXT)")
    >>> db.execute("INSERT INTO docs VALUES (1, 'one'), (2, 'two')").rows_changed
    2
    >>> db.query("SELECT body FROM docs WHERE id = 2").fetchall()
    [('two',)]
    """

    def __init__(
        self,
        path_or_url: BackendLike,
        *,
        storage_options: Mapping[str, Any] | None = None,
        external_access: bool = False,
        memory_limit: str | None = None,
        threads: int | None = None,
    ) -> None:
        # The parser and the engine load here, so that naming the class costs nothing.
        from dreamdb.sql.engine import Engine
        from dreamdb.sql.session import Session

        self._engine = Engine(
            external_access=external_access, memory_limit=memory_limit, threads=threads
        )
        self._closed = False
        try:
            self._space = open_space(path_or_url, storage_options=storage_options, create=True)
        except BaseException:
            self._engine.close()
            raise
        self._session = Session(self._space, self._engine)

    @property
    def url(self) -> str:
        """Where the space is, without credentials."""
        return self._space.url

    def execute(self, sql: str, parameters: Parameters = None) -> Result:
        """Run one or more statements.

        Parameters
        ----------
        sql : str
            Statements with semicolons between them; each is a commit of its own.
        parameters : sequence or mapping, optional
            Values for ``?`` or ``$name``; only for a single statement.

        Returns
        -------
        Result
            Of the last statement.

        Raises
        ------
        SqlError
            When a statement is not understood; line and column are in the message.
        RefNotFoundError, FieldNotFoundError
            For unknown tables, tags and columns, with the nearest names.
        ConflictError
            When another writer was faster; nothing of the statement was written.
        ReadOnlyError
            For writes to a version.
        """
        self._require_open()
        return self._session.execute(sql, parameters)

    def query(self, sql: str, parameters: Parameters = None) -> Result:
        """Run one query; statements that write are refused.

        Parameters
        ----------
        sql : str
            One statement.
        parameters : sequence or mapping, optional
            Values for ``?`` or ``$name``.

        Returns
        -------
        Result
            Arrow batches, computed while they are read.

        Notes
        -----
        Cost: 1 or 2 ref reads per table; then 1 object open per fragment of the columns named,
        except those that statistics exclude.
        """
        self._require_open()
        return self._session.query(sql, parameters)

    def register_embedder(
        self, name: str, function: Callable[[Sequence[str]], Any], dim: int
    ) -> None:
        """Make a function known that statements use to embed texts.

        Parameters
        ----------
        name : str
            What ``EMBED WITH name`` calls it.
        function : callable
            Takes a list of texts, returns one vector for each (n x dim).
        dim : int
            Length of each vector.
        """
        self._session.embedders.register(name, function, dim)

    def tables(self) -> list[str]:
        """Return the names of the tables, sorted."""
        return list(self._session.tables.branches())

    def tags(self) -> list[str]:
        """Return the names of the version tags, sorted."""
        return list(self._session.tables.catalogs())

    def create_version_tag(self, tag: str, *, message: str = "") -> int:
        """Tag the state of all tables, as ``CREATE VERSION TAG`` does.

        Parameters
        ----------
        tag : str
            Its name, which no ref has.
        message : str
            Why it was made.

        Returns
        -------
        int
            The moment, in microseconds since 1970: ``AT VERSION`` takes it too.
        """
        self._require_open()
        return self._session.tags.create(tag, message=message).time_ns // 1_000

    def create_training_snapshot(
        self, tag: str, seed: int | None = None, *, precision: str = "float32", message: str = ""
    ) -> int:
        """Tag the state of all tables for training, as ``CREATE VERSION TAG ... FOR TRAINING``.

        Parameters
        ----------
        tag : str
            Its name, which no ref has.
        seed : int, optional
            Shuffles the exported records, the same way each time; None keeps their order.
        precision : str
            How vectors are exported: ``float32``, ``sq8`` or ``rabitq``.
        message : str
            Why it was made.

        Returns
        -------
        int
            The moment, in microseconds since 1970: ``AT VERSION`` takes it too.

        Raises
        ------
        AlreadyExistsError
            When a ref has that name.
        InvalidInputError
            For another precision or seed.
        """
        from dreamdb.sql.version_tags import TrainingOptions

        self._require_open()
        options = TrainingOptions(precision, seed)
        return self._session.tags.create(tag, options, message).time_ns // 1_000

    def restore_version_tag(self, tag: str) -> None:
        """Bring a dropped version tag back from its reflog.

        Parameters
        ----------
        tag : str
            Its name.

        Raises
        ------
        RefNotFoundError
            When no such tag was dropped.
        AlreadyExistsError
            When a ref has that name.
        ObjectMissingError
            When its data was collected meanwhile.
        InvalidInputError
            When the name was a dataset's.
        """
        self._require_open()
        restore_version_tag(self._space, tag)

    def training_dataset(
        self,
        tag: str,
        table: str | None = None,
        *,
        directory: str | os.PathLike[str] | None = None,
        zero_copy: bool = False,
    ) -> Any:
        """Export a table of a version tag for training, as a Lance dataset directory.

        A text column with an embedder carries its embedding under the column's own name.  The
        records come in the order of the tag's seed.  Exporting again replaces the directory.

        Parameters
        ----------
        tag : str
            A version tag, made FOR TRAINING or not.
        table : str, optional
            Which table; not needed when the tag has only one.
        directory : path, optional
            Where exports are kept; default: ``training_exports`` in the space's own directory.
        zero_copy : bool
            Write nothing: return a :class:`TrainingSnapshot`, whose ``loader()`` reads the
            records where they are.

        Returns
        -------
        str or TrainingSnapshot
            The path of the Lance dataset: ``<directory>/<tag>_<timestamp>`` for a tag with one
            table, else that directory's ``<table>``.

        Raises
        ------
        RefNotFoundError
            For an unknown tag or table.
        InvalidInputError
            When the tag has several tables and none is named, or the space is not a directory.
        """
        from dreamdb.sql.training import export_path, training_snapshot

        self._require_open()
        snapshot, alone = training_snapshot(self._space, self._session.tables, tag, table)
        if zero_copy:
            return snapshot
        path = export_path(self._space, snapshot, directory, alone=alone)
        snapshot.export(path)
        return str(path)

    def table(self, name: str) -> Dataset:
        """Return a table as a dataset.

        Parameters
        ----------
        name : str
            The table.
        """
        return Dataset.open_ref(
            name, self._space.given, storage_options=self._space.storage_options
        )

    def close(self) -> None:
        """Free what the engine holds; results that are not read yet end.  Idempotent."""
        if not self._closed:
            self._closed = True
            self._engine.close()

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("this database is closed", hint="open it again: Database(url)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.url!r})"
