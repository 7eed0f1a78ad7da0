"""Hypothesis strategies for what goes into a space.  Needs ``hypothesis``.

Source: design/0006 section 8.
"""

from __future__ import annotations

import string

from hypothesis import strategies as st

from dreamdb.errors import RefNameError
from dreamdb.objects import Kind, SealedObject, check_ref_name, seal
from dreamdb.store import LogEntry
from dreamdb.types import Address

__all__ = ["addresses", "log_entries", "ref_names", "sealed_objects"]

_LETTERS = string.ascii_letters + string.digits + "._@=+-"


def _is_name(text: str) -> bool:
    try:
        check_ref_name(text)
    except RefNameError:
        return False
    return True


def ref_names() -> st.SearchStrategy[str]:
    """Return names that refs may have: several segments, upper case, signs."""
    segment = st.text(_LETTERS, min_size=1, max_size=12)
    return st.lists(segment, min_size=1, max_size=3).map("/".join).filter(_is_name)


def addresses() -> st.SearchStrategy[Address]:
    """Return addresses; no object need have them."""
    return st.binary(min_size=32, max_size=32).map(lambda digest: Address(b"\x1e" + digest))


def sealed_objects(max_nbytes: int = 40_000) -> st.SearchStrategy[SealedObject]:
    """Return fragments ready to be stored, of one page or several, compressed or plain.

    Parameters
    ----------
    max_nbytes : int
        Length of the largest payload.
    """
    sizes = st.sampled_from([0, 1, 64, 16_383, 16_384, 16_385, max_nbytes]).map(
        lambda size: min(size, max_nbytes)
    )
    return st.builds(_sealed, sizes, st.integers(0, 255), st.booleans())


def _sealed(size: int, byte: int, compress: bool) -> SealedObject:
    return seal(Kind.FRAGMENT, [bytes([byte]) * size], compress=compress)


def log_entries() -> st.SearchStrategy[LogEntry]:
    """Return moves of refs as reflogs record them."""
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    value = st.none() | addresses()
    return st.builds(LogEntry, st.integers(0, (1 << 62) - 1), value, value, texts, texts)
