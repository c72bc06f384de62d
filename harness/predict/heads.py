"""The heads of saved models, for the service."""

from pathlib import Path

from harness.errors import BadInput, ours
from harness.weights.saved_model import DESCRIPTION, read_description
from reference.serving.classifier import KINDS, Classifier


def load_classifier(folder: Path, name: str, device: str, precision: str) -> Classifier | None:
    """The model with its head in a folder that ``run --save-model`` wrote; None for any other folder.

    A model that tags words has no answer to a text, and is None too. BadInput where the model cannot be read.
    """
    from reference.checkpoint import read_config

    if not (folder / DESCRIPTION).is_file():
        return None
    reading = read_description(folder).reading
    if reading.kind not in KINDS:
        return None
    try:
        return Classifier(
            folder,
            name,
            reading.kind,
            read_config(folder)[1],
            pairs=any("pair" in file.columns for file in reading.files.values()),
            max_length=reading.max_length,
            positive=getattr(reading, "positive", None),
            device=device,
            precision=precision,
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise ours(error) or BadInput(f"{folder}: {error}") from error
