"""What determines a result, and its hash: a run with the key of one that is recorded need not be repeated.

Code counts as what it does (``harness.records.code``): of each kind of record all modules of ours that its making
imports, but those that ``EXCLUDED`` names. Data, weights, configuration and tokenizer count by their content.
"""

import hashlib
import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, NamedTuple

from packaging.requirements import Requirement

from harness.data.download import sha256_of
from harness.data.reading import task_files
from harness.data.task import Task
from harness.file_cache import per_file
from harness.measure.plan import TOKENIZER_FILES, Plan, recipe, training_task
from harness.records import code, provenance
from harness.records.compiled_here import compiled_here
from harness.registry.environments import find_environment, unmet
from harness.registry.implementations import FOLDER, Implementation, Requirements, describe

How = Literal["trained", "encoded", "job"]  # fine-tuned itself, with the reference's weights, a program of its own
EVERYWHERE = ("torch", "tokenizers")  # what fine-tunes and what cuts texts, whatever is measured
QUALITY: tuple[How, ...] = ("trained", "encoded", "job")
ALL = (*QUALITY, "selected", "parity", "speed")  # "selected": the choice of an epoch by its score
# What makes a record, and what runs in the worker; the file of each implementation is added.
ENTRIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(QUALITY, ("harness.measure.quality", "harness.worker.session")),
    "selected": ("harness.statistics.score",),
    "parity": ("harness.measure.parity", "harness.worker.session"),
    "speed": ("harness.measure.speed", "harness.measure.training_speed", "harness.worker.session"),
}


class Excluded(NamedTuple):
    """Modules (of a package all) that do not determine records, of these kinds."""

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
        ("harness.measure.bench", "harness.records.models", "harness.records.record"),
        "they look up, describe and write records",
    ),
    Excluded(
        ("harness.measure.run", "harness.measure.concurrent", "harness.measure.dry_run"),
        "they decide what is done when",
    ),
    Excluded(("harness", "harness.implementations"), "packages that hold nothing but modules and a version's number"),
    Excluded(("harness.errors", "harness.files", "harness.printable"), "they say and find, and compute nothing"),
    Excluded(
        ("harness.batch", "harness.folder", "harness.protocol", "harness.tensors"),
        "old places of modules, which hand their names on",
    ),
    Excluded(("reference.errors",), "it says what is wrong"),
    Excluded(("harness.__main__", "harness.cli", "harness.commands"), "what a user types"),
    Excluded(("harness.predict",), "it saves a model that was scored, and uses it afterwards"),
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
        ("harness.records.provenance",),
        "it describes machine, versions and command",
        (*QUALITY, "parity", "selected"),
    ),
    Excluded(("harness.worker.roofline",), "only timing asks what the machine can do", (*QUALITY, "parity")),
    Excluded(("reference.kernels", "reference.layers"), "nothing trains with frozen layers", ("trained", "job")),
)


@cache
def excluded(kind: str | None = None) -> frozenset[Path]:
    """The files that do not determine records of this kind; without one, of any."""
    kinds = ALL if kind is None else (kind,)
    chosen = [each for each in EXCLUDED if set(kinds) <= set(each.kinds)]
    return frozenset(file for each in chosen for module in each.modules for file in files_in(module))


def files_in(module: str) -> list[Path]:
    """The files of a module; of a package all that are in it, but of the outermost ones and of implementations."""
    found = code.files_of(module, code.ROOT)[-1:]
    inner = found and found[0].name == "__init__.py" and module not in (*code.PACKAGES, "harness.implementations")
    return sorted(found[0].parent.rglob("*.py")) if inner else found


def files_for(kind: str, *implementations: Implementation) -> set[Path]:
    """The code of ours that determines records of a kind, that of these implementations included."""
    return code.closure(_entries(kind, *implementations), excluded(kind))


def _entries(kind: str, *implementations: Implementation) -> list[Path]:
    return [
        *(code.files_of(module, code.ROOT)[-1] for module in ENTRIES[kind]),
        *(each.file for each in implementations),
    ]


def _code(kind: str, *implementations: Implementation) -> str:
    return code.hash_of_closure(_entries(kind, *implementations), excluded(kind))


