"""From what the user typed to what will be run; every mistake in the input is found here, before any work."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from harness import provenance
from harness.data import data_folder
from harness.download import sha256_of
from harness.errors import BadInput
from harness.implementation import Implementation, find
from harness.read import read_split
from harness.task import Context, Task, load_task, suites, task_files
from harness.weights import Weights, find_weights

# Appendix A.2 of the paper; clipping is in Google's code (optimization.py).
WARMUP, WEIGHT_DECAY, MAX_GRAD_NORM = 0.1, 0.01, 1.0
Select = Literal["last", "dev"]
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
HERE = Path(__file__).parent
# What training and prediction depend on, beside the implementation's own file.
CODE = [HERE / name for name in ("batch.py", "encode.py", "finetune.py", "read.py", "tensors.py")]
REFERENCE_CODE = sorted((HERE.parent / "reference").glob("*.py"))


@dataclass(frozen=True)
class Options:
    """The options of ``python -m harness run``, as typed."""

    implementations: list[str]
    tasks: list[str]  # names, or paths of YAML files
    suite: str | None = None
    weights: str = "minilm-l6"
    data: Path | None = None
    runs: Path = Path("runs")
    seeds: tuple[int, ...] = (42,)
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    context: Context | None = None
    select: Select = "last"
    limit: int | None = None
    save_model: Path | None = None
    rerun: bool = False
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """The same, resolved: objects for names, and no "auto" left."""

    options: Options
    implementations: list[Implementation]
    tasks: list[Task]
    weights: Weights
    config: dict[str, Any]  # of the weights, as asdict(BertConfig)
    data: Path
    device: str
    precision: str  # of evaluation and timing
    training_precision: str
    threads: int


def prepare(options: Options) -> Plan:
    """Resolve the options. BadInput for whatever is not there, with what to do."""
    import reference
    from reference.checkpoint import read_config
    from reference.errors import CheckpointError

    _check_numbers(options)
    implementations = [find(name) for name in dict.fromkeys(options.implementations)]
    tasks = _tasks(options)
    weights = find_weights(options.weights)
    try:
        device = reference.resolve_device(options.device)
        config = asdict(read_config(weights.folder)[0])
    except (ValueError, CheckpointError) as error:
        raise BadInput(str(error)) from error
    folder = data_folder(options.data)
    for task in tasks:
        _check_data(task, folder)
        if (options.max_length or 0) > config["max_position_embeddings"]:
            raise BadInput(f"--max-length: these weights have {config['max_position_embeddings']} positions")
    on_gpu = device.startswith("cuda")
    fast_bf16 = reference.resolve_precision("auto", device) == "bf16" if on_gpu else provenance.hardware_bf16()
    return Plan(
        options=options,
        implementations=implementations,
        tasks=tasks,
        weights=weights,
        config=config,
        data=folder,
        device=device,
        precision=reference.resolve_precision(options.precision, device),
        training_precision="bf16" if fast_bf16 else "fp32",
        threads=options.threads or provenance.usable_cores(),
    )


def _check_numbers(options: Options) -> None:
    for name in ("threads", "epochs", "learning_rate", "batch_size", "limit"):
        value = getattr(options, name)
        if value is not None and value <= 0:
            raise BadInput(f"--{name.replace('_', '-')} is {value}; it must be above 0")
    if options.max_length is not None and options.max_length < 3:
        raise BadInput("--max-length is under 3; [CLS], one piece and [SEP] need that many")
    if options.precision not in PRECISIONS:
        raise BadInput(f"--precision {options.precision!r} is not one of {', '.join(PRECISIONS)}")
    if options.select not in get_args(Select):
        raise BadInput(f"--select {options.select!r} is not one of {', '.join(get_args(Select))}")


def _tasks(options: Options) -> list[Task]:
    names = list(options.tasks)
    if options.suite is not None:
        known = suites()
        if options.suite not in known:
            raise BadInput(f"no suite is called {options.suite!r} (known: {', '.join(known)})")
        names += known[options.suite]
    tasks = [load_task(name) for name in dict.fromkeys(names)]
    if options.context is not None:
        tasks = [
            load_task(name, context=options.context) if task.kind == "tagging" else task
            for name, task in zip(dict.fromkeys(names), tasks, strict=True)
        ]
    if options.max_length is not None:
        tasks = [replace(task, max_length=options.max_length) for task in tasks]
    return tasks


def training_task(task: Task) -> Task:
    """The task whose training split is used: this one, or the one it names (AX is answered by MNLI's model)."""
    if task.train_task is None:
        return task
    trainer = load_task(task.train_task)
    if trainer.outputs != task.outputs:
        raise BadInput(f"task {task.name}: its labels are not those of its training task {trainer.name}")
    return replace(trainer, max_length=task.max_length)


def _check_data(task: Task, folder: Path) -> None:
    """Every file that the run will read is there; reading one line's worth of it is left to the run."""
    wanted = [(training_task(task), "train"), *((task, split) for split in task.evaluate)]
    for each, split in wanted:
        if split not in each.files:
            raise BadInput(f"task {each.name} has no {split} split")
        if not task_files(each, folder)[split].is_file():
            read_split(each, split, folder)  # says which path, and the command that gets it


def recipe(plan: Plan, task: Task) -> dict[str, Any]:
    """How this task is fine-tuned: what the task says for a model of this size, and what the user overrides."""
    options, own = plan.options, training_task(task).recipe(plan.config["hidden_size"])
    return {
        "epochs": options.epochs or own.epochs,
        "learning_rate": options.learning_rate or own.learning_rate,
        "batch_size": options.batch_size or own.batch_size,
        "max_length": task.max_length,
        "warmup": WARMUP,
        "weight_decay": WEIGHT_DECAY,
        "max_grad_norm": MAX_GRAD_NORM,
        "precision": plan.training_precision,
        "select": options.select,
        "micro_batches": 1,
    }


def data_hashes(plan: Plan, task: Task) -> dict[str, str]:
    """sha256 of the files that the run reads, by split."""
    trainer = training_task(task)
    files = {"train": task_files(trainer, plan.data)["train"]}
    files |= {split: task_files(task, plan.data)[split] for split in task.evaluate}
    return {split: _hash(path) for split, path in files.items()}


@cache
def _hash(path: Path) -> str:
    return sha256_of(path)


def code_of(implementation: Implementation) -> str:
    """Hash of the code that computes: the implementation's file, and for the reference the model itself."""
    own = REFERENCE_CODE if implementation.file == HERE / "implementations" / "reference.py" else []
    return provenance.code_hash(implementation.file, *own)


def key(plan: Plan, implementation: Implementation, task: Task, seed: int) -> str:
    """Hash of all that determines a quality run's result; the code that computes metrics is not in it."""
    determinants = {
        "implementation": [implementation.name, code_of(implementation), provenance.code_hash(*CODE)],
        "versions": {name: provenance.versions().get(name) for name in ("torch", "transformers", "tokenizers")},
        "task": [task.name, task.kind, task.outputs, task.context, task.max_length, data_hashes(plan, task)],
        "checkpoint": plan.weights.sha256,
        "recipe": recipe(plan, task),
        "seed": seed,
        "precision": plan.precision,
        "device": plan.device.split(":")[0],
        "limit": plan.options.limit,
    }
    return hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()
