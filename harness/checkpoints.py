"""The weights of a run as Hugging Face folders, so that all its implementations start from the same numbers."""

import shutil
from pathlib import Path

from harness import plan
from harness.task import Task


class Checkpoints:
    """Folders of the bare encoder, and of the encoder under the new heads that tasks need; made when asked for."""

    def __init__(self, made: plan.Plan, folder: Path) -> None:
        self.made, self.folder = made, folder

    def bare(self) -> Path:
        """The encoder; written out first where it is not one safetensors file, as the ports read it."""
        from reference.checkpoint import read, save

        weights = self.made.weights.folder
        if (weights / "config.json").is_file() and (weights / "model.safetensors").is_file():
            return weights
        target = self.folder / "bare"
        if not target.exists():
            save(read(weights), target)
            self._add_tokenizer(target)
        return target

    def with_head(self, task: Task, seed: int) -> Path:
        """The encoder under a new head for this task, drawn from this seed."""
        from reference.checkpoint import add_head, read, save

        target = self.folder / f"{task.name}-{seed}"
        if not target.exists():
            save(add_head(read(self.made.weights.folder), task.kind, list(task.outputs), seed), target, task.kind)
            self._add_tokenizer(target)
        return target

    def forget(self, task: Task, seed: int) -> None:
        """Give the disk back."""
        shutil.rmtree(self.folder / f"{task.name}-{seed}", ignore_errors=True)

    def _add_tokenizer(self, target: Path) -> None:
        for name in plan.TOKENIZER_FILES:
            if (self.made.tokenizer_folder / name).is_file():
                shutil.copyfile(self.made.tokenizer_folder / name, target / name)
