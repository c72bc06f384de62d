"""Resolves what the user typed into a plan, and finds every mistake in the input before any work."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
import psutil

from harness import affinity
from harness.data import leakage
from harness.data.fetch import data_folder
from harness.data.kinds import KINDS
from harness.data.read import read_split
from harness.data.reading import Context
from harness.data.task import Task, load_task, suites
from harness.data.yaml_file import read_yaml
from harness.errors import BadInput
from harness.files import cache_folder, expanded, user_folder
from harness.measure.tokenization import check_folder
from harness.records import machine
from harness.registry.implementations import Implementation, find, implementations
from harness.shares import Only, Share
from harness.weights.examine import Examined, check_fit, examine, remember
from harness.weights.find import Weights, find_weights
from harness.weights.sentences import sentence_folder
from reference.tokenizer import Tokenizer

# Share of all steps: `warmup_proportion` of Google's run_classifier.py. The paper has a warm-up for pre-training only.
WARMUP = 0.1
WEIGHT_DECAY, MAX_GRAD_NORM = 0.01, 1.0  # as in Google's optimization.py
Select = Literal["last", "dev"]
Rerun = Literal["missing", "failed", "all"]  # each includes those before it
NEEDS_CACHE = "; set BERT_ATLAS_CACHE to a folder that you may write in"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)


@dataclass(frozen=True)
class Options:
    """The options of ``python -m harness run``, as typed."""

    implementations: list[str]
    tasks: list[str]  # names, or paths of YAML files
    suite: str | None = None
    splits: tuple[str, ...] = ()  # splits to score; (): those that each task declares
    weights: str = "minilm-l6"
    data: Path | None = None
    runs: Path = Path("runs")
    seeds: tuple[int, ...] = (42,)
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    nproc: int = 1  # processes that train one model
    epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    max_length: int | None = None
    context: Context | None = None
    select: Select = "last"
    limit: int | None = None
    save_model: Path | None = None
    rerun: Rerun = "missing"
    dry_run: bool = False  # plan only: fetch no weights, create no folders
    checkouts: dict[str, Path] = field(default_factory=dict)  # folder of each implementation's repository, by its name
    shapes: tuple[tuple[int, int], ...] = ()  # sequences and length of each shape to time; (): the usual ones
    sentences: int = 64  # how many examples of a task, or of the texts, are timed at their own lengths
    texts: tuple[str, ...] = ()  # of the user, to time
    training: bool = False  # time: steps of fine-tuning, not inference; parity: of training too
    by_length: bool = False  # sort the examples of a task by length for every implementation
    bound: float | None = None  # upper bound of the latency under load, in seconds; None: measure no load
    share: Share | Only | None = None  # do this share of the runs; None: all
    command: str = ""  # the command line, as records name it


@dataclass(frozen=True)
class Plan:
    """The options, resolved: objects instead of names, and no "auto"."""

    options: Options
    implementations: list[Implementation]
    tasks: list[Task]
    weights: Weights
    config: dict[str, Any]  # of the weights, as asdict(BertConfig)
    pooler: bool  # whether the weights have one; else a task that needs one gets a random pooler
    notes: tuple[str, ...]  # what the user must know about the weights, the labels and the tokenizer
    tokenizer: Tokenizer
    tokenizer_folder: Path  # where its files are
    data: Path
    examples: dict[str, dict[str, int]]  # number of examples, by task and split, of all splits that will be read
    device: str
    precision: str  # of evaluation and timing
    training_precision: str
    threads: int
    checkouts: dict[str, Path]  # by full name of the implementation

    def seeds_of(self, implementation: Implementation, task: Task) -> tuple[int, ...]:
        """The seeds to run an implementation from on a task, of this share of the runs."""
        seeds, share = _all_seeds(self.options, implementation, task), self.options.share
        return seeds if share is None else tuple(s for s in seeds if share.holds(implementation.name, task.name, s))

    @property
    def times(self) -> bool:
        """Whether implementations are timed: of several shares, one does."""
        return self.options.share is None or self.options.share.times

    def recipe(self, task: Task) -> dict[str, Any]:
        """How a task is fine-tuned: its own recipe for a model of this size, with the user's changes."""
        if KINDS[task.kind].words:
            return {"max_length": task.max_length, "score": "pseudo-log-likelihood", "select": "last"}
        if not KINDS[task.kind].trained:
            pooling = "+".join(sentence_folder(self.weights).pooling)
            return {"max_length": task.max_length, "pooling": pooling, "select": "last"}
        options, own = self.options, training_task(task).recipe(self.config["hidden_size"])
        return {
            "epochs": options.epochs or own.epochs,
            "learning_rate": options.learning_rate or own.learning_rate,
            "batch_size": options.batch_size or own.batch_size,
            "batches": "by length",  # see harness.port.batch.shuffled_by_length
            "max_length": task.max_length,
            "warmup": WARMUP,
            "weight_decay": WEIGHT_DECAY,
            "max_grad_norm": MAX_GRAD_NORM,
            "precision": self.training_precision,
            "select": options.select,
            "micro_batches": 1,
            **({"processes": options.nproc} if options.nproc > 1 else {}),
        }

    def lacks(self, implementation: Implementation) -> str | None:
        """What is missing for an implementation to take part; None: nothing."""
        if implementation.checkout and implementation.name not in self.checkouts:
            return f"needs a checkout of {implementation.checkout}"
        return unfit(implementation, self.device, self.config)


