"""Values and their canonical bytes: pure functions from Arrow arrays to payloads and back."""

from dreamdb.codecs.arrays import numbers_array
from dreamdb.codecs.cell import ReadRange, anchors_behind, cell_value
from dreamdb.codecs.coded import decode_vectors, encode_vectors, rows_of_lists, vectors_array
from dreamdb.codecs.coerce import coerce
from dreamdb.codecs.decode import KEPT_DICTIONARY, DecodedFragment, check_canonical, decode
from dreamdb.codecs.encode import MAX_FRAGMENT_NBYTES, EncodedFragment, encode
from dreamdb.codecs.logical import (
    arrow_type,
    field_type_of,
    tensor_from_storage,
    tensor_to_storage,
    tensor_type,
)
from dreamdb.codecs.statistics import stats_width, value_bounds

__all__ = [
    "KEPT_DICTIONARY",
    "MAX_FRAGMENT_NBYTES",
    "DecodedFragment",
    "EncodedFragment",
    "ReadRange",
    "anchors_behind",
    "arrow_type",
    "cell_value",
    "check_canonical",
    "coerce",
    "decode",
    "decode_vectors",
    "encode",
    "encode_vectors",
    "field_type_of",
    "numbers_array",
    "rows_of_lists",
    "stats_width",
    "tensor_from_storage",
    "tensor_to_storage",
    "tensor_type",
    "value_bounds",
    "vectors_array",
]
