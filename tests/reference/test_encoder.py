"""Sentence vectors: those of sentence-transformers for every form of folder, and of transformers by hand."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer

from reference import SentenceEncoder
from reference.encoder import TextsCut
from reference.errors import CheckpointError

SIZE, LAYERS, POSITIONS = 24, 3, 32
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefgh.:",
    *(f"##{c}" for c in "abcdefgh"),
    "he",
    "face",
    "A",
]
TEXTS = ["a face", "", "he fed a bad cab.", "a", "head " * 4, "A Face, he 世", "a face", "bead [SEP] dab " * 20]
MODULES = "sentence_transformers.models"
NEW = "sentence_transformers.sentence_transformer.modules"

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a folder: the tokenizer's and the BERT's settings; then modules as (type, config, tensors), or none."""

    def written(
        *modules: tuple[str, dict[str, Any] | None, dict[str, torch.Tensor]],
        bert: str = "",
        config: dict[str, Any] | None = None,
        tokenizer: dict[str, Any] | None = None,
        transformer: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
    ) -> Path:
        folder = tmp_path / "model"
        _write_bert(folder / bert, config or {}, tokenizer or {})
        if transformer is not None:
            _dump(folder / bert / "sentence_bert_config.json", transformer)
        if settings is not None:
            _dump(folder / "config_sentence_transformers.json", settings)
        listed = [{"idx": 0, "name": "0", "path": bert, "type": f"{MODULES}.Transformer"}]
        for i, (kind, said, tensors) in enumerate(modules, 1):
            path = f"{i}_{kind.rpartition('.')[2]}"
            listed.append({"idx": i, "name": str(i), "path": path, "type": kind})
            (folder / path).mkdir()
            if said is not None:
                _dump(folder / path / "config.json", said)
            if tensors:
                torch.save(tensors, folder / path / "pytorch_model.bin")
        if modules:
            _dump(folder / "modules.json", listed)
        return folder

    return written


