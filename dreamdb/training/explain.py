"""EXPLAIN DATA: how a training stream is made, and what that costs.

Source: design/0019 section 9.
"""

from __future__ import annotations

import html
import itertools
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from dreamdb.stream import BlockOrder
from dreamdb.training.columns import Column, Stored, read_values
from dreamdb.training.formation import Packing
from dreamdb.training.relation import Relation
from dreamdb.training.sampling import GlobalShuffle, HashBucketed, ShardAwareShuffle
from dreamdb.training.window_plan import WindowPlan

if TYPE_CHECKING:
    from dreamdb.training.batches import BatchStream

__all__ = ["Explanation", "Section", "explain"]

_LABELS: Final = ("label_id", "label", "class", "source", "creator_id")
_SAMPLE: Final = 65_536
_WINDOWS: Final = 4


@dataclass
class Section:
    """One part of an explanation.

    Parameters
    ----------
    title : str
        What it is about.
    facts : list of (str, str)
        Names and values.
    """

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        """Add a fact.

        Parameters
        ----------
        name, value : str
            The fact.
        """
        self.facts.append((name, value))


@dataclass
class Explanation:
    """How a stream is made; printed as text, shown as a table in notebooks.

    Parameters
    ----------
    sections : list of Section
        In the order of the data's way.
    """

    sections: list[Section]

    def __getitem__(self, title: str) -> dict[str, str]:
        """Return the facts of a section.

        Parameters
        ----------
        title : str
            Its title.
        """
        (found,) = [section for section in self.sections if section.title == title]
        return dict(found.facts)

    def __str__(self) -> str:
        lines = []
        for section in self.sections:
            lines.append(section.title)
            width = max((len(name) for name, _ in section.facts), default=0)
            lines += [f"  {name:<{width}}  {value}" for name, value in section.facts]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = []
        for section in self.sections:
            rows.append(f'<tr><th colspan="2">{html.escape(section.title)}</th></tr>')
            rows += [
                f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>"
                for name, value in section.facts
            ]
        return "<table>" + "".join(rows) + "</table>"


def explain(stream: BatchStream, *, analyze: bool, steps: int, world_size: int) -> Explanation:
    """Return how a stream is made.

    Parameters
    ----------
    stream : BatchStream
        The stream.
    analyze : bool
        Run some steps, and say where their time went.
    steps : int
        How many.
    world_size : int
        For how many ranks.

    Notes
    -----
    Cost: evaluates joins and filters; with a formation the lengths of a few windows, for the skew
    of labels one column.
    """
    sections = [
        *_populations(stream),
        _order(stream, world_size),
        _batches(stream, world_size),
        _reading(stream, world_size),
    ]
    if analyze:
        sections.append(_measured(stream, steps, world_size))
    return Explanation(sections)


def _populations(stream: BatchStream) -> list[Section]:
    members, sections = stream.members, []
    for name, count, population, source in zip(
        members.names,
        members.counts,
        members.populations,
        stream.sampled.source.streams,
        strict=True,
    ):
        section = Section(f"stream {name}")
        for text, rows in source.relation.steps():
            section.add(text, f"{rows:,} rows")
        share = count / members.total
        section.add("per epoch", f"{count:,} samples, {share:.1%} of {members.total:,}")
        if count > population.count:
            section.add("repeats", f"{count / population.count:.2f} times through in an epoch")
        elif count < population.count:
            epochs = math.ceil(population.count / count)
            section.add("shortfall", f"{epochs} epochs show it once")
        sections.append(section)
    return sections


def _order(stream: BatchStream, world_size: int) -> Section:
    order, members = stream.sampled.order, stream.members
    section = Section("order")
    section.add("kind", repr(order))
    section.add("plan", stream.plan.hash)
    if isinstance(order, GlobalShuffle):
        section.add("randomness", "a true permutation: batches spread as random samples do")
    if isinstance(order, HashBucketed):
        largest = max(p.count for p in members.populations) / order.bucket_count
        section.add("buckets", f"{order.bucket_count:,} of about {largest:,.0f} samples")
    if not isinstance(order, ShardAwareShuffle):
        return section
    row_nbytes = stream.assembler.row_nbytes
    for name, built in zip(members.names, members.orders, strict=True):
        assert isinstance(built, BlockOrder)
        sizes = built.sizes[built.sizes > 0]
        lanes = order.lanes or 1
        block = min(order.shuffle_block_size, built.count)
        # Granules whose rows are mixed at any time.
        mixed = min(len(sizes), max(1.0, block * lanes / max(1.0, float(sizes.mean()))))
        step = (stream.batch_size or 1) * world_size
        section.add(
            f"granules of {name}",
            f"{len(sizes):,} of {sizes.mean():,.0f} rows; {lanes} lanes, blocks of {block:,}; "
            f"about {mixed:,.0f} open at once, {mixed * sizes.mean() * row_nbytes / 1e6:,.1f} MB",
        )
        # Of labels sorted by granule: what is mixed at once limits how even a batch can be.
        worst = 1.0 if block * lanes >= built.count else math.sqrt(1 + step / mixed)
        section.add(
            f"spread of {name}",
            f"batch means vary at most {worst:.2f} times as much as in a true permutation",
        )
        readers = 1 if lanes % world_size == 0 else world_size
        section.add(
            f"reads of {name}", f"each granule by {readers} of {world_size} ranks in a pass"
        )
    skew = _skew(stream)
    if skew:
        section.add("skew", skew)
    return section


