"""A file of vectors, each with a checksum, to which is only ever appended.

A row is ``size`` float32 numbers, little-endian, and the CRC-32 of these bytes that starts from the number of the row:
a row in a wrong place is as wrong as one with a flipped bit. How many rows count is not in the file: whoever appends
notes it elsewhere afterwards, and what is beyond is overwritten.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 16_384  # rows that are read at once


class VectorFile:
    """An open file of vectors of ``size`` numbers; made if it is not there."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self._size = path, size
        self._row = np.dtype([("vector", "<f4", (size,)), ("checksum", "<u4")])
        is_new = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        if is_new:
            sync_folder(path.parent)

    def write(self, start: int, rows: NDArray[np.float32]) -> None:
        """Write rows from the number ``start`` on. When this returns they are on the disk.

        Raises OSError; what was written of them then has no meaning.
        """
        written = np.empty(len(rows), self._row)
        written["vector"] = rows
        written["checksum"] = _checksums(written["vector"], start)
        place = start * self._row.itemsize
        left = memoryview(written.tobytes())
        try:
            while left:
                count = os.pwrite(self._descriptor, left, place)
                left, place = left[count:], place + count
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, start * self._row.itemsize)  # gives back the room
            raise

    def read(self, count: int) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
        """The first ``count`` rows in blocks: the number of the first, the rows, and which of them are damaged.

        Rows that the file lacks are damaged too. A damaged row is all zeros.
        """
        for start in range(0, count, BLOCK):
            block = np.zeros(min(BLOCK, count - start), self._row)
            self._read_into(block.view(np.uint8).data, start * self._row.itemsize)
            damaged = _checksums(block["vector"], start) != block["checksum"]
            rows = np.ascontiguousarray(block["vector"], dtype=np.float32)
            rows[damaged] = 0
            yield start, rows, damaged

    def _read_into(self, target: memoryview, place: int) -> None:
        while target:
            count = os.preadv(self._descriptor, [target], place)
            if count == 0:
                return
            target, place = target[count:], place + count

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _checksums(rows: NDArray[Any], start: int) -> NDArray[np.uint32]:
    whole = np.ascontiguousarray(rows)
    found = (zlib.crc32(row.data, (start + i) & 0xFFFFFFFF) for i, row in enumerate(whole))
    return np.fromiter(found, np.uint32, len(whole))


def sync_folder(folder: Path) -> None:
    """Make the names of a folder's files last, as ``fsync`` does for what is in a file."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
