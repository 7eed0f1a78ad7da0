"""What a transfer did.

Source: design/0010.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dreamdb.objects import to_text
from dreamdb.types import Address

__all__ = ["RefMove", "TransferReport"]


@dataclass(frozen=True, slots=True)
class RefMove:
    """One ref that was made or moved.

    Parameters
    ----------
    name : str
        The ref, in the space that it is in.
    kind : str
        ``"branch"`` or ``"snapshot"``.
    old : str or None
        What it held; None when it is new.
    new : str
        What it holds: the address of a manifest, of a tag for a snapshot.
    forced : bool
        Whether the old history is not part of the new one.
    """

    name: str
    kind: str
    old: str | None
    new: str
    forced: bool = False

    @classmethod
    def of(
        cls, name: str, kind: str, old: Address | None, new: Address, *, forced: bool = False
    ) -> RefMove:
        """Return the move of a ref between two addresses."""
        return cls(name, kind, None if old is None else to_text(old), to_text(new), forced)


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What went from one space to another.

    Parameters
    ----------
    origin, target : str
        URLs of the spaces.
    refs : tuple of RefMove
        The refs that were made or moved; empty when all was up to date.
    manifests : int
        Manifests that the target lacked.
    objects, nbytes : int
        Objects that were stored in the target, and their stored bytes.
    """

    origin: str
    target: str
    refs: tuple[RefMove, ...] = ()
    manifests: int = 0
    objects: int = 0
    nbytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the report as dictionaries and lists."""
        return {
            "origin": self.origin,
            "target": self.target,
            "refs": [
                {"name": r.name, "kind": r.kind, "old": r.old, "new": r.new, "forced": r.forced}
                for r in self.refs
            ],
            "manifests": self.manifests,
            "objects": self.objects,
            "nbytes": self.nbytes,
        }
