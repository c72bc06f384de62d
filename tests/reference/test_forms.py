"""All forms of weights that people have: read as transformers reads them, or rejected with a remedy.

Each form is made from one folder that transformers saved; where transformers loads it, its hidden states are compared.
"""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import reference
from reference.checkpoint import add_head, drawn, read
from reference.errors import CheckpointError
from reference.files.weights import find_weight_files

BUNDLE = Path(__file__).parent / "tf_bundle"
IDS = torch.tensor([[2, 11, 12, 13, 3, 21, 3], [2, 31, 32, 33, 34, 35, 3]])
Tensors = dict[str, Tensor]
Save = Callable[..., Any]


@torch.no_grad()
def ours(path: Path) -> Tensor:
    """The last hidden state by our model."""
    model: Any = reference.load(path, device="cpu", precision="fp64")
    states: Tensor = model.padded(IDS)
    return states


@torch.no_grad()
def theirs(folder: Path) -> Tensor:
    """The last hidden state by the model that transformers loads from a folder."""
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    states: Tensor = model(input_ids=IDS).last_hidden_state
    return states


def same(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=0, atol=1e-12)


@pytest.fixture
def saved(save_with_transformers: Save) -> Path:
    """A folder with an encoder and its pooler, bare names, float64, as transformers saves it."""
    folder: Path = save_with_transformers()[1]
    return folder


@pytest.fixture
def tensors(saved: Path) -> Tensors:
    return load_file(saved / "model.safetensors")


def other(tensors: Tensors) -> Tensors:
    """Tensors of the same names with other values."""
    return {name: tensor + 0.5 for name, tensor in tensors.items()}


def write_shards(tensors: Tensors, folder: Path, ending: str = "bin") -> list[str]:
    """Write two shards and their index; return the names of the shards."""
    stem = "pytorch_model" if ending == "bin" else "model"
    shards = [f"{stem}-0000{i}-of-00002.{ending}" for i in (1, 2)]
    half = len(tensors) // 2
    parts = [dict(list(tensors.items())[:half]), dict(list(tensors.items())[half:])]
    for name, part in zip(shards, parts, strict=True):
        torch.save(part, folder / name) if ending == "bin" else save_file(part, folder / name, {"format": "pt"})
    of = {tensor: name for name, part in zip(shards, parts, strict=True) for tensor in part}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": of}))
    return shards


