"""Tests of tracks: views, buffers, random access."""
