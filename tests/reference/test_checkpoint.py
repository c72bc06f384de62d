"""Weights are read as transformers or Google wrote them, written back, and never initialised silently."""

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
from reference.checkpoint import Checkpoint, add_head, build, read, save, standard_names, tensors_of
from reference.errors import CheckpointError
from reference.heads import HEADS
from reference.model import Bert, BertConfig, pack

BUNDLE = Path(__file__).parent / "tf_bundle"
IDS = torch.tensor([[2, 11, 12, 13, 3, 21, 3], [2, 31, 32, 33, 34, 35, 3]])
SEGMENTS = torch.tensor([[0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0]])
CLASSES = {  # the class of transformers for a saved folder
    None: "BertModel",
    "pre-training": "BertForPreTraining",
    "masked-lm": "BertForMaskedLM",
    "classification": "BertForSequenceClassification",
    "regression": "BertForSequenceClassification",
    "multi-label": "BertForSequenceClassification",
    "tagging": "BertForTokenClassification",
    "question-answering": "BertForQuestionAnswering",
}
Save = Callable[..., Any]


@torch.no_grad()
def outputs_of_transformers(model: Any) -> list[Tensor]:
    """All outputs of a model of transformers for the test's two sequences."""
    return list(model.eval()(input_ids=IDS, token_type_ids=SEGMENTS).values())


@torch.no_grad()
def hidden(model: Any) -> Tensor:
    """The last hidden state by our model, [B, S, H]."""
    states: Tensor = getattr(model, "bert", model).padded(IDS, segments=SEGMENTS)
    return states


@torch.no_grad()
def hidden_of_transformers(folder: Path) -> Tensor:
    """The last hidden state by the model that transformers loads from a folder."""
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    states: Tensor = model(input_ids=IDS, token_type_ids=SEGMENTS).last_hidden_state
    return states


def load_with_transformers(folder: Path, head: str | None) -> Any:
    """Load the model from a folder that has exactly the tensors that it needs."""
    model, report = getattr(transformers, CLASSES[head]).from_pretrained(
        folder, dtype=torch.float64, output_loading_info=True
    )
    assert not any(report.values()), report
    return model


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Change the tensors of a saved folder in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def drop(folder: Path, *names: str) -> None:
    """Remove tensors from a saved folder."""

    def change(tensors: dict[str, Tensor]) -> None:
        for name in names:
            del tensors[name]

    rewrite(folder, change)


