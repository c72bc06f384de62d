"""The reader of TensorFlow checkpoints, on files of a real TensorFlow (see make_tf_bundle.py)."""

import base64
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from reference.errors import CheckpointError
from reference.tf_checkpoint import (
    bundle_files,
    crc32c,
    google_names,
    read_tf_checkpoint,
    snappy_decompress,
    to_hugging_face_names,
)

BUNDLE = Path(__file__).parent / "tf_bundle"


def expected(checkpoint: str) -> dict[str, np.ndarray]:
    with np.load(BUNDLE / "expected.npz") as values:
        pairs = [(name.split(":"), values[name]) for name in values.files]
    return {name: value for (owner, name), value in pairs if owner == checkpoint}


def assert_same(tensors: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert tensors.keys() == wanted.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == wanted[name].dtype
        assert tensor.shape == wanted[name].shape
        np.testing.assert_array_equal(tensor, wanted[name], err_msg=name)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(BUNDLE, tmp_path / "bundle"))


# -- reading --


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("name", ["bert_model.ckpt", "two_shards.ckpt"])
def test_reads_what_tensorflow_wrote(name: str, verify: bool) -> None:
    tensors = read_tf_checkpoint(BUNDLE / name, verify=verify)

    assert_same(tensors, expected("bert_model.ckpt"))


def test_reads_every_data_type() -> None:
    assert_same(read_tf_checkpoint(BUNDLE / "dtypes.ckpt"), expected("dtypes.ckpt"))


def test_reads_an_index_compressed_with_snappy(bundle: Path) -> None:
    index = bundle / "bert_model.ckpt.index"
    index.write_bytes(compressed_index(index.read_bytes()))

    assert_same(read_tf_checkpoint(bundle / "bert_model.ckpt"), expected("bert_model.ckpt"))


# -- names --


def test_names_are_those_of_transformers() -> None:
    from transformers import BertConfig, BertForPreTraining

    config = BertConfig(**json.loads((BUNDLE / "bert_config.json").read_text()))
    wanted = {
        name: tuple(tensor.shape)
        for name, tensor in BertForPreTraining(config).state_dict().items()
        if not name.startswith("cls.predictions.decoder.") and not name.endswith("position_ids")  # tied, or no weight
    }

    tensors = to_hugging_face_names(read_tf_checkpoint(BUNDLE / "bert_model.ckpt"))

    assert {name: tensor.shape for name, tensor in tensors.items()} == wanted


def test_kernels_are_transposed_and_contiguous() -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)

    tensors = to_hugging_face_names({"bert/encoder/layer_11/intermediate/dense/kernel": kernel})

    weight = tensors["bert.encoder.layer.11.intermediate.dense.weight"]
    np.testing.assert_array_equal(weight, kernel.T)
    assert weight.flags.c_contiguous


@pytest.mark.parametrize(
    ("google", "hugging_face"),
    [
        ("output_weights", "classifier.weight"),
        ("output_bias", "classifier.bias"),
        ("cls/squad/output_weights", "qa_outputs.weight"),
        ("cls/squad/output_bias", "qa_outputs.bias"),
    ],
)
def test_names_of_the_heads_of_fine_tuned_models(google: str, hugging_face: str) -> None:
    value = np.ones((2, 4), np.float32)

    tensors = to_hugging_face_names({google: value})

    assert list(tensors) == [hugging_face]
    assert tensors[hugging_face] is value


@pytest.mark.parametrize(
    "name",
    [
        "bert/encoder/layer_0/attention/self/query/scale",
        "bert/embeddings/word_embeddings_2",
        "bert/encoder/layer_x/output/dense/bias",
        "bert/encoder/layer_0/attention/self/query/kernel_norm",
    ],
)
def test_an_unknown_variable_of_the_encoder_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        to_hugging_face_names({name: np.zeros(1)})


@pytest.mark.parametrize(
    "slot",
    ["adam_m", "AdamWeightDecayOptimizer_1", "Adam", "LAMB/m", "Adafactor_vr", "Momentum", "ExponentialMovingAverage"],
)
def test_what_an_optimizer_keeps_is_left_out_whichever_it_is(slot: str) -> None:
    variables = ["bert/embeddings/word_embeddings", "bert/encoder/layer_0/output/dense/kernel", "output_bias"]

    renamed, others = google_names([*variables, *(f"{name}/{slot}" for name in variables), "global_step"])

    assert list(renamed) == variables
    assert others == []


def test_what_is_not_in_google_s_model_is_passed_over_and_named() -> None:
    """``get_assignment_map_from_checkpoint`` in Google's modeling.py ignores it too."""
    renamed, others = google_names(["bert/pooler/dense/bias", "crf_loss/transitions", "albert/pooler/dense/bias"])

    assert list(renamed.values()) == ["bert.pooler.dense.bias"]
    assert others == ["crf_loss/transitions", "albert/pooler/dense/bias"]


