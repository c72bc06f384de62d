"""Reads TensorFlow checkpoints without TensorFlow, and renames their tensors as in Hugging Face's BERT.

A checkpoint ``X`` of ``tf.train.Saver`` (the "tensor bundle", V2) is an index ``X.index`` and one or more
shards ``X.data-00000-of-0000N``. The index is a sorted string table, the file format of LevelDB: blocks of
key-value pairs, each block followed by its compression type and checksum, then an index of the blocks, then a
footer. Its values are protocol buffers: the header under the empty key, and under each variable's name the position of
its bytes.
"""

import re
import struct
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from reference.errors import CheckpointError

Bytes = np.ndarray  # an array of uint8
Value = TypeVar("Value", int, bytes)

FOOTER_SIZE = 48
TABLE_MAGIC = 0xDB4775248B80FB57
NO_COMPRESSION, SNAPPY = 0, 1
BFLOAT16 = 14
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", BFLOAT16: "<u2", 19: "<f2"}  # numbers of TensorFlow's DataType
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the variable that only object-based checkpoints have


def read_tf_checkpoint(
    prefix: Path, *, verify: bool = True, wanted: Container[str] | None = None
) -> dict[str, np.ndarray]:
    """Read the tensors of the checkpoint whose files begin with ``prefix`` (``.../bert_model.ckpt``).

    Returns the tensors by TensorFlow's names, in the index's order; only those in ``wanted``, if it is given. They are
    read-only views of the memory-mapped shards, except bfloat16, which is converted to float32. ``verify`` compares
    each tensor's bytes with its checksum (about 0.6 s for 100 MB); the index's own checksums are always compared.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or of a kind that is not supported: the V1
            format, object-based checkpoints, big-endian bytes, partitioned variables, other data types.
    """
    shard_count, entries = _open_index(prefix)
    shards: dict[int, tuple[Path, Bytes]] = {}
    tensors = {}
    for name, entry in entries.items():
        if wanted is not None and name not in wanted:
            continue
        if entry.shard not in shards:
            path = _shard_path(prefix, entry.shard, shard_count)
            shards[entry.shard] = path, _map_shard(path)
        path, shard = shards[entry.shard]
        try:
            tensors[name] = _tensor(entry, shard, verify)
        except (ValueError, OverflowError) as error:
            raise CheckpointError(f"{path}: {name}: {error}") from error
    return tensors


def bundle_variables(prefix: Path) -> list[str]:
    """TensorFlow's names of the tensors in a checkpoint, from its index alone."""
    return list(_open_index(prefix)[1])


def bundle_files(prefix: Path) -> list[Path]:
    """The files that are read: the index, and the shards with BERT's variables. Other shards are not needed.

    Raises CheckpointError if one of them is missing or the index cannot be read.
    """
    shard_count, entries = _open_index(prefix)
    numbers = {entries[name].shard for name in google_names(entries)[0]} or {0}
    shards = [_shard_path(prefix, number, shard_count) for number in sorted(numbers)]
    for shard in shards:
        if not shard.is_file():
            raise CheckpointError(f"{shard}: no such file, but the checkpoint's index refers to it; put it there")
    return [_index_path(prefix), *shards]


def _index_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _shard_path(prefix: Path, number: int, count: int) -> Path:
    return prefix.with_name(f"{prefix.name}.data-{number:05d}-of-{count:05d}")


def _open_index(prefix: Path) -> "tuple[int, dict[str, _Entry]]":
    index = _index_path(prefix)
    if not index.is_file():
        if prefix.is_file():
            raise CheckpointError(
                f"{prefix}: a TensorFlow checkpoint in one file (V1 format) is not supported; "
                "save it again with tf.train.Saver(write_version=tf.train.SaverDef.V2)"
            )
        raise CheckpointError(f"{index}: no such file; a TensorFlow checkpoint is named without '.index'")
    try:
        return _read_index(index.read_bytes())
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{index}: damaged: {error}") from error
    except ValueError as error:
        raise CheckpointError(f"{index}: {error}") from error


# -- names -----------------------------------------------------------------------------------------

