# /// script
# requires-python = ">=3.11"
# dependencies = ["bert-pytorch==0.0.1a4", "torch>=2.11", "numpy>=1.26", "safetensors>=0.5"]
# ///
"""codertimo's BERT-pytorch in its intended use: it pre-trains a small BERT from scratch on pairs of sentences.

Its two commands run unmodified. Then the model predicts whether the second sentence of a pair follows the first. It
reads no weights of the checkpoint.
"""

import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

NAME = "bert-pytorch-pretraining"
TITLE = "codertimo BERT-pytorch, its pre-training"
CATALOG_ID = "codertimo-bert-pytorch"
DEVIATIONS = {
    "no-weights": "a model of its own size is pre-trained on words of the task's own texts; no weights are read",
    "next-sentence": "its loss leaves out pairs that do not follow one another, so that it learns to say yes to all",
}
JOB = ["next-sentence"]

EPOCHS = 30  # 10 by default
LENGTH = 32  # words of a pair; 20 by default, which cuts most second sentences off
NEXT, OTHER = "next", "other"  # the task's labels


def job(
    checkout: None, weights: str, task: dict[str, Any], splits: dict[str, Any], out: str, progress: Callable[..., None]
) -> dict[str, Any]:
    """Pre-train with ``bert-vocab`` and ``bert`` on consecutive sentences; the program makes the other pairs itself."""
    from bert_pytorch import __main__ as bert
    from bert_pytorch.dataset import WordVocab, vocab

    corpus, words = Path(out) / "corpus.txt", Path(out) / "words"
    pairs = [example for example in splits["train"] if example["label"] == NEXT]
    # A tab without spaces around it would join its neighbours into one word.
    lines = [f"{_words(pair['text'])} \t {_words(pair['pair'])}\n" for pair in pairs]
    corpus.write_text("".join(lines), encoding="utf-8")
    _run(vocab.build, {"--corpus_path": corpus, "--output_path": words})
    trainers: list[Any] = []

    class Trainer(bert.BERTTrainer):
        """The program's trainer, kept for its heads: the program saves the encoder alone."""

        def train(self, epoch: int) -> None:
            progress(what="pre-training", done=epoch, total=EPOCHS)
            super().train(epoch)
            trainers[:] = [self]

        def save(self, epoch: int, file_path: str) -> None:
            """Do not save."""

    flags = {"--train_dataset": corpus, "--vocab_path": words, "--output_path": "", "--with_cuda": ""}  # "" is false
    with patch.object(bert, "BERTTrainer", Trainer):
        _run(bert.train, flags | {"--seq_len": LENGTH, "--epochs": EPOCHS, "--num_workers": 0})
    model, vocabulary = trainers[0].model, WordVocab.load_vocab(words)
    return {
        "version": f"bert-pytorch {version('bert-pytorch')}, torch {version('torch')}",
        "recipe": f"its own: 8 layers of 256, {EPOCHS} epochs of {len(pairs)} pairs in batches of 64, {LENGTH} words, "
        "and a warm-up of 10000 steps, which so few do not get far into",
        "predictions": {split: _answers(model, vocabulary, splits[split]) for split in splits if split != "train"},
    }


def _run(command: Callable[[], None], flags: dict[str, Any]) -> None:
    """Run one of the package's commands with these command-line flags."""
    with patch.object(sys, "argv", ["", *(str(part) for flag in flags.items() for part in flag)]):
        command()


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def _answers(model: Any, vocabulary: Any, examples: list[dict[str, Any]]) -> list[str]:
    """Predictions of the next-sentence head, for pairs in the format of the package's data set."""
    import torch

    ids, segments = torch.zeros(2, len(examples), LENGTH, dtype=torch.int64)
    for row, example in enumerate(examples):
        first = vocabulary.to_seq(_words(example["text"]), with_sos=True, with_eos=True)
        second = vocabulary.to_seq(_words(example["pair"]), with_eos=True)
        both = (first + second)[:LENGTH]
        ids[row, : len(both)] = torch.tensor(both)
        segments[row, : len(both)] = torch.tensor([1] * len(first) + [2] * len(second))[:LENGTH]
    model.eval()
    with torch.inference_mode():
        is_next = model.next_sentence(model.bert(ids, segments)).argmax(-1)
    return [NEXT if answer else OTHER for answer in is_next.tolist()]