def _write_bert(folder: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    sizes = {"vocab_size": len(PIECES), "hidden_size": SIZE, "num_hidden_layers": LAYERS, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 40, "max_position_embeddings": POSITIONS}
    model = transformers.BertModel(transformers.BertConfig(**sizes, **config))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + noise if name.endswith("LayerNorm.weight") else noise)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    _dump(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": True} | tokenizer)


def _dump(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def pooling(**flags: Any) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
    """As old versions saved it: a flag for each mode."""
    return f"{MODULES}.Pooling", {"word_embedding_dimension": SIZE} | flags, {}


def pooling_mode(mode: str | list[str], **more: Any) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
    """As new versions save it."""
    return f"{NEW}.pooling.Pooling", {"embedding_dimension": SIZE, "pooling_mode": mode} | more, {}


def dense(inputs: int, outputs: int, **said: Any) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(inputs + outputs)
    tensors = {"linear.weight": 0.3 * torch.randn(outputs, inputs, generator=generator)}
    if said.get("bias", True):
        tensors["linear.bias"] = 0.3 * torch.randn(outputs, generator=generator)
    if said.get("use_residual") and inputs != outputs:
        tensors["residual.weight"] = 0.3 * torch.randn(outputs, inputs, generator=generator)
    return f"{MODULES}.Dense", {"in_features": inputs, "out_features": outputs, "bias": True} | said, tensors


def layer_norm(size: int) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(size)
    tensors = {f"norm.{name}": torch.randn(size, generator=generator) for name in ("weight", "bias")}
    return f"{MODULES}.LayerNorm", {"dimension": size}, tensors


def weighted_layers(start: int) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
    said = {"word_embedding_dimension": SIZE, "layer_start": start, "num_hidden_layers": LAYERS}
    return f"{MODULES}.WeightedLayerPooling", said, {"layer_weights": torch.arange(1.0, LAYERS + 2 - start)}


MEAN = pooling(pooling_mode_mean_tokens=True)
NORMALIZE: Any = (f"{MODULES}.Normalize", None, {})
NEW_NORMALIZE: Any = (
    "sentence_transformers.base.modules.normalize.Normalize",
    {"module_input_name": "sentence_embedding"},
    {},
)
DROPOUT: Any = (f"{MODULES}.Dropout", {"dropout": 0.5}, {})
TOKEN_LEVEL = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
POOLER = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
PROMPTS = {"prompts": {"query": "he: ", "other": "abc"}, "default_prompt_name": "query"}
GELU, IDENTITY = "torch.nn.modules.activation.GELU", "torch.nn.modules.linear.Identity"

# Every form in which sentence-transformers saves a model of BERT's: modules, and settings of ``write``.
FORMS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "no modules": ([], {}),
    "mean": ([MEAN], {"transformer": {"max_seq_length": 16, "do_lower_case": False}}),
    "no flag": ([pooling()], {}),
    **{
        f"flag {flag}": ([pooling(**{f"pooling_mode_{flag}": True})], {})
        for flag in ("cls_token", "max_tokens", "lasttoken")
    },
    "flags sqrt": ([pooling(pooling_mode_mean_sqrt_len_tokens=True, pooling_mode_mean_tokens=False)], {}),
    "flags all": (
        [pooling(pooling_mode_lasttoken=True, pooling_mode_mean_tokens=True, pooling_mode_cls_token=True)],
        {},
    ),
    **{f"mode {mode}": ([pooling_mode(mode)], {}) for mode in MODES},
    "modes": ([pooling_mode(["weightedmean", "cls", "max"])], {}),
    "normalize": ([MEAN, NORMALIZE], {}),
    "normalize, new": ([pooling_mode("mean"), NEW_NORMALIZE], {}),
    "dense": ([MEAN, dense(SIZE, 10)], {}),
    "dense, no bias": ([MEAN, dense(SIZE, 10, bias=False, activation_function=GELU), NORMALIZE], {}),
    "dense after two modes": ([pooling_mode(["cls", "mean"]), dense(2 * SIZE, 7, activation_function=IDENTITY)], {}),
    "dense, residual": ([MEAN, dense(SIZE, SIZE, use_residual=True)], {}),
    "dense, residual of another size": ([MEAN, dense(SIZE, 8, use_residual=True)], {}),
    "dense of tokens": ([dense(SIZE, 9, **TOKEN_LEVEL), MEAN, dense(9, 4)], {}),
    "normalize within": ([MEAN, NORMALIZE, dense(SIZE, 9), dense(9, 5, activation_function=IDENTITY)], {}),
    "layer norm and dropout": ([MEAN, DROPOUT, layer_norm(SIZE), DROPOUT, NORMALIZE], {}),
    "weighted layers": ([weighted_layers(1), MEAN], {"config": {"output_hidden_states": True}}),
    "weighted layers, all": ([weighted_layers(0), MEAN], {"config": {"output_hidden_states": True}}),
    "weighted layers, not computed": ([weighted_layers(1), MEAN], {}),
    "subfolder": ([MEAN], {"bert": "0_Transformer", "transformer": {"max_seq_length": 12}}),
    "max_seq_length null": ([MEAN], {"transformer": {"max_seq_length": None}, "tokenizer": {"model_max_length": 10}}),
    "model_max_length": ([MEAN], {"tokenizer": {"model_max_length": 512}}),
    "from the left": ([MEAN], {"transformer": {"max_seq_length": 9}, "tokenizer": {"truncation_side": "left"}}),
    "do_lower_case": ([MEAN], {"transformer": {"do_lower_case": True}, "tokenizer": {"do_lower_case": False}}),
    "cased": ([MEAN], {"transformer": {"do_lower_case": False}, "tokenizer": {"do_lower_case": False}}),
    "new transformer": (
        [pooling_mode("mean")],
        {
            "transformer": {
                "transformer_task": "feature-extraction",
                "modality_config": TEXT,
                "module_output_name": "token_embeddings",
            }
        },
    ),
    "pooler output": (
        [NORMALIZE],
        {"transformer": {"modality_config": POOLER, "module_output_name": "sentence_embedding"}},
    ),
    "arguments": ([MEAN], {"transformer": {"model_args": {"add_pooling_layer": False}, "tokenizer_args": {}}}),
    "prompt": ([MEAN], {"settings": PROMPTS}),
    "prompt, new": ([pooling_mode("mean")], {"settings": PROMPTS | {"model_type": "SentenceTransformer"}}),
    **{f"no prompt in {mode}": ([pooling_mode(mode, include_prompt=False)], {"settings": PROMPTS}) for mode in MODES},
    "prompts, none by default": ([MEAN], {"settings": {"prompts": {"query": "he"}, "default_prompt_name": None}}),
    "truncate_dim": ([MEAN, NORMALIZE], {"settings": {"truncate_dim": 5}}),
    "similarity": ([MEAN], {"settings": {"similarity_fn_name": "euclidean"}}),
    "similarity, manhattan": ([MEAN], {"settings": {"similarity_fn_name": "manhattan"}}),
    "similarity, dot": ([MEAN], {"settings": {"similarity_fn_name": "dot"}}),
}


@pytest.mark.filterwarnings("ignore::reference.encoder.TextsCut")
@pytest.mark.parametrize("form", FORMS)
def test_vectors_are_those_of_sentence_transformers(form: str, write: Writer) -> None:
    modules, settings = FORMS[form]
    folder = write(*modules, **settings)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    ours = SentenceEncoder(folder, precision="fp32", device="cpu")

    expected = theirs.encode(TEXTS)
    vectors = ours.encode(TEXTS)
    assert len(TEXTS) - 1 in ours.cut
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), ours.size) == expected.shape
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.encode("a face"), theirs.encode("a face"), rtol=0, atol=2e-5)
    scaled = SentenceEncoder(folder, normalize=True, precision="fp32", device="cpu").encode(TEXTS)
    np.testing.assert_allclose(scaled, theirs.encode(TEXTS, normalize_embeddings=True), rtol=0, atol=2e-5)
    assert ours.max_length == min(theirs.max_seq_length or POSITIONS, POSITIONS)
    similarities = theirs.similarity(expected[:2], expected).numpy()
    np.testing.assert_allclose(ours.similarity(expected[:2], expected), similarities, rtol=1e-5, atol=2e-5)
    for prompt in ({"prompt_name": "query"}, {"prompt": "abc"}, {"prompt": ""}):
        np.testing.assert_allclose(ours.encode(TEXTS, **prompt), theirs.encode(TEXTS, **prompt), rtol=0, atol=2e-5)


