"""Repair: damaged and missing objects are fetched from another space.

Source: design/0010 section 9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dreamdb.errors import IntegrityError, ObjectMissingError
from dreamdb.maintain import VerifyReport
from dreamdb.model import Content, Manifest, Node, Tag
from dreamdb.objects import Kind, OpenedObject, SealedObject, copy_sealed, from_text, to_text
from dreamdb.transfer.copier import Progress
from dreamdb.transfer.place import Place
from dreamdb.transfer.redacted import standing_in
from dreamdb.types import ZERO_ADDRESS, Address

__all__ = ["RepairReport", "repair_space"]


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or would do.

    Parameters
    ----------
    before : VerifyReport
        What was wrong.
    after : VerifyReport
        What is wrong now; ``before`` itself in a dry run.
    repaired : list of str
        Objects that were fetched, or would be; text addresses.
    lost : dict of str to str
        Damaged objects that the other space cannot give, and why.
    nbytes : int
        Stored bytes of the repaired objects.
    dry_run : bool
        Whether nothing was changed.
    """

    before: VerifyReport
    after: VerifyReport
    repaired: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    nbytes: int = 0
    dry_run: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong any more."""
        return self.after.ok


class _Repair:
    """Puts whole objects in the place of damaged ones, and looks below what was put."""

    def __init__(
        self, damaged: Place, whole: Place, report: RepairReport, progress: Progress | None
    ) -> None:
        self._damaged = damaged
        self._whole = whole
        self._report = report
        self._progress = progress
        self._tried: set[Address] = set()

    def mend(self, start: Address) -> None:
        """Repair an object; and what it names, since a damaged object hides what is below it."""
        stack: list[tuple[Address, Kind | None]] = [(start, None)]
        while stack:
            address, kind = stack.pop()
            if address in self._tried or address == ZERO_ADDRESS:
                continue
            self._tried.add(address)
            if self._is_whole(address, kind):
                continue
            try:
                stored = self._whole.backend.objects.open(address)
                opened, sealed = copy_sealed(address, stored, kind)
                below = self._below(opened)
            except (ObjectMissingError, IntegrityError) as error:
                self._report.lost[to_text(address)] = str(error)
                continue
            self._replace(sealed)
            stack += below

    def _is_whole(self, address: Address, kind: Kind | None) -> bool:
        try:
            OpenedObject(address, self._damaged.kept.open(address), kind).view()
        except (ObjectMissingError, IntegrityError):
            return False
        return True

    def _below(self, opened: OpenedObject) -> list[tuple[Address, Kind | None]]:
        """Return what an object names and the damaged space should have."""
        payload = opened.payload
        if opened.kind is Kind.TAG:
            return [(Tag.decode(payload).manifest, Kind.MANIFEST)]
        if opened.kind is Kind.MANIFEST:
            manifest = Manifest.decode(payload)
            parents = self._damaged.cache.cuts.get(opened.address, manifest.parents)
            # What was purged stays away.
            content, _ = standing_in(self._damaged, manifest.content)
            return [(content, Kind.CONTENT), *((p, Kind.MANIFEST) for p in parents)]
        if opened.kind is Kind.CONTENT:
            told = Content.decode(payload)
            tracks = [root for name, root in told.tracks.items() if self._damaged.keeps(name)]
            roots = [told.timeline, told.tombstones, *tracks]
            return [(root, Kind.NODE) for root in roots if root is not None]
        if opened.kind is Kind.NODE:
            node = Node.decode(payload)
            kind = Kind.FRAGMENT if node.level == 1 else Kind.NODE
            return [(Address(bytes(raw)), kind) for raw in node.entries["address"].tolist()]
        return []

    def _replace(self, sealed: SealedObject) -> None:
        if not self._report.dry_run:
            # The whole copy is verified and in memory; the damaged one is of no use to anybody.
            objects = self._damaged.kept
            objects.delete(sealed.address)
            upload = objects.upload()
            try:
                upload.put(sealed)
                upload.finish()
            except BaseException:
                upload.abort()
                raise
            self._damaged.cache.forget(sealed.address)
        self._report.repaired.append(to_text(sealed.address))
        self._report.nbytes += sealed.nbytes
        if self._progress is not None:
            self._progress(1, sealed.nbytes)


def repair_space(
    damaged: Place,
    whole: Place,
    check: Callable[[], VerifyReport],
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> RepairReport:
    """Replace damaged and missing objects by whole ones of another space.

    Parameters
    ----------
    damaged, whole : Place
        The space to repair, and the one that helps.
    check : callable
        Verifies the damaged space.
    dry_run : bool
        Say what would be done; read and verify the other space's copies, and change nothing.
    progress : callable, optional
        Told of each repaired object.

    Returns
    -------
    RepairReport
        What was repaired, and what is still wrong.

    Raises
    ------
    StorageError
        When one of the spaces fails; what was repaired stays so.

    Notes
    -----
    Cost: twice what ``check`` costs, once in a dry run; at the other space 1 read per damaged
    object.
    """
    report = RepairReport(found := check(), found, dry_run=dry_run)
    with damaged.backend.objects.hold():
        repair = _Repair(damaged, whole, report, progress)
        # What was hidden behind damage shows when that is repaired: look again until nothing new.
        while not report.after.ok:
            known = len(report.repaired)
            for one in report.after.damage:
                if one.object is not None:
                    repair.mend(from_text(one.object))
            if dry_run or len(report.repaired) == known:
                break
            report.after = check()
    return report
