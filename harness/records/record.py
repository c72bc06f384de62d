"""What a run leaves behind: one JSON file, written whole the moment the run ends.

Three kinds, because they are compared in three ways: ``Quality`` is one implementation on one task with one
seed, ``Speed`` all implementations of one comparison on one shape, ``Parity`` one implementation and checkpoint.
"""

import dataclasses
import glob
import gzip
import json
import math
import os
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any, ClassVar

from filelock import FileLock, Timeout

from harness.errors import BadInput, Failure

SCHEMA = 2
NAME = re.compile(r"\w[\w.-]*(:[\w.-]+)?")  # of an implementation, and its variant
# What a processor multiplies by, the widest first, as its flags and as readers call it.
WIDEST = (("amx_bf16", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "Neon"))


Flag = dict[str, str | None]  # split, text


@dataclass(kw_only=True)
class Record:
    """What every kind says."""

    kind: ClassVar[str]

    schema: int = SCHEMA
    key: str  # hash of all that determines the result; a run with the same key need not be repeated
    state: str  # ok, failed, skipped
    reason: str | None = None  # why it failed or was skipped
    # name, sha256 of the weights, source, config (as asdict(BertConfig); empty: unknown), initialised: names of the
    # tensors that were drawn at random because the checkpoint lacks them
    checkpoint: dict[str, Any]
    device: str  # cpu or cuda
    precision: dict[str, str]  # asked, resolved: of evaluation and timing; computed: that of the products
    threads: int  # that an implementation may use
    machine: dict[str, Any]  # processor and its abilities (hidden: those that were switched off), cores, memory, GPUs
    versions: dict[str, str]  # of the packages that matter
    commit: str | None  # of BERT Atlas; "+changes" where the tree was not clean
    command: str  # as typed, with folders replaced by names
    started: str  # UTC, ISO 8601
    seconds: float = 0.0  # wall clock, for the whole run


@dataclass(kw_only=True)
class Quality(Record):
    """One implementation on one task, from one seed."""

    kind = "quality"

    # name, version, catalog_id, code (hash), compiled: functions (name of our compiled routine, or null), compiler, and
    # reason: why there is none
    implementation: dict[str, Any]
    task: dict[str, Any]  # name, kind, title, suite, context, max_length, data: sha256 by split
    recipe: dict[str, Any]  # resolved: what training did
    seed: int
    limit: int | None = None  # only so many training and evaluation examples; such a run is not published
    metrics: list[dict[str, Any]] = field(default_factory=list)  # split, name, value, low, high, n, baseline, signature
    # what a reader must know before believing the number: split (null: all of them), text
    flags: list[Flag] = field(default_factory=list)
    # by split, how its file was mended when it was read: what, count, first (file and line)
    repairs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    # by split: examples, how many were cut (and tokens_lost by them), how many stand in_train too
    sanity: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)  # examples, seconds, loss by epoch, peak memory in bytes
    predictions: str | None = None  # file beside this one: for each split [example id, prediction] pairs


@dataclass(kw_only=True)
class Speed(Record):
    """All implementations of one comparison on one shape, timed in turn."""

    kind = "speed"

    comparison: str  # shared by the records that were timed together
    shape: dict[str, Any]  # name, sequences, tokens, longest, whether it is latency
    # of the machine meanwhile: load average, steal, other processes, throttled (periods and seconds in which a quota of
    # CPU time was used up), noisy; quiet: the reference's time over the fastest that it was ever seen to take here
    load: dict[str, Any]
    # by harness.worker.roofline, next to the timing, in what the reference computes in (precision): seconds that
    # BERT's matrix products alone would take by the fastest library (by), FLOP a second in them, bytes a second in
    # copying
    limits: dict[str, Any] = field(default_factory=dict)
    # by implementation: version, code, precision, computed (that of its products), limits (where it is not that of the
    # reference), compiled, batching, wall and cpu seconds (raw), sequences_per_second,
    # tokens_per_second, p50, p90, p99 (seconds), ratio to the reference with its range, peak memory in bytes
    implementations: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(kw_only=True)
