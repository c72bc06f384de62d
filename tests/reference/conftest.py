"""Shared fixtures: models of transformers with random weights, saved by transformers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pytest
import torch
import transformers

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()

Saved = tuple[Any, Path]  # a model of transformers in eval mode, and its folder

CLASSES: dict[str | None, tuple[str, dict[str, Any]]] = {
    None: ("BertModel", {}),
    "pre-training": ("BertForPreTraining", {}),
    "masked-lm": ("BertForMaskedLM", {}),
    "classification": (
        "BertForSequenceClassification",
        {"num_labels": 3, "problem_type": "single_label_classification"},
    ),
    "regression": ("BertForSequenceClassification", {"num_labels": 1, "problem_type": "regression"}),
    "multi-label": (
        "BertForSequenceClassification",
        {"num_labels": 4, "problem_type": "multi_label_classification"},
    ),
    "tagging": ("BertForTokenClassification", {"num_labels": 5}),
    "question-answering": ("BertForQuestionAnswering", {}),
}
TINY: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 32,
}


@pytest.fixture
def save_with_transformers(tmp_path: Path) -> Callable[..., Saved]:
    """A function of head, seed and configuration: a model of transformers, saved with ``save_pretrained``.

    In float64. Every tensor is random: the initial values of biases and LayerNorms would hide mistakes.
    """

    def save(head: str | None = None, seed: int = 0, attn_implementation: str = "sdpa", **config: Any) -> Saved:
        class_name, of_head = CLASSES[head]
        settings = transformers.BertConfig(**(TINY | of_head | config), attn_implementation=attn_implementation)
        model = getattr(transformers, class_name)(settings).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(1 + noise if name.endswith("LayerNorm.weight") else noise)
        folder = tmp_path / f"{head or 'bare'}-{seed}"
        model.save_pretrained(folder)
        return model.eval(), folder

    return save
