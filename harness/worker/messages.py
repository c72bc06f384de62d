"""The format of messages between the harness and a worker, over pipes.

A message is a JSON header and any number of arrays:

    8 bytes     length of the header, little-endian
    header      UTF-8 JSON; its key "arrays" lists [name, dtype, shape] of what follows
    raw bytes   of each array, C order, in that order

Only the standard library and numpy are needed, and nothing is ever unpickled.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from harness.port.batch import Array

MAX_HEADER = 64 * 2**20  # bytes; longer means that something else wrote to the pipe
MAX_ARRAY = 2**40  # bytes; more than any machine's memory
DTYPES = ("bool", "uint8", "int32", "int64", "float16", "float32", "float64")


class ProtocolError(Exception):
    """The data from the pipe is not a message."""


def send(stream: BinaryIO, message: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> None:
    """Write one message. TypeError for an array of a type that is not in ``DTYPES``."""
    arrays = {name: _plain(array) for name, array in (arrays or {}).items()}
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise TypeError(f"array {name!r} has type {array.dtype}, which the protocol does not carry")
    listing = [[name, array.dtype.name, array.shape] for name, array in arrays.items()]
    header = json.dumps({**message, "arrays": listing}).encode()
    stream.write(struct.pack("<Q", len(header)) + header)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def _plain(array: Array) -> Array:
    """The same values in C order and this machine's byte order, which ``dtype.name`` does not include."""
    return np.asarray(array, dtype=np.asarray(array).dtype.newbyteorder("="), order="C")


def receive(read: Callable[[int], bytes]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read one message with ``read(n)``, which returns exactly n bytes or raises EOFError.

    ProtocolError if the data is not a message.
    """
    (length,) = struct.unpack("<Q", read(8))
    if length > MAX_HEADER:
        raise ProtocolError(f"a header of {length} bytes: something else was written to the pipe")
    try:
        message = json.loads(read(length))
        listing = [(str(name), str(dtype), tuple(map(int, shape))) for name, dtype, shape in message.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"not a header: {error}") from error
    arrays = {}
    for name, dtype, shape in listing:
        if dtype not in DTYPES or any(size < 0 for size in shape):
            raise ProtocolError(f"array {name!r} of type {dtype!r} and shape {shape}")
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > MAX_ARRAY:
            raise ProtocolError(f"array {name!r} of {size} bytes")
        arrays[name] = np.frombuffer(bytearray(read(size)), dtype=dtype).reshape(shape)
    return message, arrays


def exactly(stream: BinaryIO) -> Callable[[int], bytes]:
    """A ``read`` for ``receive`` on a blocking stream."""

    def read(size: int) -> bytes:
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    return read
