"""From what people type (a URL, a ref, the start of a manifest) to spaces and datasets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click
from click.shell_completion import CompletionItem

from dreamdb import config
from dreamdb.cli.invocation import Invocation
from dreamdb.errors import InvalidInputError, RefNameError, RefNotFoundError

if TYPE_CHECKING:
    from dreamdb import Dataset, Space
    from dreamdb.dataset import OpenSpace

__all__ = [
    "RefName",
    "backend_url",
    "complete_fields",
    "count_manifests",
    "open_space",
    "open_version",
    "refs_keeping",
    "split_names",
]

_ADDRESS: Final = re.compile(r"[a-z2-7]{53}\Z")
_PREFIX: Final = re.compile(r"[a-z2-7]{6,52}\Z")


def backend_url(invocation: Invocation, given: str | None = None) -> str:
    """Return the space's URL: the argument, else ``--backend``, else the environment's.

    Raises
    ------
    InvalidInputError
        When none of them is there, or two differ.
    """
    if given and invocation.backend and given != invocation.backend:
        raise InvalidInputError(
            f"two spaces are given: {given!r} and --backend {invocation.backend!r}",
            hint="leave one of them out",
        )
    url = given or invocation.backend or config.default_backend()
    if not url:
        raise InvalidInputError(
            "no space is given",
            hint="add --backend PATH-OR-URL, or set DREAMDB_BACKEND",
        )
    return url


def open_space(invocation: Invocation, given: str | None = None) -> Space:
    """Open the space of a call."""
    from dreamdb import connect

    url = backend_url(invocation, given)
    return connect(url, storage_options=invocation.storage_options)


def open_version(invocation: Invocation, version: str | None, *, at: str | None = None) -> Dataset:
    """Open a ref, a manifest, or the start of a manifest's address.

    Parameters
    ----------
    invocation : Invocation
        The call.
    version : str or None
        What to open; None for the only branch of the space.
    at : str, optional
        A time or a manifest: the ref as it was.

    Raises
    ------
    RefNotFoundError
        With the nearest names.
    InvalidInputError
        When the start of an address fits several manifests.
    """
    from dreamdb import Dataset

    url, options = backend_url(invocation), invocation.storage_options
    if version is None:
        version = _only_branch(open_space(invocation))
    if _ADDRESS.match(version):
        return Dataset.open_by_manifest(version, url, storage_options=options)
    try:
        return Dataset.open_ref(version, url, at, storage_options=options)
    except (RefNotFoundError, RefNameError):
        if at is not None or not _PREFIX.match(version):
            raise
        found = _manifests_starting(invocation, version)
        if not found:
            raise
    if len(found) > 1:
        raise InvalidInputError(
            f"{version!r} is the start of {len(found)} manifests",
            hint="add more characters: " + ", ".join(found[:4]),
        )
    return Dataset.open_by_manifest(found[0], url, storage_options=options)


def _only_branch(space: Space) -> str:
    names = space.datasets()
    if len(names) == 1:
        return names[0]
    if not names:
        raise RefNotFoundError(
            f"there is no dataset in {space.url}",
            hint="make one: dreamdb ingest NAME FILES",
        )
    listed = ", ".join(names[:8])
    raise InvalidInputError(f"{space.url} has {len(names)} branches", hint=f"name one: {listed}")


def _manifests_starting(invocation: Invocation, prefix: str) -> list[str]:
    from dreamdb.history import ancestors, manifests_of
    from dreamdb.objects import to_text

    space = _opened(invocation)
    refs = list(space.backend.refs.list())
    tips = [tip for name, value in refs for tip in manifests_of(space.cache, name, value)]
    found = (to_text(address) for address, _ in ancestors(space.cache, *tips))
    return sorted(text for text in found if text.startswith(prefix))


def _opened(invocation: Invocation) -> OpenSpace:
    from dreamdb.dataset import open_space as open_caches

    return open_caches(backend_url(invocation), storage_options=invocation.storage_options)


def count_manifests(invocation: Invocation, dataset: Dataset) -> int:
    """Return how many manifests led to a dataset; reads each once."""
    from dreamdb.history import ancestors
    from dreamdb.objects import from_text

    tip = from_text(dataset.current_manifest())
    return sum(1 for _ in ancestors(_opened(invocation).cache, tip))


def refs_keeping(invocation: Invocation, manifest: str) -> list[str]:
    """Return the refs whose history holds a manifest."""
    from dreamdb.history import is_ancestor, manifests_of
    from dreamdb.objects import from_text

    space, wanted = _opened(invocation), from_text(manifest)
    return [
        name
        for name, value in space.backend.refs.list()
        if any(
            is_ancestor(space.cache, wanted, tip) for tip in manifests_of(space.cache, name, value)
        )
    ]


def split_names(values: tuple[str, ...]) -> list[str] | None:
    """Return names given as ``a,b`` or by repeating the option; None when there are none."""
    names = [name.strip() for value in values for name in value.split(",")]
    return [name for name in names if name] or None


class RefName(click.ParamType):  # type: ignore[type-arg]
    """An argument that completes to the refs of the space.

    Parameters
    ----------
    kind : str, optional
        Only ``"branch"`` or only ``"snapshot"``.
    """

    name = "ref"

    def __init__(self, kind: str | None = None) -> None:
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the refs that start as typed; nothing when the space cannot be read."""
        try:
            space = open_space(ctx.find_root().ensure_object(Invocation))
            if self._kind is None:
                return [CompletionItem(name) for name in space.list_refs(incomplete)]
            refs = space.refs(incomplete)
            return [CompletionItem(r.name, help=r.kind) for r in refs if r.kind == self._kind]
        except Exception:  # noqa: BLE001 - completion must never disturb the shell
            return []


def complete_fields(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Return the fields of the ref that the command line names."""
    try:
        # While an option lacks its value, click has not given out the arguments yet.
        version = ctx.params.get("ref") or ctx.params.get("refs") or tuple(ctx.args)
        named = next(iter(version), None) if isinstance(version, tuple) else version
        dataset = open_version(ctx.find_root().ensure_object(Invocation), named)
        before, comma, last = incomplete.rpartition(",")
        names = [name for name in dataset.schema if name.startswith(last)]
        return [CompletionItem(f"{before}{comma}{name}") for name in names]
    except Exception:  # noqa: BLE001 - completion must never disturb the shell
        return []