def prepare(options: Options, tasks_needed: bool = True) -> Plan:
    """Resolve the options. BadInput, with advice, for anything missing or wrong, in the data too."""
    import reference

    _check_numbers(options)
    _check_words(options)
    if not options.implementations:
        raise BadInput("no implementation is named; `python -m harness list` shows them")
    chosen = _implementations(options.implementations)
    tasks = _tasks(options) if tasks_needed else []
    weights = find_weights(options.weights, fetch=not options.dry_run)
    try:
        device = reference.resolve_device(options.device)
        examined = examine(weights)
        config = examined.config
        beside = weights.folder if weights.folder.is_dir() else weights.folder.parent  # TensorFlow checkpoint: a file
        tokenizer = Tokenizer.from_folder(beside)
        check_folder(beside, tokenizer, keep=not options.dry_run)
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(str(error)) from error
    check_fit(config, tokenizer, beside, tasks)
    _check_processor(options, chosen, device, config)
    _check_processes(options, device)
    folder = data_folder(options.data)
    for task in tasks:
        if options.select == "dev" and not task.evaluate[0].startswith("dev"):
            raise BadInput(
                f"--select dev goes by the first split that is scored, of {task.name} {task.evaluate[0]}; "
                "name a dev split first with --splits"
            )
        _check_length(task, config["max_position_embeddings"])
        if KINDS[task.kind].words:
            _check_words_predicted(task, weights, examined, tokenizer)
        elif not KINDS[task.kind].trained:
            sentence_folder(weights)  # raises BadInput for vectors that are not computed
    _check_shapes(options.shapes, config)
    examples = {task.name: _examples(task, folder) for task in tasks}
    if not options.dry_run:
        _make_folders(options)
        remember(weights)
    on_gpu = device.startswith("cuda")
    fast_bf16 = reference.resolve_precision("auto", device) == "bf16" if on_gpu else machine.hardware_bf16()
    return Plan(
        options=options,
        implementations=_with_work(options, chosen, tasks),
        tasks=tasks,
        weights=weights,
        config=config,
        pooler=examined.pooler,
        notes=(
            *(f"weights: {note}" for note in examined.notes),
            *(f"{task.name}: {note}" for task in tasks for note in leakage.label_notes(task)),
            *(f"tokenizer: {note}" for note in tokenizer.notes),
            *_share_note(options, chosen, tasks),
        ),
        tokenizer=tokenizer,
        tokenizer_folder=beside,
        data=folder,
        examples=examples,
        device=device,
        precision=reference.resolve_precision(options.precision, device),
        training_precision="bf16" if fast_bf16 else "fp32",
        threads=options.threads or machine.usable_cores(),
        checkouts=_checkouts(chosen, options.checkouts),
    )


def prepare_each(options: Options, precisions: Sequence[str]) -> list[Plan]:
    """One plan for each precision, equal in all else; a precision that is named twice, as by auto, gets one plan."""
    import reference

    if not precisions:
        raise BadInput(f"no precision is named; --precision takes some of {', '.join(PRECISIONS)}")
    asked = [replace(options, precision=name) for name in precisions]
    for each in asked:
        _check_words(each)
    first = prepare(asked[0])
    plans: dict[str, Plan] = {}
    for each in asked:
        precision = reference.resolve_precision(each.precision, first.device)
        plans.setdefault(precision, replace(first, options=each, precision=precision))
    if options.save_model is not None and len(plans) > 1:
        raise BadInput("--save-model saves weights, which are the same whatever the --precision; name one of these")
    return list(plans.values())


def _implementations(names: list[str]) -> list[Implementation]:
    """The named implementations, each once; "all" means those that need not be named, the reference first."""
    chosen: dict[str, Implementation] = {}
    for name in names:
        every = [each for each in implementations().values() if not each.by_name] if name == "all" else [find(name)]
        for each in sorted(every, key=lambda each: each.name != "reference"):
            chosen[each.name] = each
    return list(chosen.values())


