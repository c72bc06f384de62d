"""The explanation of a sentence: its numbers against transformers, PyTorch's own counters and sums done otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertModel
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import BadInput
from harness.measure.deviations import DEVIATIONS
from harness.predict.arithmetic import parameters, products
from harness.predict.explain import LONGEST, PATTERNS, Seen, explain
from reference.checkpoint import Checkpoint, build, read, save, tensors_of
from reference.model import Bert, BertConfig, Packed
from reference.tokenizer import Tokenizer

TEXT, PAIR = "Is the ferry late?", "The lockkeeper says it left at nine."


@pytest.fixture(scope="module")
def explained(minilm_folder: Path) -> dict[str, Any]:
    return explain(TEXT, PAIR)


@pytest.fixture
def small(tmp_path: Path, minilm_folder: Path) -> Path:
    """A folder of a very small BERT with one segment type, no pooler and 12 positions."""
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, type_vocab_size=1,
        max_position_embeddings=12,
    )  # fmt: skip
    folder = tmp_path / "small"
    save(Checkpoint(config, tensors_of(Bert(config, pooler=False))), folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(minilm_folder / name, folder / name)
    return folder


def test_attention_is_that_of_transformers(minilm_folder: Path) -> None:
    encoding = Tokenizer.from_folder(minilm_folder).encode(TEXT, PAIR)
    bert = build(read(minilm_folder), dtype=torch.float64)
    assert isinstance(bert, Bert)
    theirs = BertModel.from_pretrained(minilm_folder, attn_implementation="eager", dtype=torch.float64)
    with torch.inference_mode():
        seen = Seen(bert, encoding)
        asked = {"input_ids": torch.tensor([encoding.ids]), "token_type_ids": torch.tensor([encoding.segments])}
        given = theirs(**asked, output_attentions=True, output_hidden_states=True)
    assert len(seen.attention) == len(given.attentions) == bert.config.num_hidden_layers
    for mine, attention in zip(seen.attention, given.attentions, strict=True):
        np.testing.assert_allclose(mine, attention[0].numpy(), rtol=0, atol=1e-12)
    for mine, hidden in zip(seen.hidden, given.hidden_states, strict=True):
        np.testing.assert_allclose(mine, hidden[0].numpy(), rtol=0, atol=1e-12)
    for number, layer in enumerate(bert.layers):  # the updates are what the residual sums need
        norm: Any = layer.attention_norm
        inside = norm(torch.from_numpy(seen.hidden[number] + seen.updates["attention"][number]))
        after = layer.output_norm(inside + torch.from_numpy(seen.updates["feed_forward"][number]))  # type: ignore[operator]
        np.testing.assert_allclose(after.detach().numpy(), seen.hidden[number + 1], rtol=0, atol=1e-12)


def test_tokens_and_attention_agree_with_each_other(explained: dict[str, Any]) -> None:
    pieces = [token["piece"] for token in explained["tokens"]]
    assert pieces[:3] == ["[CLS]", "is", "the"]
    assert "##keeper" in pieces
    assert [token["segment"] for token in explained["tokens"]] == [0] * 7 + [1] * 10
    config = explained["configs"]["minilm-l6"]
    attention, scores = np.array(explained["attention"]), np.array(explained["scores"])
    shape = (config["num_hidden_layers"], config["num_attention_heads"], len(pieces), len(pieces))
    assert attention.shape == scores.shape == shape
    assert np.abs(attention.sum(-1) - 1).max() < 0.01  # rounded
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    assert np.abs(powers / powers.sum(-1, keepdims=True) - attention).max() < 0.01
    share = attention[0, :, np.arange(1, len(pieces)), np.arange(len(pieces) - 1)].mean(0)
    assert np.abs(share - [head["previous"] for head in explained["heads"][0]]).max() < 0.002
    assert set(PATTERNS) < explained["heads"][0][0].keys()


def test_padding_changes_nothing_where_it_is_masked_and_deviations_change_what_they_should(
    explained: dict[str, Any],
) -> None:
    assert explained["padding"]["difference"] < 1e-12
    effects = {each["name"]: each for each in explained["deviations"]}
    assert effects.keys() == DEVIATIONS.keys()
    assert all(len(each["layers"]) == 7 for each in effects.values())
    assert min(effects["no-padding-mask"]["layers"]) < 0.99
    assert effects["mask-constant"]["max"] < 1e-12  # no score is large enough to overcome it
    assert min(effects["gelu-tanh"]["layers"]) > 0.9999
    assert effects["gelu-tanh"]["max"] > 1e-4


def test_masking_is_that_of_pre_training(explained: dict[str, Any]) -> None:
    pieces = [token["piece"] for token in explained["tokens"]]
    for epoch in explained["masking"]["epochs"]:
        places = [chosen["position"] for chosen in epoch]
        assert places == sorted(set(places))
        assert len(places) == round(0.15 * len(pieces))
        assert not {pieces[place] for place in places} & {"[CLS]", "[SEP]"}
    assert {each["piece"] for epoch in explained["masking"]["epochs"] for each in epoch} >= {"[MASK]"}


@pytest.mark.parametrize("pooler", [True, False])
def test_products_and_parameters_are_those_that_pytorch_counts(pooler: bool) -> None:
    config = BertConfig(vocab_size=50, hidden_size=24, num_hidden_layers=3, num_attention_heads=4, intermediate_size=56)
    bert = Bert(config, pooler).eval()
    assert sum(parameters(config, pooler).values()) == sum(each.numel() for each in bert.parameters())
    from reference.model import attention_as_in_the_paper

    bert.use_attention(attention_as_in_the_paper)
    batch = Packed.from_lengths(torch.arange(32), [32])  # no rows are added to 32
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        hidden = bert(batch)
        if bert.pooler is not None:
            bert.pooler(hidden, batch)
    counted = list(products(config, 32, pooler))
    assert 2 * sum(each.multiply_adds for each in counted) == counter.get_total_flops()
    assert [each.name for each in counted][-1] == ("pooler" if pooler else "down")
    up = counted[4]
    assert up.bytes == 3 * 4 * (32 * 24 + 24 * 56 + 32 * 56)


def test_weights_without_a_pooler_and_with_one_segment_type(small: Path) -> None:
    values = explain("the ferry", weights=str(small))
    assert "pooler" not in values["parameters"][small.name]
    assert [each["model"] for each in values["arithmetic"]].count("bert-base") == 3
    assert sum(values["parameters"]["bert-base"].values()) == 109_482_240
    shutil.copytree(
        small, small.with_name("elsewhere") / "bert-base"
    )  # a name that is ours too: the weights that are asked for count
    named = explain("the ferry", weights=str(small.with_name("elsewhere") / "bert-base"))
    assert named["configs"].keys() == {"bert-base"}
    assert named["parameters"]["bert-base"] == values["parameters"][small.name]
    json.dumps(values, allow_nan=False)
    with pytest.raises(BadInput, match="leave out --pair"):
        explain("the ferry", "is late", str(small))
    with pytest.raises(BadInput, match="at most 12"):
        explain("the ferry " * 6, weights=str(small))


@pytest.mark.parametrize(
    ("text", "pair", "why"),
    [("", None, "has no word piece"), (TEXT, " \t", "--pair"), ("late " * LONGEST, None, "at most 64")],
)
def test_texts_that_cannot_be_explained_are_refused(text: str, pair: str | None, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        explain(text, pair)


def test_the_command_writes_json(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.predict.explain.PAIR", None)
    output = tmp_path / "new" / "explained.json"
    done = CliRunner().invoke(app, ["explain", "--weights", str(small), "--output", str(output)])
    assert done.exit_code == 0, done.output
    assert json.loads(output.read_text())["text"] == "Is the ferry late?"
    done = CliRunner().invoke(app, ["explain", "--pair", "It is.", "--output", str(output)])
    assert isinstance(done.exception, BadInput)
    assert "the first one" in str(done.exception)
