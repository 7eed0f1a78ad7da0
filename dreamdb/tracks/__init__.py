"""Opened contents: their tracks, anchors and values, as readers and writers both need them."""

from dreamdb.tracks.gather import gather, validity
from dreamdb.tracks.source import Fragment, Source
from dreamdb.tracks.track import Track
from dreamdb.tracks.view import TIMELINE_TYPE, View, anchor_values, find_in_keys

__all__ = [
    "TIMELINE_TYPE",
    "Fragment",
    "Source",
    "Track",
    "View",
    "anchor_values",
    "find_in_keys",
    "gather",
    "validity",
]