def _all_seeds(options: Options, implementation: Implementation, task: Task) -> tuple[int, ...]:
    """The seeds of all shares.

    Only one for a program that does its own seeding, and for a task without training, in which nothing is random.
    """
    if implementation.job:
        return options.seeds[:1] if task.name in implementation.job else ()
    return options.seeds if KINDS[task.kind].trained else options.seeds[:1]


def _units(options: Options, chosen: list[Implementation], tasks: list[Task]) -> list[tuple[str, str, int]]:
    """Implementation, task and seed of the runs of all shares."""
    pairs = [(each, task) for each in chosen for task in tasks]
    return [(each.name, task.name, seed) for each, task in pairs for seed in _all_seeds(options, each, task)]


def _with_work(options: Options, chosen: list[Implementation], tasks: list[Task]) -> list[Implementation]:
    """The implementations that this share needs: only the one that times needs those without a run in it."""
    share = options.share
    if share is None or share.times:
        return chosen
    working = {unit[0] for unit in _units(options, chosen, tasks) if share.holds(*unit)}
    return [each for each in chosen if each.name in working]


def _share_note(options: Options, chosen: list[Implementation], tasks: list[Task]) -> list[str]:
    share, units = options.share, _units(options, chosen, tasks)
    if not isinstance(share, Share):
        return []
    timing = ", and the timing" if share.times else "; share 1 times"
    return [f"share {share}: {sum(share.holds(*unit) for unit in units)} of {len(units)} runs{timing}"]


def unfit(implementation: Implementation, device: str, config: dict[str, Any]) -> str | None:
    """Why an implementation cannot run with this configuration on this machine; None: it can."""
    from reference import no_int8
    from reference.model import BertConfig

    if implementation.name != "reference:int8":
        return None
    return no_int8(BertConfig(**config)) if device == "cpu" else f"it is for a CPU, and the device is {device}"


def _check_processor(options: Options, chosen: list[Implementation], device: str, config: dict[str, Any]) -> None:
    """BadInput for an implementation that is named and cannot run here; those that "all" includes are skipped."""
    machine.hidden()  # raises BadInput for a switch with an unknown value
    for each in chosen:
        if each.name in options.implementations and (reason := unfit(each, device, config)):
            raise BadInput(f"{each.name}: {reason}; leave it out")


def _check_processes(options: Options, device: str) -> None:
    """BadInput for more processes that train one model than have a thread, or a GPU, each."""
    count, threads = options.nproc, options.threads or machine.usable_cores()
    if count == 1:
        return
    if device not in ("cpu", "cuda"):
        raise BadInput(f"--nproc {count} needs --device cpu or cuda, where processes can train together; not {device}")
    if device == "cuda":
        import torch

        if count > torch.cuda.device_count():
            raise BadInput(f"--nproc {count}: each process needs a GPU, and there are {torch.cuda.device_count()}")
    elif count > threads:
        raise BadInput(f"--nproc {count}: each process needs a thread, and they have {threads} in all (see --threads)")


