"""Resume states: a few JSON values, checked before they are used.

Source: design/0009.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from dreamdb.errors import StateError
from dreamdb.objects import encode_document

__all__ = ["StreamIdentity", "find_states"]

_VERSION: Final = 1
_MARK: Final = "dreamdb.stream"
# What the state of one of several workers holds beside the others, and the least value of each.
_OF_WORKER: Final = {"step": 0, "worker": 0, "workers": 1, "world_size": 1}


@dataclass(frozen=True, slots=True)
class StreamIdentity:
    """Everything that the order of a stream depends on, and nothing else.

    Parameters
    ----------
    manifest : str
        The version of the data.
    seed : int or None
        Shuffle seed.
    where : str or None
        The condition, as text.
    batch_size : int
        Records per batch.
    rows : int
        Records of one epoch.
    """

    manifest: str
    seed: int | None
    where: str | None
    batch_size: int
    rows: int

    @property
    def plan(self) -> str:
        """Short hash of all of it, and of the version of the order itself."""
        document = encode_document(
            {
                "version": _VERSION,
                "manifest": self.manifest,
                "seed": self.seed,
                "where": self.where,
                "batch_size": self.batch_size,
                "rows": self.rows,
            }
        )
        return blake3(document, derive_key_context="dreamdb v1 plan").digest(length=16).hex()

    def state(self, epoch: int, position: int, **more: int) -> dict[str, Any]:
        """Return the state of a stream at a position.

        Parameters
        ----------
        epoch, position : int
            Where it stands.
        **more : int
            What one of several workers adds.
        """
        return {
            "kind": _MARK,
            "version": _VERSION,
            "manifest": self.manifest,
            "seed": self.seed,
            "where": self.where,
            "batch_size": self.batch_size,
            "plan": self.plan,
            "epoch": epoch,
            "position": position,
            **more,
        }

    def check(self, state: Any) -> Mapping[str, Any]:
        """Return a state that belongs to this stream.

        Parameters
        ----------
        state : object
            What a user passed.

        Raises
        ------
        StateError
            Naming the first thing that differs.
        """
        if not isinstance(state, Mapping) or state.get("kind") != _MARK:
            raise StateError(
                "this is not a state of a DreamDB stream",
                hint="pass what state_dict() returned, as a dictionary",
            )
        if state.get("version") != _VERSION:
            raise StateError(f"the state has version {state.get('version')!r}, not {_VERSION}")
        for name, own in (
            ("manifest", self.manifest),
            ("seed", self.seed),
            ("where", self.where),
            ("batch_size", self.batch_size),
            ("plan", self.plan),
        ):
            if name not in state or state[name] != own:
                raise StateError(
                    f"the state is of another {name}: {state.get(name)!r}, here {own!r}",
                    hint=_HINTS.get(name),
                    differs=name,
                    state=state.get(name),
                    here=own,
                )
        counts = dict.fromkeys(("epoch", "position"), 0)
        if any(name in state for name in _OF_WORKER):
            counts |= _OF_WORKER
        for name, least in counts.items():
            value = state.get(name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise StateError(f"the state holds {name}={value!r}, not a count from {least} on")
        if state["position"] > self.rows:
            raise StateError(f"the state's position {state['position']} is not below {self.rows}")
        if state.get("worker", 0) >= state.get("workers", 1):
            raise StateError(f"the state holds worker {state['worker']} of {state['workers']}")
        return state


_HINTS: Final = {
    "manifest": "open that version: Dataset.open_by_manifest(state['manifest'], backend=...)",
    "seed": "pass the same shuffle_seed",
    "where": "pass the same condition",
    "batch_size": "pass the same batch_size; the number of ranks and workers may change",
}


def find_states(state: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every stream state inside a loader's state, in order.

    Parameters
    ----------
    state : object
        Nested dictionaries, such as ``StatefulDataLoader.state_dict()``.
    """
    if isinstance(state, Mapping):
        if state.get("kind") == _MARK:
            yield state
        else:
            for value in state.values():
                yield from find_states(value)
