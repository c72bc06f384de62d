"""Records: one JSON file for each run, written atomically the moment the run ends.

There are four kinds, because they are compared in four ways: ``Quality`` is one implementation on one task with one
seed, ``Speed`` all implementations of one comparison on one shape, ``Parity`` one implementation and checkpoint,
``Load`` the services of one comparison.
"""

import dataclasses
import gzip
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, ClassVar

from harness.errors import BadInput
from harness.files import write_json, write_whole

SCHEMA = 2
NAME = re.compile(r"\w[\w.-]*(:[\w.-]+)?")  # an implementation, with its variant
# Instructions for matrix products, the widest first: the processor's flag, and the usual name.
WIDEST = (("amx_bf16", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "Neon"))


Flag = dict[str, str | None]  # split, text


@dataclass(kw_only=True)
class Record:
    """The fields of every kind."""

    kind: ClassVar[str]

    schema: int = SCHEMA
    key: str  # hash of all that determines the result, so that a run with the same key need not be repeated
    state: str  # ok, failed, skipped
    reason: str | None = None  # why it failed or was skipped
    # name, sha256 of the weights, source, config (as asdict(BertConfig); empty: unknown), initialised: names of the
    # tensors that were drawn at random because the checkpoint lacks them
    checkpoint: dict[str, Any]
    device: str  # cpu or cuda
    precision: dict[str, str]  # of evaluation and timing: asked, resolved; computed: of the matrix products
    threads: int  # the implementation's limit
    machine: dict[str, Any]  # processor, its instructions (hidden: those that are switched off), cores, memory, GPUs
    versions: dict[str, str]  # of the packages that matter
    commit: str | None  # of BERT Atlas; ends with "+changes" if the tree was not clean
    command: str  # as typed, with names in place of folders
    started: str  # UTC, ISO 8601
    seconds: float = 0.0  # wall clock, for the whole run


@dataclass(kw_only=True)
class Quality(Record):
    """One implementation on one task with one seed."""

    kind = "quality"

    # name, version, catalog_id, code (hash), compiled: functions (name of our compiled routine, or null), compiler, and
    # reason: why there is none
    implementation: dict[str, Any]
    task: dict[str, Any]  # name, kind, title, suite, context, max_length, data: sha256 by split
    recipe: dict[str, Any]  # how the model was trained, resolved
    seed: int
    limit: int | None = None  # highest number of examples of each split; such a run is not published
    metrics: list[dict[str, Any]] = field(default_factory=list)  # split, name, value, low, high, n, baseline, signature
    # what a reader must know before trusting a score: split (null: all splits), text
    flags: list[Flag] = field(default_factory=list)
    # by split, what was repaired when its file was read: what, count, first (file and line)
    repairs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    # by split, number of: examples, those that were cut, tokens_lost in these, examples that are in_train too
    sanity: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)  # examples, seconds, loss by epoch, peak memory in bytes
    predictions: str | None = None  # file in the same folder, with [example id, prediction] pairs by split


