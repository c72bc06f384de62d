"""From what the user typed to what will be run; every mistake in the input is found here, before any work."""

import hashlib
import json
import math
import os
import re
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
import yaml

from harness import provenance
from harness.data import data_folder
from harness.download import sha256_of
from harness.errors import BadInput
from harness.implementation import Implementation, find, implementations
from harness.read import read_split
from harness.task import Context, Task, load_task, suites, task_files
from harness.weights import Weights, find_weights
from reference.tokenizer import Tokenizer

# Appendix A.2 of the paper; clipping is in Google's code (optimization.py).
WARMUP, WEIGHT_DECAY, MAX_GRAD_NORM = 0.1, 0.01, 1.0
Select = Literal["last", "dev"]
How = Literal["trained", "encoded", "job"]  # fine-tuned itself, with the reference's weights, a program of its own
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
HERE = Path(__file__).parent
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# What training and prediction depend on, beside the implementation's own file.
CODE = [HERE / name for name in ("batch.py", "encode.py", "finetune.py", "read.py", "tensors.py")]
ENCODER_CODE = [HERE / name for name in ("heads.py", "folder.py")]
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
    checkouts: dict[str, Path] = field(default_factory=dict)  # by implementation: where its repository lies
    shapes: tuple[tuple[int, int], ...] = ()  # sequences and length that are timed; (): the usual ones
    by_length: bool = False  # batches of a task's own lengths are sorted for everybody
    bound: float | None = None  # of the latency under load, in seconds; None: no load
    command: str = ""


@dataclass(frozen=True)
class Plan:
    """The same, resolved: objects for names, and no "auto" left."""

    options: Options
    implementations: list[Implementation]
    tasks: list[Task]
    weights: Weights
    config: dict[str, Any]  # of the weights, as asdict(BertConfig)
    tokenizer: Tokenizer
    tokenizer_folder: Path  # where its files are
    data: Path
    device: str
    precision: str  # of evaluation and timing
    training_precision: str
    threads: int
    checkouts: dict[str, Path]  # by full name of the implementation


def prepare(options: Options, tasks_needed: bool = True) -> Plan:
    """Resolve the options. BadInput for whatever is not there, with what to do."""
    import reference
    from reference.checkpoint import read_config
    from reference.errors import CheckpointError

    _check_numbers(options)
    if not options.implementations:
        raise BadInput("no implementation is named; `python -m harness list` shows them")
    chosen = _implementations(options.implementations)
    tasks = _tasks(options) if tasks_needed else []
    weights = find_weights(options.weights)
    try:
        device = reference.resolve_device(options.device)
        config = asdict(read_config(weights.folder)[0])
        beside = weights.folder if weights.folder.is_dir() else weights.folder.parent  # of a TensorFlow checkpoint
        tokenizer = Tokenizer.from_folder(beside)
    except (ValueError, CheckpointError, FileNotFoundError) as error:
        raise BadInput(str(error)) from error
    folder = data_folder(options.data)
    for task in tasks:
        _check_data(task, folder)
        _check_length(task, config["max_position_embeddings"])
    _make_folders(options)
    on_gpu = device.startswith("cuda")
    fast_bf16 = reference.resolve_precision("auto", device) == "bf16" if on_gpu else provenance.hardware_bf16()
    return Plan(
        options=options,
        implementations=chosen,
        tasks=tasks,
        weights=weights,
        config=config,
        tokenizer=tokenizer,
        tokenizer_folder=beside,
        data=folder,
        device=device,
        precision=reference.resolve_precision(options.precision, device),
        training_precision="bf16" if fast_bf16 else "fp32",
        threads=options.threads or provenance.usable_cores(),
        checkouts=_checkouts(chosen, options.checkouts),
    )


def _implementations(names: list[str]) -> list[Implementation]:
    """Those that are named; "all" is every one, the reference first."""
    if names == ["all"]:
        return sorted(implementations().values(), key=lambda each: each.name != "reference")
    return [find(name) for name in dict.fromkeys(names)]


def _checkouts(chosen: list[Implementation], given: dict[str, Path]) -> dict[str, Path]:
    """Folder of each implementation that is used from a repository: as said now, else in the user's file.

    The file is what BERT_ATLAS_CHECKOUTS names, else ``checkouts.yaml`` in the user's configuration folder: a mapping
    of names to folders. A variant without a folder of its own uses that of its implementation.
    """
    known = implementations()
    for name in given:
        if name not in known or not known[name].checkout:
            takes = ", ".join(sorted(each.name for each in known.values() if each.checkout))
            raise BadInput(f"--checkout {name}=...: no implementation of that name uses a repository (those: {takes})")
    folders = _checkouts_file() | given
    found = {}
    for each in chosen:
        folder = folders.get(each.name, folders.get(each.name.partition(":")[0]))
        if each.checkout and folder is not None:
            if not folder.is_dir():
                raise BadInput(f"the checkout of {each.name} is said to be {folder}, which is no folder")
            found[each.name] = folder.resolve()
    return found