def _skew(stream: BatchStream) -> str:
    """Return how unevenly a label lies over the granules of the first stream."""
    source = stream.sampled.source.streams[0].relation
    name = next((n for n in _LABELS if n in source.columns), None)
    population = stream.members.populations[0]
    if name is None or not population.count:
        return ""
    order = stream.members.orders[0]
    sizes = order.sizes if isinstance(order, BlockOrder) else population.granules()
    sizes = sizes[sizes > 0]
    count = min(population.count, _SAMPLE)
    index = np.arange(count, dtype=np.int64)
    columns: dict[str, Column] = {name: source.column(name)}
    values, _ = read_values(population.views, columns, [str(name)], population.rows(index))[name]
    _, codes = np.unique(np.asarray([str(v) for v in values]), return_inverse=True)
    granule = np.searchsorted(np.cumsum(sizes), index, "right")
    table = np.zeros((int(granule.max()) + 1, int(codes.max()) + 1))
    np.add.at(table, (granule, codes), 1)
    whole = table.sum(0) / table.sum()
    parts = table / table.sum(1, keepdims=True)
    apart = float((np.abs(parts - whole).sum(1) / 2 * table.sum(1)).sum() / table.sum())
    told = (
        f"{apart:.0%} of the samples of a granule would have to change {name!r} to match the rest"
    )
    return told + (f" (first {count:,} rows)" if count < population.count else "")


def _batches(stream: BatchStream, world_size: int) -> Section:
    section = Section("batches")
    steps, members = stream.steps, stream.members
    if not isinstance(steps, WindowPlan):
        size = stream.batch_size or 1
        count = steps.count(0, steps.start, world_size)
        dropped = members.total - size * world_size * count if stream.drop_last else 0
        section.add("formation", f"{size:,} samples per rank, {size * world_size:,} per step")
        section.add("steps per epoch", f"{count:,} for {world_size} ranks")
        section.add("dropped", f"{max(0, dropped):,} samples per epoch")
        return section
    section.add("formation", repr(stream.formation))
    real = padded = batches = samples = 0
    fill: list[float] = []
    looked = min(_WINDOWS, steps.num_windows)
    for number in range(looked):
        window = steps.window(0, number)
        for cost in stream.forming.costs(window.members, window.batches):
            real, padded = real + cost.real, padded + cost.padded
            fill.append(cost.fill)
        batches += len(window.batches)
        samples += len(window.members)
    section.add("windows", f"{steps.num_windows:,}; the first {looked} were formed")
    section.add("batches", f"{batches:,} of {samples / max(1, batches):,.1f} samples on average")
    section.add("padding", f"{real / max(1, padded):.1%} of the padded size is data")
    if fill and not isinstance(stream.formation, Packing):
        section.add(
            "fill", f"{np.mean(fill):.1%} of the budget on average, {max(fill):.1%} at most"
        )
    composition = stream.composition
    section.add("composition", "as it comes" if composition is None else repr(composition))
    section.add("last", "dropped" if stream.drop_last else "kept")
    return section


def _reading(stream: BatchStream, world_size: int) -> Section:
    section = Section("reading")
    total = 0
    source = stream.sampled.source.streams[0].relation
    for name in stream.assembler.stored_columns:
        each = _stored_nbytes(source, name)
        total += each
        section.add(name, f"{each:,} bytes per sample")
    rows = (stream.batch_size or 1) * world_size
    section.add("all", f"{total:,} bytes per sample, {total * rows:,} per step of {rows:,}")
    section.add("computed", ", ".join(m.describe() for m in stream.sampled.maps) or "nothing")
    for name, collation in stream.fields.items():
        section.add(f"field {name}", collation.describe())
    return section


def _stored_nbytes(source: Relation, name: str) -> int:
    column = source.column(name)
    if not isinstance(column, Stored):
        return 8
    track = source._datasets[column.side]._view.track(column.field)
    return -(-track.nbytes // max(1, track.rows))


def _measured(stream: BatchStream, steps: int, world_size: int) -> Section:
    section = Section("measured")
    seconds: dict[str, float] = {}
    cache = stream.sampled.source.streams[0].relation._datasets[0]._space.cache
    before = cache.counters
    begin = time.perf_counter()
    planned = stream.steps.batches(0, stream.steps.start, 0, world_size)
    some = itertools.islice(planned, steps)
    count = samples = failed = nbytes = 0
    first = 0.0
    for (_, batch), made in stream.assembler.batches(some, lambda item: item[1]):
        first = first or time.perf_counter() - begin
        count, samples, failed = count + 1, samples + len(batch), failed + len(made.failed)
        nbytes += sum(v.nbytes for v in made.fields.values() if isinstance(v, np.ndarray))
        for name, spent in made.seconds.items():
            seconds[name] = seconds.get(name, 0.0) + spent
    whole = time.perf_counter() - begin
    section.add("steps", f"{count:,}, {samples:,} samples, {failed:,} failed")
    section.add("first batch", f"{first * 1e3:.1f} ms")
    section.add("rate", f"{samples / max(whole, 1e-9):,.0f} samples/s, one thread")
    section.add("arrays", f"{nbytes / max(1, samples):,.0f} bytes per sample")
    for name, spent in seconds.items():
        section.add(
            name, f"{spent / max(whole, 1e-9):.0%}, {spent / max(1, count) * 1e3:.2f} ms a step"
        )
    rest = whole - sum(seconds.values())
    section.add("plan and rest", f"{rest / max(whole, 1e-9):.0%}")
    after = cache.counters
    loads, hits = after.misses - before.misses, after.hits - before.hits
    section.add("cache", f"{hits:,} objects found opened, {loads:,} opened")
    return section
