"""The state of a run, in one file that appears whole: weights, moments, and the place in the data.

Weights and moments are float32 (or float64) whatever the products are computed in, so a run can go on on another
machine in another precision.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from reference.errors import PretrainingError

KEPT = 2  # states; the last but one is for the case that the disk lost the last
MOMENTS = ("exp_avg", "exp_avg_sq")
SUMS = ("mlm_loss", "masked", "right", "nsp_loss", "pairs", "nsp_right", "random", "tokens", "flop", "seconds")


@dataclass
class Cursor:
    """How far a run is."""

    step: int = 0
    tokens: int = 0  # trained on
    flop: float = 0.0
    seconds: float = 0.0  # of training, over all parts of an interrupted run
    epoch: int = 0
    index: int = 0  # pairs of the epoch that were used
    long: bool = False  # in the part of the longer sequences
    evaluated: int = 0  # measurements on held-out text
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SUMS, 0.0))  # since the last line of the log


def save_state(
    folder: Path, cursor: Cursor, model: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, Any]
) -> None:
    """Write a state and delete older ones. A state that could not be written whole leaves no file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for moment in MOMENTS:
            if moment in optimizer.state[parameter]:
                tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment].cpu().contiguous()
    metadata = {"cursor": json.dumps(asdict(cursor)), "about": json.dumps(about)}
    path = folder / f"state-{cursor.step:08}.safetensors"
    partial = path.with_suffix(".part")
    try:
        save_file(tensors, partial, metadata)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    for old in states(folder)[:-KEPT]:
        old.unlink()


def states(folder: Path) -> list[Path]:
    """The states in a folder, the oldest first."""
    return sorted(folder.glob("state-*.safetensors"))


def load_state(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, Any], device: torch.device
) -> Cursor | None:
    """Put the newest readable state into model and optimizer; None if there is none.

    Raises PretrainingError if it is of another recipe or corpus than ``about`` says.
    """
    for path in reversed(states(folder)):
        try:
            with safe_open(path, "pt", device=str(device)) as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        except Exception:  # noqa: S112 - the library has no class for it; the file before is whole
            continue
        _check_same(path, json.loads(metadata["about"]), about)
        cursor = Cursor(**json.loads(metadata["cursor"]))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(tensors[f"model.{name}"])
                moments = {each: tensors[f"{each}.{name}"] for each in MOMENTS if f"{each}.{name}" in tensors}
                if moments:
                    step = torch.tensor(float(cursor.step), dtype=torch.float32, device=device)
                    optimizer.state[parameter] = {"step": step, **moments}
        return cursor
    return None


def last_cursor(folder: Path) -> tuple[dict[str, Any], Cursor]:
    """What the newest readable state in a folder says: recipe and corpus of the run, and how far it is."""
    for path in reversed(states(folder)):
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata()
        except Exception:  # noqa: S112 - the library has no class for it; the file before is whole
            continue
        return json.loads(metadata["about"]), Cursor(**json.loads(metadata["cursor"]))
    raise PretrainingError(f"{folder} has no state of a run; keep the folder `training` that pretrain writes")


def _check_same(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    different = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))
    if "corpus" in different:
        raise PretrainingError(f"{path.parent.parent} was begun with another corpus; name another --output")
    if different:
        changes = ", ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in different)
        raise PretrainingError(
            f"{path.parent.parent} was begun with another recipe ({changes}); name another --output, or the old recipe"
        )
