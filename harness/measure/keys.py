"""The key of a record: a hash of all that determines the result, so that a recorded run need not be repeated.

Our code is hashed by what it does (``harness.records.code``): for each kind of record, all our modules that measuring
imports, except those in ``EXCLUDED``. Data, weights, configuration and tokenizer are hashed by content.
"""

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from packaging.requirements import Requirement

from harness.data.kinds import KINDS
from harness.data.reading import all_files
from harness.data.task import Task
from harness.file_cache import per_file
from harness.files import sha256_of
from harness.measure.plan import TOKENIZER_FILES, Plan, splits_read, training_task
from harness.records import code, machine, provenance
from harness.records.compiled_here import compiled_here
from harness.registry.environments import find_environment, unmet
from harness.registry.implementations import FOLDER, Implementation, Requirements, describe
from harness.weights.sentences import module_files

if TYPE_CHECKING:
    from harness.measure.run import Run

# Trained: the implementation fine-tunes. Encoded: it gets weights that the reference fine-tuned. Job: it is a program
# that does the whole task. Zero-shot: nothing is fine-tuned; the task is done with vectors of the weights as they are.
How = Literal["trained", "encoded", "job", "zero-shot"]
EVERYWHERE = ("torch", "tokenizers")  # needed for fine-tuning and for tokenizing, whatever is measured
QUALITY: tuple[How, ...] = ("trained", "encoded", "job", "zero-shot")
# "selected": the choice of an epoch by its score; "training": of parity
ALL = (*QUALITY, "selected", "parity", "training", "speed")
# The modules that fill in a record, those that write the weights it begins with, and the worker; the files of the
# implementations are added.
SHARED = ("harness.weights.checkpoints", "harness.worker.session")
ENTRIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(QUALITY, ("harness.measure.quality", *SHARED)),
    "selected": ("harness.statistics.score",),
    "parity": ("harness.measure.parity", *SHARED),
    "training": ("harness.measure.training.parity", *SHARED),
    "speed": ("harness.measure.speed", "harness.measure.training_speed", *SHARED),
}


class Excluded(NamedTuple):
    """Modules (for a package, all in it) that do not determine records of these kinds."""

    modules: tuple[str, ...]
    why: str
    kinds: tuple[str, ...] = ALL


EXCLUDED = (
    Excluded(("harness.measure.plan",), "what it resolves is in the key: recipe, precision, weights, tokenizer, data"),
    Excluded(
        ("harness.data.task", "harness.data.reading", "harness.data.schema", "harness.data.yaml_file"),
        "what a task declares is in the key",
    ),
    Excluded(
        ("harness.data.fetch", "harness.data.download", "harness.data.network"),
        "they fetch files, whose content is in the key",
    ),
    Excluded(
        ("harness.weights.find", "harness.weights.random_weights"), "they find weights, whose content is in the key"
    ),
    Excluded(("harness.records.compiled_here",), "what it finds is in the key"),
    Excluded(("harness.registry.implementations",), "what it reads of an implementation's file is in the key"),
    Excluded(("harness.registry.environments",), "what environments are made of is in the key"),
    Excluded(("harness.records.code", "harness.file_cache", "harness.measure.keys"), "they make the key"),
    Excluded(("harness.measure.client", "harness.worker.messages"), "they start workers and hand arrays on, unchanged"),
    Excluded(
        (
            "harness.measure.run",
            "harness.measure.recording",
            "harness.records.models",
            "harness.records.record",
            "harness.records.subject",
        ),
        "they look up, describe and write records",
    ),
    Excluded(("harness.measure.bench",), "it finds interpreters and starts workers"),
    Excluded(
        ("harness.measure.main_path", "harness.measure.concurrent", "harness.measure.dry_run"),
        "they decide what is done when",
    ),
    Excluded(("harness.progress",), "it shows progress"),
    Excluded(
        ("harness.records.quiet", "harness.records.processors"),
        "they wait for a quiet machine, and say which kinds of machines are wanted",
    ),
    Excluded(("harness.claims", "harness.shares", "harness.cluster"), "they decide which process does what"),
    Excluded(("harness", "harness.implementations"), "packages that hold nothing but modules and a version's number"),
    Excluded(("harness.errors", "harness.files", "harness.printable"), "they say and find, and compute nothing"),
    Excluded(
        ("harness.batch", "harness.folder", "harness.protocol", "harness.tensors"),
        "old places of modules, which hand their names on",
    ),
    Excluded(("reference.errors",), "it says what is wrong"),
    Excluded(("reference.encoder", "reference.named", "reference.serving"), "sentence vectors, which no run measures"),
    Excluded(
        ("harness.weights.sentences", "reference.pooling", "reference.sentence_folder"),
        "only a task without training compares vectors of sentences",
        tuple(kind for kind in ALL if kind != "zero-shot"),
    ),
    Excluded(
        ("harness.worker.words",),
        "only a task without training predicts masked words",
        tuple(kind for kind in ALL if kind != "zero-shot"),
    ),
    Excluded(("harness.__main__", "harness.cli", "harness.commands"), "what a user types"),
    Excluded(("harness.weights.saved_model", "harness.weights.saved_task"), "they describe a model that was scored"),
    Excluded(("harness.predict",), "it uses saved models"),
    Excluded(("harness.choose", "harness.reproduce"), "they compare what was measured"),
    Excluded(("reference.pretraining",), "it makes weights, whose content is in the key"),
    Excluded(("harness.load", "harness.services"), "they drive services of vectors, whose records have other keys"),
    Excluded(("harness.results", "harness.report", "harness.statistics.seeds"), "what becomes of records afterwards"),
    Excluded(("harness.compare", "harness.statistics.significance"), "they compare records"),
    Excluded(
        ("harness.statistics.score", "harness.statistics.metrics", "harness.statistics.intervals"),
        "`rescore` computes metrics and flags at any time",
        (*QUALITY, "speed"),
    ),
    Excluded(
        ("harness.worker.finetune", "harness.worker.used_words", "harness.worker.heads"),
        "parity has no head",
        ("parity",),
    ),
    Excluded(
        ("harness.records.machine",), "only timing depends on the machine", (*QUALITY, "parity", "training", "selected")
    ),
    Excluded(("harness.records.provenance",), "it names versions, commit and command"),
    Excluded(
        ("harness.worker.training_steps", "harness.worker.dropout_places"),
        "only parity of training asks for it",
        (*QUALITY, "parity", "speed"),
    ),
    Excluded(("harness.measure.training",), "it follows the other measurements", tuple(set(ALL) - {"training"})),
    Excluded(
        ("harness.worker.roofline",), "only timing asks what the machine can do", (*QUALITY, "parity", "training")
    ),
    Excluded(
        ("reference.frozen", "reference.native"), "nothing trains with frozen layers", ("trained", "job", "zero-shot")
    ),
)