class Parity(Record):
    """How exactly one implementation computes BERT, against the reference in float64."""

    kind = "parity"

    implementation: dict[str, Any]  # name, version, catalog_id, code (hash), checkout, environment
    verdict: str = ""  # exact, close, differs
    floor: float = 0.0  # largest difference of the reference in float32 to itself in float64: rounding alone
    # by precision: largest and mean absolute difference of hidden states, lowest cosine, of pooled output
    differences: dict[str, dict[str, Any]] = field(default_factory=dict)
    # of one that is not exact: whether known deviations reproduce it, which, what each costs, and a sentence
    diagnosis: dict[str, Any] = field(default_factory=dict)
    # of one that ships a tokenizer: how many hard strings it was given, how many it cut as ours does, which not
    tokenizer: dict[str, Any] = field(default_factory=dict)


KINDS: dict[str, type[Record]] = {cls.kind: cls for cls in (Quality, Speed, Parity)}
OTHERS = ("index.json", "report.json")  # JSON that lies among records, and is made of them
UNKNOWN = "unknown"  # in a migrated record: its schema did not have the field
# What readers rely on, in fields that hold more than one thing: of every kind, and of each.
HELD: dict[str, dict[str, Any]] = {
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
}


def flag(text: str, split: str | None = None) -> Flag:
    """What a reader must know of the scores of one split, or of all."""
    return {"split": split, "text": text}


def flag_text(flag: Flag) -> str:
    """As it is shown: ``dev: the interval reaches down to the baseline``."""
    return f"{flag['split']}: {flag['text']}" if flag["split"] else str(flag["text"])


def hardware(record: Record) -> str:
    """What computed: the GPU, or the processor, what it is fast by, and how many of its cores."""
    return hardware_of(record.machine, record.device, record.threads)


def hardware_of(machine: dict[str, Any], device: str, threads: int) -> str:
    """The same of what a record would hold."""
    gpus = machine.get("gpus") or []
    if device.startswith("cuda") and gpus:
        return str(gpus[0]["name"])
    flags = machine.get("flags") or []
    widest = next((f" with {name}" for flag, name in WIDEST if flag in flags), "")
    return f"{machine['cpu']}{widest}, {threads} cores"


def rates(shape: dict[str, Any], figures: dict[str, Any]) -> tuple[float, float, float]:
    """Sequences a second of one implementation in a timing: over all, in the slowest and in the fastest round."""
    turns = turn_seconds(shape, figures)
    return figures["sequences_per_second"], shape["sequences"] / max(turns), shape["sequences"] / min(turns)


def turn_seconds(shape: dict[str, Any], figures: dict[str, Any]) -> list[float]:
    """Seconds of a pass, by turn, as the rate and the ratio that stand in the record are made of them.

    That is a turn's mean. Records of schema 1 have the median pass instead, in their turns and in their rate, and keep
    the figures that they were published with.
    """
    by_median = math.isclose(figures["sequences_per_second"], shape["sequences"] / figures["p50"], rel_tol=1e-9)
    return [median(turn) if by_median else fmean(turn) for turn in figures["wall"]]


def write(record: Record, path: Path) -> None:
    """Write the record whole or not at all; Failure with what to do where the disk is full."""
    write_json({"kind": record.kind, **dataclasses.asdict(record)}, path)


