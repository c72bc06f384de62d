"""Tasks: what an implementation is asked to do, declared in YAML.

The built-in tasks are in ``harness/tasks/``; a person's own task is a file of the same form. This module loads and
checks declarations; ``harness.data.read`` reads the examples. The checks are plain functions instead of a pydantic
model: most of them depend on the kind of task, and they must say what to do in terms of YAML (quotes, columns, splits).
``harness.data.schema`` derives the JSON schema for editors from the same types and kinds.
"""

import difflib
import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from harness.data.kinds import KINDS, Kind
from harness.data.read import training_labels
from harness.data.reading import Context, Format, LabelForm, Reading, Scheme, Separator, SplitFile, Tags, Windows
from harness.data.yaml_file import changed, read_yaml
from harness.errors import BadInput
from harness.files import expanded

FOLDER = Path(__file__).resolve().parents[1] / "tasks"
NAME = r"[A-Za-z0-9_-]+"
SPLIT = r"train|(dev|test)(_\w+)?"
N = TypeVar("N", int, float)

# Where a task does not say otherwise: for base and large, learning rates that the BERT paper searched over;
# for small models, which it does not treat, a higher one.
EPOCHS = {"small": 3, "base": 3, "large": 3}
LEARNING_RATE = {"small": 1e-4, "base": 3e-5, "large": 2e-5}
BATCH_SIZE = 32
MAX_LENGTH = 128


@dataclass(frozen=True)
class Recipe:
    """How a model of one size is fine-tuned on a task."""

    epochs: int  # passes over the training split
    learning_rate: float  # its peak
    batch_size: int  # examples, or sentences, of one step


@dataclass(frozen=True, kw_only=True)
class Task(Reading):
    """One task, as its YAML file declares it: how it is read, trained and scored."""

    title: str  # as a person would write it
    suite: str  # the group it belongs to
    dataset: str | None = None  # the id of its data set's entry in the catalog
    positive: str | None  # the label that counts as positive in f1
    evaluate: tuple[str, ...]  # the splits that are scored
    metrics: tuple[str, ...]  # the first is the main one
    recipes: dict[str, Recipe]  # by size: small, base, large
    train_task: str | None  # the task whose fine-tuned model is scored, where this one has no training data

    @property
    def outputs(self) -> tuple[str, ...]:
        """The meaning of each output of the head, in order: labels, IOB2 tags, or the one score."""
        return KINDS[self.kind].outputs(self.labels)

    def recipe(self, hidden_size: int) -> Recipe:
        """The recipe for a model of this hidden size: small below 512, large from 1024."""
        return self.recipes["small" if hidden_size < 512 else "base" if hidden_size < 1024 else "large"]


# The fields of a task file: those of Task, and three from which some of these are made.
FIELDS = [each.name for each in fields(Task) if each.name not in ("recipes", "auto_labels")] + [
    "header",
    "columns",
    "recipe",
]


def task_names() -> list[str]:
    """The built-in tasks."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def suites() -> dict[str, list[str]]:
    """The built-in tasks by suite."""
    found: dict[str, list[str]] = {}
    for name in task_names():
        found.setdefault(load_task(name).suite, []).append(name)
    return found


def load_task(name_or_path: str, context: Context | None = None) -> Task:
    """A built-in task by its name, or one's own by the path of its ``.yaml`` file.

    ``context`` replaces that of a tagging task. Paths in one's own file are relative to that file's folder; those of
    built-in tasks to the data folder, unless they begin with ``./``. BadInput names the file and the field, and says
    what would be right.
    """
    own = name_or_path.endswith((".yaml", ".yml"))
    if not own and name_or_path not in task_names():
        known = task_names()
        raise BadInput(
            f"no task is called {name_or_path!r}{_nearest(name_or_path, known)} "
            f"(built in: {', '.join(known)}; a task of your own is named by its .yaml file)"
        )
    file = expanded(name_or_path) if own else FOLDER / f"{name_or_path}.yaml"
    declared = _read_task(file)
    if context is not None:
        declared["context"] = context
    try:
        return _parse(declared, file.resolve())
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None


def _read_task(file: Path) -> dict[str, Any]:
    declared = read_yaml(file, "task file")
    if not isinstance(declared, dict):
        raise BadInput(f"{file}: a task file is a mapping of fields such as `name: rte`")
    for field in ("labels", "ignore", "positive", "columns", "max_length", "recipe"):
        for line, written, read in changed(file, field):
            if not _as_meant(field, written, read):
                raise BadInput(f"{file}:{line}: {field}: {_misread(written, read)}")
    return declared


def _as_meant(field: str, written: str, read: Any) -> bool:
    """Whether YAML's reading is intended: null in ``ignore``, and numbers, unless octal, where numbers belong."""
    if field in ("max_length", "recipe"):
        return not isinstance(read, int) or "_" in written
    return field == "ignore" and written == "null"