@cache
def excluded(kind: str | None = None) -> frozenset[Path]:
    """The files that do not determine records of this kind; None: of any kind."""
    kinds = ALL if kind is None else (kind,)
    chosen = [each for each in EXCLUDED if set(kinds) <= set(each.kinds)]
    return frozenset(file for each in chosen for module in each.modules for file in files_in(module))


def files_in(module: str) -> list[Path]:
    """The file of a module; all files of a package, except for our top packages and ``harness.implementations``."""
    found = code.files_of(module, code.ROOT)[-1:]
    inner = found and found[0].name == "__init__.py" and module not in (*code.PACKAGES, "harness.implementations")
    return sorted(found[0].parent.rglob("*.py")) if inner else found


def files_for(kind: str, *implementations: Implementation) -> set[Path]:
    """Our files that determine records of a kind, with those of these implementations."""
    return code.closure(_entries(kind, *implementations), excluded(kind))


def _entries(kind: str, *implementations: Implementation) -> list[Path]:
    return [
        *(code.files_of(module, code.ROOT)[-1] for module in ENTRIES[kind]),
        *(each.file for each in implementations),
    ]


def _code(kind: str, *implementations: Implementation) -> str:
    return code.hash_of_closure(_entries(kind, *implementations), excluded(kind))


def quality_key(run: "Run") -> str:
    """Hash of all that determines a quality run's result."""
    plan, implementation, task, how = run.plan, run.implementation, run.task, run.how
    recipe = plan.recipe(task)
    # The reference fine-tunes for those that only encode; it does not train with frozen layers.
    hashes = [_code("trained", reference()) if how == "encoded" else _code(how)]
    if recipe["select"] == "dev":
        hashes.append(_code("selected"))
    determinants = {
        "implementation": [*_identity(plan, implementation), _computes(implementation, how), how],
        "code": hashes,
        "task": [declared(task), declared(training_task(task)), data_hashes(plan, task)],
        "checkpoint": _checkpoint(plan),
        "recipe": recipe,
        "seed": run.seed,
        "precision": plan.precision,
        "compiled": _compiled(implementation, *([reference()] if how == "encoded" else [])),
        "device": plan.device.split(":")[0],
        "limit": plan.options.limit,
    }
    if how == "zero-shot" and not KINDS[task.kind].words:
        folder, files = plan.weights.folder, module_files(plan.weights)
        determinants["modules"] = {str(file.relative_to(folder)): _content(file) for file in files}
    return digest(determinants)


def parity_key(plan: Plan, implementation: Implementation, starts: bool = True) -> str:
    """Hash of all that determines a record of parity; ``starts``: whether the implementation can be started."""
    determinants = {
        "implementation": [*_identity(plan, implementation), code_of(implementation), starts],
        "code": _code("parity", reference()),
        "checkpoint": _checkpoint(plan),
        "compiled": _compiled(implementation),
        "device": plan.device.split(":")[0],
    }
    return digest(determinants)


def training_code(implementation: Implementation) -> str:
    """Hash of the code that parity of training runs: the implementation's, the reference's and ours."""
    return _code("training", reference(), implementation)