def set_config(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


# -- which file is read --

WRITE: list[tuple[str, Callable[[Tensors, Path], Any]]] = [
    ("model.safetensors", lambda t, folder: save_file(t, folder / "model.safetensors", {"format": "pt"})),
    ("model-00001-of-00002.safetensors", lambda t, folder: write_shards(t, folder, "safetensors")),
    ("pytorch_model.bin", lambda t, folder: torch.save(t, folder / "pytorch_model.bin")),
    ("pytorch_model-00001-of-00002.bin", write_shards),
]


@pytest.mark.parametrize("first", range(4))
def test_of_several_files_the_one_is_read_that_transformers_reads(first: int, saved: Path, tensors: Tensors) -> None:
    (saved / "model.safetensors").unlink()
    name, write = WRITE[first]
    write(tensors, saved)
    for _, write_other in WRITE[first + 1 :]:
        write_other(other(tensors), saved)
    for file in [*BUNDLE.glob("bert_model.ckpt.*"), BUNDLE / "bert_config.json"]:
        shutil.copy(file, saved)
    (saved / "tf_model.h5").write_bytes(b"\x89HDF")
    (saved / "flax_model.msgpack").write_bytes(b"\x81")

    found = find_weight_files(saved)

    assert found.files[0].name == name
    assert len(found.files) == (2 if "00001" in name else 1)
    assert same(ours(saved), theirs(saved))
    everything = torch.cat([tensor.flatten() for _, tensor in sorted(tensors.items())])
    read_tensors = read(saved).tensors
    assert torch.equal(torch.cat([tensor.flatten() for _, tensor in sorted(read_tensors.items())]), everything)


def test_transformers_weights_of_the_configuration_goes_before_the_usual_names(saved: Path, tensors: Tensors) -> None:
    save_file(other(tensors), saved / "other.safetensors", {"format": "pt"})
    set_config(saved, transformers_weights="other.safetensors")

    assert same(ours(saved), theirs(saved))
    assert [file.name for file in find_weight_files(saved).files] == ["other.safetensors"]
    set_config(saved, transformers_weights="../other.safetensors")
    with pytest.raises(CheckpointError, match=r"transformers_weights is '\.\./other\.safetensors', no file beside it"):
        find_weight_files(saved)


def test_shards_that_the_index_does_not_name_are_not_read(saved: Path, tensors: Tensors) -> None:
    (saved / "model.safetensors").unlink()
    shards = write_shards(tensors, saved)
    torch.save({"stale": torch.ones(1)}, saved / "pytorch_model-00003-of-00003.bin")

    assert [file.name for file in find_weight_files(saved).files] == shards
    assert same(ours(saved), theirs(saved))


def test_a_tensor_in_two_shards_is_refused(saved: Path, tensors: Tensors) -> None:
    (saved / "model.safetensors").unlink()
    shards = write_shards(tensors, saved)
    torch.save(tensors, saved / shards[1])

    with pytest.raises(CheckpointError, match=r"is in another shard too; download all shards of one save again"):
        read(saved)


def test_beside_a_checkpoint_of_google_its_own_configuration_counts(tmp_path: Path) -> None:
    for file in [*BUNDLE.glob("bert_model.ckpt.*"), BUNDLE / "bert_config.json"]:
        shutil.copy(file, tmp_path)
    google = json.loads((BUNDLE / "bert_config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(google | {"hidden_act": "relu"}))

    assert read(tmp_path).config.hidden_act == google["hidden_act"]
    assert read(tmp_path / "bert_model.ckpt").config.hidden_act == google["hidden_act"]


@pytest.mark.parametrize("name", ["last.ckpt", "best.pt", "bert.bin", "bert.safetensors"])
def test_one_file_may_be_named_itself(name: str, saved: Path, tensors: Tensors) -> None:
    expected = theirs(saved)
    file = saved / name
    save_file(tensors, file) if name.endswith(".safetensors") else torch.save({"state_dict": tensors}, file)
    save_file(other(tensors), saved / "model.safetensors", {"format": "pt"})

    assert find_weight_files(file).files == (file,)
    assert same(ours(file), expected)


# -- names and wrappings --


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def old(tensors: Tensors) -> Tensors:
    renames = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return {
        next((name.replace(new, was) for new, was in renames.items() if name.endswith(new)), name): tensor
        for name, tensor in tensors.items()
    }


FORMS: dict[str, Callable[[Tensors], Any]] = {
    "as it is": lambda tensors: tensors,
    "bert.": prefixed("bert."),
    "gamma and beta": old,
    "numbers of positions": lambda t: t | {"embeddings.position_ids": torch.arange(32)[None]},
    "types of tokens": lambda t: t | {"embeddings.token_type_ids": torch.zeros(1, 32, dtype=torch.long)},
    "CRF": lambda t: t | {"crf.transitions": torch.zeros(5, 5), "classifier.weight": torch.zeros(5, 24)},
    "SimCSE": lambda t: t | {"mlp.dense.weight": torch.zeros(24, 24)},
    "question answering": lambda t: t | {"qa_outputs.weight": torch.zeros(2, 24), "qa_outputs.bias": torch.zeros(2)},
    "another encoder beside it": lambda t: t | prefixed("teacher.")(other(t)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_what_transformers_loads_is_loaded_like_it(form: str, file: str, saved: Path, tensors: Tensors) -> None:
    plain = theirs(saved)
    (saved / "model.safetensors").unlink()
    content = {name: tensor.contiguous().clone() for name, tensor in FORMS[form](tensors).items()}
    save_file(content, saved / file, {"format": "pt"}) if file.endswith("rs") else torch.save(content, saved / file)

    assert same(ours(saved), theirs(saved))
    assert same(ours(saved), plain)


WRAPPED: dict[str, Callable[[Tensors], Any]] = {
    "DataParallel": prefixed("module."),
    "DataParallel of a classifier": prefixed("module.bert."),
    "compiled": prefixed("_orig_mod."),
    "compiled in DataParallel": prefixed("module._orig_mod.bert."),
    "own class": prefixed("encoder."),
    "own class in DataParallel": prefixed("module.encoder.bert."),
    "sentence-transformers": prefixed("0.auto_model."),
    "Lightning": lambda t: {"state_dict": prefixed("model.bert.")(t), "epoch": 3, "global_step": 9},
    "with an optimizer": lambda t: {"model": t, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}, "epoch": 1},
    "DeepSpeed": lambda t: {"module": t, "dp_world_size": 1, "optimizer": None},
    "deeper": lambda t: {"checkpoint": {"net": prefixed("module.")(t)}, "loss": 0.5},
    "wrapped layers": lambda t: {
        name.replace("encoder.layer.0.", "encoder.layer.0._fsdp_wrapped_module._checkpoint_wrapped_module."): tensor
        for name, tensor in t.items()
    },
}


@pytest.mark.parametrize("form", WRAPPED)
def test_what_wraps_a_model_is_taken_off(form: str, saved: Path, tensors: Tensors) -> None:
    plain = theirs(saved)
    (saved / "model.safetensors").unlink()
    torch.save(WRAPPED[form](tensors), saved / "pytorch_model.bin")

    assert same(ours(saved), plain)


def test_what_was_taken_off_and_left_out_is_said(saved: Path, tensors: Tensors) -> None:
    (saved / "model.safetensors").unlink()
    heads = {"classifier.weight": torch.zeros(5, 24), "crf.transitions": torch.zeros(5, 5)}
    content = prefixed("module.")({f"bert.{name}": tensor for name, tensor in tensors.items()} | heads)
    torch.save(content | {"loss.weight": torch.ones(1)}, saved / "pytorch_model.bin")

    assert read(saved).notes == (
        "the names of its tensors begin with module., which is taken off",
        "no part of the encoder, and left out unless a task needs them: classifier, loss.weight, crf.transitions",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda t: {"model": t, "ema": other(t)}, r"several names \(model, ema\); save only those that you mean"),
        (lambda t: prefixed("query.")(t) | prefixed("document.")(t), r"several encoders, under query\., document\."),
        (lambda t: t | prefixed("bert.")(t), r"several encoders, under no prefix, bert\."),
        (lambda t: prefixed("roberta.")(t), r"its encoder's names begin with 'roberta\.', which is not BERT's"),
        (lambda t: {"linear.weight": torch.ones(2)}, r"no encoder of BERT's among its 1 tensors \(linear\.weight\)"),
        (lambda t: t | old(t), "are the same tensor of BERT's; keep one of the two"),
        (lambda t: {n: v for n, v in t.items() if "encoder." not in n}, "hidden_layers is 2, .* have 0 layers"),
        (lambda t: t | {"encoder.layer.0.attention.self.distance_embedding.weight": torch.ones(2)}, "unexpected.*dist"),
        (
            lambda t: {n: v for n, v in t.items() if "layer.1" not in n},
            "hidden_layers is 2, .* have 1 layers; use the",
        ),
        (lambda t: t | {"pooler.dense.bias": torch.ones(24, dtype=torch.int8)}, "pooler.*: numbers of int8: quantised"),
        (lambda t: t | {"pooler.dense.bias": torch.full((24,), torch.nan)}, r"not all numbers are finite.*pooler"),
        (lambda t: {n: v for n, v in t.items() if n != "pooler.dense.bias"}, r"missing tensors: bert\.pooler"),
    ],
)
def test_what_cannot_be_read_with_certainty_is_refused(
    content: Callable[[Tensors], Any], message: str, saved: Path, tensors: Tensors
) -> None:
    (saved / "model.safetensors").unlink()
    torch.save(content(tensors), saved / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=rf"pytorch_model\.bin: .*{message}"):
        reference.load(saved, device="cpu")


def test_a_head_with_numbers_that_are_not_finite_is_refused_where_it_is_used(save_with_transformers: Save) -> None:
    folder = save_with_transformers("classification")[1]
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"classifier.bias": torch.full((3,), torch.inf)}, folder / "model.safetensors")

    reference.load(folder, device="cpu")
    with pytest.raises(CheckpointError, match=r"not all numbers are finite.*classifier\.bias"):
        reference.load(folder, "classification", "cpu")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_numbers_in_every_precision_are_finite_whatever_their_sum(dtype: torch.dtype, saved: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(saved / "model.safetensors").items()}
    largest = torch.full((24,), torch.finfo(dtype).max, dtype=dtype)
    save_file(tensors | {"pooler.dense.bias": largest}, saved / "model.safetensors", {"format": "pt"})
    read(saved)

    largest[3] = -torch.inf
    save_file(tensors | {"pooler.dense.bias": largest}, saved / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"not all numbers are finite .* in bert\.pooler\.dense\.bias"):
        read(saved)


