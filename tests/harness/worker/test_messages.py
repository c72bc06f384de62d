"""Messages over pipes: what goes in comes out, and what is not a message is said to be none."""

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from harness.worker.messages import DTYPES, MAX_HEADER, Array, ProtocolError, exactly, receive, send


def written(message: dict[str, Any], arrays: dict[str, Array] | None = None) -> bytes:
    stream = io.BytesIO()
    send(stream, message, arrays)
    return stream.getvalue()


def read(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    return receive(exactly(io.BytesIO(data)))


def with_header(header: bytes, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def listing(*entries: list[Any]) -> bytes:
    return json.dumps({"arrays": entries}).encode()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_arrays_come_out_as_they_went_in(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.asarray(np.random.default_rng(0).integers(0, 100, shape)).astype(dtype)
    message, arrays = read(written({"command": "x", "text": "她 ☂"}, {"a": array, "b": array.T}))
    assert message == {"command": "x", "text": "她 ☂"}
    for result, expected in ((arrays["a"], array), (arrays["b"], array.T)):
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(result, expected)


@given(arrays_of.arrays(st.sampled_from(DTYPES), arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0)))
def test_every_bit_survives(array: Array) -> None:
    result = read(written({}, {"x": array}))[1]["x"]
    assert (result.dtype, result.shape, result.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize(
    "view", [np.s_[::2, ::-1], np.s_[:, 1], np.s_[1:3, 2:]], ids=["strided, reversed", "column", "corner"]
)
def test_views_that_are_not_contiguous(view: Any) -> None:
    array = np.arange(20.0).reshape(4, 5)
    np.testing.assert_array_equal(read(written({}, {"x": array[view]}))[1]["x"], array[view])


def test_column_order_and_foreign_byte_order_keep_their_values() -> None:
    fortran, foreign = np.asfortranarray(np.arange(6).reshape(2, 3)), np.array([1, 2, 3], dtype=">i4")
    _, arrays = read(written({}, {"fortran": fortran, "foreign": foreign}))
    assert arrays["fortran"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert arrays["foreign"].tolist() == [1, 2, 3]
    assert arrays["foreign"].dtype == np.int32


def test_arrays_received_can_be_written_to() -> None:
    result = read(written({}, {"x": np.zeros(3)}))[1]["x"]
    result += 1
    assert result.tolist() == [1, 1, 1]


def test_messages_follow_one_another() -> None:
    stream = io.BytesIO(written({"n": 1}, {"x": np.arange(3)}) + written({"n": 2}))
    assert [receive(exactly(stream))[0]["n"] for _ in range(2)] == [1, 2]
    with pytest.raises(EOFError):
        receive(exactly(stream))


@pytest.mark.parametrize(
    "array",
    [np.array([{}]), np.array(["text"]), np.array([1j]), np.array(["2020-01-01"], dtype="datetime64[D]")],
    ids=["object", "text", "complex", "date"],
)
def test_other_types_are_refused_before_anything_is_written(array: Array) -> None:
    stream = io.BytesIO()
    with pytest.raises(TypeError, match=r"array 'odd' has type .*, which the protocol does not carry"):
        send(stream, {}, {"fine": np.zeros(2), "odd": array})
    assert stream.getvalue() == b""


def test_what_json_cannot_say_is_refused_before_anything_is_written() -> None:
    stream = io.BytesIO()
    with pytest.raises(TypeError):
        send(stream, {"path": object()}, {"x": np.zeros(2)})
    assert stream.getvalue() == b""


def test_a_stream_cut_anywhere_is_at_its_end() -> None:
    data = written({"command": "encode"}, {"x": np.arange(4), "y": np.ones((2, 2))})
    for length in range(len(data)):
        with pytest.raises(EOFError):
            read(data[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"Loading weights... done\n",
        struct.pack("<Q", MAX_HEADER + 1),
        with_header(b""),
        with_header(b"\xff\xfe nonsense"),
        with_header(b"[1, 2]"),
        with_header(b'"text"'),
        with_header(b"null"),
        with_header(b"[" * 100_000),
        with_header(b'{"no": "arrays"}'),
        with_header(b'{"arrays": 3}'),
        with_header(b'{"arrays": [["x", "int64"]]}'),
        with_header(b'{"arrays": [["x", "int64", [Infinity]]]}'),
        with_header(b'{"arrays": [["x", "int64", [null]]]}'),
        with_header(listing(["x", "object", [1]]), bytes(8)),
        with_header(listing(["x", "complex128", [1]]), bytes(16)),
        with_header(listing(["x", "int64", [-1]]), bytes(8)),
        with_header(listing(["x", "int64", [-1, -1]]), bytes(8)),
        with_header(listing(["x", "int64", [2**32, 2**32]]), bytes(8)),
        with_header(listing(["x", "uint8", [2**40 + 1]]), bytes(8)),
    ],
    ids=lambda data: repr(data[:60]),
)
def test_nonsense_is_no_message(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data)


def test_a_header_of_the_greatest_length_is_only_read_when_it_is_there() -> None:
    with pytest.raises(EOFError):
        read(struct.pack("<Q", MAX_HEADER) + b"{}")


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data: bytes) -> None:
    with pytest.raises((EOFError, ProtocolError)):
        read(data)
    with pytest.raises((EOFError, ProtocolError)):
        read(with_header(data))