def test_only_what_is_wanted_is_read(bundle: Path) -> None:
    name = "cls/predictions/output_bias"
    assert_same(
        read_tf_checkpoint(bundle / "bert_model.ckpt", wanted={name}), {name: expected("bert_model.ckpt")[name]}
    )
    assert read_tf_checkpoint(bundle / "strings.ckpt", wanted=set()) == {}


@pytest.mark.parametrize("name", ["bert_model.ckpt", "two_shards.ckpt"])
def test_the_files_of_a_checkpoint_are_those_of_one_save(name: str, bundle: Path) -> None:
    stale = bundle / f"{name}.data-00000-of-00007"
    stale.write_bytes(b"of an older save")

    index, *data = bundle_files(bundle / name)

    assert index == bundle / f"{name}.index"
    assert data == sorted(set(bundle.glob(f"{name}.data*")) - {stale})


# -- rejected checkpoints --


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v1.ckpt", "V1"),
        ("objects.ckpt", "object-based"),
        ("partitioned.ckpt", "bert/embeddings/word_embeddings: partitioned"),
        ("strings.ckpt", "words: TensorFlow's data type number 7"),
        ("absent.ckpt", r"absent\.ckpt\.index: no such file"),
    ],
)
def test_what_is_not_supported_is_said(name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_tf_checkpoint(BUNDLE / name)


def test_big_endian_is_refused(bundle: Path) -> None:
    index = bundle / "dtypes.ckpt.index"
    table = bytearray(index.read_bytes())
    header = table.index(b"\x08\x01\x1a\x02\x08\x01")  # one shard, little-endian by default, version 1
    table[header : header + 6] = b"\x08\x01\x10\x01\x1a\x00"  # one shard, big-endian, an empty version
    index.write_bytes(with_right_checksums(bytes(table)))

    with pytest.raises(CheckpointError, match="big-endian"):
        read_tf_checkpoint(bundle / "dtypes.ckpt")


# -- damage --


def test_a_flipped_byte_of_the_index_is_never_misread(bundle: Path) -> None:
    index, wanted = bundle / "dtypes.ckpt.index", expected("dtypes.ckpt")
    table = index.read_bytes()
    refused = 0
    for position in range(len(table)):
        damaged = bytearray(table)
        damaged[position] ^= 0x41
        index.write_bytes(damaged)
        try:
            tensors = read_tf_checkpoint(bundle / "dtypes.ckpt")
        except CheckpointError:
            refused += 1
        else:
            assert_same(tensors, wanted)  # one of the few bytes that are not read
    assert refused > 0.8 * len(table)


def test_nonsense_under_a_right_checksum_is_refused_or_read_whole(bundle: Path) -> None:
    index = bundle / "dtypes.ckpt.index"
    table = index.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for position in range(len(blocks(table)[0])):
        damaged = bytearray(table)
        damaged[position] = rng.integers(256)
        index.write_bytes(with_right_checksums(bytes(damaged)))
        try:
            read_tf_checkpoint(bundle / "dtypes.ckpt")
        except CheckpointError:  # no other class of error
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("length", [0, 1, 47, 48, 49, 200, 341])
def test_a_truncated_index_is_refused(bundle: Path, length: int) -> None:
    index = bundle / "dtypes.ckpt.index"
    index.write_bytes(index.read_bytes()[:length])

    with pytest.raises(CheckpointError, match=r"dtypes\.ckpt\.index: not the index"):
        read_tf_checkpoint(bundle / "dtypes.ckpt")


def test_a_damaged_tensor_is_named(bundle: Path) -> None:
    shard = bundle / "bert_model.ckpt.data-00000-of-00001"
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)

    with pytest.raises(CheckpointError, match=r"data-00000-of-00001: bert/[\w/]+: damaged"):
        read_tf_checkpoint(bundle / "bert_model.ckpt")
    assert len(read_tf_checkpoint(bundle / "bert_model.ckpt", verify=False)) == len(expected("bert_model.ckpt"))


@pytest.mark.parametrize("length", [0, 30000])
def test_a_truncated_shard_is_refused_even_unverified(bundle: Path, length: int) -> None:
    shard = bundle / "bert_model.ckpt.data-00000-of-00001"
    shard.write_bytes(shard.read_bytes()[:length])

    with pytest.raises(CheckpointError, match=f"the file has only {length}"):
        read_tf_checkpoint(bundle / "bert_model.ckpt", verify=False)


def test_a_missing_shard_is_named(bundle: Path) -> None:
    (bundle / "two_shards.ckpt.data-00001-of-00002").unlink()

    with pytest.raises(CheckpointError, match="data-00001-of-00002: no such file"):
        read_tf_checkpoint(bundle / "two_shards.ckpt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", bytes(300)])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.index").write_bytes(content)

    with pytest.raises(CheckpointError, match="not the index of a TensorFlow checkpoint"):
        read_tf_checkpoint(tmp_path / "x")


# -- Snappy and CRC-32C --