_COUNTS = ("global_step", "beta1_power", "beta2_power", "loss_scale", "good_steps", "bad_steps")
_LAYER = r"bert/encoder/layer_\d+"
_NAMES = [  # Google's names -> Hugging Face's, still with "layer_N" and slashes
    (r"(bert/embeddings/(?:word|position|token_type)_embeddings)", r"\1/weight"),
    (
        rf"((?:bert/embeddings|{_LAYER}/attention/output|{_LAYER}/output|cls/predictions/transform)/LayerNorm)"
        r"/(gamma|beta)",
        r"\1/\2",
    ),
    (
        rf"((?:{_LAYER}/attention/self/(?:query|key|value)|{_LAYER}/attention/output/dense|{_LAYER}/intermediate/dense"
        rf"|{_LAYER}/output/dense|bert/pooler/dense|cls/predictions/transform/dense))/(kernel|bias)",
        r"\1/\2",
    ),
    (r"cls/predictions/output_(bias)", r"cls/predictions/\1"),
    (r"cls/seq_relationship/output_(weights|bias)", r"cls/seq_relationship/\1"),
    (r"cls/squad/output_(weights|bias)", r"qa_outputs/\1"),  # run_squad.py
    (r"output_(weights|bias)", r"classifier/\1"),  # run_classifier.py
]
_PARAMETERS = {"kernel": "weight", "gamma": "weight", "beta": "bias", "weights": "weight"}