def test_objects_in_a_file_are_named(saved: Path, tensors: Tensors) -> None:
    (saved / "model.safetensors").unlink()
    torch.save({"state_dict": tensors, "hparams": Path("x")}, saved / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"objects of pathlib\.\w+, which can only be read by running code"):
        read(saved)
    for damaged in (b"PK\x03\x04" + bytes(100), b"\x80\x02", b"{}", (saved / "pytorch_model.bin").read_bytes()[:-500]):
        (saved / "pytorch_model.bin").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a plain file of tensors: it is damaged or truncated; download it"):
            read(saved)
    (saved / "pytorch_model.bin").write_bytes(pickle.dumps(3))
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: not a plain file of tensors"):
        read(saved)


def test_a_pooler_that_is_drawn_is_named(saved: Path, tensors: Tensors) -> None:
    assert drawn(read(saved), "classification") == []
    save_file({n: v for n, v in tensors.items() if "pooler" not in n}, saved / "model.safetensors", {"format": "pt"})
    checkpoint = read(saved)

    assert drawn(checkpoint, "classification") == ["bert.pooler.dense.weight", "bert.pooler.dense.bias"]
    assert drawn(checkpoint, "tagging") == []
    made = [
        add_head(checkpoint, "classification", ["a", "b"], seed).tensors["bert.pooler.dense.weight"]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


# -- folders without a BERT --


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("tf_model.h5", r"has no weights but tf_model\.h5: weights of Keras; .*from_tf=True"),
        ("flax_model.msgpack", r"has no weights but flax_model\.msgpack: weights of Flax; .*from_flax=True"),
        ("model.onnx", r"a graph of ONNX, not weights by name"),
        ("bert_model.ckpt.data-00000-of-00001", "the data of a TensorFlow checkpoint without its index"),
        ("zero_to_fp32.py", "the parts are DeepSpeed's; run `python zero_to_fp32"),
        ("__0_0.distcp", "parts of a distributed checkpoint"),
        ("bert-q4.gguf", r"quantised; get model\.safetensors"),
        (
            "model.fp16.safetensors",
            r"under a name that nobody looks for: give the file itself, .*model\.fp16\.",
        ),
        ("model.safetensors.incomplete", "a download that was broken off"),
        ("training_args.bin", r"has no weights: give a folder with model\.safetensors"),
    ],
)
def test_a_folder_without_weights_says_what_it_has(file: str, message: str, saved: Path) -> None:
    (saved / "model.safetensors").rename(saved / file)

    with pytest.raises(CheckpointError, match=message):
        read(saved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a pointer of Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page, not weights"),
    ],
)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_file_that_stands_for_weights_is_told_from_them(content: bytes, message: str, name: str, saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    (saved / name).write_bytes(content)

    with pytest.raises(CheckpointError, match=rf"{name}: {message}"):
        read(saved)


def test_the_subfolder_with_the_weights_is_named(saved: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    inner = Path(shutil.copytree(saved, outer / "0_BERT"))
    (outer / "config.json").write_text('{"__version__": "0.2.0"}')
    with pytest.raises(CheckpointError, match=f"outer: has no weights itself; give the folder with the BERT: {inner}"):
        read(outer)

    (outer / "modules.json").write_text(json.dumps([{"idx": 0, "path": "0_BERT"}, {"idx": 1, "path": "1_Pooling"}]))
    with pytest.raises(CheckpointError, match=f"outer: a folder of sentence-transformers; give .*: {inner}$"):
        read(outer)
    assert same(ours(inner), theirs(inner))


def test_the_folder_of_a_cached_repository_and_a_copy_of_its_links_alone(saved: Path, tmp_path: Path) -> None:
    snapshot = Path(shutil.copytree(saved, tmp_path / "models--org--bert" / "snapshots" / ("0" * 40)))
    with pytest.raises(CheckpointError, match=f"has no weights itself; give the folder with the BERT: {snapshot}"):
        read(tmp_path / "models--org--bert")

    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(tmp_path / "blobs" / "absent")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a link to a file that is not there"):
        read(snapshot)


def test_an_adapter_is_no_model(saved: Path) -> None:
    (saved / "adapter_config.json").write_text('{"base_model_name_or_path": "bert-base-cased"}')
    with pytest.raises(CheckpointError, match="has both weights and an adapter of PEFT"):
        read(saved)

    (saved / "model.safetensors").rename(saved / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="an adapter of PEFT for bert-base-cased, not a model; merge the two"):
        read(saved)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert.zip", "an archive; unpack it"),
        ("bert_config.json", "not weights; give its folder"),
        ("absent", "no such"),
    ],
)
def test_a_file_of_something_else_is_refused(name: str, message: str, saved: Path) -> None:
    if name != "absent":
        (saved / name).write_bytes(b"{}")

    with pytest.raises(CheckpointError, match=f"{name}: {message}"):
        find_weight_files(saved / name)