KERNELS = b"".join(b"bert/encoder/layer_%d/output/dense/kernel\n" % i for i in range(12))
PLAIN = KERNELS + bytes(range(100)) + b"a" * 100
COMPRESSED = (  # PLAIN, compressed by the reference implementation of Snappy
    "tgWgYmVydC9lbmNvZGVyL2xheWVyXzAvb3V0cHV0L2RlbnNlL2tlcm5lbApKKQAAMZ4pAAAynikAADOeKQAANJ4pAAA1nikA"
    "ADaeKQAAN54pAAA4nikAADmeKQAAMaabAVacAfBpAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygp"
    "KissLS4vMDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2FhYWFhYf4EAHYEAA=="
)


def test_snappy_decompresses() -> None:
    assert snappy_decompress(base64.b64decode(COMPRESSED)) == PLAIN


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        (b"\x00", b""),
        (b"\x03\x08abc", b"abc"),
        (b"\x07\x08abc\x01\x03", b"abcabca"),  # a copy of 4, offset in 1 byte, which overlaps itself
        (b"\x06\x08abc\x0a\x03\x00", b"abcabc"),  # a copy of 3, offset in 2 bytes
        (b"\x05\x08abc\x07\x02\x00\x00\x00", b"abcbc"),  # a copy of 2, offset in 4 bytes
        (b"\x3d\xf0\x3c" + b"x" * 61, b"x" * 61),  # a literal whose length is in a separate byte
    ],
)
def test_snappy_decompresses_every_kind_of_element(compressed: bytes, plain: bytes) -> None:
    assert snappy_decompress(compressed) == plain


@pytest.mark.parametrize(
    "compressed",
    [
        b"",
        b"\x80",
        b"\x04\x08abc",  # shorter than stated
        b"\x02\x08abc",  # longer than stated
        b"\x03\x08ab",  # ends inside a literal
        b"\x07\x08abc\x01",  # ends inside a copy
        b"\x07\x08abc\x01\x04",  # a copy from before the beginning
        b"\x07\x08abc\x01\x00",  # a copy with offset 0
    ],
)
def test_damaged_snappy_is_refused(compressed: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        snappy_decompress(compressed)


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),  # this and the next three: RFC 3720, B.4
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_crc32c_of_known_texts(data: bytes, checksum: int) -> None:
    assert crc32c(np.frombuffer(data, np.uint8)) == checksum


@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 10_001, (1 << 20) - 1, (1 << 20) + 3, (1 << 20) + 4099])
def test_crc32c_of_any_length(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length).astype(np.uint8)
    wanted = 0xFFFFFFFF
    for nibble in np.stack([data & 15, data >> 4], axis=1).ravel().tolist():  # four bits at a time
        wanted = CRC_OF_NIBBLE[(wanted ^ nibble) & 15] ^ (wanted >> 4)

    assert crc32c(data) == wanted ^ 0xFFFFFFFF


def crc_of_nibble(state: int) -> int:
    for _ in range(4):
        state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state


CRC_OF_NIBBLE = [crc_of_nibble(nibble) for nibble in range(16)]


# -- a writer of indices, for damaged and rare ones --


def varint(number: int) -> bytes:
    head = b""
    while number > 0x7F:
        head += bytes([number & 0x7F | 0x80])
        number >>= 7
    return head + bytes([number])


def read_varints(data: bytes, count: int) -> list[int]:
    numbers, position = [], 0
    for _ in range(count):
        number = shift = 0
        while True:
            byte, position = data[position], position + 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(number)
    return numbers


def with_trailer(block: bytes, compression: int) -> bytes:
    checksum = crc32c(np.frombuffer(block + bytes([compression]), np.uint8))
    masked = ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return block + struct.pack("<BI", compression, masked)


def blocks(table: bytes) -> tuple[bytes, bytes]:
    """The data block, which begins a small table, and the table's index block."""
    _, _, offset, size = read_varints(table[-48:], 4)
    index = table[offset : offset + size]
    key_size = index[1]
    data_offset, data_size = read_varints(index[3 + key_size :], 2)
    assert data_offset == 0
    return table[:data_size], index


def with_right_checksums(table: bytes) -> bytes:
    data, _ = blocks(table)
    return with_trailer(data, 0) + table[len(data) + 5 :]


def compressed_index(table: bytes) -> bytes:
    """The table with its data block in Snappy's format (as one literal)."""
    data, _ = blocks(table)
    literal = varint(len(data)) + b"\xf4" + struct.pack("<H", len(data) - 1) + data
    start = with_trailer(literal, 1)
    handle = b"\x00" + varint(len(literal))
    index = b"\x00\x01" + bytes([len(handle)]) + b"z" + handle + struct.pack("<II", 0, 1)
    footer = b"\x00\x00" + varint(len(start)) + varint(len(index))
    return start + with_trailer(index, 0) + footer.ljust(40, b"\x00") + table[-8:]
