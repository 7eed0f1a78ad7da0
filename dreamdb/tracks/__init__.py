"""Opened contents: their tracks, anchors and values, as readers and writers both need them."""

from dreamdb.tracks.alignment import Alignment, align, differing_cells, differing_fragments
from dreamdb.tracks.equality import cells_equal
from dreamdb.tracks.gather import (
    NUMPY_KINDS,
    decode_gathered,
    gather,
    gather_list,
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
    "Alignment",
    "Fragment",
    "Source",
    "Track",
    "View",
    "align",
    "anchor_values",
    "cells_equal",
    "decode_gathered",
    "differing_cells",
    "differing_fragments",
    "find_in_keys",
    "gather",
    "gather_list",
    "gather_numpy",
    "increasing",
    "validity",
    "vectors_of",
]