def _checkouts(chosen: list[Implementation], given: dict[str, Path]) -> dict[str, Path]:
    """The repository's folder for each implementation that needs one: from the options, else from the user's file.

    The file is the one that BERT_ATLAS_CHECKOUTS names, else ``checkouts.yaml`` in the user's configuration folder: a
    mapping of names to folders. A variant without an entry uses the folder of its implementation.
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
    folder = user_folder(platformdirs.user_config_path)
    file = expanded(given) if given else folder / "checkouts.yaml" if folder else None
    if file is None or not file.is_file():
        if given:
            raise BadInput(f"BERT_ATLAS_CHECKOUTS names {file}, which does not exist")
        return {}
    values = read_yaml(file, "file of checkouts") or {}
    if not isinstance(values, dict) or not all(isinstance(folder, str) for folder in values.values()):
        raise BadInput(f"{file}: not a mapping of implementations to folders, such as `bert-chainer: ~/bert-chainer`")
    return {str(name): expanded(folder) for name, folder in values.items()}


def _check_numbers(options: Options) -> None:
    for name in ("threads", "nproc", "epochs", "learning_rate", "batch_size", "limit", "sentences"):
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            typed = "lr" if name == "learning_rate" else name.replace("_", "-")
            raise BadInput(f"--{typed} is {value}; it must be above 0")
    _check_threads(options.threads)
    for seed in options.seeds:
        if not 0 <= seed < 2**63:
            raise BadInput(f"--seed is {seed}; it must be from 0 to 2^63 - 1")


def _check_threads(threads: int | None) -> None:
    """BadInput for more than can run at once: they would wait for each other, or a quota would stop all of them."""
    most, quota = machine.usable_threads(), machine.cpu_quota()
    if threads is not None and threads > most:
        allowed = f"by affinity: {len(affinity.CPUS)}, by quota: {'none' if quota == math.inf else f'{quota:g}'}"
        raise BadInput(
            f"--threads is {threads}; of them {most} can run at once (CPUs {allowed}). Give {most} or fewer, "
            "or raise what taskset, the batch system or the container allows"
        )


def _check_words(options: Options) -> None:
    known = {"precision": PRECISIONS, "select": get_args(Select), "rerun": get_args(Rerun)}
    for name, words in known.items():
        if (said := getattr(options, name)) not in words:
            raise BadInput(f"--{name} {said!r} is not one of {', '.join(words)}")


def _make_folders(options: Options) -> None:
    """Create the folders that will be written to, so that a wrong name fails now and not after hours of work."""
    wanted = {"--runs": options.runs, "--save-model": options.save_model, "BERT_ATLAS_CACHE": cache_folder()}
    for name, folder in wanted.items():
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            advice = NEEDS_CACHE if name == "BERT_ATLAS_CACHE" else f"; name another with {name}"
            raise BadInput(f"{name}: the folder {folder} cannot be made: {error.strerror}{advice}") from None
        if not os.access(folder, os.W_OK):
            advice = NEEDS_CACHE if name == "BERT_ATLAS_CACHE" else "; name another, or change its permissions"
            raise BadInput(f"{name}: the folder {folder} cannot be written{advice}")


def _check_shapes(shapes: Sequence[tuple[int, int]], config: dict[str, Any]) -> None:
    positions, memory = config["max_position_embeddings"], psutil.virtual_memory().total
    for sequences, length in shapes:
        if length > positions:
            raise BadInput(
                f"--shapes {sequences}x{length}: this model takes at most {positions} tokens; give that or less"
            )
        needed = sequences * length * config["hidden_size"] * 4  # bytes of its output alone, float32
        if needed > memory:
            raise BadInput(
                f"--shapes {sequences}x{length}: the output alone has {needed / 2**30:.0f} GiB, and this machine "
                f"{memory / 2**30:.0f}; give fewer sequences"
            )


def _check_length(task: Task, positions: int) -> None:
    least, why = KINDS[task.kind].least_length(task)
    if task.max_length < least:
        raise BadInput(f"task {task.name}: a max length under {least}; {why}")
    if task.max_length > positions:
        raise BadInput(
            f"task {task.name} reads {task.max_length} tokens, and these weights have {positions} positions; "
            f"give --max-length {positions} or less"
        )


def _check_words_predicted(task: Task, weights: Weights, examined: Examined, tokenizer: Tokenizer) -> None:
    """BadInput for weights that cannot predict masked words: nothing is drawn at random in their place."""
    needs = f"task {task.name} needs a model that predicts masked words"
    if missing := examined.lacks_words:
        raise BadInput(
            f"{needs}: {weights.name} has no vocabulary head (no {missing[0]}); name weights that kept theirs, such as "
            "bert-base-uncased, or what `pretrain` writes"
        )
    if tokenizer.mask_id is None:
        raise BadInput(
            f"{needs}: the tokenizer of {weights.name} has no [MASK]; put the one there that it was trained with"
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
            load_task(name, context=options.context) if "context" in KINDS[task.kind].fields else task
            for name, task in zip(dict.fromkeys(names), tasks, strict=True)
        ]
    if options.max_length is not None:
        tasks = [replace(task, max_length=options.max_length) for task in tasks]
    return [_with_splits(task, options) for task in tasks] if options.splits else tasks


def _with_splits(task: Task, options: Options) -> Task:
    """The task, scored on the chosen splits; ``test`` means all of test_matched, test_mismatched and the like."""
    scored: list[str] = []
    known = [split for split in task.files if split != "train"]
    for name in options.splits:
        found = [name] if name in known else [split for split in known if split.startswith(f"{name}_")]
        if not found:
            raise BadInput(f"--splits: task {task.name} has no split {name!r} to score; it has {', '.join(known)}")
        scored += found
    return replace(task, evaluate=tuple(dict.fromkeys(scored)))


def training_task(task: Task) -> Task:
    """The task whose training split is used, if any: this one, or the one that it names (AX: the model of MNLI)."""
    if task.train_task is None:
        return task
    trainer = load_task(task.train_task)
    if trainer.outputs != task.outputs:
        raise BadInput(f"task {task.name}: its labels are not those of its training task {trainer.name}")
    return replace(trainer, max_length=task.max_length)


def splits_read(task: Task) -> dict[str, Task]:
    """The splits that a run reads: the training split, if there is training, and those that are scored.

    With each the task that has it.
    """
    return ({"train": training_task(task)} if KINDS[task.kind].trained else {}) | dict.fromkeys(task.evaluate, task)


def _examples(task: Task, folder: Path) -> dict[str, int]:
    """Number of examples of each split that the run will read; BadInput for a line that is wrong in any of them."""
    return {split: len(read_split(owner, split, folder)) for split, owner in splits_read(task).items()}
