"""Writing verbs of a dataset; a transaction offers the same ones.

Source: design/0004 section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from dreamdb import config
from dreamdb.dataset import verbs
from dreamdb.dataset.handle import Handle
from dreamdb.dataset.schema import Schema, scalar_type
from dreamdb.dataset.vector_options import bind_fields, check_options
from dreamdb.errors import InvalidInputError, SchemaError, StateError
from dreamdb.model import field_type
from dreamdb.tracks import View
from dreamdb.types import Address
from dreamdb.write import (
    AddField,
    AddRecords,
    Change,
    CommitNote,
    DropField,
    RenameField,
    SetMetadata,
    Stage,
    WriteLayer,
    anchor_of_key,
    check_notes,
    commit,
)

__all__ = ["Transaction", "WriteVerbs", "Writing"]


class WriteVerbs:
    """The verbs, given a way to look at the records and a way to apply a change."""

    def _look(self) -> View:
        raise AssertionError("each subclass looks at its own state")

    def _apply(self, change: Change, message: str | None) -> None:
        self._apply_all([change], message)

    def _apply_all(self, changes: Sequence[Change], message: str | None) -> None:
        raise AssertionError("each subclass applies changes in its own way")

    def append(self, data: Any, anchor: str | None = None, *, message: str | None = None) -> int:
        """Append records from anything tabular.

        Parameters
        ----------
        data : object
            An Arrow table, batch or reader; a pandas or polars frame; anything with
            ``__arrow_c_stream__``; a dictionary of columns; a list of dictionaries; or an
            iterator of these, which is streamed in bounded memory.
        anchor : str, optional
            The column that holds the anchors; default ``_anchor`` when there is one, else the
            library chooses them from the clock.
        message : str, optional
            Recorded in the manifest.

        Returns
        -------
        int
            How many records were added.

        Raises
        ------
        InvalidInputError, FieldNotFoundError
            Naming field and row; nothing becomes visible.
        AlreadyExistsError
            When a record with that anchor, or with that key and other values, exists.
        ConflictError
            When another writer stored the same anchors meanwhile.

        Notes
        -----
        Cost: per field one fragment, plus those that close, and the path above them; 1 content,
        1 manifest, 1 ref swap.
        """
        return self._add(data, anchor, message, upsert=False).added

    def append_many(
        self,
        samples: Sequence[Mapping[str, Any]],
        commit: bool = True,
        *,
        message: str | None = None,
    ) -> int:
        """Append records given as dictionaries.

        Parameters
        ----------
        samples : sequence of dict
            A sample may carry ``_anchor``: all of a call, or none.
        commit : bool
            Must be true; use :meth:`transaction` to group several calls.
        message : str, optional
            Recorded in the manifest.

        Returns
        -------
        int
            How many records were added.
        """
        if not commit:
            raise InvalidInputError(
                "append_many(commit=False) is not supported",
                hint="with ds.transaction() as tx: tx.append_many(...) groups several calls",
            )
        if isinstance(samples, (Mapping, str, bytes)) or not isinstance(samples, Iterable):
            raise InvalidInputError(
                f"append_many takes a list of dictionaries, not a {type(samples).__name__}",
                hint="append_many([sample]), or append() for tables",
            )
        return self._add(list(samples), None, message, upsert=False).added

    def upsert(self, data: Any, anchor: str | None = None, *, message: str | None = None) -> int:
        """Append records, and change those whose anchor or key is stored already.

        Parameters
        ----------
        data, anchor, message
            As in :meth:`append`.  Fields that are not given keep their values.

        Returns
        -------
        int
            How many records were added or changed.
        """
        change = self._add(data, anchor, message, upsert=True)
        return change.added + change.changed

    def _add(
        self, data: Any, anchor: str | None, message: str | None, *, upsert: bool
    ) -> AddRecords:
        change = verbs.add_records(self._look(), data, anchor=anchor, upsert=upsert)
        self._apply(change, message)
        return change

    def update(self, anchors: Any, values: Mapping[str, Any], *, message: str | None = None) -> int:
        """Change fields of existing records.

        Parameters
        ----------
        anchors : int or array-like of uint64
            Which records.
        values : mapping of str to array-like
            For each field one value per anchor, or one for all.
        message : str, optional
            Recorded in the manifest.

        Returns
        -------
        int
            How many records were named.

        Notes
        -----
        Cost: rewrites the touched fragments of the named fields only; scattered edits of a wide
        field rewrite much of it.
        """
        change = verbs.set_cells(self._look(), anchors, values)
        self._apply(change, message)
        return len(change.anchors)

    def delete(self, which: Any, reason: str | None = None, *, message: str | None = None) -> int:
        """Delete records.

        Parameters
        ----------
        which : array-like of uint64, Expression or str
            Anchors, or a condition as in :meth:`Dataset.scan`.
        reason : str, optional
            Recorded in the manifest.
        message : str, optional
            Recorded in the manifest.

        Returns
        -------
        int
            How many records were deleted.  Older snapshots keep them.

        Notes
        -----
        Cost: one small tree of tombstones; no data is rewritten.
        """
        change = verbs.delete_records(self._look(), which, reason)
        if not len(change.anchors):
            return 0
        self._apply(change, message)
        return len(change.anchors)

    def add_scalar_layer(
        self,
        name: str,
        parent_field: str | None,
        value_type: str,
        samples: Any,
        mode: str = "create",
        *,
        message: str | None = None,
    ) -> int:
        """Write a scalar field over existing records, such as predictions.

        Parameters
        ----------
        name : str
            The layer.
        parent_field : str or None
            The field it was derived from; recorded in the schema.
        value_type : str
            ``bool int float string categorical timestamp text``.
        samples : sequence of (anchor, value), Table, mapping, or (anchors, values)
            Records not named have null.
        mode : str
            ``create`` refuses an existing field, ``replace`` writes it anew, ``update`` changes
            the named records only.
        message : str, optional
            Recorded in the manifest.

        Returns
        -------
        int
            How many records have been given a value.

        Notes
        -----
        Cost: one fragment per 65,536 records; equal layers are stored once in a space.
        """
        view = self._look()
        field = verbs.layer_field(view, name, scalar_type(value_type), parent=parent_field)
        return self._layer(verbs.write_layer(view, field, samples, mode), message)

    def add_embedding_layer(
        self,
        name: str,
        parent_field: str | None,
        dim: int,
        algorithm: str = "dreamdb.flat-cosine",
        spatial_index: bytes | str | None = None,
        compressor: bytes | str | None = None,
        rerank: bool = False,
        samples: Any = (),
        mode: str = "create",
        *,
        message: str | None = None,
    ) -> int:
        """Write a field of vectors over existing records.

        Parameters
        ----------
        name, parent_field, samples, mode, message
            As in :meth:`add_scalar_layer`.
        dim : int
            Length of each vector.
        algorithm, spatial_index, compressor, rerank
            As in :meth:`Schema.add_embedding`.

        Returns
        -------
        int
            How many records have been given a value.
        """
        options = check_options(spatial_index, compressor, rerank)
        view = self._look()
        ftype = field_type("embedding", dim=dim)
        field, index = verbs.vector_field(
            view, name, ftype, options, parent=parent_field, algorithm=algorithm
        )
        change = verbs.write_layer(view, field, samples, mode)
        if isinstance(change, WriteLayer):
            change.index = index
        elif index is not None:
            raise InvalidInputError(
                f"mode='update' changes records of {name!r}, not how it is indexed",
                hint=f"ds.index.build({name!r})",
            )
        return self._layer(change, message)

    def add_image_layer(
        self,
        name: str,
        parent_field: str | None,
        mime: str = "png",
        samples: Any = (),
        mode: str = "create",
        *,
        message: str | None = None,
    ) -> int:
        """Write a field of encoded images over existing records, such as masks.

        Parameters
        ----------
        name, parent_field, samples, mode, message
            As in :meth:`add_scalar_layer`.
        mime : str
            Media type.

        Returns
        -------
        int
            How many records have been given a value.
        """
        view = self._look()
        field = verbs.layer_field(view, name, field_type("image", mime=mime), parent=parent_field)
        return self._layer(verbs.write_layer(view, field, samples, mode), message)

    def _layer(self, change: Any, message: str | None) -> int:
        self._apply(change, message)
        return len(change.anchors)

    def add_fields(self, fields: Schema, *, message: str | None = None) -> None:
        """Add empty fields of any kind; existing records have null.

        Parameters
        ----------
        fields : Schema
            For example ``Schema().add_text("caption")``.
        message : str, optional
            Recorded in the manifest.
        """
        if not isinstance(fields, Schema) or not len(fields):
            raise SchemaError("add_fields takes a Schema", hint="Schema().add_text('caption')")
        bound, indexes = bind_fields(
            self._look().source.cache,
            {name: fields[name] for name in fields},
            fields.vector_options,
        )
        changes = [
            AddField(replace(field, order=None), indexes.get(name)) for name, field in bound.items()
        ]
        for change in changes:
            change.check(self._look())
        self._apply_all(changes, message)

    def drop_field(self, name: str, *, message: str | None = None) -> None:
        """Remove a field; older manifests keep it.

        Parameters
        ----------
        name : str
            The field.
        message : str, optional
            Recorded in the manifest.
        """
        self._look().check_fields([name])
        self._apply(DropField(name), message)

    def rename_field(self, old: str, new: str, *, message: str | None = None) -> None:
        """Rename a field; nothing is copied.

        Parameters
        ----------
        old, new : str
            Its names.
        message : str, optional
            Recorded in the manifest.
        """
        self._look().check_fields([old])
        self._apply(RenameField(old, new), message)

    def set_metadata(self, values: Mapping[str, str | None], *, message: str | None = None) -> None:
        """Set notes that belong to the data, such as a licence; None removes one.

        Parameters
        ----------
        values : mapping of str to str or None
            Notes by name.
        message : str, optional
            Recorded in the manifest.
        """
        if not isinstance(values, Mapping):
            raise InvalidInputError("set_metadata takes a dictionary of notes")
        check_notes({k: "" if v is None else v for k, v in values.items()}, "metadata")
        self._apply(SetMetadata(dict(values)), message)

    def anchor_of(self, key: Any) -> int:
        """Return the anchor that a key has in a dataset with ``key=``.

        Parameters
        ----------
        key : int or str
            A value of the key field.
        """
        if self._look().content.schema.key is None:
            raise InvalidInputError(
                "this dataset has no key", hint="create it with key='<field>' to address by key"
            )
        return anchor_of_key(key)


class Writing(Handle, WriteVerbs):
    """The verbs on a branch handle: each is one commit."""

    def _look(self) -> View:
        self._require_writable()
        return self._view

    def _apply_all(self, changes: Sequence[Change], message: str | None) -> None:
        self._commit(changes, message)

    def _commit(
        self,
        changes: Sequence[Change],
        message: str | None,
        application: Mapping[str, str] | None = None,
        *,
        base: tuple[Address, View] | None = None,
        prepared: View | None = None,
        strict: bool = False,
    ) -> None:
        ref = self._require_writable()
        note = _note(message, application)
        ready = None if prepared is None else prepared.content
        with self._lock:
            manifest, view = (self._manifest, self._view) if base is None else base
            done = commit(
                self._space.backend,
                self._space.source,
                ref,
                manifest,
                view,
                changes,
                note,
                prepared=ready,
                strict=strict,
            )
            if done.manifest != self._manifest:
                self._move(done.manifest, done.view)

    def transaction(
        self,
        message: str | None = None,
        *,
        application: Mapping[str, str] | None = None,
        strict: bool = False,
    ) -> Transaction:
        """Group several writes into one manifest: all or nothing.

        Parameters
        ----------
        message : str, optional
            Recorded in the manifest.
        application : mapping of str to str, optional
            Notes recorded in the manifest, such as a run id.
        strict : bool
            Raise ConflictError whenever the branch has moved, even if the changes would commute
            with what another writer did: for changes that were computed from the records.

        Returns
        -------
        Transaction
            A context manager with the writing verbs; an exception discards everything.
        """
        self._require_writable()
        _note(message, application)
        return Transaction(self, message, application, strict=strict)


def _note(message: str | None, application: Mapping[str, str] | None) -> CommitNote:
    return CommitNote(
        config.author(),
        "" if message is None else message,
        {} if application is None else application,
    )


class Transaction(WriteVerbs):
    """Several changes that become visible together.

    Parameters
    ----------
    handle : Writing
        The branch.
    message : str or None
        Recorded in the manifest.
    application : mapping or None
        Notes recorded in the manifest.
    strict : bool
        Whether any move of the branch is a conflict.
    """

    def __init__(
        self,
        handle: Writing,
        message: str | None,
        application: Mapping[str, str] | None,
        *,
        strict: bool = False,
    ) -> None:
        self._strict = strict
        self._handle = handle
        self._message = message
        self._application = application
        self._changes: list[Change] = []
        self._state: View | None = None
        self._stage: Stage | None = None
        self._base: tuple[Address, View] | None = None
        self._held: AbstractContextManager[None] | None = None

    def __enter__(self) -> Self:
        if self._stage is not None:
            raise StateError("this transaction is open already")
        space = self._handle._space
        with self._handle._lock:
            self._base = self._handle._manifest, self._handle._view
        self._state = self._base[1]
        # What the changes write is needed by no ref before the end: the collector must wait.
        held = space.backend.objects.hold()
        stage = Stage(space.backend, space.source)
        held.__enter__()
        self._held, self._stage = held, stage
        return self

    def _look(self) -> View:
        if self._state is None:
            raise StateError(
                "this transaction is not open", hint="with ds.transaction() as tx: tx.append(...)"
            )
        return self._state

    def _apply_all(self, changes: Sequence[Change], message: str | None) -> None:
        for change in changes:
            view = self._look()
            assert self._stage is not None
            content = change.apply(view, self._stage)
            # Later changes of this transaction read what this one has written.
            self._stage.flush()
            after = View(view.source, content)
            after.adopt(view)
            self._state = after
            self._changes.append(change)

    def count(self) -> int:
        """Return how many records there are, with the changes made so far."""
        return self._look().count()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._stage is not None
        assert self._held is not None
        self._stage.abort()
        changes, state, held = self._changes, self._state, self._held
        self._changes, self._state, self._stage, self._held = [], None, None, None
        try:
            if kind is None and changes:
                # The handle may have moved meanwhile; the changes were made on what it was.
                self._handle._commit(
                    changes,
                    self._message,
                    self._application,
                    base=self._base,
                    prepared=state,
                    strict=self._strict,
                )
        finally:
            held.__exit__(None, None, None)
