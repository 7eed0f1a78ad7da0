"""Indexes and codecs of fields: changing them, and letting indexes follow every commit.

Source: design/0018 section 8, design/0017 section 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamdb.codecs import arrow_type, encode_vectors, vectors_array
from dreamdb.errors import InvalidInputError, ObjectMissingError, SchemaError
from dreamdb.index import IndexRoot, build_root, index_root
from dreamdb.model import Content, build_tree
from dreamdb.objects import Kind, SealedObject, from_text, to_text
from dreamdb.store import Backend
from dreamdb.tracks import Source, View, validity, vectors_of
from dreamdb.vectors import stored_type
from dreamdb.write.changes import (
    AddField,
    Change,
    DropField,
    RenameField,
    SetCells,
    WriteLayer,
    check_same_field,
)
from dreamdb.write.stage import PendingEntry, Stage
from dreamdb.write.tracks import join_entries

__all__ = ["Recode", "SetIndex", "follow_indexes", "publish", "stage_indexes"]


def publish(backend: Backend, sealed: SealedObject) -> None:
    """Store one object durably; it belongs to no commit yet."""
    with backend.objects.hold():
        upload = backend.objects.upload()
        try:
            upload.put(sealed)
            upload.finish()
        except BaseException:
            upload.abort()
            raise


@dataclass(slots=True)
class SetIndex:
    """Index a field, or stop doing so; the content stays as it is.

    Parameters
    ----------
    field : str
        An embedding.
    index : IndexRoot or None
        How; None drops the index.
    """

    field: str
    index: IndexRoot | None

    def apply(self, view: View, stage: Stage) -> Content:
        """See :class:`Change`."""
        ftype = view.content.schema[self.field].type
        if ftype.kind != "embedding":
            raise SchemaError(f"{self.field!r} is {ftype}, not an embedding", field=self.field)
        if self.index is not None and self.index.codec.dim != ftype.dim:
            raise SchemaError(
                f"the index is of dimension {self.index.codec.dim}, {self.field!r} of {ftype.dim}",
                field=self.field,
            )
        return view.content

    def check_replay(self, base: View, tip: View) -> None:
        """See :class:`Change`."""
        check_same_field(base, tip, self.field)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        verb = "drop index" if self.index is None else "build index"
        return {"name": verb, "fields": [self.field]}


@dataclass(slots=True)
class Recode:
    """Store the vectors of a field with another codec.

    Parameters
    ----------
    field : str
        An embedding.
    codec : str or None
        As in a field's type; None stores vectors exactly.
    """

    field: str
    codec: str | None

    def apply(self, view: View, stage: Stage) -> Content:
        """Encode fragment by fragment; a record's codes depend on its vector alone."""
        old = view.content.schema[self.field]
        if old.type.codec == self.codec:
            return view.content
        field = replace(old, type=replace(old.type, codec=self.codec))
        stage.codec_of(field.type)
        track, stored = view.track(self.field), stored_type(field.type)
        plain, at = arrow_type(replace(field.type, codec=None)), 0
        pending: list[PendingEntry] = []
        for entry in track.flat()[0]:
            rows = int(entry["rows"])
            array = track.slice(at, at + rows)
            vectors = vectors_array(vectors_of(track, array), plain, validity(array))
            if self.codec is not None:
                try:
                    vectors = encode_vectors(field.type, vectors)
                except InvalidInputError as error:
                    raise _named(view, self.field, at, error) from None
            pending.append(
                stage.fragment(
                    stored, [vectors], key=int(entry["key"]), rows=rows, rung=int(entry["rung"])
                )
            )
            at += rows
        entries = join_entries(pending, track.stats)
        root = None
        if at:
            root = build_tree(entries, track.stats, load=stage.node, emit=stage.emit)
        schema = view.content.schema.drop(self.field).add(field)
        return replace(
            view.content, schema=schema, tracks={**view.content.tracks, self.field: root}
        )

    def check_replay(self, base: View, tip: View) -> None:
        """Another writer's records are encoded as well; a redefined field is a conflict."""
        check_same_field(base, tip, self.field)

    def summary(self) -> dict[str, Any]:
        """See :class:`Change`."""
        name = "float32" if self.codec is None else self.codec.partition(":")[0]
        return {"name": "reencode", "fields": [self.field], "codec": name}


