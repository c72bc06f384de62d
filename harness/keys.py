"""What determines a result, and its hash: a run with the key of one that is recorded need not be repeated.

Code counts as what it does (comments and docstrings void nothing), data and weights by their content. What only reads
the result, such as the code of the metrics, is left out.
"""

import hashlib
import json
import re
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from harness import provenance
from harness.compiled_here import compiled_here
from harness.download import sha256_of
from harness.environment import unmet
from harness.implementation import Implementation, Requirements, find
from harness.plan import TOKENIZER_FILES, Plan, recipe, training_task
from harness.task import Task, task_files

How = Literal["trained", "encoded", "job"]  # fine-tuned itself, with the reference's weights, a program of its own
HERE = Path(__file__).parent
# What training and prediction depend on, beside the implementation's own file.
CODE = [HERE / name for name in ("batch.py", "encode.py", "finetune.py", "read.py", "tensors.py", "used_words.py")]
ENCODER_CODE = [HERE / name for name in ("heads.py", "folder.py")]
PARITY_CODE = [HERE / name for name in ("batch.py", "deviations.py", "folder.py", "parity.py", "tokenizers.py")]
SPEED_CODE = [HERE / name for name in ("scenarios.py", "speed.py", "training_speed.py", "worker.py")]
REFERENCE = HERE.parent / "reference"
# What else fine-tunes and scores: the last two cut all texts, and draw all new heads.
RUN_CODE = [HERE / name for name in ("checkpoints.py", "evaluate.py", "worker.py")]
RUN_CODE += [REFERENCE / name for name in ("tokenizer.py", "checkpoint.py")]
FROZEN_CODE = [REFERENCE / name for name in ("kernels.py", "layers.cpp", "layers.py")]  # nothing trains with it
REFERENCE_CODE = sorted({*REFERENCE.glob("*.py"), REFERENCE / "adamw.cpp"} - set(FROZEN_CODE))
EVERYWHERE = ("torch", "tokenizers")  # what fine-tunes and what cuts texts, whatever is measured


def quality_key(plan: Plan, implementation: Implementation, task: Task, seed: int, how: How = "trained") -> str:
    """Hash of all that determines a quality run's result."""
    code = [_code(*CODE, *RUN_CODE)]
    if how == "encoded":
        code += [_unfrozen(reference()), _code(*ENCODER_CODE), *compiled_here()]
    computes = _unfrozen(implementation) if how == "trained" else code_of(implementation)
    determinants = {
        "implementation": [*_identity(plan, implementation), computes, how],
        "code": code,
        "task": [_declared(task), _declared(training_task(task)), data_hashes(plan, task)],
        "checkpoint": [plan.weights.sha256, _tokenizer_hashes(plan)],
        "recipe": recipe(plan, task),
        "seed": seed,
        "precision": plan.precision,
        "device": plan.device.split(":")[0],
        "limit": plan.options.limit,
    }
    return _digest(determinants)


def parity_key(plan: Plan, implementation: Implementation, starts: bool = True) -> str:
    """Hash of all that determines a record of parity; ``starts``: that the implementation can be started at all."""
    determinants = {
        "implementation": [*_identity(plan, implementation), code_of(implementation), starts],
        "code": [_unfrozen(reference()), _code(*PARITY_CODE)],
        "checkpoint": [plan.weights.sha256, _tokenizer_hashes(plan)],
        "device": plan.device.split(":")[0],
    }
    return _digest(determinants)


def speed_key(plan: Plan, implementations: list[Implementation], shape: dict[str, Any], doing: str) -> str:
    """Hash of all that determines a comparison's figures on one shape, but for what else the machine was doing."""
    determinants = {
        "implementations": [[*_identity(plan, each), code_of(each)] for each in implementations],
        "doing": doing,
        "code": _code(*CODE, *SPEED_CODE),
        "shape": {name: shape[name] for name in ("name", "sequences", "tokens", "lengths")},
        "checkpoint": plan.weights.sha256,
        "precision": plan.precision,
        "device": plan.device,
        "machine": provenance.machine(),
        "threads": plan.threads,
        "bound": plan.options.bound,
    }
    return _digest(determinants)


