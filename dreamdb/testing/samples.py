"""What the checks are made of: numbered objects and refs, and threads that start at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from dreamdb.errors import RefConflictError
from dreamdb.objects import Kind, OpenedObject, SealedObject, seal
from dreamdb.store import Backend, RefValue
from dreamdb.types import Address

__all__ = [
    "Check",
    "OpenSpace",
    "count_up",
    "numbered_address",
    "numbered_value",
    "payload_of",
    "raises",
    "run_together",
    "sample_object",
    "store_all",
]

OpenSpace: TypeAlias = Callable[[], Backend]
"""Returns a new handle of one space, which is empty when the check starts."""

Check: TypeAlias = Callable[[OpenSpace], None]
"""Fails with an AssertionError when the backend breaks its promise."""


def sample_object(number: int, nbytes: int = 100, *, compress: bool = False) -> SealedObject:
    """Return a sealed fragment whose payload depends on the number only."""
    pattern = f"payload {number} ".encode()
    payload = (pattern * (nbytes // len(pattern) + 1))[:nbytes]
    return seal(Kind.FRAGMENT, [payload], compress=compress)


def numbered_address(number: int) -> Address:
    """Return an address that stands for a number; see :func:`numbered_value`."""
    return Address(b"\x1e" + number.to_bytes(32, "big"))


def numbered_value(value: RefValue | None) -> int:
    """Return the number that a ref's value stands for, 0 without a ref."""
    return 0 if value is None else int.from_bytes(value.address[1:], "big")


def count_up(backend: Backend, name: str, times: int) -> int:
    """Add one to a ref as often as asked, each by compare-and-swap; return the conflicts met."""
    conflicts = 0
    done = 0
    while done < times:
        held = backend.refs.read(name)
        try:
            backend.refs.swap(name, held, numbered_address(numbered_value(held) + 1))
        except RefConflictError:
            conflicts += 1
        else:
            done += 1
    return conflicts


def run_together(functions: list[Callable[[], None]]) -> None:
    """Run functions in threads that start at once; raise the first error of any."""
    start = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        start.wait()
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def store_all(backend: Backend, *objects: SealedObject) -> list[bool]:
    """Store objects in one upload; return for each whether it was new."""
    upload = backend.objects.upload()
    new = [upload.put(sealed) for sealed in objects]
    upload.finish()
    return new


def payload_of(backend: Backend, address: Address) -> bytes:
    """Return the payload of a stored fragment, verified."""
    return bytes(OpenedObject(address, backend.objects.open(address), Kind.FRAGMENT).view())


def raises(expected: type[Exception], call: Callable[..., object], *arguments: object) -> Exception:
    """Return the error of a class that a call raises; an AssertionError when it does not."""
    try:
        call(*arguments)
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")