@pytest.mark.parametrize(
    "kind", ["roberta", "xlm-roberta", "distilbert", "electra", "albert", "modernbert", "deberta-v2", "nomic_bert"]
)
def test_another_architecture_is_named(kind: str, saved: Path) -> None:
    set_config(saved, model_type=kind, architectures=["SomeModel"])

    with pytest.raises(CheckpointError, match=rf"model_type is '{kind}' \(SomeModel\); the architecture .* is BERT's"):
        read(saved)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("position_embedding_type", "relative_key_query"),
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "bitsandbytes"}),
        ("embedding_size", 128),
        ("alibi_starting_size", 512),
        ("hidden_act", "swish"),
    ],
)
def test_a_setting_that_makes_another_model_is_named(setting: str, value: Any, saved: Path) -> None:
    set_config(saved, **{setting: value})

    with pytest.raises(CheckpointError, match=rf"config\.json: {setting} "):
        read(saved)


def test_a_class_of_another_model_is_named_where_there_is_no_type(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    del config["model_type"]
    (saved / "config.json").write_text(json.dumps(config | {"architectures": ["RobertaForMaskedLM"]}))
    with pytest.raises(CheckpointError, match="architectures is RobertaForMaskedLM, without a model_type"):
        read(saved)

    set_config(saved, architectures=["BertForMaskedLM"])
    read(saved)
