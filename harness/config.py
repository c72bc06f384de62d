"""The numbers of a model, as the file beside its weights says them; checked before anything is built from them."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import BadInput

SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
LARGEST = 10**7  # of a size: far above any real one
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range", "layer_norm_eps")


def read_config(folder: Path) -> dict[str, Any]:
    """``asdict(BertConfig)`` of a folder's config.json, or bert_config.json. BadInput says what is wrong in it."""
    from reference import checkpoint
    from reference.errors import CheckpointError

    names = ("config.json", "bert_config.json")
    file = next((folder / name for name in names if (folder / name).is_file()), folder / names[0])
    try:
        _check(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{file}: {error}; get the weights' own again") from error
    try:
        return asdict(checkpoint.read_config(folder)[0])
    except (CheckpointError, LookupError) as error:  # LookupError: names of labels that are no mapping
        raise BadInput(str(error) if isinstance(error, CheckpointError) else f"{file}: id2label: {error}") from error


def _check(values: Any) -> None:
    """ValueError unless there is every size, as a whole number; one left out would be taken for BERT-base's."""
    if not isinstance(values, dict):
        raise ValueError("not an object of settings")
    if values.get("model_type", "bert") != "bert":
        return  # has other sizes; the reference says that it is no BERT
    for name in SIZES:
        value = values.get(name)
        if type(value) is not int or not 1 <= value <= LARGEST:
            said = repr(value) if name in values else "missing"
            raise ValueError(f"{name} is {said:.40}; it is a whole number from 1 to {LARGEST}")
    for name in RATES:
        value = values.get(name, 0)
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r:.40}; it is a number from 0 on")