def write_json(values: dict[str, Any], path: Path) -> None:
    """Any JSON file that belongs to the records, in the same way; ValueError for a number that is not finite."""
    write_whole(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def write_predictions(path: Path, predictions: dict[str, list[Any]]) -> None:
    """Predictions by split, compressed; the same predictions always give the same bytes."""
    write_whole(path, gzip.compress(json.dumps(predictions, ensure_ascii=False).encode(), mtime=0))


def read_predictions(path: Path) -> dict[str, list[Any]]:
    """What ``write_predictions`` wrote."""
    try:
        predictions: dict[str, list[Any]] = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise BadInput(f"{path}: not a file of predictions: {error}") from error
    held = dict.fromkeys(predictions, list) if isinstance(predictions, dict) else {}
    if wrong := next(_wrong(predictions, held), None):
        raise BadInput(f"{path}: not a file of predictions: {wrong}")
    return predictions


def predictions_of(path: Path, record: Quality, *splits: str) -> dict[str, list[Any]]:
    """Those that lie beside the record; BadInput where there are none, or none of a split that is needed."""
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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or replace it, whole or not at all; Failure with what to do where the disk is full."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).chmod(0o644)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Failure(f"{path} could not be written: {error.strerror}; make room or name another folder") from error


@contextmanager
def exclusive(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Work on one record, or any other file, while no other process does; ``waiting()`` is called where one does.

    A killed process gives way at once; what it was writing of this record, a ``.part`` file, is deleted. Failure where
    the folder cannot be written to.
    """
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waiting()
            lock.acquire()
    except OSError as error:
        raise Failure(f"{path.parent} cannot be written to: {error.strerror}; name another folder") from error
    try:
        sweep(path.parent, path.stem)
        yield
    finally:
        lock.release()


def sweep(folder: Path, stem: str = "") -> None:
    """Delete what a killed process left half-written; only for one that nobody else writes beside (``exclusive``)."""
    for partial in folder.glob(f"{glob.escape(stem)}*.part"):
        partial.unlink()


def read(path: Path) -> Record:
    """Read one record. BadInput, naming the file and field, for anything that is not a valid one."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number that a record may hold")

    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not a record: {error}; delete it, and what it held is measured again") from error
    kind = values.pop("kind", None) if isinstance(values, dict) else None
    if kind not in list(KINDS):  # a list: what stands there may be anything
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
    held = {name: what for name, what in (HELD[""] | HELD[kind]).items() if name in values}
    if isinstance(timed := values.get("implementations"), dict):
        held["implementations"] = {name: {"state": str} for name in timed}
    if isinstance(repairs := values.get("repairs"), dict):
        held["repairs"] = {split: [{"what": str, "count": int, "first": str}] for split in repairs}
    if wrong := next(_wrong(values, held), None):
        raise BadInput(f"{path}: {wrong}")
    _check_names(path, values)
    return cls(**values)


def _check_names(path: Path, values: dict[str, Any]) -> None:
    """BadInput where a name that becomes part of a path could lead out of its folder."""
    name, predictions = (values.get("implementation") or {}).get("name"), values.get("predictions")
    if name is not None and not NAME.fullmatch(name):
        raise BadInput(f"{path}: no implementation is called {name!r}")
    if predictions is not None and (not isinstance(predictions, str) or Path(predictions).name != predictions):
        raise BadInput(f"{path}: its predictions are not the name of a file beside it: {predictions!r}")


def _migrated(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """The record in today's schema."""
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
    """Schema 2 says what computed, the configuration, what was drawn at random, and of which split a flag is."""
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


# By schema before today's: what makes the fields of a record of it those of the next.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def _wrong(value: Any, held: Any, place: str = "") -> Iterator[str]:
    """What is not as ``held`` describes: a type, fields that there must be, or, in a list, what each item is."""
    if isinstance(held, dict):
        if not isinstance(value, dict):
            yield f"{place or 'it'} is not an object"
            return
        for name, inner in held.items():
            if name not in value:
                yield f"{place}{'.' if place else ''}{name} is missing"
            else:
                yield from _wrong(value[name], inner, f"{place}{'.' if place else ''}{name}")
    elif isinstance(held, list):
        if not isinstance(value, list):
            yield f"{place} is not a list"
            return
        for number, item in enumerate(value):
            yield from _wrong(item, held[0], f"{place}[{number}]")
    elif not isinstance(value, held) or (isinstance(value, bool) and held is not bool):
        yield f"{place} is {value!r}, of another type than a record has there"


def _numbers(value: Any) -> list[float]:
    """All floats anywhere in a JSON value."""
    if isinstance(value, float):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for child in children for number in _numbers(child)]


def files(path: Path) -> list[Path]:
    """The record at this path, or all in this folder, by name. BadInput if it does not exist.

    Other JSON files may lie in the folder, such as what ``compare`` wrote, or a model's.
    """
    if not path.exists():
        raise BadInput(f"{path} does not exist; name a folder of records or a record, such as runs/")
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*.json") if each.name not in OTHERS and _holds_record(each))


def _holds_record(path: Path) -> bool:
    """Whether it is one, or was before it was damaged, which reading it will say."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return path.is_file()
    return isinstance(values, dict) and values.keys() >= {"kind", "schema"}


def read_all(folders: list[Path]) -> list[Record]:
    """All records under these folders (or files), in order of file name, copies of one left out."""
    found: dict[tuple[str, str, str], Record] = {}
    for folder in folders:
        for path in files(folder):
            each = read(path)
            found.setdefault((each.key, each.started, path.name), each)
    return list(found.values())