def configure(folder: Path, **values: Any) -> None:
    """Change the configuration of a saved folder."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.fixture
def saved(save_with_transformers: Save) -> Path:
    """A folder with an encoder and its pooler."""
    folder: Path = save_with_transformers()[1]
    return folder


# -- there and back --


@pytest.mark.parametrize("head", [None, *HEADS])
def test_there_and_back(head: str | None, save_with_transformers: Save, tmp_path: Path) -> None:
    original, folder = save_with_transformers(head)
    checkpoint = read(folder)
    module = build(checkpoint, head, torch.float64)

    save(Checkpoint(checkpoint.config, tensors_of(module), checkpoint.labels), tmp_path / "ours", head)
    copy = load_with_transformers(tmp_path / "ours", head)

    assert type(copy) is type(original)
    assert copy.config.problem_type == original.config.problem_type
    torch.testing.assert_close(copy.state_dict(), original.state_dict(), rtol=0, atol=0)
    for actual, expected in zip(outputs_of_transformers(copy), outputs_of_transformers(original), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)  # the last digit depends on alignment


@pytest.mark.parametrize("head", ["classification", "regression", "tagging"])
def test_a_saved_checkpoint_without_label_names_still_loads(
    head: str, save_with_transformers: Save, tmp_path: Path
) -> None:
    checkpoint = read(save_with_transformers(head)[1])

    save(Checkpoint(checkpoint.config, checkpoint.tensors), tmp_path / "ours", head)

    copy = load_with_transformers(tmp_path / "ours", head)
    assert copy.config.num_labels == checkpoint.tensors["classifier.weight"].shape[0]


def test_labels_survive(saved: Path, tmp_path: Path) -> None:
    labels = [f"class {i}" for i in range(12)]  # more than ten: "10" sorts before "2" as text

    save(add_head(read(saved), "classification", labels, seed=1), tmp_path / "ours", "classification")

    assert read(tmp_path / "ours").labels == tuple(labels)
    copy = load_with_transformers(tmp_path / "ours", "classification")
    assert copy.config.id2label == dict(enumerate(labels))


@pytest.mark.parametrize("head", ["classification", "regression", "multi-label", "tagging", "question-answering"])
def test_a_new_head(head: str, save_with_transformers: Save, tmp_path: Path) -> None:
    checkpoint = read(save_with_transformers("pre-training")[1])
    labels = [] if head == "question-answering" else ["score"] if head == "regression" else ["a", "b", "c"]

    new = add_head(checkpoint, head, labels, seed=1)
    save(new, tmp_path / "ours", head)

    assert not any(name.startswith("cls.") for name in new.tensors)
    assert checkpoint.tensors.keys() != new.tensors.keys()  # the checkpoint that was read is unchanged
    reference.load(tmp_path / "ours", head, "cpu")
    again = add_head(checkpoint, head, labels, seed=1)
    other = add_head(checkpoint, head, labels, seed=2)
    name = "qa_outputs.weight" if head == "question-answering" else "classifier.weight"
    assert torch.equal(new.tensors[name], again.tensors[name])
    assert not torch.equal(new.tensors[name], other.tensors[name])
    assert new.tensors[name].abs().max() <= 2 * checkpoint.config.initializer_range


def test_a_new_head_gets_the_pooler_it_lacks(saved: Path) -> None:
    drop(saved, "pooler.dense.weight", "pooler.dense.bias")

    module: Any = build(add_head(read(saved), "classification", ["a", "b"], seed=1), "classification")

    assert module.bert.pooler.dense.weight.std() > 0
    assert not module.bert.pooler.dense.bias.any()


def test_pre_training_cannot_be_added(saved: Path) -> None:
    with pytest.raises(ValueError, match="pre-training"):
        add_head(read(saved), "pre-training", [], seed=1)


def test_built_weights_are_not_those_of_the_checkpoint(saved: Path) -> None:
    """Training one model must not change the next one that is built."""
    checkpoint = read(saved)
    model: Any = build(checkpoint, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()

    assert all(parameter.requires_grad for parameter in model.parameters())
    assert hidden(build(checkpoint, dtype=torch.float64)).abs().max() > 0.1


# -- files --


def test_pytorch_model_bin(saved: Path) -> None:
    expected = hidden(reference.load(saved, device="cpu", precision="fp64"))
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()

    assert torch.equal(hidden(reference.load(saved, device="cpu", precision="fp64")), expected)


def test_shards(save_with_transformers: Save, tmp_path: Path) -> None:
    model, folder = save_with_transformers("pre-training")
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")

    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    assert torch.equal(
        hidden(reference.load(tmp_path / "shards", device="cpu", precision="fp64")),
        hidden(reference.load(folder, device="cpu", precision="fp64")),
    )


def test_a_missing_shard_is_named(save_with_transformers: Save, tmp_path: Path) -> None:
    model, _ = save_with_transformers()
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shard = sorted((tmp_path / "shards").glob("*.safetensors"))[1]
    shard.unlink()

    with pytest.raises(CheckpointError, match=shard.name):
        read(tmp_path / "shards")


class Payload:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda data, file: file.write_bytes(pickle.dumps(data, protocol=2))])
def test_a_pickle_with_code_is_refused_and_not_run(
    write: Callable[[Any, Path], Any], saved: Path, tmp_path: Path
) -> None:
    (saved / "model.safetensors").unlink()
    trace = tmp_path / "it ran"
    write({"embeddings.word_embeddings.weight": Payload(trace)}, saved / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        read(saved)
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1, 2], {"weight": "text"}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_a_file_of_something_else_is_refused(content: Any, saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    torch.save(content, saved / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        read(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("size", [0, 5, 1000])
def test_truncated_files_are_refused(name: str, size: int, saved: Path) -> None:
    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    content = (saved / name).read_bytes()
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").unlink()
    (saved / name).write_bytes(content[:size])

    with pytest.raises(CheckpointError, match=f"{name}: (cannot read|not a plain file)"):
        read(saved)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {}}',
        '{"weight_map": {"a": 1}}',
        '{"weight_map": {"a": "../a.safetensors"}}',
        '{"weight_map": {"a": "/etc/a.safetensors"}}',
        '{"weight_map": {"a": "b/a.bin"}}',
        '{"weight_map": {"a": "a.safetensors", "b": "b.bin"}}',
    ],
)
def test_a_broken_index_of_shards_is_named(content: str, saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(content)

    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        read(saved)


def test_half_a_save_is_never_under_the_real_name(saved: Path, tmp_path: Path) -> None:
    save(read(saved), tmp_path / "ours")

    assert {path.name for path in (tmp_path / "ours").iterdir()} == {"config.json", "model.safetensors"}


@pytest.fixture
def google(tmp_path: Path) -> Path:
    """A folder like those in Google's archives: one checkpoint, bert_config.json, vocab.txt."""
    for file in (*BUNDLE.glob("bert_model.ckpt.*"), BUNDLE / "bert_config.json", BUNDLE / "vocab.txt"):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["bert_model.ckpt", "bert_model.ckpt.index"])