@dataclass(kw_only=True)
class Speed(Record):
    """All implementations of one comparison on one shape, timed in turn."""

    kind = "speed"

    comparison: str  # the same for records that were timed together
    shape: dict[str, Any]  # name, sequences, tokens, longest, latency (whether it is one sequence at a time)
    # of the machine meanwhile: load average, steal, other processes, throttled (periods and seconds in which a quota of
    # CPU time was used up), noisy; quiet: the reference's time divided by its fastest ever on this machine
    load: dict[str, Any]
    # from harness.worker.roofline, measured next to the timing in the reference's precision: seconds that BERT's matrix
    # products alone take with the fastest library (by), their FLOP per second, and bytes per second when copying
    limits: dict[str, Any] = field(default_factory=dict)
    # by implementation: version, code, precision, computed (precision of its products), limits (if its precision is
    # not the reference's), compiled, batching, wall and cpu seconds (raw), sequences_per_second, tokens_per_second,
    # p50, p90, p99 (seconds), ratio to the reference with its range, peak memory in bytes, loading (seconds from the
    # start of the process); of texts of the user the agreement of their vectors with the reference's: texts, least and
    # mean cosine, same_neighbour (share of texts whose most similar text is the same); if the head in the weights was
    # asked for, also same_answer (share of texts with the labels of the exact model) and head_seconds
    implementations: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Parity(Record):
    """How exactly one implementation computes BERT, against the reference in float64."""

    kind = "parity"

    implementation: dict[str, Any]  # name, version, catalog_id, code (hash), checkout, environment
    verdict: str = ""  # exact, close, differs
    floor: float = 0.0  # largest difference of the reference in float32 from itself in float64: rounding alone
    # by precision: largest and mean absolute difference and lowest cosine of hidden states; of layers and pooled output
    differences: dict[str, dict[str, Any]] = field(default_factory=dict)
    # unless exact: whether known deviations reproduce the differences, which, the effect of each, and a sentence
    diagnosis: dict[str, Any] = field(default_factory=dict)
    # if it has a tokenizer: number of hard strings, number of those that it tokenizes as ours does, and the others
    tokenizer: dict[str, Any] = field(default_factory=dict)
    # if `parity --training` measured it: state, reason, code (hash), seconds; dropout: places (count and probability of
    # each), sentence (how they are not BERT's; empty if they are); gradients: verdict, floor, differences by precision,
    # weights (the largest difference of each), lacking (weights it does not train), dropout (whether training applies
    # it although it is set to 0), diagnosis; weights, after `steps` steps: verdict, optimizer (own or harness),
    # precision, differences, diagnosis
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Load(Record):
    """Services of sentence vectors, driven in turn by the same clients with the same texts."""

    kind = "load"

    # by service: state, reason, version, catalog_id, cold_seconds (from start to the first answer), memory_at_start and
    # memory (highest seen, bytes), parity (texts, least_cosine with ours), closed: for each number of clients and texts
    # a request the medians over the turns of texts_per_second, p50, p90, p99 (seconds) and cpu_seconds_per_1000_texts,
    # ratio of rates to ours in the same rounds, and turns; server: the highest rate (harness.measure.scenarios)
    services: dict[str, dict[str, Any]]
    texts: dict[str, Any]  # tasks, number, tokens (percentiles of their lengths)
    rounds: int
    turn_seconds: float
    bound: float | None  # of the 99th percentile in server, in seconds
    load: dict[str, Any]  # of the machine meanwhile, as in ``Speed``


KINDS: dict[str, type[Record]] = {cls.kind: cls for cls in (Quality, Speed, Parity, Load)}
OTHERS = ("index.json", "report.json")  # JSON files that are derived from records, in the same folders
UNKNOWN = "unknown"  # a field of a migrated record that its schema did not have
# The parts that readers rely on, in fields with several parts: of all kinds (""), and of each.
FIELDS: dict[str, dict[str, Any]] = {
    "": {
        "key": str,
        "state": str,
        "device": str,
        "started": str,
        "checkpoint": {"name": str, "sha256": str, "config": {}, "initialised": [str]},
        "precision": {"resolved": str, "computed": str},
        "machine": {"cpu": str, "hidden": [str]},
        "versions": {},
    },
    "quality": {
        "implementation": {"name": str},
        "task": {"name": str, "kind": str, "suite": str, "context": str, "data": {}},
        "recipe": {},
        "seed": int,
        "metrics": [
            dict.fromkeys(("split", "name", "signature"), str)
            | dict.fromkeys(("value", "low", "high", "baseline"), int | float)
            | {"n": int}
        ],
        "flags": [{"split": str | None, "text": str}],
    },
    "speed": {
        "comparison": str,
        "shape": {"name": str, "sequences": int, "tokens": int, "latency": bool, "own_lengths": bool},
        "load": {},
        "implementations": {},
    },
    "parity": {"implementation": {"name": str}, "differences": {}},
    "load": {"services": {}, "texts": {"tasks": [str], "number": int}, "load": {}},
}


def flag(text: str, split: str | None = None) -> Flag:
    """A flag about one split, or about all."""
    return {"split": split, "text": text}


def flag_text(flag: Flag) -> str:
    """A flag as text, such as ``dev: the interval reaches down to the baseline``."""
    return f"{flag['split']}: {flag['text']}" if flag["split"] else str(flag["text"])


def hardware(record: Record) -> str:
    """The hardware that computed: the GPU; or the processor, its widest instructions and the number of cores."""
    return hardware_of(record.machine, record.device, record.threads)


