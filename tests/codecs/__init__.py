"""Tests of the codecs: canonical bytes, reading, hostile payloads, coercion."""
