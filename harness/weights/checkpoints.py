"""The weights of a run as Hugging Face folders, so that all its implementations start from the same numbers."""

import json
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from harness.data.task import Task
from harness.errors import BadInput
from harness.measure import plan

if TYPE_CHECKING:
    from reference.checkpoint import Checkpoint

# A tensor that the ports read, and what they know to pass over.
USUAL_NAME = re.compile(
    r"(bert\.)?(embeddings|encoder|pooler)\.(?!token_type_ids|.*\.(gamma|beta)$).*|(cls|classifier|qa_outputs)\..*"
)


class Checkpoints:
    """Folders of the bare encoder, and of the encoder under the new heads that tasks need; made when asked for."""

    def __init__(self, made: plan.Plan, folder: Path) -> None:
        self.made, self.folder = made, folder
        self._lock = Lock()  # several ask at once

    def bare(self) -> Path:
        """The encoder; written out first where it, or its tokenizer, is not as the ports read it."""
        from reference.checkpoint import save

        weights = self.made.weights.folder
        if _as_ports_read_it(weights) and not self.made.tokenizer.notes:  # else what decides is written down
            return weights
        target = self.folder / "bare"
        with self._lock:
            if not target.exists():
                save(_in_float32(weights), target)
                self.made.tokenizer.save(target)
        return target

    def with_head(self, task: Task, seed: int) -> Path:
        """The encoder under a new head for this task, drawn from this seed."""
        from reference.checkpoint import add_head, save

        target = self.folder / f"{task.name}-{seed}"
        if not target.exists():
            save(
                add_head(_in_float32(self.made.weights.folder), task.kind, list(task.outputs), seed), target, task.kind
            )
            self.made.tokenizer.save(target)
        return target

    def forget(self, task: Task, seed: int) -> None:
        """Give the disk back."""
        shutil.rmtree(self.folder / f"{task.name}-{seed}", ignore_errors=True)


def _in_float32(weights: Path) -> "Checkpoint":
    """BadInput if they cannot be read."""
    from reference.checkpoint import read
    from reference.errors import CheckpointError

    try:
        found = read(weights, values=False)  # at planning they were looked at
    except CheckpointError as error:
        raise BadInput(str(error)) from error
    return replace(found, tensors={name: tensor.float() for name, tensor in found.tensors.items()})


def _as_ports_read_it(folder: Path) -> bool:
    """One safetensors file, in float32, under the names that BERT's tensors have today; and a whole configuration."""
    from safetensors import SafetensorError, safe_open

    file = folder / "model.safetensors"
    if not (file.is_file() and _usual_config(folder / "config.json")):
        return False
    try:
        with safe_open(file, "np") as tensors:
            names = list(tensors.keys())
            dtypes = {tensors.get_slice(name).get_dtype() for name in names}
    except SafetensorError:  # whoever reads it says so
        return False
    return dtypes <= {"F32", "I64"} and all(map(USUAL_NAME.fullmatch, names))


def _usual_config(file: Path) -> bool:
    """Whether it says all that is BERT's, and names no other files, code or precision for transformers to load."""
    from reference.model import BertConfig

    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = {field.name for field in fields(BertConfig)} | {"model_type"}
    precisions = {values.get("dtype", "float32"), values.get("torch_dtype", "float32")}
    unusual = {"auto_map", "transformers_weights"} & values.keys() or precisions - {"float32", None}
    return wanted <= values.keys() and not unusual