def hardware_of(machine: dict[str, Any], device: str, threads: int) -> str:
    """The same, for the values of a record's fields."""
    gpus = machine.get("gpus") or []
    if device.startswith("cuda") and gpus:
        return str(gpus[0]["name"])
    flags = machine.get("flags") or []
    widest = next((f" with {name}" for flag, name in WIDEST if flag in flags), "")
    return f"{machine['cpu']}{widest}, {threads} cores"


def rates(shape: dict[str, Any], figures: dict[str, Any]) -> tuple[float, float, float]:
    """Sequences per second of an implementation in a timing: of all rounds, of the slowest, of the fastest."""
    turns = turn_seconds(shape, figures)
    return figures["sequences_per_second"], shape["sequences"] / max(turns), shape["sequences"] / min(turns)


def turn_seconds(shape: dict[str, Any], figures: dict[str, Any]) -> list[float]:
    """Seconds of a pass, by turn: those that the record's rate and ratio are computed from.

    This is the mean of a turn. In records of schema 1 it is the median, so that published figures stay as they are.
    """
    by_median = math.isclose(figures["sequences_per_second"], shape["sequences"] / figures["p50"], rel_tol=1e-9)
    return [median(turn) if by_median else fmean(turn) for turn in figures["wall"]]


def write(record: Record, path: Path) -> None:
    """Write the record atomically. Failure, with advice, if it cannot be written."""
    write_json({"kind": record.kind, **dataclasses.asdict(record)}, path)


def write_predictions(path: Path, predictions: dict[str, list[Any]]) -> None:
    """Write predictions by split, compressed; equal predictions always give equal bytes."""
    write_whole(path, gzip.compress(json.dumps(predictions, ensure_ascii=False).encode(), mtime=0))


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """Read the file that ``write_predictions`` wrote."""
    try:
        predictions: dict[str, list[Any]] = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise BadInput(f"{path}: not a file of predictions: {error}") from error
    expected = dict.fromkeys(predictions, list) if isinstance(predictions, dict) else {}
    if wrong := next(_wrong(predictions, expected), None):
        raise BadInput(f"{path}: not a file of predictions: {wrong}")
    return predictions


def predictions_of(path: Path, record: Quality, *splits: str) -> dict[str, list[Any]]:
    """The predictions of a record, from the same folder. BadInput without them, or without one of these splits."""
    file = path.parent / (record.predictions or "")
    if not file.is_file():
        name = record.predictions
        what = f"its predictions, {name}, are not beside it" if name else "it has no predictions"
        raise BadInput(f"{path}: {what}; copy both, or run it again")
    stored = read_predictions(file)
    for split in splits:
        if not stored.get(split):
            known = ", ".join(stored) or "none"
            raise BadInput(f"{path}: no predictions of the split {split}, only of {known}; run it again with --splits")
    return stored


