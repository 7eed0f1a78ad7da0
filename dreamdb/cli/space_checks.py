"""What ``doctor`` looks at in a space that exists: its refs, and the space that it depends on.

Source: design/0010 sections 6 and 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dreamdb.cli.checks import Finding, run_check
from dreamdb.errors import DreamDBError

if TYPE_CHECKING:
    from dreamdb.dataset import OpenSpace

__all__ = ["check_contents"]


def check_contents(url: str, storage_options: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is found in a space; nothing when there is none.

    Parameters
    ----------
    url : str
        Where the space is.
    storage_options : mapping
        Settings of its file system.
    """
    from dreamdb.dataset import open_space

    try:
        opened = open_space(url, storage_options=storage_options)
    except DreamDBError:
        return  # The check of the storage has said why.
    yield run_check("refs", lambda: _refs(opened))
    if opened.cache.cuts:
        count = len(opened.cache.cuts)
        yield Finding("history", "ok", f"is cut at {count:,} manifests")
    if opened.partial is not None:
        yield run_check("origin", lambda: _origin(opened))


def _refs(opened: OpenSpace) -> str | Finding:
    """Follow each ref to its content, which is what opening it needs."""
    from dreamdb.history import load_manifest, resolve_address

    count, broken = 0, []
    source = opened.kept_source()
    for name, value in opened.backend.refs.list():
        count += 1
        try:
            found = resolve_address(source.cache, name, value)
            source.content(load_manifest(source.cache, found.manifest).content)
        except DreamDBError as error:
            broken.append(f"{name}: {error}")
    if broken:
        shown = "; ".join(broken[:3]) + ("; ..." if len(broken) > 3 else "")
        hint = "dreamdb verify --repair-from URL"
        return Finding(
            "refs", "failed", f"{len(broken):,} of {count:,} lead nowhere: {shown} ({hint})"
        )
    return f"{count:,} refs lead to their contents"


def _origin(opened: OpenSpace) -> str | Finding:
    """Ask the origin of a partial clone whether it is there."""
    from dreamdb.store import PromisorBackend

    assert isinstance(opened.backend, PromisorBackend)
    url = opened.backend.origin_url
    kept = ", ".join(sorted(opened.cache.fields or ()))
    try:
        found = opened.backend.read_origin()
    except DreamDBError as error:
        return Finding("origin", "failed", f"other fields than {kept} are in {url}: {error}")
    if found is None:
        return Finding("origin", "failed", f"other fields than {kept} were in {url}: it is gone")
    return f"has the fields {kept}; others are fetched from {url}"
