"""How the folder of weights makes sentence vectors of the last hidden states, which any implementation gives."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput
from harness.weights.find import Weights

if TYPE_CHECKING:
    from reference.sentence_folder import SentenceFolder


@cache
def sentence_folder(weights: Weights) -> "SentenceFolder":
    """What the weights' folder says of its vectors; BadInput where hidden states of the last layer do not give them."""
    from reference.errors import CheckpointError
    from reference.sentence_folder import SentenceFolder, read_sentence_folder

    if not weights.folder.is_dir():
        return SentenceFolder(weights.folder.parent)
    try:
        said = read_sentence_folder(weights.folder)
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    if reason := _unfit(said, weights.folder):
        raise BadInput(f"{weights.name}: {reason}; a task of kind similarity cannot be done with it")
    return said


def as_read(weights: Weights, texts: list[str], usual: int, positions: int) -> tuple[list[str], int]:
    """The texts as they go into the tokenizer, and how many tokens are read of each.

    These are as many as the folder says, else ``usual``, the tokenizer's number; never more than ``positions``.

    As in ``reference.encoder``: with the folder's default prompt, in lower case and cut where the folder says so.
    BadInput for a folder whose vectors are not computed here, which leaves open what it reads.
    """
    from reference.errors import CheckpointError
    from reference.sentence_folder import read_sentence_folder

    if not weights.folder.is_dir():
        return texts, min(usual, positions)
    try:
        said = read_sentence_folder(weights.folder)
    except CheckpointError as error:
        raise BadInput(f"{error}; so it is not known how its users feed it") from error
    prompted = [said.prompts.get(said.default_prompt_name or "", "") + text for text in texts]
    return [text.lower() if said.lower_case else text for text in prompted], min(said.max_length or usual, positions)


def _unfit(said: "SentenceFolder", folder: Path) -> str | None:
    """What the folder asks for that is not computed of an implementation's last hidden states; None: nothing."""
    default = said.prompts.get(said.default_prompt_name or "", "")
    reasons = {
        "its weights are in a folder of their own": said.bert.resolve() != folder.resolve(),
        "its vectors are a mean of several layers": said.layer_weights is not None,
        f"it puts the prompt {default!r} before each text": bool(default),
        "it has texts in lower case before its tokenizer": said.lower_case,
        "it keeps the first numbers of a vector only": said.truncate is not None,
        f"it compares vectors by {said.similarity}, not by their cosine": said.similarity != "cosine",
    }
    return next((reason for reason, true in reasons.items() if true), None)


def module_files(weights: Weights) -> list[Path]:
    """The files in the weights' folder that say how vectors are made, and those of the modules' weights."""
    said = sentence_folder(weights)
    if not (said.bert / "modules.json").is_file():
        return []
    inner = [file for file in said.bert.glob("*/**/*") if file.suffix in (".json", ".safetensors", ".bin")]
    names = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
    return sorted([*(file for name in names if (file := said.bert / name).is_file()), *inner])
