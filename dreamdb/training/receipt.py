"""Training receipts: what a run has seen, kept beside the data, replayable batch by batch.

Source: design/0019 section 11.  A receipt is a snapshot whose notes say what was trained on, so
that everything which knows snapshots (inspect, push, verify, garbage collection) knows receipts.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from dreamdb.dataset import BackendLike, Dataset, connect
from dreamdb.errors import AlreadyExistsError, FormatError, RefNotFoundError, StateError

if TYPE_CHECKING:
    from dreamdb.training.batches import BatchStream

__all__ = ["Receipt", "Replayed", "read_receipt", "write_receipt"]

_MARK: Final = "receipt"
_PACKAGES: Final = ("dreamdb", "numpy", "pyarrow", "torch", "pillow", "av", "tokenizers")


@dataclass(frozen=True, slots=True)
class Replayed:
    """One batch of a run, made again.

    Parameters
    ----------
    epoch : int
        Of which epoch.
    rank : int
        Which rank saw it.
    fields : dict of str to ndarray or list
        The batch.
    """

    epoch: int
    rank: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Receipt:
    """What a run has seen.

    Parameters
    ----------
    name : str
        The snapshot that holds it.
    manifests : sequence of str
        The versions of all datasets that were read.
    plan : str
        Hash of everything that the order depends on.
    fields : str
        Hash of everything that the content of batches depends on beside it.
    told : mapping of str to (sequence of str)
        The plan in words.
    seed : str
        The seeds.
    consumed : sequence of dict
        Runs of steps: epoch, place, steps and world size of each.
    versions : mapping of str to str
        Of the packages that took part.
    """

    name: str
    manifests: Sequence[str]
    plan: str
    fields: str
    told: Mapping[str, Sequence[str]]
    seed: str
    consumed: Sequence[Mapping[str, Any]]
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return sum(span["steps"] * span.get("epochs", 1) for span in self.consumed)

    def to_notes(self) -> dict[str, str]:
        """Return the receipt as the notes of a snapshot."""
        return {
            _MARK: "1",
            f"{_MARK}.plan": self.plan,
            f"{_MARK}.fields": self.fields,
            f"{_MARK}.manifests": " ".join(self.manifests),
            f"{_MARK}.seed": self.seed,
            f"{_MARK}.consumed": json.dumps(list(self.consumed), separators=(",", ":")),
            f"{_MARK}.versions": " ".join(f"{n}=={v}" for n, v in self.versions.items()),
            **{f"{_MARK}.{name}": " | ".join(said) for name, said in self.told.items()},
        }

    @classmethod
    def from_notes(cls, name: str, notes: Mapping[str, str]) -> Receipt:
        """Return the receipt that a snapshot's notes hold.

        Parameters
        ----------
        name : str
            The snapshot's name.
        notes : mapping of str to str
            Its notes.

        Raises
        ------
        FormatError
            When they are not a receipt's.
        """
        try:
            if notes[_MARK] != "1":
                raise FormatError(f"the receipt {name!r} has version {notes[_MARK]!r}")
            consumed = json.loads(notes[f"{_MARK}.consumed"])
            for span in consumed:
                if min(span["epoch"], span["steps"], span["world"]) < 0 or not span["place"]:
                    raise ValueError(span)
            pairs = [text.partition("==") for text in notes[f"{_MARK}.versions"].split()]
            return cls(
                name,
                notes[f"{_MARK}.manifests"].split(),
                notes[f"{_MARK}.plan"],
                notes[f"{_MARK}.fields"],
                {
                    part: notes[f"{_MARK}.{part}"].split(" | ")
                    for part in ("data", "mixture", "order", "formation")
                },
                notes[f"{_MARK}.seed"],
                consumed,
                {package: version for package, _, version in pairs},
            )
        except (KeyError, ValueError, TypeError) as error:
            raise FormatError(
                f"the snapshot {name!r} is not a training receipt: {error!r}",
                hint="loader.receipt(name) writes one",
            ) from None

    def check(self, stream: BatchStream) -> None:
        """Raise unless a stream is the one that was trained on.

        Parameters
        ----------
        stream : BatchStream
            The stream, made again.

        Raises
        ------
        StateError
            Naming what differs.
        """
        for name, said in stream.plan.parts.items():
            if list(said) != list(self.told[name]):
                raise StateError(
                    f"the stream has another {name} than the receipt {self.name!r}: "
                    f"{'; '.join(said)}, there {'; '.join(self.told[name])}",
                    hint="make the stream as it was; its manifests are receipt.manifests",
                    differs=name,
                )
        for name, own, there in (
            ("fields", fields_hash(stream), self.fields),
            ("plan", stream.plan.hash, self.plan),
        ):
            if own != there:
                raise StateError(
                    f"the stream has another {name} than the receipt {self.name!r}",
                    hint="collate the same fields, with the same transforms",
                    differs=name,
                )

    def replay(self, stream: BatchStream, rank: int | None = None) -> Iterator[Replayed]:
        """Yield every batch of the run again, in order, bit by bit.

        Parameters
        ----------
        stream : BatchStream
            The stream, made again.
        rank : int, optional
            Only this rank's batches; default: all, step by step.

        Raises
        ------
        StateError
            When the stream is another one.
        """
        self.check(stream)
        for span in self.consumed:
            for epoch in range(span["epoch"], span["epoch"] + span.get("epochs", 1)):
                place, world = tuple(span["place"]), span["world"]
                ranks = range(world) if rank is None else [rank]
                runs = [
                    itertools.islice(stream.steps.batches(epoch, place, r, world), span["steps"])
                    for r in ranks
                ]
                for batches in zip(*runs, strict=True):
                    for one, (_, batch) in zip(ranks, batches, strict=True):
                        yield Replayed(epoch, one, stream.assembler(batch).fields)


def fields_hash(stream: BatchStream) -> str:
    """Return a hash of what the content of batches depends on beside their samples.

    Parameters
    ----------
    stream : BatchStream
        The stream.
    """
    told = [f"{name}={collation.describe()}" for name, collation in stream.fields.items()]
    told += [mapped.describe() for mapped in stream.sampled.maps]
    told.append(stream.on_error)
    return blake3("\n".join(told).encode()).digest(length=16).hex()


def write_receipt(
    name: str,
    stream: BatchStream,
    consumed: Sequence[Mapping[str, Any]],
    *,
    message: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> Receipt:
    """Keep what a run has seen, and the versions it read.

    Parameters
    ----------
    name : str
        The snapshot to make, in the space of the first dataset.  Versions of other datasets are
        kept as ``<name>.source-1`` and so on, each in its own space.
    stream : BatchStream
        What was trained on.
    consumed : sequence of dict
        Runs of steps, as ``TrainingLoader.consumed`` says them.
    message : str, optional
        Why it is kept.
    notes : mapping of str to str, optional
        Further notes, such as a model's hash.

    Raises
    ------
    AlreadyExistsError
        When a ref has that name.

    Notes
    -----
    Cost: 1 small object and 1 ref per dataset version.
    """
    receipt = Receipt(
        name,
        stream.manifests,
        stream.plan.hash,
        fields_hash(stream),
        {part: list(said) for part, said in stream.plan.parts.items()},
        f"order {stream.sampled.order.seed} mixture {stream.sampled.source.seed}",
        _merged(consumed),
        _versions(),
    )
    sources = _sources(stream)
    names = [name, *(f"{name}.source-{i}" for i in range(1, len(sources)))]
    for label, source in zip(names, sources, strict=True):
        if label in connect(source._space.backend).list_refs(label):
            raise AlreadyExistsError(
                f"ref {label!r} exists already in {source.backend}",
                hint="receipts never change: choose another name",
                ref=label,
            )
    said = message or f"training receipt: {receipt.steps:,} steps"
    # The receipt itself comes last: where it is, everything that it names is kept.
    for label, source in list(zip(names, sources, strict=True))[:0:-1]:
        source.snapshot(label, message=f"read by the training run {name}")
    sources[0].snapshot(name, message=said, metadata={**(notes or {}), **receipt.to_notes()})
    return receipt


def read_receipt(name: str, backend: BackendLike) -> Receipt:
    """Return a receipt.

    Parameters
    ----------
    name : str
        The snapshot that holds it.
    backend : str, PathLike or Backend
        Its space.

    Raises
    ------
    RefNotFoundError
        When there is none of that name.
    FormatError
        When it is not a receipt.
    """
    for ref in connect(backend).refs(name):
        if ref.name == name:
            return Receipt.from_notes(name, ref.metadata)
    raise RefNotFoundError(f"there is no receipt {name!r} in {backend}", ref=name)


def _sources(stream: BatchStream) -> list[Dataset]:
    """Return a handle of every version that is read, each once."""
    found: dict[tuple[str, str], Dataset] = {}
    for source in stream.sampled.source.streams:
        for dataset in source.relation._datasets:
            found.setdefault((dataset.backend, dataset.current_manifest()), dataset)
    return list(found.values())


def _merged(consumed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return runs of steps, equal runs of consecutive epochs as one."""
    out: list[dict[str, Any]] = []
    for span in consumed:
        last = out[-1] if out else None
        same = last is not None and all(span[n] == last[n] for n in ("place", "steps", "world"))
        if last is not None and same and span["epoch"] == last["epoch"] + last.get("epochs", 1):
            last["epochs"] = last.get("epochs", 1) + span.get("epochs", 1)
        else:
            out.append(dict(span))
    return out


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