def quality_key(plan: Plan, implementation: Implementation, task: Task, seed: int, how: How = "trained") -> str:
    """Hash of all that determines a quality run's result."""
    how_resolved = recipe(plan, task)
    # Fine-tuning is the reference's for those that only encode; it does not train with frozen layers.
    made_by = [_code("trained", reference()) if how == "encoded" else _code(how)]
    if how_resolved["select"] == "dev":
        made_by.append(_code("selected"))
    determinants = {
        "implementation": [*_identity(plan, implementation), _computes(implementation, how), how],
        "code": made_by,
        "task": [declared(task), declared(training_task(task)), data_hashes(plan, task)],
        "checkpoint": _checkpoint(plan),
        "recipe": how_resolved,
        "seed": seed,
        "precision": plan.precision,
        "compiled": _compiled(implementation, *([reference()] if how == "encoded" else [])),
        "device": plan.device.split(":")[0],
        "limit": plan.options.limit,
    }
    return _digest(determinants)


def parity_key(plan: Plan, implementation: Implementation, starts: bool = True) -> str:
    """Hash of all that determines a record of parity; ``starts``: that the implementation can be started at all."""
    determinants = {
        "implementation": [*_identity(plan, implementation), code_of(implementation), starts],
        "code": _code("parity", reference()),
        "checkpoint": _checkpoint(plan),
        "compiled": _compiled(implementation),
        "device": plan.device.split(":")[0],
    }
    return _digest(determinants)


def speed_key(plan: Plan, implementations: list[Implementation], shape: dict[str, Any], doing: Any) -> str:
    """Hash of all that determines a comparison's figures on one shape, but for what else the machine was doing.

    ``doing`` is what was timed: a word, or a word and the recipe of the training.
    """
    determinants = {
        "implementations": [[*_identity(plan, each), code_of(each)] for each in implementations],
        "doing": doing,
        "code": _code("speed"),
        "shape": {name: shape[name] for name in ("name", "sequences", "tokens", "lengths")},
        "checkpoint": _checkpoint(plan),
        "precision": plan.precision,
        "compiled": _compiled(*implementations),
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
    return [implementation.name, asdict(needs), _versions(needs), commit]


def _compiled(*implementations: Implementation) -> list[str] | None:
    """What of the reference's C++ is compiled here, where the reference is among them."""
    file = reference().file
    return compiled_here() if any(each.file == file for each in implementations) else None


def code_of(implementation: Implementation) -> str:
    """Hash of the code that computes: the implementation's file, and what of ours it imports."""
    return code.hash_of_closure([implementation.file], excluded())


def _computes(implementation: Implementation, how: How) -> str:
    """The same, of a run that trains without what only makes frozen models fast."""
    return code.hash_of_closure([implementation.file], excluded("trained" if how == "trained" else None))


def data_hashes(plan: Plan, task: Task) -> dict[str, str]:
    """sha256 of the files that the run reads, by split."""
    trainer = training_task(task)
    files = {"train": task_files(trainer, plan.data)["train"]}
    files |= {split: task_files(task, plan.data)[split] for split in task.evaluate}
    return {split: _sha256(path) for split, path in files.items()}


def declared(task: Task) -> dict[str, Any]:
    """What a task says that its result depends on: all but titles, where files are, and what the recipe holds."""
    said = _said(task, but=("title", "suite", "recipes", "download", "files"))
    said["labels"] = list(task.labels.items())  # their order is that of the outputs
    said["files"] = {split: _said(file, but=("path",)) for split, file in task.files.items()}
    return said


def _said(value: Any, but: Collection[str] = ()) -> Any:
    """A dataclass as JSON, without fields that have their default: one that is new changes no key."""
    if not is_dataclass(value):
        return value
    said = {each.name: _said(getattr(value, each.name)) for each in fields(value) if each.name not in but}
    return {each.name: said[each.name] for each in fields(value) if each.name in said and not _is_default(each, value)}


def _is_default(each: "Field[Any]", value: Any) -> bool:
    default = each.default_factory() if each.default_factory is not MISSING else each.default
    return default is not MISSING and bool(getattr(value, each.name) == default)


def _checkpoint(plan: Plan) -> dict[str, Any]:
    """Weights, configuration and tokenizer: the files that are read, and what we make of them.

    Of the files more than we read ourselves: other implementations read their own part.
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
    """The hash of a file; of JSON, of what it says."""
    text = file.read_bytes()
    if file.suffix == ".json":
        with suppress(ValueError):  # whoever reads it says so
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
    """Its version; PackageNotFoundError where it is not. Asked once in a process: it has imported what it found."""
    return version(package)


@cache
def _commit(checkout: Path) -> str | None:
    """Looked at once in a process, as git takes its time."""
    return provenance.commit_of(checkout)


def reference() -> Implementation:
    """What all are compared with, and what fine-tunes for those that cannot be trained."""
    return describe(FOLDER / "reference.py")[0]


def _versions(requirements: Requirements) -> dict[str, str | None] | list[Any]:
    """Installed versions of what computes, here or in the environment that is made for it."""
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
