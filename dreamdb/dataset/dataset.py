"""The public handle.

Source: design/0004.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pyarrow as pa

from dreamdb import config
from dreamdb.dataset.comparing import Comparing
from dreamdb.dataset.locate import find_manifest, manifest_at
from dreamdb.dataset.maintained import Maintained
from dreamdb.dataset.merging import Merging
from dreamdb.dataset.representation import dataset_html, dataset_text
from dreamdb.dataset.schema import Schema
from dreamdb.dataset.session import BackendLike, open_space
from dreamdb.dataset.syncing import Syncing
from dreamdb.dataset.vector_options import bind_fields
from dreamdb.dataset.vectors import Vectors
from dreamdb.dataset.verbs import add_records
from dreamdb.errors import AlreadyExistsError, InvalidInputError, SchemaError
from dreamdb.history import check_new_name, find_ref, is_tracking, resolve_ref
from dreamdb.model import Content, FieldList
from dreamdb.objects import to_text
from dreamdb.tracks import View
from dreamdb.write import CommitNote, Stage, check_notes, create_ref, stage_root

__all__ = ["Dataset"]


class Dataset(Vectors, Merging, Comparing, Syncing, Maintained):
    """A versioned dataset at one manifest.

    Open one with :meth:`create`, :meth:`open_ref`, :meth:`open_at` or :meth:`open_by_manifest`.
    A handle is also a map-style PyTorch dataset, an Arrow stream, and picklable: it travels as
    URL, ref, manifest and options, and reopens at the same manifest.

    Examples
    --------
    >>> schema = Schema().add_scalar_int("label")
    >>> ds = Dataset.create("demo-docs", schema, backend="memory://docs")
    >>> ds.append_many([{"label": 3}, {"label": 7}])
    2
    >>> ds["label"].to_pylist()
    [3, 7]
    """

    @classmethod
    def create(
        cls,
        name: str,
        schema: Schema | pa.Schema | None = None,
        backend: BackendLike | None = None,
        *,
        data: Any = None,
        key: str | None = None,
        anchor: str | None = None,
        metadata: Mapping[str, str] | None = None,
        message: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Create a dataset on a new branch; the space is made when there is none.

        Parameters
        ----------
        name : str
            The branch's name.
        schema : Schema or pyarrow.Schema, optional
            The fields; inferred from ``data`` when left out.
        backend : str, PathLike or Backend
            Where: a path, ``memory://name``, ``s3://bucket/prefix``, an endpoint URL.
        data : object, optional
            First records, as in :meth:`append`.
        key : str, optional
            The field whose value identifies a record; anchors are derived from it.
        anchor : str, optional
            The column of ``data`` that holds the anchors.
        metadata : mapping of str to str, optional
            Notes that belong to the data.
        message : str, optional
            Recorded in the manifest.
        storage_options : mapping, optional
            Credentials and settings of the file system.

        Returns
        -------
        Dataset
            Writable.

        Raises
        ------
        AlreadyExistsError
            When a ref has that name.
        SchemaError
            When the schema is missing or unusable.
        """
        check_new_name(name)
        if backend is None:
            raise InvalidInputError("create needs a backend", hint="backend='path/to/space'")
        table = _sample(data) if schema is None else None
        if isinstance(schema, pa.Schema):
            schema = Schema.from_arrow(schema)
        if schema is None:
            if table is None:
                raise SchemaError(
                    "create needs a schema, or data to infer it from",
                    hint="Schema().add_image('image').add_scalar_int('label')",
                )
            kept = [c for c in table.column_names if c != anchor]
            schema = Schema.from_arrow(table.select(kept).schema, data=table)
        if not isinstance(schema, Schema):
            raise SchemaError(f"a schema is needed, not a {type(schema).__name__}")
        fields = schema.to_fields(key)
        notes = check_notes({} if metadata is None else metadata, "metadata")
        note = CommitNote(config.author(), "" if message is None else message)
        space = open_space(backend, storage_options=storage_options, create=True)
        bound, indexes = bind_fields(space.cache, fields, schema.vector_options)
        fields = FieldList.of(bound.values(), fields.key)
        if find_ref(space.backend, space.cache, name) is not None:
            raise AlreadyExistsError(
                f"ref {name!r} exists already in {space.url}",
                hint="open it with Dataset.open_ref, or choose another name",
                ref=name,
            )
        with space.backend.objects.hold():
            stage = Stage(space.backend, space.source)
            operation: dict[str, Any] = {"name": "create"}
            content = Content(fields, metadata=notes)
            try:
                if data is not None:
                    view = View(space.source, content)
                    change = add_records(view, data, anchor=anchor)
                    content = change.apply(view, stage)
                    operation["rows"] = change.added
                manifest = stage_root(stage, space.source, content, note, operation, indexes)
                stage.flush()
            except BaseException:
                stage.abort()
                raise
            create_ref(space.backend, name, manifest)
        return cls(space, name, manifest, None)

    @classmethod
    def open_ref(
        cls,
        ref_name: str,
        backend: BackendLike,
        at: Any = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a branch or a snapshot.

        Parameters
        ----------
        ref_name : str
            Its name.
        backend : str, PathLike or Backend
            Where it lies.
        at : int, datetime, str or dict, optional
            A time, or a manifest: opens the branch as it was, read-only.
        storage_options : mapping, optional
            Credentials and settings of the file system.

        Returns
        -------
        Dataset
            Writable for a branch, read-only for a snapshot or with ``at``.

        Raises
        ------
        RefNotFoundError
            With the nearest names.

        Notes
        -----
        Cost: 1 ref read, 1 or 2 object reads.
        """
        space = open_space(backend, storage_options=storage_options)
        found = resolve_ref(space.backend, space.cache, ref_name)
        if at is not None:
            manifest = manifest_at(space, found.manifest, at)
            return cls(space, ref_name, manifest, f"it is {ref_name!r} pinned at a version")
        reason = f"{ref_name!r} is a snapshot and never moves" if found.is_snapshot else None
        if is_tracking(ref_name):
            reason = f"{ref_name!r} follows another space and moves with fetch only"
        return cls(space, ref_name, found.manifest, reason)

    @classmethod
    def open(
        cls,
        name: str,
        schema: Schema | None = None,
        backend: BackendLike | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a branch or a snapshot, and check its schema when one is given.

        Parameters
        ----------
        name, backend, storage_options
            As in :meth:`open_ref`.
        schema : Schema, optional
            Must have the same fields and types.

        Raises
        ------
        SchemaError
            When the stored schema differs.
        """
        if backend is None:
            raise InvalidInputError("open needs a backend", hint="backend='path/to/space'")
        handle = cls.open_ref(name, backend, storage_options=storage_options)
        if schema is not None and handle._bound(schema) != handle.schema:
            raise SchemaError(
                f"{name!r} has another schema: {handle.schema!r}",
                hint=f"given: {schema!r}; leave the schema out to take the stored one",
            )
        return handle

    @classmethod
    def open_at(
        cls,
        snap: Any,
        backend: BackendLike,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a version read-only.

        Parameters
        ----------
        snap : dict or str
            What ``snapshot()`` returned, its label, or a manifest.  A dictionary is resolved by
            its manifest and checked, whatever the label names by now.
        backend : str, PathLike or Backend
            Where it lies.
        storage_options : mapping, optional
            Credentials and settings of the file system.
        """
        space = open_space(backend, storage_options=storage_options)
        manifest = find_manifest(space, snap)
        label = snap.get("label") if isinstance(snap, Mapping) else None
        if isinstance(snap, str) and snap != to_text(manifest):
            label = snap
        return cls(space, label, manifest, "it was opened at a version")

    @classmethod
    def open_by_manifest(
        cls,
        manifest: str | bytes,
        backend: BackendLike,
        *,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a manifest read-only, like ``git checkout <sha>``.

        Parameters
        ----------
        manifest : str or bytes
            53 characters or 33 bytes.
        backend, storage_options
            As in :meth:`open_ref`.
        """
        space = open_space(backend, storage_options=storage_options)
        return cls(space, None, find_manifest(space, manifest), "it was opened by manifest")

    def _bound(self, schema: Schema) -> Schema:
        """Return a schema with the codecs it names looked up in this space."""
        bound, _ = bind_fields(self._space.cache, schema.to_fields(), schema.vector_options)
        return Schema.of_fields(FieldList.of(bound.values()))

    @property
    def _inner(self) -> Self:
        """The handle itself; the tutorial's programs reach through it."""
        return self

    def __repr__(self) -> str:
        return dataset_text(self)

    def _repr_html_(self) -> str:
        return dataset_html(self)


def _sample(data: Any) -> pa.Table | None:
    """Return data as a table when its schema can be seen at once."""
    if data is None:
        return None
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, list):
        if data and all(isinstance(record, Mapping) for record in data):
            names = dict.fromkeys(name for record in data for name in record)
            return _columns({name: [r.get(name) for r in data] for name in names})
        return None
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.schema.empty_table()
    if isinstance(data, Mapping):
        return _columns(data)
    if type(data).__module__.split(".")[0] == "pandas":
        return pa.Table.from_pandas(data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(data).schema.empty_table()
    return None


def _columns(data: Mapping[str, Any]) -> pa.Table:
    """Return columns as a table; a column whose type cannot be told is an error with its name."""
    arrays = {}
    for name, values in data.items():
        if isinstance(values, list) and _all_vectors(values):
            values = np.stack(values)
        try:
            matrix = getattr(values, "ndim", 1) > 1
            arrays[name] = _matrix(values) if matrix else pa.array(values)
        except (pa.ArrowException, OverflowError, TypeError) as error:
            raise SchemaError(
                f"the type of the column {name!r} cannot be told from its values: {error}",
                hint="give a schema: Dataset.create(name, Schema()..., data=data)",
                field=name,
            ) from None
    try:
        return pa.table(arrays)
    except pa.ArrowException as error:
        raise InvalidInputError(f"the columns do not make a table: {error}") from None


def _all_vectors(values: list[Any]) -> bool:
    return bool(values) and all(
        isinstance(v, np.ndarray) and v.ndim and v.shape == values[0].shape for v in values
    )


def _matrix(values: Any) -> pa.Array:
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, int(values.size // max(1, len(values))))
