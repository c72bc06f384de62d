"""From the folder of a finished run to one that is published: weights in float16, a full card, and hashes.

A package of Python can carry the folder: those in ``reference/weights`` are found by their names (``reference.named``).
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from reference.checkpoint import read, save
from reference.errors import CheckpointError, PretrainingError
from reference.named import MANIFEST
from reference.pretraining.baselines import bigram
from reference.pretraining.card import CARD, Published, card
from reference.pretraining.corpus import VOCABULARY, Corpus
from reference.pretraining.recipe import Recipe
from reference.pretraining.state import last_cursor
from reference.pretraining.train import Evaluation

COPIED = (*VOCABULARY, "recipe.yaml", "log.jsonl")
HALF = torch.finfo(torch.float16)


def package(run: Path, corpus: Corpus, output: Path, published: Published) -> float:
    """Write ``output``, which must not exist; it appears whole. Returns the largest error of rounding to float16.

    Raises PretrainingError for a run that is not finished, or is of another corpus.
    """
    for name in (CARD, "model.safetensors", *COPIED):
        if not (run / name).is_file():
            raise PretrainingError(f"{run} is not the folder of a finished run of pretrain: it has no {name}")
    about, cursor = last_cursor(run / "training")
    if about["corpus"] != corpus.sha256:
        raise PretrainingError(f"{run} was trained on another corpus than {corpus.folder}; name its own")
    recipe = Recipe.from_dict(yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8")), str(run))
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    try:
        whole = read(run)
    except CheckpointError as error:
        raise PretrainingError(str(error)) from error
    halved = {name: _half(run, name, tensor) for name, tensor in whole.tensors.items()}
    largest = max(float((halved[name].float() - tensor).abs().max()) for name, tensor in whole.tensors.items())

    partial = output.with_name(f"{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    save(replace(whole, tensors=halved), partial, "pre-training")
    config = json.loads((partial / "config.json").read_text(encoding="utf-8"))
    # Without this transformers would compute in the precision of the file.
    (partial / "config.json").write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n", encoding="utf-8")
    for name in COPIED:
        shutil.copyfile(run / name, partial / name)
    text = card(corpus.manifest, recipe, whole.config, _with_bigram(log, corpus, recipe), cursor, published)
    (partial / CARD).write_text(text, encoding="utf-8")
    manifest: dict[str, Any] = {
        "description": f"{whole.config.num_hidden_layers} layers, {whole.config.hidden_size} wide, "
        f"{sum(tensor.numel() for tensor in whole.tensors.values()) / 1e6:.1f} million parameters; pre-trained from "
        f"raw text: {published.text}",
        "corpus": corpus.sha256,
        "files": {file.name: _sha256(file) for file in sorted(partial.iterdir())},
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(output)
    return largest


def _half(run: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    if float(tensor.abs().max()) > HALF.max:
        raise PretrainingError(f"{run}: {name} has numbers that float16 cannot hold; was its training sound?")
    return tensor.half()


def _with_bigram(log: list[dict[str, Any]], corpus: Corpus, recipe: Recipe) -> list[dict[str, Any]]:
    """The log; to one that was begun before runs computed it, the loss of a bigram model is added."""
    batches = Evaluation(corpus, recipe).batches
    if "bigram_loss" in log[0] or not batches:
        return log
    return [log[0] | bigram(corpus.train.pieces, len(corpus.vocabulary), batches), *log[1:]]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
