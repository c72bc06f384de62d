"""The weights of a run as Hugging Face folders, so that all implementations start from the same numbers."""

import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from harness.data.task import Task
from harness.errors import BadInput
from reference.tokenizer import Tokenizer

if TYPE_CHECKING:
    from reference.checkpoint import Checkpoint

# A tensor that the ports read, or know to skip.
USUAL_NAME = re.compile(
    r"(bert\.)?(embeddings|encoder|pooler)\.(?!token_type_ids|.*\.(gamma|beta)$).*|(cls|classifier|qa_outputs)\..*"
)


class Checkpoints:
    """Folders of the encoder alone, and of the encoder with a new head for a task; each is written on first use."""

    def __init__(self, weights: Path, tokenizer: Tokenizer, folder: Path) -> None:
        """``weights``: any folder or file that the reference reads. ``folder``: where new folders are written."""
        self.weights, self.tokenizer, self.folder = weights, tokenizer, folder
        self._lock = Lock()  # parity asks from several threads

    def bare(self) -> Path:
        """The encoder: the weights' own folder if all ports can read it and its tokenizer, else a copy."""
        from reference.checkpoint import save

        if _as_ports_read_it(self.weights) and not self.tokenizer.notes:  # notes: the files leave something open
            return self.weights
        target = self.folder / "bare"
        with self._lock:
            if not target.exists():
                save(_in_float32(self.weights), target)
                self.tokenizer.save(target)
        return target

    def with_head(self, task: Task, seed: int) -> Path:
        """The encoder with a new head for this task, drawn from this seed."""
        from reference.checkpoint import add_head, save

        target = self.folder / f"{task.name}-{seed}"
        if not target.exists():
            save(add_head(_in_float32(self.weights), task.kind, list(task.outputs), seed), target, task.kind)
            self.tokenizer.save(target)
        return target

    def forget(self, task: Task, seed: int) -> None:
        """Delete the folder with this head, to save disk space."""
        shutil.rmtree(self.folder / f"{task.name}-{seed}", ignore_errors=True)


def _in_float32(weights: Path) -> "Checkpoint":
    """All tensors in float32. BadInput if they cannot be read."""
    from reference.checkpoint import read
    from reference.errors import CheckpointError

    try:
        found = read(weights, values=False)  # planning has checked that they are finite
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    return replace(found, tensors={name: tensor.float() for name, tensor in found.tensors.items()})


def _as_ports_read_it(folder: Path) -> bool:
    """Whether it has one safetensors file in float32 with current tensor names, and a complete configuration."""
    from safetensors import SafetensorError, safe_open

    file = folder / "model.safetensors"
    if not (file.is_file() and _usual_config(folder / "config.json")):
        return False
    try:
        with safe_open(file, "np") as tensors:
            names = list(tensors.keys())
            dtypes = {tensors.get_slice(name).get_dtype() for name in names}
    except SafetensorError:  # reading it will report this
        return False
    return dtypes <= {"F32", "I64"} and all(map(USUAL_NAME.fullmatch, names))


def _usual_config(file: Path) -> bool:
    """Whether it has all of BERT's settings, and names no other files, code or precision for transformers to load."""
    from reference.model import BertConfig

    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = {field.name for field in fields(BertConfig)} | {"model_type"}
    precisions = {values.get("dtype", "float32"), values.get("torch_dtype", "float32")}
    unusual = {"auto_map", "transformers_weights"} & values.keys() or precisions - {"float32", None}
    return wanted <= values.keys() and not unusual