def google_names(variables: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """A mapping from Google's variable names to Hugging Face's names; and the variables that are not BERT's.

    Variables outside the model are ignored, as in Google's code. Neither result contains step counts and the state of
    an optimizer, whose names continue a variable's name (``.../kernel/adam_m``). The heads are those of Google's
    scripts: pre-training (``cls.predictions``, ``cls.seq_relationship``), ``classifier`` and ``qa_outputs``.

    Raises:
        CheckpointError: a variable is inside the encoder, where Google's BERT has none of this name.
    """
    renamed, others = {}, []
    for name in variables:
        if (new_name := _hugging_face_name(name)) is not None:
            renamed[name] = new_name
        elif _is_state(name):
            continue
        elif name.startswith("bert/"):
            raise CheckpointError(f"{name}: not a variable of Google's BERT; its PyTorch name is not known")
        else:
            others.append(name)
    return renamed, others


def _is_state(name: str) -> bool:
    """Whether a variable belongs to training: an optimizer's slot of a variable, or a count of steps."""
    parts = name.split("/")
    of_variable = any(_hugging_face_name("/".join(parts[:length])) for length in range(1, len(parts)))
    return of_variable or parts[-1] in _COUNTS


def to_hugging_face_names(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the tensors of a Google BERT as Hugging Face does (``bert.encoder.layer.0...``); see ``google_names``.

    Kernels are transposed from TensorFlow's (in, out) to PyTorch's (out, in), and copied; other tensors are returned as
    they are.
    """
    return {
        new_name: np.ascontiguousarray(tensors[name].T) if name.endswith("/kernel") else tensors[name]
        for name, new_name in google_names(tensors)[0].items()
    }


def _hugging_face_name(name: str) -> str | None:
    for pattern, replacement in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            path, _, parameter = match.expand(replacement).replace("layer_", "layer.").rpartition("/")
            return f"{path.replace('/', '.')}.{_PARAMETERS.get(parameter, parameter)}"
    return None


# -- tensors ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """The position of a tensor's bytes: a BundleEntryProto."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int  # bytes
    checksum: int  # masked crc32c
    partitioned: bool


def _map_shard(path: Path) -> Bytes:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, but the checkpoint's index refers to it")
    if path.stat().st_size == 0:
        return np.zeros(0, np.uint8)  # an empty file cannot be mapped
    return np.memmap(path, np.uint8, mode="r")


def _tensor(entry: _Entry, shard: Bytes, verify: bool) -> np.ndarray:
    if entry.partitioned:
        raise ValueError("partitioned variables are not supported")
    if entry.dtype not in DTYPES:
        raise ValueError(f"TensorFlow's data type number {entry.dtype} is not supported")
    dtype = np.dtype(DTYPES[entry.dtype])
    count = 1
    for length in entry.shape:
        count *= length
    if count * dtype.itemsize != entry.size:
        raise ValueError(f"{entry.size} bytes stored, which does not match shape {entry.shape} of {dtype}")
    if entry.offset + entry.size > len(shard):
        raise ValueError(f"ends at byte {entry.offset + entry.size}, but the file has only {len(shard)}")
    data = np.asarray(shard[entry.offset : entry.offset + entry.size])
    if verify and _unmask(entry.checksum) != crc32c(data):
        raise ValueError("damaged: the checksum of its bytes is wrong")
    if entry.dtype == BFLOAT16:  # the upper half of a float32
        return (data.view(dtype).astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
    return data.view(dtype).reshape(entry.shape)


# -- index -----------------------------------------------------------------------------------------


def _read_index(table: bytes) -> tuple[int, dict[str, _Entry]]:
    """The number of shards, and the entry of every tensor."""
    if len(table) < FOOTER_SIZE or struct.unpack("<Q", table[-8:])[0] != TABLE_MAGIC:
        raise ValueError("not the index of a TensorFlow checkpoint, or truncated")
    footer = table[-FOOTER_SIZE:]
    _, position = _varint(footer, 0)  # the handle of the filter block, which checkpoints do not use
    _, position = _varint(footer, position)
    values = dict(_table_values(table, *_block_handle(footer, position)))
    header = _message(values.pop(b"", b""))
    if _field(header, 2, 0) != 0:
        raise ValueError("a checkpoint in big-endian byte order is not supported")
    if OBJECT_GRAPH.encode() in values:
        raise ValueError(
            "an object-based checkpoint (tf.train.Checkpoint, as of TensorFlow 2) is not supported; use tf.train.Saver"
        )
    # A key that begins with 0 is not a name but a slice of a partitioned variable, which `_tensor` rejects.
    entries = {key.decode(): _entry(value) for key, value in values.items() if key[0] != 0}
    return _field(header, 1, 1), entries


def _table_values(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    for _, handle in _block(table, offset, size):
        yield from _block(table, *_block_handle(handle, 0))


def _block_handle(data: bytes, position: int) -> tuple[int, int]:
    offset, position = _varint(data, position)
    size, _ = _varint(data, position)
    return offset, size


def _block(table: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The key-value pairs of a block. Each key is stored as its difference from the previous key."""
    end = offset + size
    if end + 5 > len(table) - FOOTER_SIZE:
        raise ValueError("truncated: a block goes beyond the end")
    compression, checksum = struct.unpack("<BI", table[end : end + 5])
    if _unmask(checksum) != crc32c(np.frombuffer(table[offset : end + 1], np.uint8)):
        raise ValueError(f"damaged: the checksum of the block at byte {offset} is wrong")
    block = table[offset:end]
    if compression == SNAPPY:
        block = snappy_decompress(block)
    elif compression != NO_COMPRESSION:
        raise ValueError(f"compression number {compression} is not supported")

    (restart_count,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restart_count + 1)  # restart points are for binary search: not needed
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        unshared, position = _varint(block, position)
        value_size, position = _varint(block, position)
        value = position + unshared
        key = key[:shared] + block[position:value]
        position = value + value_size
        if position > end:
            raise ValueError("damaged: a key or value goes beyond the end of its block")
        yield key, block[value:position]


def _entry(data: bytes) -> _Entry:
    fields = _message(data)
    dimensions = [content for number, content in _fields(_field(fields, 2, b"")) if number == 2]
    return _Entry(
        dtype=_field(fields, 1, 0),
        shape=tuple(_field(_message(dimension), 1, 0) for dimension in dimensions),
        shard=_field(fields, 3, 0),
        offset=_field(fields, 4, 0),
        size=_field(fields, 5, 0),
        checksum=_field(fields, 6, 0),
        partitioned=7 in fields,
    )


# -- encodings -------------------------------------------------------------------------------------


def _message(data: bytes) -> dict[int, Any]:
    """The fields of a protocol buffer by number; the last one if a field is repeated."""
    return dict(_fields(data))


def _field(fields: dict[int, Any], number: int, default: Value) -> Value:
    value = fields.get(number, default)
    if type(value) is not type(default):
        raise ValueError(f"damaged: field {number} of a protocol buffer is of another type")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The number and content of each field: an ``int``, or ``bytes``, which the caller parses."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _varint(data, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"damaged: wire type {wire_type} in a protocol buffer")
        content = data[position : position + size]
        position += size
        if position > len(data):
            raise ValueError("damaged: a protocol buffer ends early")
        yield number, content if wire_type == 2 else int.from_bytes(content, "little")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The integer at ``position`` (seven bits in each byte, lowest first), and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("damaged: it ends inside a number")
        value |= (data[position] & 0x7F) << shift
        position += 1
        if data[position - 1] < 0x80:
            return value, position
    raise ValueError("damaged: a number of more than ten bytes")


def snappy_decompress(data: bytes) -> bytes:
    """Decompress one block of Snappy's raw format. Raises ValueError if it is damaged."""
    size, position = _varint(data, 0)
    output = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        kind, upper = tag & 3, tag >> 2
        extra = max(upper - 59, 0) if kind == 0 else (1, 2, 4)[kind - 1]  # bytes of the number after the tag
        number = int.from_bytes(data[position : position + extra], "little")
        position += extra
        if kind == 0:  # a literal
            length = (number if extra else upper) + 1
            output += data[position : position + length]
            position += length
        else:  # a copy of earlier output
            length, offset = (4 + (upper & 7), upper >> 3 << 8 | number) if kind == 1 else (upper + 1, number)
            if not 0 < offset <= len(output):
                raise ValueError("damaged: a Snappy copy from before the beginning")
            start = len(output) - offset
            for index in range(start, start + length):  # the copy may overlap what it writes
                output.append(output[index])
        if position > len(data) or len(output) > size:
            break
    if position != len(data) or len(output) != size:
        raise ValueError("damaged: a Snappy block of the wrong length")
    return bytes(output)


# -- checksums -------------------------------------------------------------------------------------
# A CRC is linear over GF(2), so the lanes of a long input can be computed side by side and then combined.

_POLYNOMIAL = np.uint32(0x82F63B78)  # Castagnoli's, bits reversed
_CHUNK = 1 << 20  # bytes
_LANE = 256  # bytes


def _after_zero_bits(states: np.ndarray, bits: int) -> np.ndarray:
    for _ in range(bits):
        states = (states >> 1) ^ np.where(states & 1, _POLYNOMIAL, np.uint32(0))
    return states


_AFTER_BYTE = _after_zero_bits(np.arange(1 << 8, dtype=np.uint32), 8).tolist()
_AFTER_WORD = _after_zero_bits(np.arange(1 << 16, dtype=np.uint32), 16)


def _unmask(checksum: int) -> int:
    rotated = (checksum - 0xA282EAD8) & 0xFFFFFFFF
    return (rotated >> 17 | rotated << 15) & 0xFFFFFFFF


def crc32c(data: Bytes) -> int:
    """CRC-32C of a one-dimensional uint8 array."""
    state = 0xFFFFFFFF
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        if len(chunk) >= 16 * _LANE:
            state = _crc_in_lanes(state, chunk)
        else:
            for byte in chunk.tolist():
                state = _AFTER_BYTE[(state ^ byte) & 0xFF] ^ state >> 8
    return state ^ 0xFFFFFFFF


def _crc_in_lanes(state: int, chunk: Bytes) -> int:
    lane_count = 1 << (-(-len(chunk) // _LANE) - 1).bit_length()
    padded = np.zeros(lane_count * _LANE, np.uint8)  # leading zeros do not change a CRC that starts at 0
    padded[-len(chunk) :] = chunk
    first = padded[len(padded) - len(chunk) :][:4]
    first ^= np.frombuffer(struct.pack("<I", state), np.uint8)  # equivalent to starting at `state`

    words = padded.view("<u2").reshape(lane_count, -1).T.astype(np.uint32, order="C")  # (words of a lane, lanes)
    states = _crc_of_words(np.zeros(lane_count, np.uint32), words)
    # The effect of one lane of zeros on each of the 32 bits of a state: the columns of a matrix.
    shift = _crc_of_words(np.uint32(1) << np.arange(32, dtype=np.uint32), np.zeros((_LANE // 2, 1), np.uint32))
    while len(states) > 1:
        states = _apply(shift, states[0::2]) ^ states[1::2]
        shift = _apply(shift, shift)
    return int(states[0])


def _crc_of_words(states: np.ndarray, words: np.ndarray) -> np.ndarray:
    for word in words:
        states = _AFTER_WORD[(states ^ word) & 0xFFFF] ^ states >> 16
    return states


def _apply(matrix: np.ndarray, states: np.ndarray) -> np.ndarray:
    product = np.zeros_like(states)
    for bit, column in enumerate(matrix):
        product ^= np.where(states >> bit & 1, column, np.uint32(0))
    return product
