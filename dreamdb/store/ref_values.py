"""What every ref store shares: the strict body, and the conflict a swap reports.

Source: design/0002 section 8, design/0005.
"""

from __future__ import annotations

from dreamdb.errors import IntegrityError, InvalidInputError, RefConflictError
from dreamdb.objects import to_text
from dreamdb.store.ports import RefValue
from dreamdb.types import ADDRESS_SIZE, Address, Bytes

__all__ = ["check_body", "check_new", "conflict", "parse_body"]

_CODE = b"\x1e"


def check_body(body: Bytes) -> bool:
    """Return whether bytes can be the body of a ref."""
    return len(body) == ADDRESS_SIZE and bytes(body[:1]) == _CODE


def parse_body(body: bytes, name: str) -> Address:
    """Return the address a ref's stored bytes are.

    Raises
    ------
    IntegrityError
        When they are not exactly one address.
    """
    if not check_body(body):
        raise IntegrityError(
            f"ref {name!r} is damaged: its body has {len(body)} bytes and is not an address",
            hint="its last values are in the reflog; run `dreamdb verify`",
            ref=name,
        )
    return Address(body)


def check_new(name: str, new: Address | None) -> None:
    """Refuse to store anything but an address."""
    if new is not None and not check_body(new):
        raise InvalidInputError(f"ref {name!r} cannot hold {new!r}: it is not an address")


def conflict(name: str, expected: RefValue | None, actual: Address | None) -> RefConflictError:
    """Return the error of a swap that found another value."""
    wanted = None if expected is None else expected.address

    def shown(address: Address | None) -> str:
        return "nothing" if address is None else to_text(address)

    return RefConflictError(
        f"publish conflict on ref {name!r}: expected {shown(wanted)}, found {shown(actual)}",
        hint="another writer moved it; refresh and try again",
        ref=name,
        expected=wanted,
        actual=actual,
    )