def _digest(determinants: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()


def _identity(plan: Plan, implementation: Implementation) -> list[Any]:
    """Name, requirements, what is installed of them, and the commit of the repository that it is used from."""
    needs, checkout = implementation.requirements, plan.checkouts.get(implementation.name)
    commit = _commit(checkout) if checkout else None
    native = compiled_here() if _is_reference(implementation) else None
    return [implementation.name, asdict(needs), _versions(needs), commit, native]


def code_of(implementation: Implementation) -> str:
    """Hash of the code that computes: the implementation's file, what of ours it imports, and the reference's model."""
    own = FROZEN_CODE if _is_reference(implementation) else []
    return _code(*_files(implementation), *own)


def _unfrozen(implementation: Implementation) -> str:
    """The same without what makes the reference fast when it is not trained."""
    return _code(*_files(implementation))


def _is_reference(implementation: Implementation) -> bool:
    return implementation.file == HERE / "implementations" / "reference.py"


def _files(implementation: Implementation) -> list[Path]:
    own = REFERENCE_CODE if _is_reference(implementation) else []
    return [implementation.file, *own, *_imported(implementation.file)]


@cache
def _imported(file: Path) -> list[Path]:
    """What of ``harness`` a file imports, and what that imports."""
    found: set[Path] = set()
    left = [file]
    while left:
        text = left.pop().read_text(encoding="utf-8")
        for module, several, names in re.findall(r"(?m)^ *from (harness[\w.]*) import (?:\(([^)]*)\)|(.*))", text):
            place = HERE.parent / module.replace(".", "/")
            named = [place / f"{name}.py" for name in re.findall(r"\w+", several or names)]
            new = {each for each in (place.with_suffix(".py"), *named) if each.is_file()} - found - {file}
            found |= new
            left += new
    return sorted(found)


def data_hashes(plan: Plan, task: Task) -> dict[str, str]:
    """sha256 of the files that the run reads, by split."""
    trainer = training_task(task)
    files = {"train": task_files(trainer, plan.data)["train"]}
    files |= {split: task_files(task, plan.data)[split] for split in task.evaluate}
    return {split: _file(path) for split, path in files.items()}


def _declared(task: Task) -> dict[str, Any]:
    """What a task says that its result depends on: all but titles, where files lie, and what the recipe holds."""
    said = {
        name: value for name, value in asdict(task).items() if name not in ("title", "suite", "recipes", "download")
    }
    said["labels"] = list(task.labels.items())  # their order is that of the outputs
    said["files"] = {split: [file.header, file.columns] for split, file in task.files.items()}
    return said


def _tokenizer_hashes(plan: Plan) -> dict[str, str]:
    """sha256 of the files that the tokenizer is made from."""
    files = [plan.tokenizer_folder / name for name in TOKENIZER_FILES]
    return {file.name: _file(file) for file in files if file.is_file()}


# What many keys of one command have in common is looked at once: it does not change while the command runs.


@cache
def _file(path: Path) -> str:
    return sha256_of(path)


@cache
def _code(*files: Path) -> str:
    return provenance.code_hash(*files)


@cache
def _commit(checkout: Path) -> str | None:
    return provenance.commit_of(checkout)


@cache
def reference() -> Implementation:
    """What all are compared with, and what fine-tunes for those that cannot be trained."""
    return find("reference")


@cache
def _versions(requirements: Requirements) -> dict[str, str | None]:
    """Installed versions of what computes here; an environment of its own has those that the requirements say."""
    own = [] if unmet(requirements) else [Requirement(text).name for text in requirements.packages]
    found: dict[str, str | None] = {}
    for name in (*EVERYWHERE, *own):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found
