"""Codecs: golden bytes, both engines bit for bit, an independent decoder, hostile numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import dreamdb as vd
from dreamdb.vectors import CODECS, Codec, decode_rows, encode_rows, parse_codec, seed_bytes
from tests.vectors.engines import using
from tests.vectors.independent_codes import decode_row

RABITQ = [name for name in CODECS if name.startswith("rabitq")]


def codec(name: str, dim: int, seed: int = 7) -> Codec:
    return Codec(name, dim, seed_bytes(seed) if name.startswith("rabitq") else b"")


def sample(dim: int) -> npt.NDArray[np.float32]:
    i = np.arange(dim, dtype=np.float64)
    rows = [((i * 37 + 11) % 101 - 50) / 64, ((i * i) % 17 - 8) / 4, np.zeros(dim)]
    return np.stack(rows).astype(np.float32)


def bits_of(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    return values.view(np.uint32)


# Codec, dimension, and BLAKE3 of the stored rows and of the decoded ones: never to change.
GOLDEN = [
    ("float32", 1, "7712f2bbfa553e911a9c42c97545e000", "7712f2bbfa553e911a9c42c97545e000"),
    ("float16", 1, "13dd6ac9c29fede2c464693e686c9dd4", "7712f2bbfa553e911a9c42c97545e000"),
    ("sq8", 1, "7feee4ca2ccd18a27795499466fe709c", "7712f2bbfa553e911a9c42c97545e000"),
    ("rabitq-1", 1, "37e38359d32756873ee65ace59e99456", "36d0fa306391ddfb0deb7d516f10ccbc"),
    ("rabitq-2", 1, "e1483f9d63956b61c47ec9280de1894d", "a32edc8d40df52425fdfaa54f9128fef"),
    ("rabitq-4", 1, "b265f1dca8fdacf89f130b7e436e60a2", "8001a54f93f9e5a25b0f771c15afd65b"),
    ("rabitq-8", 1, "fc129af328cc1ace06c10e22f7cdf37b", "4ccb8db07586d98d6f277734483c4792"),
    ("float32", 4, "91dbeb1e822981664cc60cf452970308", "91dbeb1e822981664cc60cf452970308"),
    ("float16", 4, "b59773d227d604fe8e787a7b21a221d0", "91dbeb1e822981664cc60cf452970308"),
    ("sq8", 4, "f14be570d10519ddf5d9d5bc95e5bb67", "f5a0cc7f3ead4e1cce90c4c7c7ba6bbe"),
    ("rabitq-1", 4, "46d80222c1fb9b48bc720aaefc16f7ca", "9569121e98fd2ae1d44a6957c6cb2973"),
    ("rabitq-2", 4, "a648de019762bbdac077cfb2221d9a61", "28135dea2c8d5aef44995f4b5ef1b9cb"),
    ("rabitq-4", 4, "f9a614d84df65b1770c18c59e70f4e2b", "e3cad145f3ea2232f3ff1ec332a561fd"),
    ("rabitq-8", 4, "e445057266662307a3f4579da0ac4456", "62ff02e39a41e233e3403952b286e721"),
    ("float32", 65, "ca5df2f81be3d3ca2b0fc55547c105c6", "ca5df2f81be3d3ca2b0fc55547c105c6"),
    ("float16", 65, "725caf8fce44a2f8c9d277c5a9b18501", "ca5df2f81be3d3ca2b0fc55547c105c6"),
    ("sq8", 65, "85bb4dfb4a187c50a79ac7e208397f84", "4a475ccd500c223216b47dbfce3efee0"),
    ("rabitq-1", 65, "9c64ab1c0dc4c871875aa55f5aec8f12", "e9eb837c68b3afd21f59fd602448d1a8"),
    ("rabitq-2", 65, "37d08a8d5dc05b9ff2e00215b364c53d", "c49c2a5da8dc9b02b3904869a32715b0"),
    ("rabitq-4", 65, "65c412ee41c309be3f4810fd20ecc19f", "2cd76147ba5db7b58542dcf84714d362"),
    ("rabitq-8", 65, "bae23060b0d06cb47291ae1681deb0b5", "453027c3186a6d46ea572fa6957a8234"),
    ("float32", 128, "5fc9b3ec5a51fea4cc0abcbc4f69924b", "5fc9b3ec5a51fea4cc0abcbc4f69924b"),
    ("float16", 128, "6fa6354e7dcb67b51dc72d3cd7d50659", "5fc9b3ec5a51fea4cc0abcbc4f69924b"),
    ("sq8", 128, "b43491053089b471f8d0ba62a2b78360", "2dc02e47a330c208edf897dbfa0de9e8"),
    ("rabitq-1", 128, "87b6fe80f87be72966118fffee036e92", "fd846ebf9677fee7a9cdba5c7b746a11"),
    ("rabitq-2", 128, "95c5579a59e8d39de3a483a2eb453275", "ced39bf3ee5bf69884aaa5c612671f99"),
    ("rabitq-4", 128, "d2aee73abcad057f7514ac084dd71552", "02efe9f220edff764f8ef0e73f61710a"),
    ("rabitq-8", 128, "0edd346315ff99596e249a05ac7f9a4f", "078e27647300947d1d87e4695dbea699"),
    ("float32", 200, "91347eeb0271c1e77905c6e69fb58e98", "91347eeb0271c1e77905c6e69fb58e98"),
    ("float16", 200, "6bca2a3dd76acf657c7d88a930d65b86", "91347eeb0271c1e77905c6e69fb58e98"),
    ("sq8", 200, "8e9d16df2983d2b4a3a7d3d23f36bc91", "593a0077ee7752878c7dc6a4d90379c7"),
    ("rabitq-1", 200, "17ae00a724ede4b28bc11d166255debf", "f0bb468254b086048a6782aad9b37b13"),
    ("rabitq-2", 200, "6896c0a9bcf7edb850b5cf3897894260", "5301480cd8a63aaa446ba760ae05b29c"),
    ("rabitq-4", 200, "249499e117e55657caa61015169032aa", "04ef62ac62d96fc1f9321d08c753356d"),
    ("rabitq-8", 200, "52844dc0d13e68a69bdf52f9db8219d7", "15473314bf18822ee2d127b11a907097"),
    ("float32", 4096, "366e714fbed2b04a82eacb9874909d89", "366e714fbed2b04a82eacb9874909d89"),
    ("float16", 4096, "d61b0edf130ab6c8967eaa5a1ad1f4f2", "366e714fbed2b04a82eacb9874909d89"),
    ("sq8", 4096, "e683d7a5df7308167e308013d01cc556", "12729350ff08e72f4edb5ab16e5000bc"),
    ("rabitq-1", 4096, "c87ffba362ce3cec93db2ae461e50d5c", "fe45d2aae32381824fa6b48dcccf17b2"),
    ("rabitq-2", 4096, "8fa6029ede373bfbfddda67522b987f9", "c85778181a9ffabe62069c098c536020"),
    ("rabitq-4", 4096, "10219b0f989025b6b609abf38b99b55b", "423fb9f98b4a7d7185e91456dd912c8c"),
    ("rabitq-8", 4096, "1118847160e9570d4025f2fad50af17d", "443287ee7f48355196f4af8ddaefa0f0"),
]


@pytest.mark.parametrize(("name", "dim", "stored", "decoded"), GOLDEN)
def test_golden(each_engine: str, name: str, dim: int, stored: str, decoded: str) -> None:
    rows = encode_rows(codec(name, dim), sample(dim))
    assert blake3(rows.tobytes()).hexdigest(16) == stored
    assert blake3(decode_rows(codec(name, dim), rows).tobytes()).hexdigest(16) == decoded


def test_the_examples_of_the_design(each_engine: str) -> None:
    one = encode_rows(codec("rabitq-1", 4), sample(4))
    assert one[0].tobytes().hex() == "00803a3e9c099a3e2ff0d0f3853fe305"
    assert one[2].tobytes() == bytes(16)
    assert encode_rows(codec("sq8", 4), sample(4))[0].tobytes().hex() == "753a9d3b81f972a2"
    assert codec("sq8", 4).encode() == b'{"codec":"sq8","dim":4,"format":1}'
    assert codec("sq8", 4).address.hex() == (
        "1ecc8ed6ec21ff74029fa7e1c3ff47b8dc2f349b43691242f7b7285696f2c3d007"
    )


@pytest.mark.parametrize("name", CODECS[1:])
@pytest.mark.parametrize("dim", [1, 4, 65, 128])
def test_an_independent_decoder_agrees(name: str, dim: int) -> None:
    own = codec(name, dim)
    rows = encode_rows(own, sample(dim))
    for row, vector in zip(rows, decode_rows(own, rows), strict=True):
        expected = np.array(decode_row(own.text, dim, row.tobytes()), np.float32)
        assert (bits_of(expected) == bits_of(vector)).all()


@pytest.mark.parametrize("name", RABITQ)
@given(data=st.data())
def test_both_engines_give_the_same_bits(name: str, data: st.DataObject) -> None:
    dim = data.draw(st.sampled_from([1, 2, 7, 63, 64, 66, 96, 192, 320, 512]))
    finite = st.floats(-(2.0**100), 2.0**100, width=32)
    shape = st.tuples(st.integers(1, 20), st.just(dim))
    rows = data.draw(hnp.arrays(np.float32, shape, elements=finite, fill=finite))
    own = codec(name, dim, data.draw(st.integers(0, 3)))
    with using("numpy"):
        stored = encode_rows(own, rows)
        decoded = decode_rows(own, stored)
    with using("compiled"):
        assert (encode_rows(own, rows) == stored).all()
        assert (bits_of(decode_rows(own, stored)) == bits_of(decoded)).all()
    assert np.isfinite(decoded).all()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("dim", [1, 5, 64, 100, 512])
def test_a_row_does_not_depend_on_its_neighbours(each_engine: str, name: str, dim: int) -> None:
    rows = np.random.default_rng(dim).normal(size=(90, dim)).astype(np.float32)
    rows[3] = 0
    rows[4] *= np.float32(1e-30)
    if name != "float16":
        rows[5] *= np.float32(1e30)
    own = codec(name, dim)
    whole = encode_rows(own, rows)
    single = np.concatenate([encode_rows(own, row[None]) for row in rows])
    assert (whole == single).all()
    decoded = decode_rows(own, whole)
    parts = [decode_rows(own, part) for part in np.array_split(whole, 7)]
    assert (bits_of(np.concatenate(parts)) == bits_of(decoded)).all()
    assert not decoded[3].any()


def test_threads_change_nothing(each_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(1).normal(size=(9_001, 128)).astype(np.float32)
    own = codec("rabitq-4", 128)
    results = []
    for threads in ("1", "3"):
        monkeypatch.setenv("DREAMDB_THREADS", threads)
        stored = encode_rows(own, rows)
        results.append((stored, decode_rows(own, stored)))
    assert (results[0][0] == results[1][0]).all()
    assert (bits_of(results[0][1]) == bits_of(results[1][1])).all()


# Reconstruction cosine of the design's table; exact ones give the vector back.
COSINES = {
    "float32": 1.0, "float16": 0.999999, "sq8": 0.9998,
    "rabitq-1": 0.79, "rabitq-2": 0.93, "rabitq-4": 0.994, "rabitq-8": 0.9999,
}  # fmt: skip


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_reconstruction_is_as_good_as_promised(each_engine: str, name: str, scale: float) -> None:
    if name == "float16" and scale != 1.0:
        scale = 1e3
    generator = np.random.default_rng(5)
    # Few strong directions, as embeddings have.
    shape = np.diag(1 / np.sqrt(1 + np.arange(512) / 20)) @ generator.normal(size=(512, 512))
    rows = ((generator.normal(size=(300, 512)) @ shape) * scale).astype(np.float32)
    decoded = decode_rows(codec(name, 512), encode_rows(codec(name, 512), rows))
    x, y = rows.astype(np.float64), decoded.astype(np.float64)
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert cosine.mean() >= COSINES[name]
    # Least squares: the error stands upright on the reconstruction.
    if name in RABITQ:
        along = ((x - y) * y).sum(1) / (y * y).sum(1)
        assert abs(along).max() < 1e-4


@pytest.mark.parametrize("name", RABITQ)
def test_the_second_factor_gives_unbiased_inner_products(name: str) -> None:
    generator = np.random.default_rng(6)
    x = generator.normal(size=(1, 256)).astype(np.float32)
    ratios = []
    for seed in range(200):
        own = codec(name, 256, seed)
        stored = encode_rows(own, x)
        least, unbiased = stored[:, :8].copy().view("<f4")[0]
        ratios.append(float(decode_rows(own, stored)[0] @ x[0]) * unbiased / least)
    assert np.mean(ratios) == pytest.approx(float(x[0] @ x[0]), rel=1e-5)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(name: str, bad: float) -> None:
    rows = np.ones((4, 8), np.float32)
    rows[2, 5] = bad
    with pytest.raises(vd.InvalidInputError, match="row 2 holds NaN or infinity"):
        encode_rows(codec(name, 8), rows)


BAD = [
    lambda: encode_rows(codec("sq8", 8), np.ones((2, 9), np.float32)),
    lambda: encode_rows(codec("float16", 2), np.array([[1.0, 70_000.0]])),
    lambda: encode_rows(codec("rabitq-1", 4_096), np.full((1, 4_096), 3e38, np.float32)),
    lambda: decode_rows(codec("sq8", 8), np.zeros((2, 8), np.uint8)),
    lambda: codec("rabitq-3", 8),
    lambda: codec("pq", 8),
    lambda: Codec("sq8", 0),
    lambda: Codec("sq8", 1 << 20),
    lambda: Codec("rabitq-4", 8),
    lambda: Codec("sq8", 8, bytes(32)),
    lambda: parse_codec("rabitq-4:00", 8),
    lambda: parse_codec("float32", 8),
    lambda: parse_codec(None, 8),
    lambda: seed_bytes(-1),
    lambda: seed_bytes(True),
    lambda: seed_bytes(b"short"),
]


@pytest.mark.parametrize("call", BAD)
def test_bad_arguments(call: Any) -> None:
    with pytest.raises(vd.InvalidInputError):
        call()


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_object_round_trips(name: str) -> None:
    own = codec(name, 48, 123)
    assert Codec.decode(own.encode()) == own
    assert len(own.address) == 33
    assert own.width == encode_rows(own, np.ones((1, 48), np.float32)).shape[1]


def test_no_rows(each_engine: str) -> None:
    for name in CODECS:
        rows = encode_rows(codec(name, 10), np.empty((0, 10), np.float32))
        assert decode_rows(codec(name, 10), rows).shape == (0, 10)