def read(path: Path) -> Record:
    """Read a record. BadInput, with file and field, if it is not valid."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number that a record may hold")

    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a record: {error}; delete it, and its run is measured again") from error
    kind = values.pop("kind", None) if isinstance(values, dict) else None
    if kind not in list(KINDS):  # a list, because the value may not be hashable
        raise BadInput(f"{path}: not a record: its kind is {kind!r}, none of {', '.join(KINDS)}")
    cls = KINDS[kind]
    values = _migrated(path, values)
    known = {each.name: each for each in dataclasses.fields(cls)}
    unknown = sorted(values.keys() - known.keys())
    missing = sorted(
        name
        for name, each in known.items()
        if name not in values and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    )
    if unknown:
        raise BadInput(f"{path}: unknown fields {', '.join(unknown)}")
    if missing:
        raise BadInput(f"{path}: missing fields {', '.join(missing)}")
    if not all(math.isfinite(number) for number in _numbers(values)):
        raise BadInput(f"{path}: a number that is not finite")
    expected = {name: what for name, what in (FIELDS[""] | FIELDS[kind]).items() if name in values}
    if isinstance(timed := values.get("implementations"), dict):
        expected["implementations"] = {name: {"state": str} for name in timed}
    if isinstance(repairs := values.get("repairs"), dict):
        expected["repairs"] = {split: [{"what": str, "count": int, "first": str}] for split in repairs}
    if wrong := next(_wrong(values, expected), None):
        raise BadInput(f"{path}: {wrong}")
    _check_names(path, values)
    return cls(**values)


def _check_names(path: Path, values: dict[str, Any]) -> None:
    """BadInput for a name that becomes part of a path and could lead out of its folder."""
    name, predictions = (values.get("implementation") or {}).get("name"), values.get("predictions")
    if name is not None and not NAME.fullmatch(name):
        raise BadInput(f"{path}: no implementation is called {name!r}")
    if predictions is not None and (not isinstance(predictions, str) or Path(predictions).name != predictions):
        raise BadInput(f"{path}: its predictions are not the name of a file beside it: {predictions!r}")


def _migrated(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The record in the current schema."""
    schema = values.get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise BadInput(f"{path}: schema {schema} is of a newer BERT Atlas than this, which reads {SCHEMA}; update it")
    while type(schema) is not int or schema < SCHEMA:
        if type(schema) is not int or schema not in MIGRATIONS:
            raise BadInput(f"{path}: schema {schema}; this version of BERT Atlas reads schema {SCHEMA}")
        try:
            values = MIGRATIONS[schema](values) | {"schema": schema + 1}
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise BadInput(f"{path}: not a record of schema {schema}: it lacks or misuses {error}") from error
        schema += 1
    return values


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 added what computed, the configuration, random tensors, and the split that a flag is about."""
    values = values | {
        "checkpoint": values["checkpoint"] | {"config": {}, "initialised": []},
        "precision": values["precision"] | {"computed": UNKNOWN},
        "machine": values["machine"] | {"hidden": []},
    }
    compiled = {"compiled": {"functions": None, "compiler": None, "reason": UNKNOWN}}
    if "implementation" in values:
        values["implementation"] = values["implementation"] | compiled
    if "implementations" in values:
        timed = values["implementations"].items()
        values["implementations"] = {
            name: (figures | compiled if figures["state"] == "ok" else figures) for name, figures in timed
        }
    if "load" in values:
        values["load"] = values["load"] | {"throttled": {"periods": UNKNOWN, "seconds": UNKNOWN}}
    if "flags" in values:
        splits = {*values["task"]["data"], *values.get("sanity", {}), *(m["split"] for m in values["metrics"])}
        values["flags"] = [_flag_from_1(text, splits) for text in values["flags"]]
    return values


def _flag_from_1(text: str, splits: set[str]) -> Flag:
    split, colon, rest = text.partition(": ")
    return flag(rest, split) if colon and split in splits else flag(text)


# Migrations by old schema: each turns a record's fields into those of the next schema.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def _wrong(value: Any, expected: Any, place: str = "") -> Iterator[str]:
    """Where a value does not match ``expected``: a type, an object's required fields, or a list's type of items."""
    if isinstance(expected, dict):
        if not isinstance(value, dict):
            yield f"{place or 'it'} is not an object"
            return
        for name, inner in expected.items():
            if name not in value:
                yield f"{place}{'.' if place else ''}{name} is missing"
            else:
                yield from _wrong(value[name], inner, f"{place}{'.' if place else ''}{name}")
    elif isinstance(expected, list):
        if not isinstance(value, list):
            yield f"{place} is not a list"
            return
        for number, item in enumerate(value):
            yield from _wrong(item, expected[0], f"{place}[{number}]")
    elif not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        yield f"{place} is {value!r}, of another type than a record has there"


def _numbers(value: Any) -> list[float]:
    """All floats anywhere in a JSON value."""
    if isinstance(value, float):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for child in children for number in _numbers(child)]


def files(path: Path) -> list[Path]:
    """The record at this path, or all in this folder, by name. BadInput if the path does not exist.

    Other JSON files in the folder are skipped, such as those of ``compare`` or of a model.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist; name a folder of records or a record, such as runs/")
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*.json") if each.name not in OTHERS and _holds_record(each))


def _holds_record(path: Path) -> bool:
    """Whether the file is a record, or is damaged and may have been one: reading it will report that."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return path.is_file()
    return isinstance(values, dict) and values.keys() >= {"kind", "schema"}


def read_all(folders: list[Path]) -> list[Record]:
    """All records of implementations in these folders (or files), in order of file name, without duplicates.

    Those of services are not among them: no table has both.
    """
    found: dict[tuple[str, str, str], Record] = {}
    for folder in folders:
        for path in files(folder):
            each = read(path)
            if isinstance(each, Load):
                continue
            found.setdefault((each.key, each.started, path.name), each)
    return list(found.values())