def _misread(written: str, read: Any) -> str:
    """The message about a value that YAML reads as something else."""
    if written == "":
        return 'a value is missing; the empty text is ""'
    kinds = {bool: "a boolean", int: f"the number {read}", float: f"the number {read}", type(None): "null"}
    what = kinds.get(type(read), "a number to some programs" if isinstance(read, str) else "a date")
    return f'to YAML, {written} is {what}; put it in quotes: "{written}"'


def _parse(declared: dict[str, Any], file: Path) -> Task:
    _check_keys(declared, "", FIELDS)
    kind = KINDS[_choice(declared, "kind", KINDS)]
    _check_fields_of_kind(declared, kind)
    auto = declared.get("labels") == "auto"
    labels = {} if auto else _labels(declared.get("labels"), kind)
    metrics = _choices(declared, "metrics", kind.metrics, f"metrics of a {kind.name} task")
    files = _files(declared, kind, file.parent)
    scored = [split for split in files if split != "train"]
    task = Task(
        name=_name(declared, file),
        title=_text(declared, "title"),
        suite=_text(declared, "suite", "own"),
        dataset=_text(declared, "dataset") if "dataset" in declared else None,
        kind=kind.name,
        labels=labels,
        positive=None,
        files=files,
        format=_format(declared, kind),
        encoding=_encoding(declared),
        label_separator=_text(declared, "label_separator", ","),
        separator=_choice(declared, "separator", get_args(Separator), "whitespace"),
        scheme=_choice(declared, "scheme", get_args(Scheme), "iob2"),
        context=_choice(declared, "context", get_args(Context), "sentence"),
        evaluate=_choices(declared, "evaluate", scored, "splits in files"),
        metrics=metrics,
        max_length=_integer(declared.get("max_length", MAX_LENGTH), "max_length"),
        recipes=_recipes(declared.get("recipe", {})),
        train_task=_text(declared, "train_task") if "train_task" in declared else None,
        download=_text(declared, "download") if "download" in declared else None,
        tags=_choice(declared, "tags", get_args(Tags), "repair"),
        ignore=_ignore(declared.get("ignore", []), labels),
        label=_choice(declared, "label", get_args(LabelForm), "names"),
        windows=_choice(declared, "windows", get_args(Windows), "google"),
        doc_stride=_integer(declared.get("doc_stride", Reading.doc_stride), "doc_stride"),
        max_query_length=_integer(declared.get("max_query_length", Reading.max_query_length), "max_query_length"),
        max_answer_length=_integer(declared.get("max_answer_length", Reading.max_answer_length), "max_answer_length"),
        unanswerable=_flag(declared, "unanswerable", False),
        null_threshold=_number(declared.get("null_threshold", 0.0), "null_threshold"),
    )
    if auto:
        task = replace(task, labels=_training_labels(task, kind), auto_labels=True)
    task = replace(task, positive=_positive(declared, task.labels, metrics))
    _check_training(task)
    return task


def _check_fields_of_kind(declared: dict[str, Any], kind: Kind) -> None:
    for field in declared:
        having = [each.name for each in KINDS.values() if field in each.fields]
        if having and kind.name not in having:
            if len(having) > 1:
                raise BadInput(f"{field}: a task of kind {kind.name} has no such field")
            raise BadInput(f"{field}: only a task of kind {having[0]} has it, and this one is of kind {kind.name}")


def _training_labels(task: Task, kind: Kind) -> dict[str, str]:
    """The labels of the training split, for `labels: auto`."""
    if kind.why_no_labels:
        raise BadInput(_no_labels(kind))
    if "train" not in task.files or task.label == "multi-hot":
        what = "there is no train split" if "train" not in task.files else "a multi-hot label column does not name them"
        raise BadInput(f"labels: auto takes them from the training split, and {what}; name them")
    return _labels(training_labels(task), kind)


def _no_labels(kind: Kind) -> str:
    return f"labels: a {kind.name} task has none, {kind.why_no_labels}"


def _check_training(task: Task) -> None:
    """There is something to train on: a split of this task, or another task with the very same outputs."""
    if not KINDS[task.kind].trained:
        if "train" in task.files or task.train_task is not None:
            raise BadInput(f"files: a task of kind {task.kind} is not trained; give no train split and no train_task")
        return
    if ("train" in task.files) == (task.train_task is not None):
        raise BadInput("files: give a train split, or else the train_task whose model is scored")
    if task.train_task is None:
        return
    known = task_names()
    if task.train_task not in known:
        raise BadInput(f"train_task: {task.train_task!r} is not built in{_nearest(task.train_task, known)}")
    trained = load_task(task.train_task)
    if (trained.kind, trained.outputs) != (task.kind, task.outputs):
        raise BadInput(f"labels: not those of {trained.name}, in their order: {', '.join(trained.outputs)}")


