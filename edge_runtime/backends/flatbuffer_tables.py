"""Reads tables and vectors of a FlatBuffer and checks every offset."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

# Many offsets may lead to one table: without a limit a small file could ask for an endless walk.
MAX_ELEMENTS = 500_000


class Malformed(Exception):
    """The bytes break a rule of the format; the message says where."""


class File:
    """The bytes of a FlatBuffer; every read is little-endian and checked, and raises `Malformed`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.elements = 0

    def read(self, kind: str, at: int) -> int:
        """The integer at ``at``; ``kind`` is its format character in ``struct``."""
        size = struct.calcsize(kind)
        if at < 0 or at + size > len(self.data):
            raise Malformed(f"offset {at} is outside of its {len(self.data)} bytes")
        return int(struct.unpack_from("<" + kind, self.data, at)[0])

    def follow(self, at: int) -> int:
        """The position to which the unsigned offset stored at ``at`` leads."""
        target = at + self.read("I", at)
        if target == at or target % 4:
            raise Malformed(f"the offset at {at} leads to {target}, which is no aligned position after it")
        return target

    def span(self, at: int, item_bytes: int) -> tuple[int, int]:
        """(start, count) of the vector at ``at``."""
        count = self.read("I", at)
        if at + 4 + count * item_bytes > len(self.data):
            raise Malformed(f"the vector at {at} has {count} elements, more than the file holds")
        return at + 4, count

    def count(self, elements: int) -> None:
        """Add elements to those visited so far; at most ``MAX_ELEMENTS`` are allowed."""
        self.elements += elements
        if self.elements > MAX_ELEMENTS:
            raise Malformed(f"more than {MAX_ELEMENTS:,} elements to visit")


class Table:
    """One table; its fields are read by number. A broken or misaligned one raises `Malformed`."""

    def __init__(self, file: File, at: int) -> None:
        self.file, self.at = file, at
        file.count(1)
        self.vtable = at - file.read("i", at)
        if at % 4 or self.vtable % 2:
            raise Malformed(f"the table at {at} is not aligned")
        self.vtable_bytes, self.table_bytes = file.read("H", self.vtable), file.read("H", self.vtable + 2)
        if self.vtable_bytes < 4 or self.vtable_bytes % 2 or self.vtable + self.vtable_bytes > len(file.data):
            raise Malformed(f"the table at {at} has a broken vtable")
        if self.table_bytes < 4 or at + self.table_bytes > len(file.data):
            raise Malformed(f"the table at {at} ends outside of the file")
        for field in range((self.vtable_bytes - 4) // 2):
            self._offset(field, 1)

    def _offset(self, field: int, size: int) -> int:
        """Position of a field within the table; 0 if the field is absent."""
        entry = 4 + 2 * field
        if entry + 2 > self.vtable_bytes:
            return 0
        offset = self.file.read("H", self.vtable + entry)
        if offset and (offset < 4 or offset + size > self.table_bytes):
            raise Malformed(f"field {field} of the table at {self.at} is outside of it")
        return offset

    def scalar(self, field: int, kind: str, default: int = 0) -> int:
        """The integer in a field; ``kind`` is its format character in ``struct``."""
        size = struct.calcsize(kind)
        offset = self._offset(field, size)
        if offset and (self.at + offset) % size:
            raise Malformed(f"field {field} of the table at {self.at} is not aligned")
        return self.file.read(kind, self.at + offset) if offset else default

    def _target(self, field: int) -> int:
        offset = self._offset(field, 4)
        return self.file.follow(self.at + offset) if offset else 0

    def table(self, field: int) -> Table | None:
        """The table to which a field leads; None if the field is absent."""
        target = self._target(field)
        return Table(self.file, target) if target else None

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """(start, count) of the vector to which a field leads; (0, 0) if the field is absent."""
        target = self._target(field)
        start, count = self.file.span(target, item_bytes) if target else (0, 0)
        if count and start % min(item_bytes, 8):
            raise Malformed(f"the vector at {target} is not aligned")
        return start, count

    def numbers(self, field: int, dtype: str) -> np.ndarray:
        """The vector of numbers to which a field leads; empty if the field is absent."""
        kind = np.dtype(dtype)
        start, count = self.vector(field, kind.itemsize)
        self.file.count(count)
        return np.frombuffer(self.file.data, kind, count, start)

    def tables(self, field: int) -> Iterator[Table]:
        """The tables in the vector to which a field leads."""
        start, count = self.vector(field, 4)
        self.file.count(count)
        for position in range(start, start + 4 * count, 4):
            yield Table(self.file, self.file.follow(position))

    def text(self, field: int) -> str:
        """The UTF-8 string to which a field leads; empty if the field is absent."""
        start, count = self.vector(field, 1)
        self.file.count(count // 64)
        if start and self.file.read("B", start + count):
            raise Malformed(f"the string at {start} does not end with a zero")
        try:
            return self.file.data[start : start + count].decode()
        except UnicodeDecodeError:
            raise Malformed(f"the string at {start} is not UTF-8") from None
