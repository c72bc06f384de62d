"""What the weights of a run are, judged before any work: an error that is found here costs no training."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.data.reading import Reading
from harness.errors import BadInput
from harness.files import cache_folder
from harness.weights.find import Weights
from harness.weights.random_weights import PREFIX
from reference.tokenizer import Tokenizer


@dataclass(frozen=True)
class Examined:
    """What is said of weights that can be used."""

    config: dict[str, Any]  # as asdict(BertConfig)
    pooler: bool  # whether they have one
    lacks_words: tuple[str, ...]  # tensors of the head for masked words that they do not have
    notes: tuple[str, ...]  # what of the files was renamed, or is left out


def examine(weights: Weights) -> Examined:
    """Read the weights; BadInput, with what to do, unless they are a BERT's, whole and finite."""
    from reference.checkpoint import POOLER, lacks_words, read
    from reference.errors import CheckpointError

    try:
        found = read(weights.folder, values=not _sound(weights).is_file())
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    pooler = found.tensors.keys() >= set(POOLER)
    return Examined(asdict(found.config), pooler, tuple(lacks_words(found)), found.notes)


def remember(weights: Weights) -> None:
    """Note in the cache that the numbers of these files are sound, so that they are looked at once."""
    with suppress(OSError):  # then it is done again
        _sound(weights).parent.mkdir(parents=True, exist_ok=True)
        _sound(weights).touch()


def _sound(weights: Weights) -> Path:
    return cache_folder() / "weights" / "sound" / weights.sha256


def check_fit(config: dict[str, Any], tokenizer: Tokenizer, folder: Path, tasks: Sequence[Reading]) -> None:
    """BadInput unless the model has a row for all that the tokenizer gives, and for the second text of pairs."""
    largest, rows = tokenizer.size - 1, config["vocab_size"]
    if largest >= rows:
        raise BadInput(
            f"{folder}: its tokenizer numbers word pieces up to {largest}, and its weights have rows for 0 to "
            f"{rows - 1}: they are not of one model. Put the tokenizer there that belongs to the weights"
        )
    if config["max_position_embeddings"] < 3:
        raise BadInput(f"{folder}: max_position_embeddings is under 3; [CLS], one piece and [SEP] need that many")
    for task in tasks:
        if config["type_vocab_size"] < 2 and any("pair" in file.columns for file in task.files.values()):
            raise BadInput(
                f"task {task.name} has pairs, and these weights know one kind of text only (type_vocab_size is 1); "
                "name other weights, or tasks of single texts"
            )


def drawn_at_random(weights: Weights, pooler: bool, kind: str) -> tuple[list[str], str]:
    """What below the head is drawn at random for a task of this kind, by name, and a note on it for the reader."""
    from reference.checkpoint import POOLED, POOLER

    if weights.name.startswith(PREFIX):
        return ["bert"], "the weights were drawn at random: nothing was pre-trained"
    if kind in POOLED and not pooler:
        return list(POOLER), "the weights have no pooler: it was drawn at random, like the head"
    return [], ""