def _name(declared: dict[str, Any], file: Path) -> str:
    name = _text(declared, "name")
    if not re.fullmatch(NAME, name):
        raise BadInput(f"name: {name!r} may have only letters, digits, - and _")
    if file.parent != FOLDER and name in task_names():
        raise BadInput(f"name: {name} is a built-in task; choose another name")
    return name


def _format(declared: dict[str, Any], kind: Kind) -> Format:
    chosen: Format = _choice(declared, "format", get_args(Format))
    if chosen not in kind.formats:
        raise BadInput(f"format: {chosen} does not go with kind {kind.name}, but {' or '.join(kind.formats)}")
    return chosen


def _encoding(declared: dict[str, Any]) -> str:
    encoding = _text(declared, "encoding", "utf-8")
    try:
        "".encode(encoding)
    except LookupError:
        raise BadInput(f"encoding: Python knows no {encoding!r}; most files are utf-8") from None
    return encoding


def _labels(declared: Any, kind: Kind) -> dict[str, str]:
    if kind.why_no_labels:
        if declared is not None:
            raise BadInput(_no_labels(kind))
        return {}
    if not isinstance(declared, dict | list) or not declared:
        raise BadInput("labels: say which there are: a list of names, or `value in the file: name`; or auto")
    pairs = list(declared.items()) if isinstance(declared, dict) else [(each, each) for each in declared]
    for each in (each for pair in pairs for each in pair):
        if isinstance(each, bool) or not isinstance(each, str | int):
            raise BadInput(f"labels: {each!r} is not text; put it in quotes (to YAML, yes is a boolean)")
    labels = {str(value): str(name) for value, name in pairs}
    if len(labels) < len(pairs):
        raise BadInput("labels: the same value is given twice")
    if len(set(labels.values())) < kind.least_labels:
        raise BadInput(f"labels: a {kind.name} task needs two or more")
    return labels


def _ignore(declared: Any, labels: dict[str, str]) -> tuple[str | None, ...]:
    if not isinstance(declared, list):
        raise BadInput(f'ignore: a list of values in the label column, such as ["-"], not {declared!r}')
    for value in declared:
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise BadInput(f"ignore: {value!r} is not text; put it in quotes (null is that of JSON)")
    values = tuple(None if value is None else str(value) for value in declared)
    if both := [value for value in values if value in labels]:
        raise BadInput(f"ignore: {both[0]!r} is one of the labels")
    return values


def _positive(declared: dict[str, Any], labels: dict[str, str], metrics: tuple[str, ...]) -> str | None:
    if "positive" not in declared:
        if "f1" in metrics:
            raise BadInput("positive: say which label counts as positive in f1")
        return None
    names = list(dict.fromkeys(labels.values()))
    if len(names) != 2:
        raise BadInput("positive: only where there are two labels; macro_f1 is for more")
    return str(_choice(declared, "positive", names))


def _files(declared: dict[str, Any], kind: Kind, folder: Path) -> dict[str, SplitFile]:
    entries = declared.get("files")
    if not isinstance(entries, dict) or not entries:
        raise BadInput("files: name the file of each split, such as {train: train.tsv, dev: dev.tsv}")
    files = {}
    for split, entry in entries.items():
        if not re.fullmatch(SPLIT, str(split)):
            raise BadInput(f"files: {split!r} is no split; they are train, dev, test, or such as dev_matched")
        field = f"files.{split}"
        own = {"path": entry} if isinstance(entry, str | list) else entry
        _check_keys(own, field, ["path", "header", "columns"])
        path, *more = _paths(own, split, kind, folder)
        header = _flag(own, "header", _flag(declared, "header", True))
        columns = _columns(own.get("columns", declared.get("columns")), declared, kind, header)
        if not split.startswith("test") and kind.answer not in columns:
            raise BadInput(f"columns: {kind.answer}: split {split} needs it")
        files[split] = SplitFile(path, header, columns, tuple(more))
    if len({"pair" in file.columns for file in files.values()}) > 1:
        raise BadInput("columns: pair: all splits have it, or none")
    return files


def _paths(own: dict[str, Any], split: str, kind: Kind, folder: Path) -> list[Path]:
    """The files of a split. Questions for training and minimal pairs may be in several: each file is read alone."""
    said = own.get("path")
    if isinstance(said, list):
        if not kind.several_files or (kind.trained and split != "train"):
            raise BadInput(
                f"files.{split}: one file, not a list; only the train split of questions, and minimal pairs, may have "
                "several"
            )
        if not said or len({*map(str, said)}) < len(said):
            raise BadInput(f"files.{split}: a list of files, each once, not {said!r}")
    paths = [_text({"path": each}, "path") for each in (said if isinstance(said, list) else [said])]
    return [folder / each if folder != FOLDER or each.startswith("./") else Path(each) for each in paths]