def _checkouts_file() -> dict[str, Path]:
    given = os.environ.get("BERT_ATLAS_CHECKOUTS")
    file = Path(given).expanduser() if given else platformdirs.user_config_path("bert-atlas") / "checkouts.yaml"
    if not file.is_file():
        if given:
            raise BadInput(f"BERT_ATLAS_CHECKOUTS names {file}, which does not exist")
        return {}
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        return {str(name): Path(folder).expanduser() for name, folder in values.items()}
    except (yaml.YAMLError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: not a mapping of implementations to folders: {error}") from error


def _check_numbers(options: Options) -> None:
    for name in ("threads", "epochs", "learning_rate", "batch_size", "limit"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            typed = "lr" if name == "learning_rate" else name.replace("_", "-")
            raise BadInput(f"--{typed} is {value}; it must be above 0")
    for seed in options.seeds:
        if not 0 <= seed < 2**63:
            raise BadInput(f"--seed is {seed}; it must be from 0 to 2^63 - 1")
    if options.precision not in PRECISIONS:
        raise BadInput(f"--precision {options.precision!r} is not one of {', '.join(PRECISIONS)}")
    if options.select not in get_args(Select):
        raise BadInput(f"--select {options.select!r} is not one of {', '.join(get_args(Select))}")


def _make_folders(options: Options) -> None:
    """Make the folders that will be written to, so that hours of work do not end at a wrong name."""
    for name, folder in (("runs", options.runs), ("save-model", options.save_model)):
        try:
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"--{name}: the folder {folder} cannot be made: {error.strerror}") from None


def _check_length(task: Task, positions: int) -> None:
    if task.max_length < 3:
        raise BadInput(f"task {task.name}: a max length under 3; [CLS], one piece and [SEP] need that many")
    if task.max_length > positions:
        raise BadInput(
            f"task {task.name} reads {task.max_length} tokens, and these weights have {positions} positions; "
            f"give --max-length {positions} or less"
        )


def _tasks(options: Options) -> list[Task]:
    names = list(options.tasks)
    if options.suite is not None:
        known = suites()
        if options.suite not in known:
            raise BadInput(f"no suite is called {options.suite!r} (known: {', '.join(known)})")
        names += known[options.suite]
    tasks = [load_task(name) for name in dict.fromkeys(names)]
    if not tasks:
        raise BadInput("no task is named; `python -m harness list` shows them")
    if len({task.name for task in tasks}) < len(tasks):
        raise BadInput(f"two tasks have the same name, among {', '.join(task.name for task in tasks)}")
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
    """Hash of the code that computes: the implementation's file, what of ours it imports, and the reference's model."""
    own = REFERENCE_CODE if implementation.file == HERE / "implementations" / "reference.py" else []
    imported = re.findall(
        r"(?m)^from harness(?:\.(\w+))? import (\w+)", implementation.file.read_text(encoding="utf-8")
    )
    files = {HERE / f"{module or name}.py" for module, name in imported}
    return provenance.code_hash(implementation.file, *own, *(file for file in files if file.is_file()))


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
    return {file.name: _hash(file) for file in files if file.is_file()}


def key(plan: Plan, implementation: Implementation, task: Task, seed: int, how: How = "trained") -> str:
    """Hash of all that determines a quality run's result; the code that computes metrics is not in it."""
    checkout = plan.checkouts.get(implementation.name)
    code = [code_of(implementation), provenance.code_hash(*CODE)]
    if how == "encoded":
        code += [code_of(find("reference")), provenance.code_hash(*ENCODER_CODE)]
    determinants = {
        "implementation": [implementation.name, code, asdict(implementation.requirements), how],
        "checkout": provenance.commit_of(checkout) if checkout else None,
        "versions": {name: provenance.versions().get(name) for name in ("torch", "transformers", "tokenizers")},
        "task": [_declared(task), _declared(training_task(task)), data_hashes(plan, task)],
        "checkpoint": [plan.weights.sha256, _tokenizer_hashes(plan)],
        "recipe": recipe(plan, task),
        "seed": seed,
        "precision": plan.precision,
        "device": plan.device.split(":")[0],
        "limit": plan.options.limit,
    }
    return hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()
