"""Publishing codecs and spatial indexes: objects that fields of any dataset in a space name.

Source: design/0017 section 3, design/0018 section 5.
"""

from __future__ import annotations

from typing import Any

from dreamdb.dataset.session import BackendLike, open_space
from dreamdb.index import train_centroids
from dreamdb.objects import Kind, seal
from dreamdb.vectors import Codec, seed_bytes
from dreamdb.write import publish

__all__ = ["publish_codec", "publish_rabitq_compressor", "train_and_publish_ivf_centroids"]


def publish_codec(backend: BackendLike, name: str, dim: int, seed: int | bytes = 0) -> bytes:
    """Publish a codec and return its address, for ``compressor=``.

    Parameters
    ----------
    backend : str, PathLike or Backend
        The space; made when there is none.
    name : str
        ``float32``, ``float16``, ``sq8``, ``rabitq-1``, ``rabitq-2``, ``rabitq-4``, ``rabitq-8``.
    dim : int
        Length of a vector.
    seed : int or bytes
        Chooses the rotation of RaBitQ; the others have none.

    Returns
    -------
    bytes
        33 bytes: the same for the same arguments, in every space.

    Raises
    ------
    SchemaError
        For an unknown name or an unusable dimension.
    """
    codec = Codec(name, dim, seed_bytes(seed) if str(name).startswith("rabitq-") else b"")
    space = open_space(backend, create=True)
    sealed = seal(Kind.CODEC, [codec.encode()], compress=True)
    publish(space.backend, sealed)
    return bytes(sealed.address)


def publish_rabitq_compressor(
    backend: BackendLike, dim: int, seed: int | bytes = 0, bits_per_dim: int = 4
) -> bytes:
    """Publish a RaBitQ codec and return its address, for ``compressor=``.

    Parameters
    ----------
    backend : str, PathLike or Backend
        The space; made when there is none.
    dim : int
        Length of a vector.
    seed : int or bytes
        Chooses the rotation.
    bits_per_dim : int
        1, 2, 4 or 8.

    Returns
    -------
    bytes
        33 bytes: the same for the same arguments, in every space.
    """
    return publish_codec(backend, f"rabitq-{bits_per_dim}", dim, seed)


def train_and_publish_ivf_centroids(
    backend: BackendLike,
    sample: Any,
    dim: int,
    k: int = 256,
    iterations: int = 8,
    seed: int = 0,
    *,
    metric: str = "cosine",
) -> bytes:
    """Train the centroids of a spatial index, publish them, and return their address.

    Parameters
    ----------
    backend : str, PathLike or Backend
        The space; made when there is none.
    sample : array-like of float32, shape (n, dim)
        Vectors such as will be stored.
    dim : int
        Length of a vector.
    k : int
        How many cells; at most as many as there are vectors.
    iterations : int
        Rounds of k-means.
    seed : int
        Chooses the first centroids.
    metric : str
        That of the field's algorithm: ``cosine``, ``dot`` or ``l2``.

    Returns
    -------
    bytes
        33 bytes for ``spatial_index=``: the same for the same arguments on one machine.

    Raises
    ------
    InvalidInputError
        For NaN, infinity, another dimension, or fewer vectors than cells.
    """
    spatial = train_centroids(sample, dim, k, iterations=iterations, seed=seed, metric=metric)
    space = open_space(backend, create=True)
    sealed = seal(Kind.SPATIAL_INDEX, [spatial.encode()], compress=False)
    publish(space.backend, sealed)
    return bytes(sealed.address)
