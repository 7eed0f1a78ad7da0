"""Push and fetch: decide which refs move, copy what they need, then move them.

Source: design/0010 section 5.
"""

from __future__ import annotations

from collections.abc import Iterable

from dreamdb.errors import RefConflictError
from dreamdb.history import (
    ResolvedRef,
    check_new_name,
    is_tracking,
    resolve_address,
    resolve_ref,
    tracking_name,
)
from dreamdb.objects import Kind
from dreamdb.transfer.copier import Copier, Progress
from dreamdb.transfer.history import HistoryCopy
from dreamdb.transfer.moves import (
    Wanted,
    check_snapshot,
    follows,
    move_ref,
    not_fast_forward,
)
from dreamdb.transfer.place import Place
from dreamdb.transfer.report import RefMove, TransferReport

__all__ = ["copy_refs", "fetch_refs", "find_refs", "push_ref"]


def find_refs(origin: Place, names: Iterable[str] | None) -> list[ResolvedRef]:
    """Return refs of an origin; all but its own remote-tracking ones when none are named.

    Raises
    ------
    RefNotFoundError
        With the nearest names.
    """
    if names is not None:
        return [resolve_ref(origin.backend, origin.cache, name) for name in dict.fromkeys(names)]
    return [
        resolve_address(origin.cache, name, value)
        for name, value in origin.backend.refs.list()
        if not is_tracking(name)
    ]


def push_ref(
    origin: Place,
    target: Place,
    name: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> TransferReport:
    """Make a ref of the target hold what the origin's of that name holds.

    Parameters
    ----------
    origin, target : Place
        Here, and there.
    name : str
        A branch or a snapshot.
    force : bool
        Also move a branch that has commits which the origin's lacks; they stay in its reflog.
    progress : callable, optional
        Told of each object.

    Raises
    ------
    ConflictError
        When the move is no fast-forward, or another writer moved the ref meanwhile.
    AlreadyExistsError
        When the target has another snapshot of that name.
    RefNameError
        For a remote-tracking ref: what others have is not ours to send on.
    """
    found = resolve_ref(origin.backend, origin.cache, check_new_name(name))
    with target.backend.objects.hold():
        wanted = Wanted(found, name, target.backend.refs.read(name))
        check_snapshot(target, wanted)
        forced = False
        if wanted.held is not None and not wanted.is_done:
            old = wanted.held.address
            forced = not follows(origin.cache, old, found.manifest)
            if forced and not force:
                hint = "pull first, then push again; or push with force to leave them behind"
                raise not_fast_forward(
                    origin.cache, name, target.url, old, found.manifest, hint=hint
                )
        log = "push: forced" if forced else None
        return copy_refs(origin, target, [wanted], near=origin, log=log, progress=progress)


def fetch_refs(
    origin: Place,
    target: Place,
    remote: str,
    *,
    names: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy refs of a remote: branches as remote-tracking refs, snapshots under their own names.

    Parameters
    ----------
    origin, target : Place
        There, and here.
    remote : str
        The remote's name here.
    names : iterable of str, optional
        Which refs; all by default.
    progress : callable, optional
        Told of each object.

    Raises
    ------
    AlreadyExistsError
        When another snapshot of one of the names is here; nothing was copied.
    """
    found = find_refs(origin, names)
    with target.backend.objects.hold():
        wanted = []
        for ref in found:
            name = ref.name if ref.is_snapshot else tracking_name(remote, ref.name)
            wanted.append(Wanted(ref, name, target.backend.refs.read(name)))
            check_snapshot(target, wanted[-1])
        log = f"fetch: {origin.url} was moved by force"
        return copy_refs(origin, target, wanted, near=target, log=log, progress=progress)


def copy_refs(
    origin: Place,
    target: Place,
    wanted: list[Wanted],
    *,
    near: Place,
    log: str | None,
    progress: Progress | None = None,
) -> TransferReport:
    """Copy what refs need, and move each as soon as all that it needs is durable.

    Parameters
    ----------
    origin, target : Place
        From where, and to where; the caller holds the target's collector off.
    wanted : list of Wanted
        The refs.
    near : Place
        The end that is cheaper to read.
    log : str or None
        Written before a move that is no fast-forward.
    progress : callable, optional
        Told of each object.
    """
    moves: list[RefMove] = []
    with Copier(origin, target, progress) as copier:
        history = HistoryCopy(copier, near)
        for one in wanted:
            if one.is_done:
                continue
            history.copy(one.found.manifest)
            if one.found.is_snapshot and one.carried is None:
                history.copy_document(one.new, Kind.TAG)
                copier.flush()
            moves.append(_move(origin, target, one, log))
    return TransferReport(
        origin.url,
        target.url,
        tuple(moves),
        history.num_manifests,
        copier.num_objects,
        copier.nbytes,
    )


def _move(origin: Place, target: Place, wanted: Wanted, log: str | None) -> RefMove:
    held = wanted.held
    old = None if held is None else held.address
    forced = old is not None and not follows(origin.cache, old, wanted.found.manifest)
    try:
        move_ref(
            target.backend,
            wanted.name,
            held,
            wanted.new,
            carried=wanted.carried,
            log=log if forced else None,
        )
    except RefConflictError:
        if not is_tracking(wanted.name):
            raise
        # Another fetch was faster; both have told the truth, the last one is the newer.
        held = target.backend.refs.read(wanted.name)
        move_ref(target.backend, wanted.name, held, wanted.new, log=log)
    return RefMove.of(wanted.name, wanted.kind, old, wanted.new, forced=forced)
