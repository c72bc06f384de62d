"""Weights that nobody trained: in the shapes of BERT-base and -large, for timing, and in those of our own models.

How fast weights are does not depend on training; those without training show what training is worth.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from harness.files import cache_folder, disk_errors

if TYPE_CHECKING:
    from reference.model import BertConfig

PREFIX = "random/"
NAMES = {
    "random/bert-base": "random weights in the shape of BERT-Base, for timing; made here, 440 MB",
    "random/bert-large": "random weights in the shape of BERT-Large, for timing; made here, 1.3 GB",
}
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")


def random_folder(name: str) -> Path:
    """Where the weights of this name are, once they are made."""
    return cache_folder() / "weights" / name


def find_random(name: str, tokenizer: Path) -> Path:
    """The folder of the weights of this name, in the cache; made with the tokenizer in another folder if need be."""
    folder = random_folder(name)
    with disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                _make(_config(name), tokenizer, folder)
    return folder


def random_like(name: str, original: Path) -> Path:
    """The folder of weights in the shape of those in another folder, with its tokenizer and the heads of pre-training.

    They are what pre-training begins with, from seed 0.
    """
    folder = random_folder(name)
    with disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                import torch

                from reference.checkpoint import Checkpoint, read_config, save, tensors_of
                from reference.pretraining.train import initial_model

                config, _ = read_config(original)
                with torch.random.fork_rng([]):
                    tensors = tensors_of(initial_model(config, 0, torch.float32))
                partial = folder.with_name(f"{folder.name}.part")
                shutil.rmtree(partial, ignore_errors=True)
                save(Checkpoint(config, tensors), partial, "pre-training")
                for file in TOKENIZER_FILES:
                    shutil.copyfile(original / file, partial / file)
                partial.rename(folder)
    return folder


def _config(name: str) -> "BertConfig":
    from reference.model import BertConfig

    if name == "random/bert-base":
        return BertConfig()
    return BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)


def _make(config: "BertConfig", tokenizer: Path, folder: Path) -> None:
    """Drawn as the paper initialises them, from a fixed seed. The folder is there only when it is complete."""
    import torch

    from reference.checkpoint import Checkpoint, save, tensors_of
    from reference.model import Bert

    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Bert(config)
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    save(Checkpoint(config, tensors_of(model)), partial)
    for file in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / file, partial / file)
    partial.rename(folder)