def test_a_checkpoint_of_google_may_be_named_itself(name: str, google: Path) -> None:
    whole, named = read(google), read(google / name)

    assert named.config == whole.config
    assert named.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(named.tensors[name], tensor) for name, tensor in whole.tensors.items())


def test_a_google_folder_is_what_transformers_makes_of_its_tensors(google: Path) -> None:
    checkpoint = read(google)
    settings = transformers.BertConfig(**json.loads((BUNDLE / "bert_config.json").read_text()))
    theirs = transformers.BertForPreTraining(settings)
    report = theirs.load_state_dict(checkpoint.tensors, strict=False)
    assert all("decoder" in name for name in report.missing_keys)  # tied to tensors that are present
    assert not report.unexpected_keys
    theirs = theirs.double()
    ours: Any = build(checkpoint, "pre-training", torch.float64)

    expected = outputs_of_transformers(theirs)
    with torch.no_grad():
        words, next_sentence = ours(pack(IDS, segments=SEGMENTS))

    torch.testing.assert_close(words, expected[0].flatten(0, 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(next_sentence, expected[1], rtol=0, atol=1e-12)


# -- names --


def test_old_names_of_layer_norm(saved: Path) -> None:
    expected = hidden(reference.load(saved, device="cpu", precision="fp64"))

    def age(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            if "LayerNorm" in name:
                old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(".bias", ".beta")
                tensors[old] = tensors.pop(name)

    rewrite(saved, age)
    assert "embeddings.LayerNorm.gamma" in load_file(saved / "model.safetensors")

    assert torch.equal(hidden(reference.load(saved, device="cpu", precision="fp64")), expected)


def test_bare_and_prefixed_encoders_are_the_same(saved: Path) -> None:
    expected = hidden(reference.load(saved, device="cpu", precision="fp64"))
    assert "embeddings.word_embeddings.weight" in load_file(saved / "model.safetensors")

    rewrite(saved, lambda t: t.update({f"bert.{name}": t.pop(name) for name in list(t)}))

    assert torch.equal(hidden(reference.load(saved, device="cpu", precision="fp64")), expected)


def test_position_numbers_are_no_weights(saved: Path) -> None:
    rewrite(saved, lambda tensors: tensors.update({"embeddings.position_ids": torch.arange(32)[None]}))

    assert "bert.embeddings.position_ids" not in read(saved).tensors
    reference.load(saved, device="cpu")


def test_a_head_that_nobody_asked_for_is_left_out(save_with_transformers: Save) -> None:
    _, folder = save_with_transformers("pre-training")

    assert type(reference.load(folder, device="cpu")) is Bert


@pytest.mark.parametrize("head", list(HEADS))
def test_a_head_that_is_not_there_says_so(head: str, saved: Path) -> None:
    with pytest.raises(CheckpointError, match=f"no {head} head"):
        reference.load(saved, head, "cpu")


@pytest.mark.parametrize("head", list(HEADS))
def test_load_gives_the_head_that_is_asked_for(head: str, save_with_transformers: Save) -> None:
    model = reference.load(save_with_transformers(head)[1], head=head, device="cpu")

    assert type(model) is HEADS[head]
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_missing_tensors_are_named(saved: Path) -> None:
    drop(saved, "encoder.layer.1.attention.self.key.bias")

    with pytest.raises(CheckpointError, match=r"missing.*bert\.encoder\.layer\.1\.attention\.self\.key\.bias"):
        reference.load(saved, device="cpu")


@pytest.mark.parametrize("layers", [1, 3, 10**7])
def test_another_number_of_layers_is_named(layers: int, saved: Path) -> None:
    configure(saved, num_hidden_layers=layers)

    with pytest.raises(CheckpointError, match=f"num_hidden_layers is {layers}, and the weights have 2 layers; use"):
        reference.load(saved, device="cpu")


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("encoder.layer.0.intermediate.dense.weight", (39, 24)),
        ("embeddings.word_embeddings.weight", (96, 24)),
        ("pooler.dense.bias", ()),
        ("encoder.layer.0.attention.self.query.weight", (24, 23)),
        ("encoder.layer.0.attention.self.key.bias", (23,)),
        ("encoder.layer.0.attention.self.value.weight", (24,)),
    ],
)
def test_tensors_of_another_shape_are_named(name: str, shape: tuple[int, ...], saved: Path) -> None:
    rewrite(saved, lambda tensors: tensors.update({name: torch.zeros(shape)}))

    with pytest.raises(CheckpointError, match=f"{name}: shape"):
        reference.load(saved, device="cpu")


def test_query_key_and_value_must_each_have_their_shape(saved: Path) -> None:
    """Together they have the right number of rows: 30 + 18 + 24."""
    name = "encoder.layer.0.attention.self.{}.bias"
    rewrite(saved, lambda t: t.update({name.format("query"): torch.zeros(30), name.format("key"): torch.zeros(18)}))

    with pytest.raises(CheckpointError, match=r"self\.query\.bias: shape \(30,\), expected \(24,\)"):
        reference.load(saved, device="cpu")


# -- tied weights --


def tied(**changed: Tensor) -> dict[str, Tensor]:
    words, bias = torch.randn(5, 4), torch.randn(5)
    return {
        "bert.embeddings.word_embeddings.weight": words,
        "cls.predictions.bias": bias,
        "cls.predictions.decoder.weight": changed.get("weight", words.clone()),
        "cls.predictions.decoder.bias": changed.get("bias", bias.clone()),
    }


def test_the_copy_of_tied_weights_is_dropped() -> None:
    assert standard_names(tied()).keys() == {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"}


def test_the_copy_is_taken_where_it_is_the_only_one() -> None:
    tensors = tied()
    del tensors["cls.predictions.bias"]

    assert torch.equal(standard_names(tensors)["cls.predictions.bias"], tensors["cls.predictions.decoder.bias"])


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_a_decoder_that_is_not_tied_matters_to_its_own_head_alone(part: str, save_with_transformers: Save) -> None:
    folder = save_with_transformers("pre-training")[1]
    shape = (97, 24) if part == "weight" else (97,)
    rewrite(folder, lambda tensors: tensors.update({f"cls.predictions.decoder.{part}": torch.ones(shape)}))

    found, expected = hidden(reference.load(folder, device="cpu", precision="fp64")), hidden_of_transformers(folder)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    add_head(read(folder), "classification", ["a", "b"], seed=1)
    with pytest.raises(CheckpointError, match=f"decoder.{part} differs"):
        reference.load(folder, "pre-training", "cpu")
    assert f"cls.predictions.decoder.{part}" in standard_names(tied(**{part: torch.ones(5, 4)}))


# -- configuration and precision --


def test_no_config(saved: Path) -> None:
    (saved / "config.json").unlink()

    with pytest.raises(CheckpointError, match=r"neither config\.json nor bert_config\.json"):
        read(saved)


def test_no_weights(saved: Path) -> None:
    (saved / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"has no weights: give a folder with model\.safetensors"):
        read(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "roberta"),
        ({"position_embedding_type": "relative_key"}, "relative"),
        ({"is_decoder": True}, "decoder"),
        ({"hidden_act": "swish"}, "swish"),
        ({"num_attention_heads": 5}, "5 attention heads"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"hidden_size": "24"}, "config.json"),
        ({"hidden_act": None}, "None"),
    ],
)
def test_another_architecture_is_refused(change: dict[str, Any], message: str, saved: Path) -> None:
    configure(saved, **change)

    with pytest.raises(CheckpointError, match=message):
        read(saved)