def _columns(columns: Any, declared: dict[str, Any], kind: Kind, header: bool) -> dict[str, str | int]:
    if kind.fixed and columns is not None:
        raise BadInput(f"columns: a task of kind {kind.name} names none; its format says where everything is")
    if columns is None:
        columns = kind.usual_columns
    if columns is None:
        raise BadInput("columns: say which are text and label, such as {text: sentence, label: label}")
    _check_keys(columns, "columns", kind.columns)
    if kind.text not in columns:
        raise BadInput(f"columns: {kind.text}: missing")
    if kind.pairs and "pair" not in columns:
        raise BadInput(f"columns: pair: missing; a task of kind {kind.name} compares two texts")
    numbered = kind.numbered or (declared.get("format") in ("tsv", "csv") and not header)
    for role, column in columns.items():
        if isinstance(column, bool) or not isinstance(column, int if numbered else str):
            what = "a 0-based number (there is no header)" if numbered else "a column's name, in quotes"
            raise BadInput(f"columns: {role}: {column!r} should be {what}")
        if isinstance(column, int) and column < 0 and not kind.numbered:
            raise BadInput(f"columns: {role}: columns are numbered from 0, not {column}")
    if len(set(columns.values())) < len(columns):
        raise BadInput("columns: two of them are the same column")
    return dict(columns)


def _recipes(declared: Any) -> dict[str, Recipe]:
    _check_keys(declared, "recipe", list(Recipe.__annotations__))
    epochs = _by_size(declared.get("epochs"), "recipe.epochs", EPOCHS, _integer)
    rates = _by_size(declared.get("learning_rate"), "recipe.learning_rate", LEARNING_RATE, _positive_number)
    batch_size = _integer(declared.get("batch_size", BATCH_SIZE), "recipe.batch_size")
    return {size: Recipe(epochs[size], rates[size], batch_size) for size in EPOCHS}


def _by_size(declared: Any, field: str, default: dict[str, N], number: Callable[[Any, str], N]) -> dict[str, N]:
    """One number for all sizes, or one for each; the default for a size left out."""
    if declared is None:
        return default
    if not isinstance(declared, dict):
        return dict.fromkeys(default, number(declared, field))
    _check_keys(declared, field, list(default))
    return default | {size: number(value, f"{field}.{size}") for size, value in declared.items()}


def _integer(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BadInput(f"{field}: a whole number from 1 on, not {value!r}")
    return value


def _positive_number(value: Any, field: str) -> float:
    try:
        number = float(value)  # YAML reads 1e-4, without a dot, as text
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise BadInput(f"{field}: a positive number such as 3.0e-5, not {value!r}")
    return number


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadInput(f"{field}: a number such as -1.5, not {value!r}")
    return float(value)


def _flag(declared: dict[str, Any], field: str, default: bool) -> bool:
    value = declared.get(field, default)
    if not isinstance(value, bool):
        raise BadInput(f"{field}: true or false, not {value!r}")
    return value


def _text(declared: dict[str, Any], field: str, default: str | None = None) -> str:
    value = declared.get(field, default)
    if not isinstance(value, str) or not value:
        raise BadInput(f"{field}: missing" if value is None else f"{field}: should be text, not {value!r}")
    return value


def _choice(declared: dict[str, Any], field: str, allowed: Collection[str], default: str | None = None) -> Any:
    value = _text(declared, field, default)
    if value not in allowed:
        raise BadInput(f"{field}: {value!r} is none of {', '.join(allowed)}{_nearest(value, allowed)}")
    return value


def _choices(declared: dict[str, Any], field: str, allowed: Collection[str], what: str) -> tuple[str, ...]:
    values = declared.get(field)
    if not isinstance(values, list) or not values or len(set(map(str, values))) < len(values):
        raise BadInput(f"{field}: a list such as [{', '.join(list(allowed)[:2])}], each once, not {values!r}")
    for value in values:
        if value not in allowed:
            names = ", ".join(allowed)
            raise BadInput(f"{field}: {value!r} is none of the {what}: {names}{_nearest(value, allowed)}")
    return tuple(values)


def _check_keys(declared: Any, field: str, allowed: Collection[str]) -> None:
    prefix = f"{field}: " if field else ""
    if not isinstance(declared, dict):
        raise BadInput(f"{prefix}should be a mapping of {', '.join(allowed)}, not {declared!r}")
    for key in declared:
        if key not in allowed:
            raise BadInput(f"{prefix}unknown field {key!r}{_nearest(key, allowed)}")


def _nearest(value: Any, allowed: Collection[str]) -> str:
    near = difflib.get_close_matches(str(value), allowed, n=1)
    return f"; did you mean {near[0]}?" if near else ""
