"""Writes tests/reference/tf_bundle: a tiny Google BERT, saved by a real TensorFlow.

Run in a separate environment (``pip install tensorflow-cpu==2.21.0``): ``python make_tf_bundle.py``.

bert_model.ckpt        one shard: encoder, pre-training heads, optimizer slots, global_step
two_shards.ckpt        the same, saved in two parts that TensorFlow merged
dtypes.ckpt            one variable of each data type that is read
expected.npz           the values of all of them, by "<checkpoint>:<variable>"
partitioned.ckpt, objects.ckpt, v1.ckpt, strings.ckpt    checkpoints that are rejected
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]

tf1 = tf.compat.v1
FOLDER = Path(__file__).parent / "tf_bundle"
LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY, POSITIONS = 2, 16, 64, 40, 32


def bert_variables() -> dict[str, np.ndarray]:
    """Random variables under the names that Google's modeling.py and run_pretraining.py give them."""
    rng = np.random.default_rng(2018)
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (VOCABULARY, HIDDEN),
        "bert/embeddings/position_embeddings": (POSITIONS, HIDDEN),
        "bert/embeddings/token_type_embeddings": (2, HIDDEN),
        "cls/predictions/output_bias": (VOCABULARY,),
        "cls/seq_relationship/output_weights": (2, HIDDEN),
        "cls/seq_relationship/output_bias": (2,),
    }
    norms = ["bert/embeddings", "cls/predictions/transform"]
    square: tuple[int, ...] = (HIDDEN, HIDDEN)
    denses = {"bert/pooler/dense": square, "cls/predictions/transform/dense": square}
    for i in range(LAYERS):
        layer = f"bert/encoder/layer_{i}"
        norms += [f"{layer}/attention/output", f"{layer}/output"]
        for name in ("self/query", "self/key", "self/value", "output/dense"):
            denses[f"{layer}/attention/{name}"] = square
        denses[f"{layer}/intermediate/dense"] = (HIDDEN, INTERMEDIATE)
        denses[f"{layer}/output/dense"] = (INTERMEDIATE, HIDDEN)
    for name, shape in denses.items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    for name in norms:
        shapes |= {f"{name}/LayerNorm/gamma": (HIDDEN,), f"{name}/LayerNorm/beta": (HIDDEN,)}

    values: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        center = 1.0 if name.endswith("gamma") else 0.0
        values[name] = rng.normal(center, 0.2, shape).astype(np.float32)
    for name in ("bert/embeddings/word_embeddings", "bert/encoder/layer_0/attention/self/query/kernel"):
        for slot in ("adam_m", "adam_v"):
            values[f"{name}/{slot}"] = rng.normal(0, 0.01, shapes[name]).astype(np.float32)
    values["global_step"] = np.array(20, np.int64)
    return values


def dtype_variables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2019)
    values: dict[str, np.ndarray] = {
        dtype: rng.normal(0, 3, (3, 5)).astype(dtype) for dtype in ("float16", "float32", "float64")
    }
    values |= {dtype: rng.integers(-(2**30), 2**30, 7).astype(dtype) for dtype in ("int32", "int64")}
    values["bfloat16"] = rng.normal(0, 3, (4, 3)).astype(tf.bfloat16.as_numpy_dtype)
    values["scalar"] = np.array(1.5, np.float32)
    values["empty"] = np.zeros((0, 4), np.float32)
    values["long"] = rng.normal(0, 1, 6000).astype(np.float32)  # its checksum is computed in lanes
    return values


def save(values: dict[str, np.ndarray], name: str, **options: object) -> None:
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = [tf1.get_variable(key, initializer=value) for key, value in values.items()]
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(variables, **options)
        saver.save(session, str(FOLDER / name), write_meta_graph=False, write_state=False)


def save_in_two_shards(values: dict[str, np.ndarray], name: str) -> None:
    names = sorted(values)
    with tempfile.TemporaryDirectory() as folder:
        parts = [f"{folder}/part{i}" for i in range(2)]
        for part, chosen in zip(parts, (names[::2], names[1::2]), strict=True):
            tensors = [values[key] for key in chosen]
            tf.raw_ops.SaveV2(prefix=part, tensor_names=chosen, shape_and_slices=[""] * len(chosen), tensors=tensors)
        tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=str(FOLDER / name))


def save_what_is_refused() -> None:
    values = np.arange(24, dtype=np.float32).reshape(8, 3)
    save({"bert/pooler/dense/bias": values[0]}, "v1.ckpt", write_version=tf1.train.SaverDef.V1)
    slices = ["8 3 0,4:0,3", "8 3 4,4:0,3"]
    halves = [values[:4], values[4:]]
    tf.raw_ops.SaveV2(
        prefix=str(FOLDER / "partitioned.ckpt"),
        tensor_names=["bert/embeddings/word_embeddings"] * 2,
        shape_and_slices=slices,
        tensors=halves,
    )
    tf.raw_ops.SaveV2(
        prefix=str(FOLDER / "strings.ckpt"),
        tensor_names=["words"],
        shape_and_slices=[""],
        tensors=[np.array([b"a", b"b"])],
    )
    tf.train.Checkpoint(bias=tf.Variable(values[0])).write(str(FOLDER / "objects.ckpt"))


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    bert, dtypes = bert_variables(), dtype_variables()
    save(bert, "bert_model.ckpt")
    save_in_two_shards(bert, "two_shards.ckpt")
    save(dtypes, "dtypes.ckpt")
    save_what_is_refused()
    expected = {f"bert_model.ckpt:{name}": value for name, value in bert.items()}
    expected |= {f"dtypes.ckpt:{name}": value for name, value in dtypes.items()}
    expected["dtypes.ckpt:bfloat16"] = expected["dtypes.ckpt:bfloat16"].astype(np.float32)
    np.savez_compressed(FOLDER / "expected.npz", **expected)  # type: ignore[arg-type]
    config = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": HIDDEN,
        "initializer_range": 0.02,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": 2,
        "num_hidden_layers": LAYERS,
        "type_vocab_size": 2,
        "vocab_size": VOCABULARY,
    }
    (FOLDER / "bert_config.json").write_text(json.dumps(config, indent=2) + "\n")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "##s", "##ed"]
    words += ["the", "cat", "sat", "on", "mat", ".", ","]
    (FOLDER / "vocab.txt").write_text("\n".join(words) + "\n")
    assert len(words) == VOCABULARY


if __name__ == "__main__":
    main()
