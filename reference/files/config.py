"""Reads ``config.json`` and ``bert_config.json``, and rejects a configuration of another model than BERT."""

import json
import math
from dataclasses import fields
from pathlib import Path
from typing import Any

from reference.errors import CheckpointError
from reference.model import BertConfig

LARGEST = 10**7  # upper bound for a configuration's sizes, far above any real one
BERT = "; the architecture that is measured here is BERT's: give weights of a BERT, such as bert-base-uncased"
# Settings that change what is computed, each with its values in BERT.
USUAL: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "is_decoder": (None, False),
    "is_encoder_decoder": (None, False),
    "add_cross_attention": (None, False),
    "pruned_heads": (None, {}, []),
    "quantization_config": (None,),
    "num_hidden_groups": (None,),  # ALBERT's
    "alibi_starting_size": (None,),  # MosaicBERT's
    "feed_forward_type": (None, "original"),  # JinaBERT's
}


def read_config_file(file: Path) -> tuple[BertConfig, tuple[str, ...]]:
    """Read a configuration and the names of the classes. Raises CheckpointError, which names the file and the fault."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        check_config(values)
        labels = values.get("id2label") or {}
        return BertConfig.from_dict(values), tuple(labels[key] for key in sorted(labels, key=int))
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def check_config(values: Any) -> None:
    """Raise ValueError unless this is the configuration of a BERT with every size given as a whole number.

    A missing size must not silently become BERT-base's.
    """
    if not isinstance(values, dict):
        raise ValueError("not an object of settings")
    _check_architecture(values)
    if values.get("initializer_range") == 0:
        raise ValueError("initializer_range is 0; new heads are drawn with it, so it is above 0")
    for field in fields(BertConfig):
        value = values.get(field.name, 0)  # only sizes are required
        said = f"{value!r:.40}" if field.name in values else "missing"
        if field.type is int and (type(value) is not int or not 1 <= value <= LARGEST):
            raise ValueError(f"{field.name} is {said}; it is a whole number from 1 to {LARGEST}")
        if field.type is float and (type(value) not in (int, float) or not 0 <= value < math.inf):
            raise ValueError(f"{field.name} is {said}; it is a number from 0 on")


def _check_architecture(values: dict[str, Any]) -> None:
    """Raise ValueError for another model than BERT, by its type, else its class, else one of its settings."""
    classes = [str(name) for name in values.get("architectures") or []]
    kind = values.get("model_type")
    if kind not in (None, "bert"):
        raise ValueError(f"model_type is {kind!r}{f' ({classes[0]})' if classes else ''}{BERT}")
    if kind is None and (other := [name for name in classes if not name.startswith("Bert")]):
        raise ValueError(f"architectures is {other[0]}, without a model_type{BERT}")
    if values.get("embedding_size") not in (None, values.get("hidden_size")):
        raise ValueError(f"embedding_size is {values['embedding_size']}, not hidden_size{BERT}")
    for name, usual in USUAL.items():
        if (value := values.get(name)) not in usual:
            raise ValueError(f"{name} is {f'{value!r}'[:60]}, which is not computed here{BERT}")
