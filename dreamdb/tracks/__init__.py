"""Opened contents: their tracks, anchors and values, as readers and writers both need them."""

from dreamdb.tracks.gather import (
    NUMPY_KINDS,
    decode_gathered,
    gather,
    gather_numpy,
    increasing,
    validity,
    vectors_of,
)
from dreamdb.tracks.source import Fragment, Source
from dreamdb.tracks.track import Track
from dreamdb.tracks.view import TIMELINE_TYPE, View, anchor_values, find_in_keys

__all__ = [
    "NUMPY_KINDS",
    "TIMELINE_TYPE",
    "Fragment",
    "Source",
    "Track",
    "View",
    "anchor_values",
    "decode_gathered",
    "find_in_keys",
    "gather",
    "gather_numpy",
    "increasing",
    "validity",
    "vectors_of",
]