# -- in float64, by hand --


def hidden_states(folder: Path, text: str, length: int = POSITIONS) -> torch.Tensor:
    """[layers + 1, tokens, size] of transformers, in float64."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
    inputs = tokenizer(text, return_tensors="pt", truncation=True, max_length=length)
    with torch.no_grad():
        return torch.stack(model(**inputs, output_hidden_states=True).hidden_states)[:, 0]


BY_HAND: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda tokens: sum(tokens) / len(tokens),  # type: ignore[return-value]
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.max(0).values,
    "mean_sqrt_len": lambda tokens: sum(tokens) / math.sqrt(len(tokens)),  # type: ignore[return-value]
    "weightedmean": lambda tokens: (
        sum(i * token for i, token in enumerate(tokens, 1))  # type: ignore[return-value]
        / sum(range(1, len(tokens) + 1))
    ),
    "lasttoken": lambda tokens: tokens[-1],
}


@pytest.mark.parametrize("mode", BY_HAND)
def test_poolings_in_float64_are_those_computed_by_hand(mode: str, write: Writer) -> None:
    folder = write()
    encoder = SentenceEncoder(folder, pooling=mode, precision="fp64", max_length=20, device="cpu")
    with pytest.warns(TextsCut):
        vectors = encoder.encode(TEXTS)
    assert vectors.dtype == np.float64
    expected = torch.stack([BY_HAND[mode](hidden_states(folder, text, 20)[-1]) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("layers", [(-2,), (0,), (1, 3), (-1, -4, 2)])
def test_layers_are_concatenated_in_the_order_given(layers: tuple[int, ...], precision: str, write: Writer) -> None:
    folder = write()
    vectors = SentenceEncoder(folder, layers=layers, precision=precision, device="cpu").encode(TEXTS[:4])
    states = [hidden_states(folder, text) for text in TEXTS[:4]]
    expected = torch.stack([torch.cat([each[layer].mean(0) for layer in layers]) for each in states])
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-12 if precision == "fp64" else 2e-5)


def test_several_poolings_and_the_pooler(write: Writer) -> None:
    folder = write()
    states = hidden_states(folder, TEXTS[2])[-1]
    both = SentenceEncoder(folder, pooling=["max", "cls"], precision="fp64", device="cpu").encode(TEXTS[2])
    np.testing.assert_allclose(both, torch.cat([states.amax(0), states[0]]), rtol=0, atol=1e-12)
    pooler = transformers.AutoModel.from_pretrained(folder, dtype=torch.float64).pooler
    pooled = SentenceEncoder(folder, pooling="pooler", precision="fp64", device="cpu").encode(TEXTS[2])
    np.testing.assert_allclose(pooled, pooler(states[None])[0].detach(), rtol=0, atol=1e-12)


# -- texts --


@pytest.fixture(scope="module")
def minilm_encoder() -> SentenceEncoder:
    return SentenceEncoder("minilm-l6", precision="fp32", device="cpu")


def test_minilm_is_there_by_name_and_gives_the_vectors_of_sentence_transformers(
    minilm_encoder: SentenceEncoder,
) -> None:
    texts = ["Where is my parcel?", "My parcel has not arrived.", "", "Ein Paket, 世界 😀", "a b c " * 200]
    theirs = SentenceTransformer(str(minilm_encoder.folder), device="cpu", local_files_only=True)
    with pytest.warns(TextsCut, match=r"^1 of 5 texts were cut to 256 tokens, and lost 346$"):
        vectors = minilm_encoder.encode(texts)
    assert minilm_encoder.cut == {4: 346}
    assert (minilm_encoder.size, minilm_encoder.max_length, minilm_encoder.pooling) == (384, 256, ("mean",))
    np.testing.assert_allclose(vectors, theirs.encode(texts), rtol=0, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_has_the_same_vector_in_any_company_and_place(minilm_encoder: SentenceEncoder) -> None:
    sentence = "the committee will publish its unanimous report on trade before Thursday"
    texts = [f"{sentence[: 5 + 13 * i % 70]} {i}" for i in range(60)]
    together = minilm_encoder.encode(texts)
    for tokens in (1, 16, 100, 10**6):
        np.testing.assert_array_equal(minilm_encoder.encode(texts[::-1], batch_tokens=tokens)[::-1], together)
    np.testing.assert_array_equal(minilm_encoder.encode(texts[7]), together[7])


def test_equal_texts_have_equal_vectors_and_each_one_that_is_cut_is_listed(write: Writer) -> None:
    encoder = SentenceEncoder(write(), max_length=6, device="cpu", precision="fp32")
    with pytest.warns(TextsCut) as caught:
        vectors = encoder.encode(["a b c d e f", "a", "a b c d e f", "", "a"])
    assert len(caught) == 1, "one warning, whatever is cut"
    assert encoder.cut == {0: 2, 2: 2}
    np.testing.assert_array_equal(vectors[[0, 1]], vectors[[2, 4]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encoder.encode(["a b c d"]).shape == (1, SIZE)
    assert encoder.cut == {}


@pytest.mark.parametrize("texts", [["a", "b"], ("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], dtype=object)])
def test_what_holds_strings_in_order_is_taken(texts: Any, minilm_encoder: SentenceEncoder) -> None:
    np.testing.assert_array_equal(minilm_encoder.encode(texts), minilm_encoder.encode(["a", "b"]))
    np.testing.assert_array_equal(minilm_encoder.encode(each for each in texts), minilm_encoder.encode(["a", "b"]))


def test_no_texts_are_no_vectors(minilm_encoder: SentenceEncoder) -> None:
    assert minilm_encoder.encode([]).shape == (0, 384)


class Table:
    """What encode sees of a DataFrame: iterating it gives the names of its columns."""

    ndim = 2

    def __iter__(self) -> Any:
        return iter(["text", "label"])


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["a", None], TypeError, "texts[1] is None, of type NoneType; it is not a string"),
        (["a", float("nan")], TypeError, "texts[1] is nan, of type float"),
        ([b"a"], TypeError, "texts[0] is b'a', of type bytes"),
        (b"a", TypeError, "texts is of type bytes; give a list of strings"),
        ({"text": ["a"]}, TypeError, "texts is of type dict"),
        ({"a", "b"}, TypeError, "texts is of type set"),
        (Table(), TypeError, "texts is of type Table; give a list of strings, such as one column"),
        (np.array([["a", "b"]]), TypeError, "texts is of type ndarray"),
        ([["a", "b"]], TypeError, "texts[0] is ['a', 'b'], of type list"),
        (None, TypeError, "texts is None; give a string"),
        (7, TypeError, "texts is 7; give a string"),
        (["fine", "half \ud83d"], ValueError, "texts[1] has half of a surrogate pair at character 5"),
        ("\udfff", ValueError, "texts[0] has half of a surrogate pair"),
    ],
)
def test_what_is_no_text_is_named(
    texts: Any, error: type[Exception], said: str, minilm_encoder: SentenceEncoder
) -> None:
    with pytest.raises(error) as caught:
        minilm_encoder.encode(texts)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("number", [0, -1, 1.5, "8", True])
def test_batch_tokens_is_a_number_above_0(number: Any, minilm_encoder: SentenceEncoder) -> None:
    with pytest.raises(ValueError, match=r"^batch_tokens is .*; it is a whole number from 1$"):
        minilm_encoder.encode(["a"], batch_tokens=number)


def test_progress_is_shown_where_it_is_asked_for(
    minilm_encoder: SentenceEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    minilm_encoder.encode(["a", "b"])
    assert capsys.readouterr().err == ""
    minilm_encoder.encode(["a", "b"], show_progress=True)
    assert "2/2" in capsys.readouterr().err


def test_prompts_are_named_or_given(write: Writer) -> None:
    encoder = SentenceEncoder(write(), device="cpu", precision="fp32")
    with pytest.raises(ValueError, match=r"^prompt_name 'passage' is not one of query, document$"):
        encoder.encode(["a"], prompt_name="passage")
    with pytest.raises(ValueError, match=r"^give prompt or prompt_name, not both$"):
        encoder.encode(["a"], prompt="b", prompt_name="query")
    with pytest.raises(TypeError, match=r"^prompt is 7"):
        encoder.encode(["a"], prompt=7)  # type: ignore[arg-type]


def test_similarity_takes_vectors(minilm_encoder: SentenceEncoder) -> None:
    assert minilm_encoder.similarity([1, 0], [[0.5, 0.5], [0, 2]]).round(6).tolist() == [[0.707107, 0]]
    for wrong in ("a text", ["a text"], np.zeros((1, 1, 1)), [None]):
        with pytest.raises(TypeError, match=r"^similarity takes vectors"):
            minilm_encoder.similarity(wrong, [1.0, 0.0])
    with pytest.raises(ValueError, match=r"^vectors of 2 and of 3 numbers cannot be compared$"):
        minilm_encoder.similarity([1.0, 0.0], [1.0, 0.0, 0.0])


# -- arguments and folders that are refused --


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_length": -1}, "max_length is -1; it is a whole number from 3"),
        ({"max_length": 2}, "max_length is 2"),
        ({"max_length": POSITIONS + 1}, "to the 32 positions of this model"),
        ({"max_length": 8.0}, "max_length is 8.0"),
        ({"max_length": True}, "max_length is True"),
        ({"pooling": "average"}, "pooling 'average' is not pooler, nor one or several of cls, max, mean"),
        ({"pooling": []}, "pooling [] is not"),
        ({"pooling": ["mean", "pooler"]}, "pooling ['mean', 'pooler'] is not"),
        ({"layers": (4,)}, "layers is (4,); this model has 0, the embeddings, to 3, or -4 to -1"),
        ({"layers": (-5,)}, "layers is (-5,)"),
        ({"layers": ()}, "layers is ()"),
        ({"layers": (1.0,)}, "layers is (1.0,)"),
        ({"layers": (1,), "pooling": "pooler"}, "pooling 'pooler' is BERT's pooler, and this model has it on the last"),
        ({"precision": "int4"}, "precision 'int4'"),
        ({"device": "tpu"}, "device 'tpu'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], said: str, write: Writer) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 what it says is looked at
        SentenceEncoder(write(), **{"device": "cpu"} | arguments)
    assert said in str(caught.value)


def test_a_pooler_that_the_model_lacks_is_missed(write: Writer) -> None:
    folder = write()
    transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"^pooling 'pooler' is BERT's pooler, and this model has none$"):
        SentenceEncoder(folder, pooling="pooler", device="cpu")


def test_another_pooling_than_the_folders_must_fit_what_follows(write: Writer) -> None:
    folder = write(MEAN, dense(SIZE, 9))
    assert SentenceEncoder(folder, pooling="cls", device="cpu").size == 9
    with pytest.raises(ValueError, match=r"^Dense takes vectors of 24 numbers, and is given 48$"):
        SentenceEncoder(folder, pooling=["cls", "mean"], device="cpu")


def other(kind: str, said: dict[str, Any] | None = None) -> tuple[str, dict[str, Any] | None, dict[str, Any]]:
    return kind, said, {}


@pytest.mark.parametrize(
    ("modules", "settings", "said"),
    [
        ([MEAN, other(f"{MODULES}.CNN")], {}, "a module CNN after the Pooling is not computed here"),
        ([other(f"{MODULES}.LSTM"), MEAN], {}, "a module LSTM before the Pooling is not computed here"),
        ([MEAN, other("modeling_mine.Head")], {}, "the module modeling_mine.Head is code of the model's own"),
        ([DROPOUT], {}, "it has no Pooling"),
        ([NORMALIZE, MEAN], {}, "it reads sentence_embedding and writes sentence_embedding; before the Pooling"),
        ([MEAN, MEAN], {}, "a module Pooling after the Pooling"),
        ([pooling_mode("attention")], {}, "pooling attention is not one of cls, max"),
        (
            [MEAN, dense(SIZE, 4, activation_function="mine.Swish")],
            {},
            "the activation mine.Swish is none of torch.nn's",
        ),
        ([MEAN, dense(SIZE, 4, activation_function="torch.nn.modules.no.Such")], {}, "none of torch.nn's"),
        (
            [MEAN, dense(SIZE, 4, module_input_name="token_embeddings")],
            {},
            "it reads token_embeddings and writes token_embeddings; after",
        ),
        ([MEAN, (f"{MODULES}.Dense", {"in_features": 9, "out_features": 4}, dense(8, 4)[2])], {}, "size mismatch"),
        ([MEAN, (f"{MODULES}.Dense", {"in_features": 9, "out_features": 4}, {})], {}, "has no weights"),
        ([MEAN], {"transformer": {"transformer_task": "fill-mask"}}, "transformer_task: fill-mask asks for more"),
        (
            [MEAN],
            {"transformer": {"processing_kwargs": {"text": {"max_length": 5}}}},
            "processing_kwargs asks for more",
        ),
        ([MEAN], {"transformer": {"model_args": {"rope_scaling": 2}}}, "model_args: rope_scaling asks for more"),
        ([MEAN], {"transformer": {"tokenizer_name_or_path": "x"}}, "tokenizer_name_or_path asks for more"),
        ([MEAN], {"transformer": {"modality_config": {"image": {}}}}, "modality_config asks for more"),
        ([MEAN], {"transformer": {"max_seq_length": "all"}}, "max_seq_length is 'all'; it is a whole number"),
        ([MEAN], {"transformer": {"max_seq_length": 2}}, "max_length is 2"),
        ([MEAN], {"settings": {"model_type": "SparseEncoder"}}, "it is a SparseEncoder, not a SentenceTransformer"),
        ([MEAN], {"settings": {"default_prompt_name": "query", "prompts": 3}}, "its modules cannot be read"),
        ([MEAN], {"settings": {"default_prompt_name": "passage"}}, "default_prompt_name is 'passage'"),
        ([MEAN], {"settings": {"truncate_dim": 0}}, "truncate_dim is 0; it is a whole number from 1"),
        ([MEAN], {"config": {"model_type": "roberta"}}, "model_type is 'roberta'"),
    ],
)
def test_what_is_not_computed_is_refused_in_one_sentence(
    modules: list[Any], settings: dict[str, Any], said: str, write: Writer
) -> None:
    architecture = settings.pop("config", {}) if "model_type" in settings.get("config", {}) else {}
    folder = write(*modules, **settings)
    if architecture:
        config = json.loads((folder / "config.json").read_text())
        _dump(folder / "config.json", config | architecture)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 what it says is looked at
        SentenceEncoder(folder, device="cpu")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "it holds no JSON list"),
        ("[", "modules.json: Expecting"),
        ("[]", "its first module is missing"),
        ('[{"type": "sentence_transformers.models.CLIPModel", "path": ""}]', "its first module is CLIPModel"),
        ('[{"type": "sentence_transformers.models.BERT", "path": "0_BERT"}]', "its first module is BERT"),
        ('[{"type": "sentence_transformers.models.Transformer", "path": "../x"}]', "leads out of the folder"),
        ('[{"type": "sentence_transformers.models.Transformer"}]', "its modules cannot be read"),
        ("[3]", "its modules cannot be read"),
    ],
)
def test_modules_that_are_not_understood_are_refused(content: str, said: str, write: Writer) -> None:
    folder = write()
    (folder / "modules.json").write_text(content)
    with pytest.raises(CheckpointError) as caught:
        SentenceEncoder(folder, device="cpu")
    assert said in str(caught.value)


def test_a_folder_that_is_not_there_is_named_with_the_names_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^minilm: there is no such folder; the names are minilm-l6$"):
        SentenceEncoder("minilm")
    with pytest.raises(CheckpointError, match=r"there is no such folder"):
        SentenceEncoder(tmp_path / "no")
    with pytest.raises(CheckpointError):
        SentenceEncoder(tmp_path)
