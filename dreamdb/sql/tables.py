"""From names in a statement to datasets: current ones, and those of a version.

Source: design/0020 section 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sqlglot import Token

from dreamdb.dataset import Dataset, OpenSpace
from dreamdb.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    ReadOnlyError,
    RefNameError,
    RefNotFoundError,
    nearest_hint,
)
from dreamdb.history import (
    ResolvedRef,
    ancestor_at_time,
    load_manifest,
    merge_base,
    open_catalog,
    resolve_address,
)
from dreamdb.model import Catalog
from dreamdb.objects import Kind, check_ref_name, from_text
from dreamdb.sql.references import Version
from dreamdb.sql.statements import Statement
from dreamdb.store import RefValue
from dreamdb.types import Address

__all__ = ["Tables"]

_ADDRESS: Final = re.compile(r"[a-z2-7]{53}\Z")
_ATTEMPTS: Final = 32


@dataclass(frozen=True)
class _Found:
    """A ref that a name stands for."""

    name: str
    value: RefValue


class Tables:
    """The datasets of a space as tables.

    Parameters
    ----------
    space : OpenSpace
        Where they lie.
    """

    def __init__(self, space: OpenSpace) -> None:
        self._space = space

    def listed(self) -> dict[str, RefValue]:
        """Return every ref and its value, read until two reads agree.

        Raises
        ------
        ConflictError
            When refs move faster than they can be read.

        Notes
        -----
        Cost: 2 listings when nothing moves.
        """
        refs = self._space.backend.refs
        before = dict(refs.list())
        for _ in range(_ATTEMPTS):
            after = dict(refs.list())
            if after == before:
                return after
            before = after
        raise ConflictError(
            f"the refs of {self._space.url} moved during each of {_ATTEMPTS} reads",
            hint="try again when fewer writers are at work",
        )

    def branches(self, listed: Mapping[str, RefValue] | None = None) -> dict[str, Address]:
        """Return every table and its manifest, sorted by name.

        Parameters
        ----------
        listed : mapping of str to RefValue, optional
            What :meth:`listed` returned; default: one listing now.
        """
        refs = dict(self._space.backend.refs.list()) if listed is None else listed
        return {name: refs[name].address for name in sorted(refs) if self._is_branch(refs[name])}

    def _is_branch(self, value: RefValue) -> bool:
        if value.carried is not None:
            return False
        return self._space.cache.open(value.address, None).kind is Kind.MANIFEST

    def catalogs(self) -> dict[str, Catalog]:
        """Return every version tag, sorted by name."""
        found = {}
        for name, value in self._space.backend.refs.list():
            catalog = open_catalog(self._space.cache, name, value)
            if catalog is not None:
                found[name] = catalog
        return found

    def catalog(self, name: str) -> Catalog:
        """Return what a version tag names.

        Parameters
        ----------
        name : str
            Its name.

        Raises
        ------
        RefNotFoundError
            With the nearest names.
        """
        return self.version_tag(name)[1]

    def version_tag(self, name: str) -> tuple[RefValue, Catalog]:
        """Return the ref of a version tag and what it names.

        Parameters
        ----------
        name : str
            Its name.

        Raises
        ------
        RefNotFoundError
            With the nearest names.
        """
        value = self._space.backend.refs.read(check_ref_name(name))
        found = None if value is None else open_catalog(self._space.cache, name, value)
        if value is None or found is None:
            raise RefNotFoundError(
                f"there is no version tag {name!r}",
                hint=nearest_hint(name, self.catalogs(), "tags") or "CREATE VERSION TAG makes one",
                ref=name,
            )
        return value, found

    def current(
        self, statement: Statement, names: Mapping[str, tuple[Token, bool]]
    ) -> dict[str, Dataset]:
        """Return the datasets that some names stand for, all at one moment.

        Parameters
        ----------
        statement : Statement
            For positions.
        names : mapping of str to (Token, bool)
            Each name, and whether it must be a table; others are left out when they are not.

        Raises
        ------
        RefNotFoundError
            With the nearest names.
        """
        before = self._read(statement, names)
        for _ in range(_ATTEMPTS):
            after = self._read(statement, names) if len(before) > 1 else before
            if after == before:
                return {name: self._dataset(found) for name, found in after.items()}
            before = after
        raise ConflictError(
            "the tables of the statement moved during each attempt to read them together",
            hint="try again when fewer writers are at work",
        )

    def _read(
        self, statement: Statement, names: Mapping[str, tuple[Token, bool]]
    ) -> dict[str, _Found]:
        out: dict[str, _Found] = {}
        listed: dict[str, RefValue] | None = None
        for name, (token, certain) in names.items():
            found = self._ref(name)
            if found is None and certain:
                if listed is None:
                    listed = dict(self._space.backend.refs.list())
                found = self._folded(statement, name, token, listed)
            if found is not None:
                out[name] = found
        return out

    def _ref(self, name: str) -> _Found | None:
        try:
            value = self._space.backend.refs.read(check_ref_name(name))
        except RefNameError:
            return None
        return None if value is None else _Found(name, value)

    def _folded(
        self, statement: Statement, name: str, token: Token, listed: Mapping[str, RefValue]
    ) -> _Found | None:
        """Return the one ref that differs in case only: SQL names do not tell cases apart."""
        same = [ref for ref in listed if ref.casefold() == name.casefold()]
        if len(same) > 1:
            raise statement.error(
                f"{name!r} may be {' or '.join(map(repr, same))}",
                token,
                hint="write the name with its exact case",
            )
        return _Found(same[0], listed[same[0]]) if same else None

    def _dataset(self, found: _Found) -> Dataset:
        resolved = resolve_address(self._space.cache, found.name, found.value)
        reason = "it is a snapshot and never moves" if resolved.is_snapshot else None
        return Dataset(self._space, found.name, resolved.manifest, reason)

    def missing(self, name: str, statement: Statement, token: Token) -> RefNotFoundError:
        """Return the error for a table that does not exist.

        Parameters
        ----------
        name : str
            What was asked for.
        statement : Statement
            For the position.
        token : Token
            Where it stands.
        """
        tables = self.branches()
        return statement.error(
            f"there is no table {name!r} in {self._space.url}",
            token,
            kind=RefNotFoundError,
            hint=nearest_hint(name, tables, "tables") or "CREATE TABLE makes one",
            ref=name,
        )

    def writable(self, statement: Statement, token: Token) -> Dataset:
        """Return the table that a statement writes to.

        Parameters
        ----------
        statement : Statement
            For positions.
        token : Token
            The table's name.
        """
        found = self.current(statement, {token.text: (token, True)})
        if token.text not in found:
            raise self.missing(token.text, statement, token)
        dataset = found[token.text]
        if dataset.read_only:
            raise statement.error(
                f"{token.text!r} is a snapshot and cannot be written",
                token,
                kind=ReadOnlyError,
                hint="write to the table that it was made from",
                ref=token.text,
            )
        return dataset

    def at(self, statement: Statement, table: Token, version: Version) -> Dataset:
        """Return a table in one of its versions.

        Parameters
        ----------
        statement : Statement
            For positions.
        table : Token
            The table.
        version : Version
            Which state.

        Raises
        ------
        RefNotFoundError, NotFoundError
            When the table, the version, or the table in that version does not exist.
        """
        manifest = self._manifest(statement, table, version)
        reason = f"it is {table.text!r} {version}"
        return Dataset(self._space, table.text, manifest, reason)

    def _manifest(self, statement: Statement, table: Token, version: Version) -> Address:
        cache, value = self._space.cache, version.value
        if isinstance(value, int):
            tip = self._tip(statement, table).manifest
            try:
                # The whole microsecond belongs to the time that names it.
                return ancestor_at_time(cache, tip, value * 1_000)
            except NotFoundError:
                first = load_manifest(cache, tip)
                while first.parents:
                    first = load_manifest(cache, first.parents[0])
                begun = -(-first.time_ns // 1_000)
                raise statement.error(
                    f"the table {table.text!r} did not exist at {value}",
                    version.token,
                    kind=NotFoundError,
                    hint=f"its first version is of {begun} (microseconds since 1970)",
                ) from None
        if version.kind == "branch":
            return self._branch(statement, table, version).manifest
        found = self._ref(value)
        if found is not None:
            catalog = open_catalog(cache, value, found.value)
            if catalog is not None:
                return self._of_catalog(statement, table, version, catalog)
            resolved = resolve_address(cache, value, found.value)
            if resolved.is_snapshot:
                return self._related(statement, table, version, resolved.manifest)
            raise statement.error(
                f"{value!r} is a branch, not a version",
                version.token,
                hint=f"{table.text} AT BRANCH '{value}'",
            )
        if _ADDRESS.match(value):
            return self._by_address(statement, table, version, value)
        raise statement.error(
            f"there is no version tag {value!r}",
            version.token,
            kind=RefNotFoundError,
            hint=nearest_hint(value, self.catalogs(), "tags") or "CREATE VERSION TAG makes one",
            ref=value,
        )

    def _of_catalog(
        self, statement: Statement, table: Token, version: Version, catalog: Catalog
    ) -> Address:
        name = table.text
        if name not in catalog.tables:
            same = [n for n in catalog.tables if n.casefold() == name.casefold()]
            if len(same) != 1:
                raise statement.error(
                    f"the version tag {catalog.label!r} has no table {name!r}",
                    table,
                    kind=RefNotFoundError,
                    hint=nearest_hint(name, catalog.tables, "tables"),
                    ref=name,
                )
            name = same[0]
        return catalog.tables[name]

    def _branch(self, statement: Statement, table: Token, version: Version) -> ResolvedRef:
        found = self._ref(str(version.value))
        if found is None:
            raise statement.error(
                f"there is no branch {version.value!r}",
                version.token,
                kind=RefNotFoundError,
                hint=nearest_hint(str(version.value), self.branches(), "branches"),
                ref=version.value,
            )
        resolved = resolve_address(self._space.cache, found.name, found.value)
        if resolved.is_snapshot:
            raise statement.error(
                f"{version.value!r} is a snapshot, not a branch",
                version.token,
                hint=f"{table.text} AT VERSION '{version.value}'",
            )
        self._related(statement, table, version, resolved.manifest)
        return resolved

    def _by_address(
        self, statement: Statement, table: Token, version: Version, text: str
    ) -> Address:
        try:
            address = from_text(text)
            load_manifest(self._space.cache, address)
        except (InvalidInputError, NotFoundError) as error:
            raise statement.error(
                f"there is no manifest {text}: {error}", version.token, kind=NotFoundError
            ) from None
        return self._related(statement, table, version, address)

    def _tip(self, statement: Statement, table: Token) -> ResolvedRef:
        found = self._read(statement, {table.text: (table, True)}).get(table.text)
        if found is None:
            raise self.missing(table.text, statement, table)
        return resolve_address(self._space.cache, found.name, found.value)

    def _related(
        self, statement: Statement, table: Token, version: Version, manifest: Address
    ) -> Address:
        """Refuse a version that has no common history with the table."""
        tip = self._tip(statement, table).manifest
        if tip != manifest and not merge_base(self._space.cache, tip, manifest):
            raise statement.error(
                f"{version.value!r} is not a version of the table {table.text!r}",
                version.token,
                hint=f'name it as a table of its own: FROM "{version.value}"',
            )
        return manifest
