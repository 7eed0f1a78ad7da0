"""What every ref store shares: the strict body, and the conflict a swap reports.

Source: design/0002 section 8, design/0005.  A body is an address, and after it, in the ref of a
snapshot, the stored object of that address.
"""

from __future__ import annotations

from typing import Final

from dreamdb.errors import IntegrityError, InvalidInputError, RefConflictError
from dreamdb.objects import OpenedObject, to_text
from dreamdb.store.ports import RefValue
from dreamdb.types import ADDRESS_SIZE, Address, Bytes

__all__ = ["MAX_BODY", "MAX_CARRIED", "check_new", "conflict", "encode_body", "parse_body"]

MAX_CARRIED: Final = 16 << 10
"""Bytes of the largest stored object that a ref carries."""

MAX_BODY: Final = ADDRESS_SIZE + MAX_CARRIED
"""Bytes of the longest body of a ref."""

_CODE = b"\x1e"


def encode_body(new: Address, carried: bytes | None) -> bytes:
    """Return the bytes a ref stores."""
    return bytes(new) + (carried or b"")


def parse_body(body: bytes, name: str, token: object = None) -> RefValue:
    """Return the value that a ref's stored bytes are, a carried object verified.

    Parameters
    ----------
    body : bytes
        As stored.
    name : str
        The ref's name, for the error.
    token : object
        The version of the body; default: the address.

    Raises
    ------
    IntegrityError
        When they are neither an address nor an address and its object.
    """
    address, carried = body[:ADDRESS_SIZE], body[ADDRESS_SIZE:]
    if not _is_address(address) or not _can_follow(Address(address), carried):
        raise IntegrityError(
            f"ref {name!r} is damaged: its body has {len(body)} bytes and is not an address, nor "
            "an address and its object",
            hint="its last values are in the reflog; run `dreamdb verify`",
            ref=name,
        )
    return RefValue(Address(address), address if token is None else token, carried or None)


def check_new(name: str, new: Address | None, carried: bytes | None) -> None:
    """Refuse to store anything but an address and perhaps its object."""
    if new is not None and not _is_address(new):
        raise InvalidInputError(f"ref {name!r} cannot hold {new!r}: it is not an address")
    if carried is not None and (new is None or not carried or not _can_follow(new, carried)):
        raise InvalidInputError(
            f"ref {name!r} cannot carry these {len(carried)} bytes: a ref carries the object that "
            f"it names, of at most {MAX_CARRIED} bytes"
        )


def _is_address(body: Bytes) -> bool:
    return len(body) == ADDRESS_SIZE and bytes(body[:1]) == _CODE


def _can_follow(address: Address, carried: bytes) -> bool:
    """Return whether bytes are nothing, or the stored object of an address."""
    if len(carried) > MAX_CARRIED:
        return False
    try:
        if carried:
            OpenedObject(address, memoryview(carried), None)
    except IntegrityError:
        return False
    return True


def conflict(name: str, expected: RefValue | None, found: RefValue | None) -> RefConflictError:
    """Return the error of a swap that found another value."""
    wanted = None if expected is None else expected.address
    actual = None if found is None else found.address

    def shown(address: Address | None) -> str:
        return "nothing" if address is None else to_text(address)

    return RefConflictError(
        f"publish conflict on ref {name!r}: expected {shown(wanted)}, found {shown(actual)}",
        hint="another writer moved it; refresh and try again",
        ref=name,
        expected=wanted,
        actual=actual,
    )
