"""A config.json that is odd is bad input, named with its file, before anything is built from it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.config import SIZES, read_config
from harness.errors import BadInput
from reference.model import BertConfig


def test_a_sound_one_is_what_the_reference_reads(tiny_checkpoint: Path) -> None:
    tiny = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    assert read_config(tiny_checkpoint) == asdict(tiny)


def test_googles_name_and_what_google_leaves_out(tmp_path: Path) -> None:
    sizes = {name: getattr(BertConfig(), name) for name in SIZES}
    (tmp_path / "bert_config.json").write_text(json.dumps(sizes))
    assert read_config(tmp_path) == asdict(BertConfig())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": None}, "hidden_size is None; it is a whole number from 1"),
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": "32"}, "hidden_size is '32'"),
        ({"hidden_size": 33}, "hidden_size 33 does not divide into 4 attention heads"),
        ({"num_hidden_layers": True}, "num_hidden_layers is True"),
        ({"vocab_size": 1e4}, r"vocab_size is 10000\.0"),
        ({"max_position_embeddings": 10**30}, "max_position_embeddings is 1000"),
        ({"layer_norm_eps": "tiny"}, "layer_norm_eps is 'tiny'; it is a number from 0 on"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob is nan"),
        ({"hidden_act": ["gelu"]}, "unhashable"),
        ({"id2label": [1]}, "id2label: list index out of range"),
    ],
)
def test_what_is_wrong_is_said(tiny_checkpoint: Path, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    values = json.loads((tiny_checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | fields))
    with pytest.raises(BadInput, match=rf"config\.json: .*{message}"):
        read_config(tmp_path)


def test_a_size_that_is_missing_is_not_guessed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    values = json.loads((tiny_checkpoint / "config.json").read_text())
    del values["hidden_size"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(BadInput, match="hidden_size is missing"):
        read_config(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, "null"])
def test_what_is_no_object_is_bad_input(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match=r"config\.json: "):
        read_config(tmp_path)


def test_a_plan_says_so_too(tiny_checkpoint: Path, tmp_path: Path, prepared: Any) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "odd")
    (folder / "config.json").write_text("[1]")
    with pytest.raises(BadInput, match="not an object of settings"):
        prepared(weights=str(folder))
