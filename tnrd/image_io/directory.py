"""TIFF directories as raw bytes: the structure that TIFF files and EXIF blocks share.

Fields are copied byte for byte and never interpreted, so nothing in them can be lost or mistranslated on the way;
only the pointers to sub-directories (EXIF, GPS, interoperability) are rebuilt. Source: TIFF 6.0 (Adobe, 1992),
section 2; BigTIFF as libtiff writes it; Exif 2.32 (CIPA DC-008), section 4.6.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from tnrd.image_io.picture import ImageError

ByteOrder = Literal["<", ">"]

ORIENTATION = 274
EXIF_DIRECTORY = 34665
GPS_DIRECTORY = 34853
INTEROPERABILITY_DIRECTORY = 40965
MAKER_NOTE = 37500

_POINTERS = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY)
_MAX_DEPTH = 3
# Bytes per value, and the struct code of the numeric types, by TIFF field type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "L", 5: "L", 6: "b", 8: "h", 9: "l", 10: "l", 11: "f", 12: "d", 13: "L", 16: "Q", 18: "Q"}
_RATIONALS = (5, 10)
BYTE, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 3, 4, 5, 7, 16


@dataclass(frozen=True)
class Field:
    """One directory entry: its TIFF type, its value as stored, and where in the file that value lies."""

    type: int
    raw: bytes
    position: int = 0

    @property
    def count(self) -> int:
        return len(self.raw) // _SIZES[self.type]


@dataclass
class Directory:
    """Fields by tag, the sub-directories that hang from the pointer tags, and the tags that could not be read."""

    fields: dict[int, Field] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Header:
    """The start of a TIFF structure: byte order, classic (42) or BigTIFF (43), offset of the first directory."""

    order: ByteOrder
    big: bool
    first: int

    def to_bytes(self) -> bytes:
        mark = b"II" if self.order == "<" else b"MM"
        if self.big:
            return mark + struct.pack(f"{self.order}HHHQ", 43, 8, 0, self.first)
        return mark + struct.pack(f"{self.order}HL", 42, self.first)


def read_at(source: BinaryIO, offset: int, size: int) -> bytes:
    """``size`` bytes from ``offset`` on; fewer at the end of the source."""
    source.seek(offset)
    return source.read(size)


def read_header(source: BinaryIO) -> Header | None:
    """The header at the start of ``source``, or None where there is none."""
    data = read_at(source, 0, 16)
    orders: dict[bytes, ByteOrder] = {b"II": "<", b"MM": ">"}
    order = orders.get(data[:2])
    if order is None or len(data) < 8:
        return None
    magic = struct.unpack_from(f"{order}H", data, 2)[0]
    if magic == 42:
        return Header(order, False, struct.unpack_from(f"{order}L", data, 4)[0])
    if magic == 43 and len(data) == 16:
        return Header(order, True, struct.unpack_from(f"{order}Q", data, 8)[0])
    return None


def read_directory(source: BinaryIO, header: Header, offset: int, depth: int = 0) -> tuple[Directory, int]:
    """Read one directory with its sub-directories, and the offset of the next one (0: none).

    Fields of unknown type, or whose value lies outside the source, are only listed as lost; a damaged sub-directory is
    left out. The values together may not exceed the source: overlapping ones cannot multiply a small file in memory.

    Raises:
        ImageError: The directory itself does not lie within the source.
    """
    order, size = header.order, source.seek(0, io.SEEK_END)
    counter, entry, pointer = ("Q", "HHQ", "Q") if header.big else ("H", "HHL", "L")
    word, entry_size = struct.calcsize(f"={pointer}"), struct.calcsize(f"={entry}{pointer}")
    start = offset + struct.calcsize(f"={counter}")
    if start > size:
        raise ImageError("the file is truncated: its directory lies beyond its end.")
    count = struct.unpack(f"{order}{counter}", read_at(source, offset, start - offset))[0]
    if start + count * entry_size + word > size:
        raise ImageError("the file is truncated: its directory is cut off.")
    table = read_at(source, start, count * entry_size + word)
    directory, budget = Directory(), size
    for place in range(0, count * entry_size, entry_size):
        tag, type_, length, value = struct.unpack_from(f"{order}{entry}{pointer}", table, place)
        bytes_ = _SIZES.get(type_, 0) * length
        position = value if bytes_ > word else start + place + entry_size - word
        if bytes_ == 0 or bytes_ > budget or position + bytes_ > size:
            directory.lost.add(tag)
        elif tag not in directory.fields:
            budget -= bytes_
            directory.fields[tag] = Field(type_, read_at(source, position, bytes_), position)
    _read_children(source, header, directory, depth)
    return directory, struct.unpack_from(f"{order}{pointer}", table, count * entry_size)[0]


def _read_children(source: BinaryIO, header: Header, directory: Directory, depth: int) -> None:
    for tag in _POINTERS:
        pointer = directory.fields.pop(tag, None)
        target = integers(pointer, header.order)
        if target and depth < _MAX_DEPTH:
            try:
                directory.children[tag] = read_directory(source, header, target[0], depth + 1)[0]
            except ImageError:
                # The picture is whole without this block of remarks, which nothing can restore any more.
                continue


def numbers(entry: Field | None, order: ByteOrder) -> tuple[float, ...]:
    """The values of a numeric field, rationals divided out; empty where the field is missing or not numeric."""
    if entry is None or entry.type not in _CODES:
        return ()
    code = _CODES[entry.type]
    values = struct.unpack(f"{order}{len(entry.raw) // struct.calcsize('=' + code)}{code}", entry.raw)
    if entry.type in _RATIONALS:
        return tuple(n / d if d else 0.0 for n, d in zip(values[::2], values[1::2], strict=True))
    return values


def integers(entry: Field | None, order: ByteOrder) -> tuple[int, ...]:
    """The values of an integer field; empty where the field is missing or holds something else."""
    values = numbers(entry, order)
    return tuple(v for v in values if isinstance(v, int)) if entry and entry.type not in _RATIONALS else ()


def pack(type_: int, values: tuple[int, ...], order: ByteOrder) -> Field:
    """A field of integers; a RATIONAL takes numerators and denominators in turn."""
    return Field(type_, struct.pack(f"{order}{len(values)}{_CODES[type_]}", *values))


def write_directory(directory: Directory, header: Header, offset: int) -> bytes:
    """The bytes of a directory that will lie at ``offset``: entries, then long values, then sub-directories."""
    order, big = header.order, header.big
    entry, word, pointer = ("HHQ", 8, "Q") if big else ("HHL", 4, "L")
    tags = sorted({*directory.fields, *directory.children})
    table = struct.pack(f"{order}{'Q' if big else 'H'}", len(tags))
    free = offset + len(table) + len(tags) * (struct.calcsize(f"{order}{entry}") + word) + word
    values = b""
    for tag in tags:
        if tag in directory.children:
            block = write_directory(directory.children[tag], header, free + len(values))
            item = Field(LONG8 if big else LONG, struct.pack(f"{order}{pointer}", free + len(values)))
        else:
            item, block = directory.fields[tag], b""
        stored = item.raw
        if len(stored) > word:
            block, stored = stored, struct.pack(f"{order}{pointer}", free + len(values))
        table += struct.pack(f"{order}{entry}", tag, item.type, item.count) + stored.ljust(word, b"\0")
        values += block + b"\0" * (len(block) % 2)
    return table + b"\0" * word + values


def read_exif(block: bytes | None) -> tuple[ByteOrder, Directory]:
    """The main directory of an EXIF block (the thumbnail's is left out); empty where the block is damaged."""
    source = io.BytesIO(block or b"")
    header = read_header(source)
    if header is None:
        return "<", Directory()
    try:
        return header.order, read_directory(source, header, header.first)[0]
    except ImageError:
        return header.order, Directory()


def write_exif(directory: Directory, order: ByteOrder) -> bytes:
    """An EXIF block of one directory and its sub-directories."""
    header = Header(order, False, 8)
    return header.to_bytes() + write_directory(directory, header, 8)


def exif_orientation(block: bytes | None) -> int:
    """The orientation tag of an EXIF block, 1 to 8; 1 (upright) where there is none."""
    order, directory = read_exif(block)
    found = integers(directory.fields.get(ORIENTATION), order)
    return found[0] if found and 1 <= found[0] <= 8 else 1
