"""A stored object as it goes from one space to another: verified whole, with a nonce of its own.

Source: design/0002 sections 3.1 and 3.4, design/0010 section 4.
"""

from __future__ import annotations

from dreamdb.objects.address import Kind, to_text
from dreamdb.objects.envelope import ENVELOPE_SIZE, Envelope, SealedObject
from dreamdb.objects.opened import OpenedObject
from dreamdb.types import Address

__all__ = ["copy_sealed"]


def copy_sealed(
    address: Address, stored: memoryview, kind: Kind | None
) -> tuple[OpenedObject, SealedObject]:
    """Verify every byte of a stored object and make it ready to be stored elsewhere.

    Parameters
    ----------
    address : Address
        What it must hash to.
    stored : memoryview
        The whole stored object.
    kind : Kind or None
        What it must be; None accepts any kind.

    Returns
    -------
    opened : OpenedObject
        For reading.
    sealed : SealedObject
        The same body, not compressed again, in an envelope with a fresh nonce.

    Raises
    ------
    HashMismatchError, FormatError
        When the bytes are not that object.
    """
    opened = OpenedObject(address, stored, kind)
    opened.view()
    envelope = Envelope.parse(stored[:ENVELOPE_SIZE], stored.nbytes, to_text(address))
    parts = (envelope.pack(), stored[ENVELOPE_SIZE:])
    return opened, SealedObject(address, parts, stored.nbytes, opened.nbytes)
