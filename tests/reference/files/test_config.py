"""An invalid config.json is an error that names the file, before a model is built from it."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from reference.checkpoint import read_config
from reference.errors import CheckpointError
from reference.model import BertConfig

TINY = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)


def test_a_sound_one_is_what_it_was(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(asdict(TINY)))
    assert read_config(tmp_path)[0] == TINY


def test_googles_name_and_what_google_leaves_out(tmp_path: Path) -> None:
    sizes = {field.name: field.default for field in fields(BertConfig) if field.type is int}
    (tmp_path / "bert_config.json").write_text(json.dumps(sizes))
    assert read_config(tmp_path)[0] == BertConfig()


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"hidden_size": None}, "hidden_size is None; it is a whole number from 1"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": "32"}, "hidden_size is '32'"),
        ({"hidden_size": 33}, "hidden_size 33 does not divide into 4 attention heads"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"vocab_size": 1e4}, r"vocab_size is 10000\.0"),
        ({"max_position_embeddings": 10**30}, "max_position_embeddings is 1000"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps is 'tiny'; it is a number from 0 on"),
        ({"initializer_range": 0.0}, "initializer_range is 0; new heads are drawn with it"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob is nan"),
        ({"hidden_act": ["gelu"]}, "unhashable"),
        ({"id2label": [1]}, "list index out of range"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, odd: dict[str, Any], message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(asdict(TINY) | odd))
    with pytest.raises(CheckpointError, match=rf"config\.json: .*{message}"):
        read_config(tmp_path)


def test_a_size_that_is_missing_is_not_guessed(tmp_path: Path) -> None:
    values = asdict(TINY)
    del values["hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="hidden_size is missing"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "null"])
def test_what_is_no_object_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: "):
        read_config(tmp_path)
