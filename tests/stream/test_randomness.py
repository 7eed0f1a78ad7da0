"""Counter-based randomness against its published test vectors."""

from __future__ import annotations

import numpy as np

from dreamdb.stream import philox, uniforms


def test_published_vectors() -> None:
    # Random123 1.14, tests/kat_vectors, philox4x32 with 10 rounds.
    for counter, key, wanted in (
        ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0_A4093822,
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ):
        (found,) = philox(key, np.array([counter], np.uint32)).tolist()
        assert " ".join(f"{word:08x}" for word in found) == wanted


def test_numbers_of_a_sample_do_not_depend_on_its_neighbours() -> None:
    ids = np.array([5, 2**63 + 1, 9], np.uint64)
    together = uniforms(77, ids, 6)
    assert together.shape == (3, 6)
    assert np.array_equal(uniforms(77, ids[1:2], 6)[0], together[1])
    assert np.array_equal(uniforms(77, ids, 3), together[:, :3])
    assert not np.array_equal(uniforms(78, ids, 6), together)


def test_numbers_are_even() -> None:
    numbers = uniforms(1, np.arange(40_000, dtype=np.uint64), 3)
    assert 0 <= numbers.min() < numbers.max() < 1
    assert np.allclose(numbers.mean(0), 0.5, atol=0.01)
    assert np.allclose(np.corrcoef(numbers.T), np.eye(3), atol=0.02)
