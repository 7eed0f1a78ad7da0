"""Addresses, envelopes and canonical encodings: how bytes get their names and keep them."""

from dreamdb.objects.address import (
    FOLDERS,
    HASH_SIZE,
    PAGE_SIZE,
    Kind,
    address_of,
    from_text,
    num_pages,
    object_key,
    to_text,
)
from dreamdb.objects.canonical import decode_document, encode_document
from dreamdb.objects.copied import copy_sealed
from dreamdb.objects.envelope import ENVELOPE_SIZE, Compression, Envelope, SealedObject, seal
from dreamdb.objects.names import check_ref_name, decode_ref_key, encode_ref_key
from dreamdb.objects.opened import OpenedObject

__all__ = [
    "ENVELOPE_SIZE",
    "FOLDERS",
    "HASH_SIZE",
    "PAGE_SIZE",
    "Compression",
    "Envelope",
    "Kind",
    "OpenedObject",
    "SealedObject",
    "address_of",
    "check_ref_name",
    "copy_sealed",
    "decode_document",
    "decode_ref_key",
    "encode_document",
    "encode_ref_key",
    "from_text",
    "num_pages",
    "object_key",
    "seal",
    "to_text",
]