@pytest.mark.parametrize("content", ["{", "[]", '"bert"', "\x00"])
def test_a_config_that_is_no_config(content: str, saved: Path) -> None:
    (saved / "config.json").write_text(content)

    with pytest.raises(CheckpointError, match=r"config\.json"):
        read(saved)


def test_labels_that_are_null_are_none(saved: Path) -> None:
    configure(saved, id2label=None)

    assert read(saved).labels == ()


def test_a_bf16_file_is_loaded_as_fp32(saved: Path) -> None:
    full = load_file(saved / "model.safetensors")
    rewrite(saved, lambda tensors: tensors.update({k: v.bfloat16() for k, v in full.items()}))

    model: Any = reference.load(saved, device="cpu", precision="fp32")

    weight = model.embeddings.word.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, full["embeddings.word_embeddings.weight"].bfloat16().float())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "int8"),
        ({"head": "sentiment"}, "sentiment"),
        ({"device": "gpu"}, "gpu"),
        *([] if torch.cuda.is_available() else [({"device": "cuda"}, "no CUDA device")]),
    ],
)
def test_arguments_that_are_unknown(arguments: dict[str, Any], message: str, saved: Path) -> None:
    with pytest.raises(ValueError, match=message):
        reference.load(saved, **({"device": "cpu"} | arguments))


def test_tensors_of_a_module_are_those_of_its_checkpoint(saved: Path) -> None:
    checkpoint = read(saved)

    tensors = tensors_of(build(checkpoint, dtype=torch.float64))

    assert tensors.keys() == checkpoint.tensors.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in checkpoint.tensors.items())


def test_a_config_without_eps_gets_that_of_google() -> None:
    assert read(BUNDLE / "bert_model.ckpt").config == BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        layer_norm_eps=1e-12,
    )
