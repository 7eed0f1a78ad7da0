"""Vector codecs: float32 rows to compact codes and back, as pure functions of their arguments."""

from dreamdb.vectors.codec import CODECS, Codec, padded_dim, parse_codec, seed_bytes, stored_type
from dreamdb.vectors.engine import compiled_ready, decode_rows, encode_rows, encode_unchecked
from dreamdb.vectors.engine import load_compiled as load_compiled

__all__ = [
    "CODECS",
    "Codec",
    "compiled_ready",
    "decode_rows",
    "encode_rows",
    "encode_unchecked",
    "load_compiled",
    "padded_dim",
    "parse_codec",
    "seed_bytes",
    "stored_type",
]
