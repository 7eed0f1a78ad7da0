"""A decoder of stored rows written from design/0017 alone: standard library and blake3."""

from __future__ import annotations

import math
import struct

from blake3 import blake3


def f32(value: float) -> float:
    """Round to the nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def decode_row(text: str, dim: int, row: bytes) -> list[float]:
    """Return the vector that a stored row stands for."""
    name, _, seed = text.partition(":")
    if name == "float16":
        return list(struct.unpack(f"<{dim}e", row))
    if name == "sq8":
        (scale,) = struct.unpack_from("<f", row)
        return [f32(level * scale) for level in struct.unpack_from(f"<{dim}b", row, 4)]
    bits = int(name.removeprefix("rabitq-"))
    size = max(64, -(-dim // 64) * 64)
    (scale,) = struct.unpack_from("<f", row)
    packed = int.from_bytes(row[8:], "little")
    levels = [packed >> (bits * j) & (2**bits - 1) for j in range(size)]
    y = [f32((level - (2**bits - 1) / 2) * scale) for level in levels]
    return _unrotate(y, bytes.fromhex(seed), size)[:dim]


def _unrotate(y: list[float], seed: bytes, size: int) -> list[float]:
    power = 1 << (size.bit_length() - 1)
    rounds = 3 if power == size else 4
    stream = blake3(b"dreamdb rotation\0" + seed).digest(length=rounds * size // 8)
    negative = int.from_bytes(stream, "little")
    factor = f32(1 / math.sqrt(power))
    kac = f32(math.sqrt(0.5))
    half = size // 2
    for turn in reversed(range(rounds)):
        if power != size:
            low = [f32(f32(a + b) * kac) for a, b in zip(y[:half], y[half:], strict=True)]
            high = [f32(f32(a - b) * kac) for a, b in zip(y[:half], y[half:], strict=True)]
            y = low + high
        at = 0 if turn % 2 == 0 else size - power
        y[at : at + power] = [f32(v * factor) for v in _hadamard(y[at : at + power])]
        y = [-v if negative >> (turn * size + j) & 1 else v for j, v in enumerate(y)]
    return y


def _hadamard(x: list[float]) -> list[float]:
    half = 1
    while half < len(x):
        for start in range(0, len(x), 2 * half):
            for j in range(start, start + half):
                a, b = x[j], x[j + half]
                x[j], x[j + half] = f32(a + b), f32(a - b)
        half *= 2
    return x