def _named(view: View, name: str, at: int, error: InvalidInputError) -> InvalidInputError:
    row = at + int(error.details["row"])
    anchor = int(view.anchors(row, row + 1)[0])
    return InvalidInputError(
        f"field {name!r} of the record {anchor}: {error}",
        hint=error.hint,
        field=name,
        anchor=anchor,
    )


def stage_indexes(
    stage: Stage, source: Source, content: Content, roots: Mapping[str, IndexRoot]
) -> dict[str, str]:
    """Stage new indexes over a content and return what its manifest records.

    Parameters
    ----------
    stage, source : Stage, Source
        Where objects go, and the space's caches.
    content : Content
        Staged; made readable here when there is something to index.
    roots : mapping of str to IndexRoot
        How fields are to be indexed.
    """
    if not roots:
        return {}
    stage.flush()
    view = View(source, content)
    return {name: _stage_index(stage, view, name, root, []) for name, root in roots.items()}


def _stage_index(
    stage: Stage,
    view: View,
    name: str,
    root: IndexRoot,
    known: Sequence[IndexRoot],
    *,
    build: bool = True,
) -> str:
    made = build_root(view.source, view.track(name), root, known, stage.plain, build=build)
    return to_text(stage.document(Kind.INDEX, made.encode()))


def follow_indexes(
    stage: Stage,
    source: Source,
    before: Content,
    content: Content,
    indexes: Mapping[str, str],
    changes: Sequence[Change],
) -> dict[str, str]:
    """Return what the manifest of a new content records about indexes.

    Segments belong to fragments, so those of unchanged fragments are taken over.  Records that
    are added or written as a layer get segments; after updates and deletes the rows around them
    are compared exactly until then.

    Parameters
    ----------
    stage, source : Stage, Source
        Where objects go, and the space's caches.
    before, content : Content
        The states around the commit.
    indexes : mapping of str to str
        What the parent's manifest records.
    changes : sequence of Change
        What was done.
    """
    kept = dict(indexes)
    asked: dict[str, IndexRoot] = {}
    moved = False
    for change in changes:
        if isinstance(change, RenameField):
            if change.old in kept:
                kept[change.new] = kept.pop(change.old)
            if change.old in asked:
                asked[change.new] = asked.pop(change.old)
            moved = True
        elif isinstance(change, DropField) or (
            isinstance(change, SetIndex) and change.index is None
        ):
            kept.pop(change.field, None)
            asked.pop(change.field, None)
        else:
            named = _asked(change)
            if named is not None:
                asked[named[0]] = named[1]
    grows = any(not isinstance(c, (SetCells, RenameField, DropField)) for c in changes)
    return _followed(stage, source, before, content, kept, asked, grows=grows, moved=moved)


def _asked(change: Change) -> tuple[str, IndexRoot] | None:
    """Return which field a change wants indexed, and how."""
    if isinstance(change, (SetIndex, AddField, WriteLayer)) and change.index is not None:
        field = change.field
        return (field if isinstance(field, str) else field.name), change.index
    return None


def _followed(
    stage: Stage,
    source: Source,
    before: Content,
    content: Content,
    kept: Mapping[str, str],
    asked: Mapping[str, IndexRoot],
    *,
    grows: bool,
    moved: bool,
) -> dict[str, str]:
    out: dict[str, str] = {}
    view: View | None = None
    for name in sorted({*kept, *asked}):
        field = content.schema.find(name)
        if field is None or field.type.kind != "embedding":
            continue
        old = before.schema.find(name)
        same = (
            old is not None
            and old.type == field.type
            and before.tracks.get(name) == content.tracks.get(name)
        )
        if name in kept and name not in asked and (same or moved):
            out[name] = kept[name]
            continue
        known = _known_root(source, kept.get(name))
        root = asked.get(name, known)
        if root is None or root.codec.dim != field.type.dim:
            continue
        if view is None:
            stage.flush()
            view = View(source, content)
        earlier = [] if known is None else [known]
        try:
            out[name] = _stage_index(stage, view, name, root, earlier, build=grows)
        except ObjectMissingError:
            if name in asked:
                raise
            # The centroids are gone: without them nothing can be added.
            out[name] = _stage_index(stage, view, name, root, earlier, build=False)
    return out


def _known_root(source: Source, text: str | None) -> IndexRoot | None:
    if text is None:
        return None
    try:
        return index_root(source, from_text(text))
    except ObjectMissingError:
        return None