def speed_key(plan: Plan, implementations: list[Implementation], shape: dict[str, Any], doing: Any) -> str:
    """Hash of all that determines a comparison's figures on one shape, except for other work on the machine.

    ``doing`` says what is timed: a word, or a word and the recipe of the training.
    """
    determinants = {
        "implementations": [[*_identity(plan, each), code_of(each)] for each in implementations],
        "doing": doing,
        "code": _code("speed"),
        "shape": {name: shape[name] for name in ("name", "sequences", "tokens", "lengths", "sha256") if name in shape},
        "checkpoint": _checkpoint(plan),
        "precision": plan.precision,
        "compiled": _compiled(*implementations),
        "device": plan.device,
        "machine": machine.describe(),
        "threads": plan.threads,
        "bound": plan.options.bound,
    }
    return digest(determinants)


def digest(determinants: dict[str, Any]) -> str:
    """The hash of what determines a result."""
    return hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()


def _identity(plan: Plan, implementation: Implementation) -> list[Any]:
    """Name, requirements, installed versions of these, and the commit of its repository."""
    needs, checkout = implementation.requirements, plan.checkouts.get(implementation.name)
    commit = _commit(checkout) if checkout else None
    return [implementation.name, asdict(needs), _versions(needs), commit]


def _compiled(*implementations: Implementation) -> list[str] | None:
    """What of the reference's C++ is compiled here, if the reference is one of these; else None."""
    file = reference().file
    return compiled_here() if any(each.file == file for each in implementations) else None


def code_of(implementation: Implementation) -> str:
    """Hash of the code that computes: the implementation's file, and our modules that it imports."""
    return code.hash_of_closure([implementation.file], excluded())


def _computes(implementation: Implementation, how: How) -> str:
    """The same; for a run that trains, without what only makes frozen models fast."""
    return code.hash_of_closure([implementation.file], excluded("trained" if how == "trained" else None))


def data_hashes(plan: Plan, task: Task) -> dict[str, str]:
    """sha256 of the files that the run reads, by split."""
    files = {split: all_files(owner, split, plan.data) for split, owner in splits_read(task).items()}
    return {split: sha256_of_all(paths) for split, paths in files.items()}


def sha256_of_all(paths: list[Path]) -> str:
    """The sha256 of a file; of several, that of their hashes, a line each."""
    hashes = list(map(_sha256, paths))
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(f"{each}\n" for each in hashes).encode()).hexdigest()


def declared(task: Task) -> dict[str, Any]:
    """What a task declares that determines results: all but titles, places of files, and what the recipe has."""
    said = _said(task, but=("title", "suite", "dataset", "recipes", "download", "files"))
    said["labels"] = list(task.labels.items())  # their order is that of the outputs
    said["files"] = {split: _said(file, but=("path", "more")) for split, file in task.files.items()}
    return said


def _said(value: Any, but: Collection[str] = ()) -> Any:
    """A dataclass as JSON, without fields that have their default: a new field changes no key."""
    if not is_dataclass(value):
        return value
    said = {each.name: _said(getattr(value, each.name)) for each in fields(value) if each.name not in but}
    return {each.name: said[each.name] for each in fields(value) if each.name in said and not _is_default(each, value)}


def _is_default(each: "Field[Any]", value: Any) -> bool:
    default = each.default_factory() if each.default_factory is not MISSING else each.default
    return default is not MISSING and bool(getattr(value, each.name) == default)


def _checkpoint(plan: Plan) -> dict[str, Any]:
    """Weights, configuration and tokenizer: the files, and what we read from them.

    All the usual files count, not only those that we read: other implementations may read others.
    """
    configs = [plan.tokenizer_folder / name for name in ("config.json", "bert_config.json")]
    texts = [plan.tokenizer_folder / name for name in TOKENIZER_FILES]
    return {
        "weights": plan.weights.sha256,
        "config": plan.config,
        "tokenizer": plan.tokenizer.sha256,
        "files": {file.name: _content(file) for file in (*configs, *texts) if file.is_file()},
    }


@per_file
def _content(file: Path) -> str:
    """The hash of a file; for JSON, of its values."""
    text = file.read_bytes()
    if file.suffix == ".json":
        with suppress(ValueError):  # reading it will report this
            text = json.dumps(json.loads(text), sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()


@per_file
def _sha256(path: Path) -> str:
    return sha256_of(path)


@cache
def _lacking(requirements: Requirements) -> tuple[str, ...]:
    return tuple(unmet(requirements))


@cache
def installed(package: str) -> str:
    """The version of a package, or PackageNotFoundError; asked once, because a process imports it once."""
    return version(package)


@cache
def _commit(checkout: Path) -> str | None:
    """The commit of a checkout, asked once in a process, because git is slow."""
    return provenance.commit_of(checkout)


def reference() -> Implementation:
    """The implementation that all are compared with, and that fine-tunes for those that cannot be trained."""
    return describe(FOLDER / "reference.py")[0]


def _versions(requirements: Requirements) -> dict[str, str | None] | list[Any]:
    """Installed versions of the packages that compute, here or in the implementation's environment."""
    lacking = _lacking(requirements)
    own = [] if lacking else [Requirement(text).name for text in requirements.packages]
    found: dict[str, str | None] = {}
    for name in (*EVERYWHERE, *own):
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = None
    environment = find_environment(requirements) if lacking else None
    return [found, list(environment.installed)] if environment else found
