"""Where a stream stands, and what it depends on: a few JSON values.

Source: design/0019 section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from blake3 import blake3

from dreamdb.errors import StateError
from dreamdb.objects import encode_document
from dreamdb.training.plans import Place
from dreamdb.training.window_plan import Plan

__all__ = ["STATE_KIND", "StreamPlan", "StreamState", "read_state"]

STATE_KIND: Final = "dreamdb.training"
_VERSION: Final = 1
_HINTS: Final = {
    "data": "open the same versions: vd.Dataset.open_by_manifest(manifest, backend=...), with the "
    "same joins and filters",
    "mixture": "mix the same streams in the same proportions, with the same seed",
    "order": "sample with the same order and seed",
    "formation": "collate with the same batch_size, formation, composition and last",
}


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """Everything that the order of a stream depends on.

    Parameters
    ----------
    parts : mapping of str to (sequence of str)
        Data, mixture, order and formation, in words.
    """

    parts: Mapping[str, tuple[str, ...]]

    @property
    def hashes(self) -> dict[str, str]:
        """A short hash of each part."""
        return {
            name: blake3(encode_document({"part": name, "is": list(told)})).digest(length=8).hex()
            for name, told in self.parts.items()
        }

    @property
    def hash(self) -> str:
        """A hash of all parts, and of the version of the rules."""
        document = encode_document(
            {"version": _VERSION, "parts": {name: list(told) for name, told in self.parts.items()}}
        )
        return blake3(document, derive_key_context="dreamdb v1 training plan").digest(16).hex()


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands.

    Parameters
    ----------
    epoch : int
        The epoch of the next batch.
    place : tuple of int
        Where in it.
    step : int
        Steps of this epoch that were taken.
    """

    epoch: int
    place: Place
    step: int = 0

    def to_json(self, plan: StreamPlan) -> dict[str, Any]:
        """Return the state as JSON values.

        Parameters
        ----------
        plan : StreamPlan
            What it belongs to.
        """
        return {
            "kind": STATE_KIND,
            "version": _VERSION,
            "plan": plan.hash,
            "parts": plan.hashes,
            "epoch": self.epoch,
            "place": list(self.place),
            "step": self.step,
        }


def read_state(state: object, plan: StreamPlan, steps: Plan, *, strict: bool = True) -> StreamState:
    """Return a state that belongs to a stream.

    Parameters
    ----------
    state : object
        What a user passed.
    plan : StreamPlan
        What the stream depends on.
    steps : Plan
        For the range of places.
    strict : bool
        Whether every part must be the same; otherwise only the formation, which gives the place
        its meaning.

    Raises
    ------
    StateError
        Naming the first part that differs.
    """
    if not isinstance(state, Mapping) or state.get("kind") != STATE_KIND:
        raise StateError(
            "this is not a state of a training stream",
            hint="pass what state_dict() returned, as a dictionary",
        )
    if state.get("version") != _VERSION:
        raise StateError(f"the state has version {state.get('version')!r}, not {_VERSION}")
    parts = state.get("parts")
    if not isinstance(parts, Mapping):
        raise StateError("the state does not say what it belongs to: it has no parts")
    for name, own in plan.hashes.items():
        if parts.get(name) != own and (strict or name == "formation"):
            raise StateError(
                f"the state is of a stream with another {name}: {parts.get(name)!r}, here {own!r}",
                hint=_HINTS[name] + (f"; here: {'; '.join(plan.parts[name])}"[:400]),
                differs=name,
            )
    epoch, place, step = state.get("epoch"), state.get("place"), state.get("step")
    if not _is_count(epoch) or not _is_count(step):
        raise StateError(f"the state holds epoch={epoch!r} and step={step!r}, not counts")
    if not isinstance(place, (list, tuple)) or not all(map(_is_count, place)):
        raise StateError(f"the state holds place={place!r}, not a list of counts")
    if not steps.check(tuple(place)):
        raise StateError(f"the state's place {list(place)} lies outside an epoch of this stream")
    found = StreamState(epoch, tuple(place), step)
    if steps.is_end(found.place):
        return StreamState(found.epoch + 1, steps.start)
    return found


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
