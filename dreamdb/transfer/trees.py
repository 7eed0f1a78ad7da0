"""Copying a tree: the nodes and fragments that the target's own trees do not have.

Source: design/0010 section 3.  Trees are canonical, so equal parts have equal addresses.  Two trees
are walked from their roots over the same ranges of keys, and what is equal is never entered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dreamdb.errors import FormatError, IntegrityError, ObjectMissingError
from dreamdb.model import Node
from dreamdb.objects import Kind, SealedObject, to_text
from dreamdb.transfer.copier import Copier, damaged_at
from dreamdb.types import ZERO_ADDRESS, Address

__all__ = ["TreeCopy", "Trees"]

_AHEAD: Final = 64
_ROOTS: Final = 256

Trees: TypeAlias = list[tuple[Address, list[Address]]]
"""Root nodes, each with roots of trees that the target has."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A node or a fragment, and the keys ``(low, high]`` that lie below it."""

    address: Address
    level: int
    low: int
    high: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A node of the tree that is copied; ``sealed`` unless the target has it."""

    node: Node
    sealed: SealedObject | None


class TreeCopy:
    """Copies trees.

    Parameters
    ----------
    copier : Copier
        Moves the objects.
    base_node : callable
        Reads a node of a tree that the target has.
    """

    def __init__(self, copier: Copier, base_node: Callable[[Address], Node]) -> None:
        self._copier = copier
        self._base_node = base_node
        self._done: set[Address] = set()
        self._ahead: dict[Address, _Found] = {}

    def read_ahead(self, trees: Trees) -> None:
        """Read the root nodes of trees that will be copied next, several at a time."""
        self._ahead.clear()
        wanted = dict.fromkeys(r for r, bases in trees if self._is_new(r, bases))
        some = list(wanted)[:_ROOTS]
        self._ahead.update(zip(some, self._copier.map(self._load, some), strict=True))

    def copy(self, trees: Trees) -> None:
        """Copy trees.

        Parameters
        ----------
        trees : list of (Address, list of Address)
            Of each tree its root node, and roots of trees that the target has whole, the more
            alike the better.

        Notes
        -----
        Cost: at the origin 1 read per node and fragment that the target lacks; at the target 1
        look for each that the bases lack.
        """
        for root, bases in trees:
            if self._is_new(root, bases):
                found = self._ahead.pop(root, None) or self._load(root)
                self._copy_tree(root, found, bases)

    def _is_new(self, root: Address, bases: list[Address]) -> bool:
        return root not in bases and root not in self._done

    def _copy_tree(self, root: Address, found: _Found, bases: list[Address]) -> None:
        top = _Part(root, found.node.level, -1, int(found.node.entries["key"][-1]), 0)
        known = []
        for base in dict.fromkeys(bases):
            node = self._base_node(base)
            part = _Part(base, node.level, -1, int(node.entries["key"][-1]), 0)
            known += self._descend([part], top.level)
        self._copy(top, found, known)

    def _copy(self, part: _Part, found: _Found, bases: list[_Part]) -> None:
        below = self._descend(bases, part.level - 1)
        have = {base.address for base in below}
        parts = _parts(found.node, part.low)
        lacking = [p for p in parts if p.address not in have and p.address not in self._done]
        if part.level == 1:
            for fragment in lacking:
                self._copier.copy(fragment.address, Kind.FRAGMENT, fragment.nbytes)
        else:
            own = {p.address for p in parts}
            unlike = [base for base in below if base.address not in own]
            for start in range(0, len(lacking), _AHEAD):
                some = lacking[start : start + _AHEAD]
                loaded = self._copier.map(self._load, [p.address for p in some])
                for child, node in zip(some, loaded, strict=True):
                    self._check(part, child, node.node)
                    near = [b for b in unlike if b.low < child.high and child.low < b.high]
                    self._copy(child, node, near)
        if found.sealed is not None:
            self._copier.put(found.sealed)
        self._done.add(part.address)

    def _descend(self, bases: list[_Part], level: int) -> list[_Part]:
        """Replace parts above a level by what lies below them there; lower ones stay."""
        out: list[_Part] = []
        stack = list(reversed(bases))
        while stack:
            part = stack.pop()
            if part.level <= level:
                out.append(part)
            else:
                stack += reversed(_parts(self._base_node(part.address), part.low))
        return out

    def _load(self, address: Address) -> _Found:
        """Read a node: of the target when it has one, which an interrupted copy has left."""
        target = self._copier.target
        if self._copier.has(address):
            try:
                return _Found(target.source.node(address), None)
            except (IntegrityError, ObjectMissingError):
                pass  # damaged, or of this batch: the origin has it
        opened, sealed = self._copier.open(address, Kind.NODE)
        try:
            node = Node.decode(opened.payload)
        except FormatError as error:
            error.details.setdefault("object", to_text(address))
            raise damaged_at(error, self._copier.origin.url) from None
        self._copier.origin.source.remember_node(address, node)
        return _Found(node, sealed)

    def _check(self, parent: _Part, child: _Part, node: Node) -> None:
        if node.level != parent.level - 1 or int(node.entries["key"][-1]) != child.high:
            name = to_text(child.address)
            error = FormatError(f"the node {name} is not what its parent says", object=name)
            raise damaged_at(error, self._copier.origin.url)


def _parts(node: Node, low: int) -> list[_Part]:
    """Return what lies below a node, without all-null entries."""
    out = []
    columns: Any = (node.entries[name].tolist() for name in ("address", "key", "nbytes"))
    for raw, key, nbytes in zip(*columns, strict=True):
        address = Address(bytes(raw))
        if address != ZERO_ADDRESS:
            out.append(_Part(address, node.level - 1, low, key, nbytes))
        low = key
    return out
