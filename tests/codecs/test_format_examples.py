"""The byte tables of the format document, executed.

Each line is the offset, the bytes in hexadecimal and what they mean.
"""

from __future__ import annotations

import pyarrow as pa

from dreamdb.codecs import check_canonical, decode
from dreamdb.types import FieldType
from tests.codecs.samples import payload_of

# Field of kind int, rows [1, null, -2]: stored as int8.
INT_EXAMPLE = """
  0 | ffffffff                | schema message: continuation marker
  4 | b8000000                | 184 bytes of metadata and padding follow
  8 | 14000000                | root table at 8 + 20 = 28
 12 | 00000000                | padding: the table has an 8-byte field, so it starts at 4 mod 8
 16 | 0c00 1300               | vtable of Message: 12 bytes; its table has 19
 20 | 1000 1200 0c00 0400     | version at 16, header_type at 18, header at 12, bodyLength at 4
 28 | 0c000000                | Message: its vtable lies 12 bytes before
 32 | 0000000000000000        | bodyLength 0
 40 | 10000000                | header at 40 + 16 = 56
 44 | 0400                    | version V5
 46 | 01                      | header_type Schema
 47 | 00                      | padding
 48 | 0800 0a00 0800 0400     | vtable of Schema: endianness at 8, fields at 4
 56 | 08000000                | Schema: its vtable lies 8 bytes before
 60 | 08000000                | fields at 60 + 8 = 68
 64 | 0000                    | endianness Little
 66 | 0000                    | padding
 68 | 01000000 14000000       | one field, at 72 + 20 = 92
 76 | 1000 1200               | vtable of Field: 16 bytes; its table has 18
 80 | 0400 1000 1100 0800     | name at 4, nullable at 16, type_type at 17, type at 8
 88 | 0000 0c00               | no dictionary, children at 12
 92 | 10000000                | Field: its vtable lies 16 bytes before
 96 | 10000000                | name at 96 + 16 = 112
100 | 1c000000                | type at 100 + 28 = 128
104 | 24000000                | children at 104 + 36 = 140
108 | 01                      | nullable
109 | 02                      | type_type Int
110 | 0000                    | padding
112 | 01000000 76 00          | "v": one byte, then a zero byte
118 | 0000                    | padding
120 | 0800 0900 0400 0800     | vtable of Int: bitWidth at 4, is_signed at 8
128 | 08000000                | Int: its vtable lies 8 bytes before
132 | 08000000                | bitWidth 8
136 | 01                      | is_signed
137 | 000000                  | padding
140 | 00000000                | no children
144 | 000000000000000000000000000000000000000000000000 | padding up to a multiple of 64
168 | 000000000000000000000000000000000000000000000000 | padding
192 | ffffffff                | record batch message: continuation marker
196 | b8000000                | 184 bytes of metadata and padding follow
200 | 14000000                | root table at 200 + 20 = 220
204 | 00000000                | padding
208 | 0c00 1300               | vtable of Message, as above
212 | 1000 1200 0c00 0400     | version, header_type, header, bodyLength
220 | 0c000000                | Message: its vtable lies 12 bytes before
224 | 1000000000000000        | SLOT bodyLength 16
232 | 14000000                | header at 232 + 20 = 252
236 | 0400                    | version V5
238 | 03                      | header_type RecordBatch
239 | 000000                  | padding
242 | 0a00 1400               | vtable of RecordBatch: 10 bytes; its table has 20
246 | 0400 0c00 1000          | length at 4, nodes at 12, buffers at 16
252 | 0a000000                | RecordBatch: its vtable lies 10 bytes before
256 | 0300000000000000        | SLOT length 3
264 | 0c000000                | nodes at 264 + 12 = 276
268 | 20000000                | buffers at 268 + 32 = 300
272 | 00000000                | padding
276 | 01000000                | one node
280 | 0300000000000000        | SLOT node 0 length 3
288 | 0100000000000000        | SLOT node 0 null_count 1
296 | 00000000                | padding
300 | 02000000                | two buffers
304 | 0000000000000000        | SLOT buffer 0 offset 0
312 | 0100000000000000        | SLOT buffer 0 length 1: validity
320 | 0800000000000000        | SLOT buffer 1 offset 8
328 | 0300000000000000        | SLOT buffer 1 length 3: values
336 | 000000000000000000000000000000000000000000000000 | padding up to a multiple of 64
360 | 000000000000000000000000000000000000000000000000 | padding
384 | 05                      | validity: rows 0 and 2
385 | 00000000000000          | padding up to a multiple of 8
392 | 01 00 fe                | 1, zero under the null, -2
395 | 0000000000              | padding up to a multiple of 8
400 | ffffffff 00000000       | end of stream
"""

# Field of kind binary, rows ["ab", null, "c"]: only the lines that differ from the table above.
BLOB_DIFFERENCES = """
100 | 18000000                | type at 100 + 24 = 124
104 | 18000000                | children at 104 + 24 = 128
109 | 04                      | type_type Binary
120 | 0400 0400               | vtable of Binary: no fields
124 | 04000000                | Binary: its vtable lies 4 bytes before
128 | 00000000                | no children
132 | 00000000                | padding up to 192
136 | 00                      | padding
224 | 2000000000000000        | SLOT bodyLength 32
300 | 03000000                | three buffers
328 | 1000000000000000        | SLOT buffer 1 length 16: offsets
336 | 1800000000000000        | SLOT buffer 2 offset 24
344 | 0300000000000000        | SLOT buffer 2 length 3: values
392 | 00000000 02000000       | offsets 0, 2 ...
400 | 02000000 03000000       | ... 2, 3
408 | 61 62 63                | "ab", "c"
411 | 0000000000              | padding up to a multiple of 8
416 | ffffffff 00000000       | end of stream
"""


def apply_table(table: str, start: bytes, length: int) -> bytes:
    """Write a table's bytes over a start and return the first ``length`` bytes."""
    out = bytearray(start.ljust(length, b"\0"))
    for line in table.strip().splitlines():
        offset, raw, _ = line.split("|")
        piece = bytes.fromhex(raw.strip())
        out[int(offset) : int(offset) + len(piece)] = piece
    return bytes(out)


def test_the_table_of_the_int_example_has_no_gaps() -> None:
    at = 0
    for line in INT_EXAMPLE.strip().splitlines():
        offset, raw, meaning = line.split("|")
        assert int(offset) == at
        assert meaning.strip()
        at += len(bytes.fromhex(raw.strip()))
    assert at == 408


def test_int_example() -> None:
    ftype = FieldType("int")
    payload = apply_table(INT_EXAMPLE, b"", 408)
    assert payload_of(ftype, [pa.array([1, None, -2])]) == payload
    fragment = decode(ftype, memoryview(payload), rows=3)
    assert fragment.array.to_pylist() == [1, None, -2]
    check_canonical(ftype, memoryview(payload), rows=3)


def test_blob_example() -> None:
    ftype = FieldType("binary")
    start = apply_table(INT_EXAMPLE, b"", 408)
    payload = apply_table(BLOB_DIFFERENCES, start, 424)
    assert payload_of(ftype, [pa.array([b"ab", None, b"c"])]) == payload
    fragment = decode(ftype, memoryview(payload), rows=3)
    assert fragment.array.to_pylist() == [b"ab", None, b"c"]
    assert fragment.data_start == 408
    assert fragment.offsets is not None
    assert fragment.offsets.tolist() == [0, 2, 2, 3]
