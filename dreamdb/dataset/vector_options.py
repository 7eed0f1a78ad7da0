"""What a schema says about codecs and indexes, and what that means in a space.

Source: design/0017 section 2, design/0018 section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dreamdb.errors import DreamDBError, InvalidInputError, SchemaError
from dreamdb.index import IndexRoot, SpatialIndex
from dreamdb.model import Field
from dreamdb.objects import Kind, from_text, to_text
from dreamdb.store import ObjectCache
from dreamdb.types import Address
from dreamdb.vectors import CODECS, Codec, seed_bytes

__all__ = [
    "DEFAULT_CODEC",
    "VectorOptions",
    "bind_field",
    "bind_fields",
    "check_options",
    "load_codec",
    "load_spatial_index",
    "metric_of_field",
]

DEFAULT_CODEC: Final = "rabitq-4"


@dataclass(frozen=True, slots=True)
class VectorOptions:
    """How a field of vectors is stored and found.

    Parameters
    ----------
    spatial_index : Address or None
        Published centroids.
    compressor : Address, str or None
        A published codec, or a codec's name.
    rerank : bool
        Store the vectors exactly too.
    """

    spatial_index: Address | None = None
    compressor: Address | str | None = None
    rerank: bool = False


def check_options(spatial_index: object, compressor: object, rerank: object) -> VectorOptions:
    """Return options as given to a schema, checked as far as can be without a space.

    Parameters
    ----------
    spatial_index, compressor : bytes, str or None
        33 bytes or 53 characters of a published object; for a codec also its name.
    rerank : bool
        Store the vectors exactly too.

    Raises
    ------
    SchemaError
        When something cannot be an address or a name.
    """
    if not isinstance(rerank, bool):
        raise SchemaError(f"rerank is True or False, not {rerank!r}")
    if isinstance(compressor, str) and compressor in CODECS:
        return VectorOptions(_address(spatial_index, "spatial_index"), compressor, rerank)
    return VectorOptions(
        _address(spatial_index, "spatial_index"), _address(compressor, "compressor"), rerank
    )


def _address(given: object, what: str) -> Address | None:
    if given is None:
        return None
    if isinstance(given, (bytes, bytearray)) and len(given) == 33 and given[0] == 0x1E:
        return Address(bytes(given))
    if isinstance(given, str):
        try:
            return from_text(given)
        except InvalidInputError:
            pass
    names = f", or one of {CODECS}" if what == "compressor" else ""
    raise SchemaError(
        f"{what}={given!r} is not the address of a published object",
        hint="give the 33 bytes that publish_codec, publish_rabitq_compressor or "
        f"train_and_publish_ivf_centroids returned{names}",
    )


def load_codec(cache: ObjectCache, given: Address | str, dim: int) -> Codec:
    """Return a codec by name or from its object.

    Parameters
    ----------
    cache : ObjectCache
        The space's objects.
    given : Address or str
        Which.
    dim : int
        What it must encode.

    Raises
    ------
    SchemaError
        When there is no such codec in the space, or it is of another dimension.
    """
    if isinstance(given, str):
        return Codec(given, dim, seed_bytes(0) if given.startswith("rabitq") else b"")
    try:
        codec = Codec.decode(cache.open(given, Kind.CODEC).view())
    except DreamDBError as error:
        raise SchemaError(
            f"there is no codec {to_text(given)} in this space: {error}",
            hint="publish it there first: publish_codec(backend, name, dim)",
        ) from None
    if codec.dim != dim:
        raise SchemaError(f"the codec is of dimension {codec.dim}, the field of {dim}")
    return codec


def load_spatial_index(cache: ObjectCache, given: Address, dim: int, metric: str) -> SpatialIndex:
    """Return a spatial index from its object.

    Parameters
    ----------
    cache : ObjectCache
        The space's objects.
    given : Address
        Which.
    dim, metric
        What it must be made for.

    Raises
    ------
    SchemaError
        When there is none in the space, or it is of another dimension or metric.
    """
    try:
        spatial = SpatialIndex.decode(cache.open(given, Kind.SPATIAL_INDEX).view())
    except DreamDBError as error:
        raise SchemaError(
            f"there is no spatial index {to_text(given)} in this space: {error}",
            hint="train it there first: train_and_publish_ivf_centroids(backend, sample, ...)",
        ) from None
    if spatial.dim != dim:
        raise SchemaError(f"the spatial index is of dimension {spatial.dim}, the field of {dim}")
    if spatial.metric != metric:
        raise SchemaError(
            f"the spatial index was trained for {spatial.metric}, the field's metric is {metric}",
            hint=f"train it with metric={metric!r}, or let the field's algorithm be "
            f"'dreamdb.ivf-{spatial.metric}'",
        )
    return spatial


def metric_of_field(field: Field) -> str:
    """Return the similarity of an embedding field.

    Parameters
    ----------
    field : Field
        An embedding.
    """
    return (field.algorithm or "dreamdb.flat-cosine").rsplit("-", 1)[1]


def bind_field(
    cache: ObjectCache, field: Field, options: VectorOptions
) -> tuple[Field, IndexRoot | None]:
    """Return a field as it is stored, and how it is indexed.

    Parameters
    ----------
    cache : ObjectCache
        The space's objects.
    field : Field
        An embedding.
    options : VectorOptions
        What the schema says.

    Raises
    ------
    SchemaError
        When an object is missing or does not fit.
    """
    dim, metric = int(field.type.dim or 0), metric_of_field(field)
    codec = None
    if options.compressor is not None:
        codec = load_codec(cache, options.compressor, dim)
        if codec.name == "float32":
            codec = None
    coded = codec is not None and not options.rerank
    if codec is not None and options.rerank and not codec.bits:
        raise SchemaError(
            f"the field {field.name!r} keeps exact vectors, and an index has RaBitQ codes, not "
            f"{codec.name}",
            hint="leave rerank out to store the codes alone, or use a rabitq compressor",
            field=field.name,
        )
    if coded and codec is not None:
        field = replace(field, type=replace(field.type, codec=codec.text))
    fine = codec if codec is not None and codec.bits else load_codec(cache, DEFAULT_CODEC, dim)
    if coded:
        # The stored codes are at hand: the index needs no finer ones of its own.
        fine = Codec("rabitq-1", dim, fine.seed)
    if options.spatial_index is not None:
        load_spatial_index(cache, options.spatial_index, dim, metric)
        return field, IndexRoot(fine, metric, options.spatial_index)
    if codec is not None and not coded:
        return field, IndexRoot(fine, metric)
    return field, None


def bind_fields(
    cache: ObjectCache, fields: Mapping[str, Field], options: Mapping[str, VectorOptions]
) -> tuple[dict[str, Field], dict[str, IndexRoot]]:
    """Return all fields as they are stored, and how they are indexed.

    Parameters
    ----------
    cache : ObjectCache
        The space's objects.
    fields : mapping of str to Field
        As the schema has them.
    options : mapping of str to VectorOptions
        What it says about some.
    """
    bound, indexes = dict(fields), {}
    for name, own in options.items():
        bound[name], index = bind_field(cache, bound[name], own)
        if index is not None:
            indexes[name] = index
    return bound, indexes
