"""Progress of long work, on a terminal only."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

__all__ = ["Progress"]


class Progress:
    """A counter that draws itself, or does nothing.

    Parameters
    ----------
    total : int or None
        How many units there will be, if that is known.
    unit : str
        What is counted.
    shown : bool
        Whether it is drawn.
    """

    def __init__(self, total: int | None, unit: str, *, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=f" {unit}", unit_scale=True, leave=False)

    def advance(self, count: int) -> None:
        """Count some units."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
