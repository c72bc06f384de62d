"""Records arranged as one table: a row for each implementation, a column for each thing that was measured."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from harness.records import record
from harness.records.models import model_of, named_apart
from harness.records.subject import subject
from harness.results import published
from harness.statistics import seeds

PASSES = 100  # a 99th percentile of fewer passes would be the slowest of them
ONE_SEED = "a score of one seed: under it its 95% interval (bootstrap over examples)"
SEVERAL_SEEDS = (
    "a score of several seeds: their mean ± sample standard deviation; under it the lowest and the highest seed, and "
    "the 95% interval within one seed (bootstrap over examples; the mean of the seeds' intervals)"
)
COLLAPSED = (
    "a seed has collapsed if it is no better than a constant answer, such as the majority class; such seeds are "
    "counted, and are in the mean only where it says so, or where all collapsed"
)
MEMORY = "peak\nmemory"


@dataclass(frozen=True)
class Report:
    """Records, arranged: rows are implementations, columns are what was measured of them."""

    columns: list[str]
    rows: dict[str, dict[str, list[str]]]  # by implementation and column: the lines of the cell
    notes: list[str]  # flags, failures, and how to read the table
    legend: list[str]  # how to read the scores shown
    signatures: list[str]  # of the metrics shown


@dataclass(frozen=True)
class Cell:
    """Lines for one cell of the table."""

    column: str
    lines: list[str]
    latest: bool = False  # replace what earlier records put there, instead of adding to it


@dataclass(frozen=True)
class Part:
    """What one record, or all seeds of one task, add to one row of the report."""

    implementation: str
    row: str  # the name of the row: the implementation, and what else tells rows apart
    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Names:
    """How rows and columns are called: they mention only what is not the same in all records."""

    varied: frozenset[str]  # checkpoint, hardware, precision

    @classmethod
    def for_records(cls, records: list[record.Record]) -> "Names":
        """The names for a report of these records."""
        found = {
            "checkpoint": {each.checkpoint["name"] for each in records},
            "hardware": {record.hardware(each) for each in records},
            "precision": {each.precision["resolved"] for each in records if not isinstance(each, record.Parity)},
        }
        return cls(frozenset(name for name, values in found.items() if len(values) > 1))

    def row(self, implementation: str, each: record.Record) -> str:
        """The name of a row."""
        where = {"checkpoint": each.checkpoint["name"], "hardware": record.hardware(each)}
        return ", ".join([implementation, *(value for key, value in where.items() if key in self.varied)])

    def column(self, subject: str, each: record.Record) -> str:
        """The name of a column without its unit."""
        return f"{subject}, {each.precision['resolved']}" if "precision" in self.varied else subject


def arrange(records: list[record.Record], ranges: bool = False) -> Report:
    """The report of these records: parity, the main metric of every task and split, and speed.

    ``ranges`` adds to speeds and their ratios the lowest and the highest of the rounds.
    """
    records = named_apart(records)
    names, groups = Names.for_records(records), seeds.group(records)
    latest = _latest(records)
    parities = [each for each in latest if isinstance(each, record.Parity)]
    timings = sorted((each for each in latest if isinstance(each, record.Speed)), key=lambda each: each.started)
    parts = [
        *(_parity(each, names) for each in parities),
        *_qualities(groups, names),
        *(part for each in timings for part in _speed(each, names, ranges)),
    ]
    rows = _rows(parts)
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    signatures = dict.fromkeys(signature for part in parts for signature in part.signatures)
    return Report(_columns(rows), rows, list(notes), _legend(groups), list(signatures))


def _rows(parts: list[Part]) -> dict[str, dict[str, list[str]]]:
    """The cells of all parts by row and column; the reference's rows first."""
    rows: dict[str, dict[str, list[str]]] = {}
    for part in sorted(parts, key=lambda part: part.implementation != "reference"):
        cells = rows.setdefault(part.row, {})
        for cell in part.cells:
            before = [] if cell.latest else cells.get(cell.column, [])
            cells[cell.column] = [*before, *cell.lines]
    return rows


def _columns(rows: dict[str, dict[str, list[str]]]) -> list[str]:
    """In the order in which the rows name them; memory, which is of no shape, last."""
    found = dict.fromkeys(column for cells in rows.values() for column in cells)
    return sorted(found, key=lambda column: column == MEMORY)


def _legend(groups: list[seeds.Runs]) -> list[str]:
    shown = [score for runs in groups for score in seeds.scores(runs) if score.main]
    needed = {
        ONE_SEED: any(score.tried == 1 for score in shown),
        SEVERAL_SEEDS: any(score.tried > 1 for score in shown),
        COLLAPSED: any(score.collapsed for score in shown),
    }
    return [text for text, is_needed in needed.items() if is_needed]


def _latest(records: list[record.Record]) -> list[record.Speed | record.Parity]:
    """Of records of speed or parity that measured the same thing, the one started last; in the order given."""
    found: dict[tuple[Any, ...], record.Speed | record.Parity] = {}
    for each in records:
        if isinstance(each, record.Speed):
            same: tuple[Any, ...] = ("speed", each.shape["name"], *sorted(each.implementations))
        elif isinstance(each, record.Parity):
            same = ("parity", each.implementation["name"])
        else:
            continue
        same = (*same, model_of(each), record.hardware(each), each.precision["resolved"])
        if same not in found or found[same].started <= each.started:
            found[same] = each
    return list(found.values())


# --- parity -----------------------------------------------------------------------------------------------------------


def _parity(parity: record.Parity, names: Names) -> Part:
    implementation = parity.implementation["name"]
    row, column = names.row(implementation, parity), "parity\nto float64"
    if parity.state != "ok":
        note = f"{row}, parity {parity.state}: {parity.reason}"
        return Part(implementation, row, [Cell(column, [parity.state])], [note])
    single, double = parity.differences["fp32"], parity.differences.get("fp64")
    precision = parity.implementation.get("precision", "fp32")
    lines, notes = [parity.verdict, f"{single['max']:.0e} {precision}"], []
    if double is not None and precision == "fp32":
        lines.append(f"{double['max']:.0e} fp64")
    cells = [Cell(column, lines)]
    if parity.tokenizer:
        same, strings = parity.tokenizer["equal"], parity.tokenizer["strings"]
        cells.append(Cell("own\ntokenizer", [f"{same} of {strings}"]))
        if same < strings:
            notes.append(f"{row}, own tokenizer: differs from ours on {', '.join(parity.tokenizer['different'])}")
    if parity.diagnosis:
        notes.append(f"{row} {parity.verdict}: {parity.diagnosis['sentence']}")
    if parity.training:
        more, why = _training(parity.training)
        cells += more
        notes += [f"{row}, {note}" for note in why]
    return Part(implementation, row, cells, notes)


def _training(training: dict[str, Any]) -> tuple[list[Cell], list[str]]:
    """The cells of gradients and of weights after training, and notes on both."""
    if training["state"] != "ok":
        return [Cell("gradients\nto float64", [training["state"]])], [f"training: {training['reason']}"]
    cells, notes = [], []
    titles = {"gradients": "gradients", "weights": f"weights after {training['weights']['steps']} steps"}
    for part, title in titles.items():
        found = training[part]
        differences = found["differences"]
        if part == "gradients":
            lines = [f"{each['max']:.0e} {precision}" for precision, each in differences.items()]
        else:
            lines = [f"{differences['max']:.0e} {found['precision']}", f"{found['optimizer']} optimizer"]
        cells.append(Cell(f"{title}\nto float64", [found["verdict"], *lines]))
        if found["verdict"] != "exact" and found["diagnosis"]:
            notes.append(f"{title}: {found['diagnosis']['sentence']}")
    if training["dropout"]["sentence"]:
        notes.append(f"dropout in training: {training['dropout']['sentence']}")
    if training["gradients"]["dropout"]:
        notes.append("training: applies dropout although the configuration sets it to 0")
    return cells, notes


# --- quality ----------------------------------------------------------------------------------------------------------


def _qualities(groups: list[seeds.Runs], names: Names) -> Iterator[Part]:
    """Each implementation on each task; failures are in the columns in which others have their scores."""
    parts = [_quality(runs, names) for runs in groups]
    scored: dict[str, dict[str, None]] = {}
    for runs, part in zip(groups, parts, strict=True):
        if runs.finished:
            scored.setdefault(_task(runs, names), {}).update(dict.fromkeys(cell.column for cell in part.cells))
    for runs, part in zip(groups, parts, strict=True):
        columns = [] if runs.finished else [*scored.get(_task(runs, names), {})]
        yield replace(part, cells=[Cell(column, part.cells[0].lines) for column in columns] or part.cells)


def _task(runs: seeds.Runs, names: Names) -> str:
    """The name of the columns of a task, without split and metric."""
    return names.column(subject(runs.any.task["name"], runs.any.task["context"]), runs.any)


def _quality(runs: seeds.Runs, names: Names) -> Part:
    """All seeds of one implementation on one task."""
    first = runs.any
    row = names.row(first.implementation["name"], first)
    task = _task(runs, names)
    cells = [] if runs.finished else [Cell(task, [runs.failed[0].state])]
    figures = []
    for score in seeds.scores(runs):
        if score.main:
            cell, notes = _score(score, runs, task, row)
            cells.append(cell)
            figures += notes
    splits = ((run, metric["split"]) for run in runs.finished for metric in run.metrics)
    signatures = [seeds.main_metric(run, split)["signature"] for run, split in splits]
    return Part(first.implementation["name"], row, cells, [*figures, *_remarks(runs, f"{row} on {task}")], signatures)


def _score(score: seeds.Score, runs: seeds.Runs, task: str, row: str) -> tuple[Cell, list[str]]:
    """The cell of one split, and the source of each published figure beside it."""
    split = "" if score.split == "dev" else f", {score.split}"
    metric, beside = score.title, published.beside(runs, score)
    lines = [*score_lines(score), *(f"published {each.value:.3f}" for each in beside)]
    what = f"published, not measured by us: {row} on {task}{split}, {metric}"
    notes = [f"{what}: {each.value:.3f} ({each.citation}, {each.url})" for each in beside]
    return Cell(f"{task}{split}\n{metric}", lines), notes


def _remarks(runs: seeds.Runs, where: str) -> Iterator[str]:
    """What a reader must know of these runs; ``where`` names implementation and task."""
    flagged: dict[str, list[record.Quality]] = {}
    for run in runs.finished:
        for text in dict.fromkeys(map(record.flag_text, run.flags)):
            flagged.setdefault(text, []).append(run)
    yield from (f"* {where}, {_seeds(those)}: {text}" for text, those in flagged.items())
    for reason in dict.fromkeys(run.reason for run in runs.failed):
        failed = [run for run in runs.failed if run.reason == reason]
        yield f"{where}, {_seeds(failed)}, {failed[0].state}: {reason}"
    for run in runs.finished:
        precision = run.implementation.get("precision", run.precision["resolved"])
        yield from _computed(where, precision, run.precision.get("computed"), run.implementation.get("compiled"))
    if own := runs.any.recipe.get("own"):
        yield f"{where}, a program that trains itself: {own}"
    if runs.left_out:
        yield f"{where}: runs with another recipe or other data, left out: {runs.left_out}"
    if runs.any.limit:
        yield f"limited to {runs.any.limit} examples a split: not a result, and cannot be published"


def _seeds(runs: list[record.Quality]) -> str:
    return f"{'seed' if len(runs) == 1 else 'seeds'} {', '.join(str(run.seed) for run in runs)}"


def score_lines(score: seeds.Score) -> list[str]:
    """A score as the lines of a cell: value or mean, spread, interval, and what became of seeds that do not count."""
    mark = "*" if any(flag["split"] == score.split for flag in score.flags) else ""
    interval = f"{score.low:.3f}-{score.high:.3f}"
    if score.tried == 1:
        return [f"{score.mean:.3f}{mark}", interval, *(["collapsed"] if score.collapsed else [])]
    counted = len(score.counted)
    seeds_of = f"{counted} seeds" if counted == score.tried else f"{counted} of {score.tried} seeds"
    lines = [f"{mean_and_deviation(score.mean, score.deviation)}{mark} ({seeds_of})"]
    if counted > 1:
        lines.append(f"seeds {score.least:.3f}-{score.greatest:.3f}")
    lines.append(f"95% {interval}")
    if score.collapsed:
        lines.append(f"{len(score.collapsed)} of {score.tried} seeds collapsed")
    if score.with_collapsed:
        lines.append(f"with them {mean_and_deviation(*score.with_collapsed)}")
    if score.failed:
        lines.append(f"{len(score.failed)} of {score.tried} seeds failed")
    return lines


def mean_and_deviation(mean: float, deviation: float | None) -> str:
    """Such as ``0.574 ± 0.012``."""
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


# --- speed ------------------------------------------------------------------------------------------------------------


def _speed(speed: record.Speed, names: Names, ranges: bool) -> Iterator[Part]:
    """One comparison. Its figures replace those of an earlier one: ratios hold within one comparison alone."""
    shape = names.column(speed.shape["name"], speed)
    for implementation, figures in speed.implementations.items():
        row = names.row(implementation, speed)
        if figures["state"] == "ok":
            cells, notes = _timed(speed, figures, shape, row, ranges)
        else:
            cells = [Cell("speed", [figures["state"]], latest=True)]
            notes = [f"{row}, timing {figures['state']}: {figures['reason']}"]
        is_last = implementation == list(speed.implementations)[-1]
        yield Part(implementation, row, cells, [*notes, *(_of_shape(speed, shape, names) if is_last else [])])


def _timed(
    speed: record.Speed, figures: dict[str, Any], shape: str, row: str, ranges: bool
) -> tuple[list[Cell], list[str]]:
    """What was timed of one implementation."""
    share = share_of_limit(speed, figures)
    compared = _rounds(speed, figures) if ranges else []
    if "ratio" in figures:
        middle, least, most = figures["ratio"]
        compared.append(f"{middle:.2f}x ({least:.2f}-{most:.2f})" if ranges else f"{middle:.2f}x")
    compared += _with_tokenizing(speed, figures) + ([] if share is None else [f"{share:.0%} of limit"])
    notes = []
    if share is not None and share > 1:
        notes.append(
            f"{shape}: above 100% of limit: {row} has products that are faster than those of oneDNN, PyTorch and "
            "ours, the fastest of which the limit is made of"
        )
    notes += _computed(row, figures["precision"], figures.get("computed"), figures.get("compiled"))
    if speed.shape["latency"]:
        percentiles = [f"{1000 * figures[p]:.1f}" for p in ("p50", "p90")]
        percentiles.append(f"{1000 * figures['p99']:.1f}" if enough_for_p99(figures) else "–")
        cells = [Cell(f"{shape}\nms p50/90/99", [" / ".join(percentiles), *compared], latest=True)]
        if not enough_for_p99(figures):
            notes.append(f"{shape}: – replaces a 99th percentile of fewer than {PASSES} passes")
    else:
        unit = "seq/s, own lengths" if speed.shape["own_lengths"] else "seq/s"
        cells = [Cell(f"{shape}\n{unit}", [f"{figures['sequences_per_second']:.0f}", *compared], latest=True)]
    if "scenarios" in figures:
        under_load, more = _scenarios(figures["scenarios"], row, shape)
        cells, notes = cells + under_load, notes + more
    memory = figures["memory"]["gpu"] or figures["memory"]["resident"]
    return [*cells, Cell(MEMORY, [f"{memory / 2**20:.0f} MiB"], latest=True)], notes


def _rounds(speed: record.Speed, figures: dict[str, Any]) -> list[str]:
    """The means of the fastest and of the slowest round, in the unit of the cell."""
    if speed.shape["latency"]:
        seconds = record.turn_seconds(speed.shape, figures)
        return [f"rounds {1000 * min(seconds):.1f}-{1000 * max(seconds):.1f}"]
    _, slowest, fastest = record.rates(speed.shape, figures)
    return [f"rounds {slowest:.0f}-{fastest:.0f}"]


def _of_shape(speed: record.Speed, shape: str, names: Names) -> Iterator[str]:
    """What a reader must know of all figures of one comparison."""
    if rate := speed.shape.get("tokenizer_sequences_per_second"):
        yield f"tokenizing {speed.shape['name']}: {rate:.0f} sequences a second"
    if speed.limits.get("seconds"):
        yield (
            "% of limit: BERT's matrix products alone, in the precision that computed and by the fastest library that "
            "was tried, take that share of the time"
        )
    if speed.load.get("noisy"):
        rows = ", ".join(names.row(implementation, speed) for implementation in speed.implementations)
        yield f"timing of {shape} is unreliable, of {rows}: {_load(speed.load)}"


def _scenarios(scenarios: dict[str, dict[str, Any]], row: str, shape: str) -> tuple[list[Cell], list[str]]:
    """Throughput with the energy that it takes, and the highest rate of queries at which the answers come in time."""
    offline, server = scenarios["offline"], scenarios["server"]
    energy = offline["energy"]
    joules = [f"{energy['joules_per_1000_samples']:.3g} J for 1,000"] if "joules" in energy else []
    rate = "none met" if server["rate"] is None else f"{server['rate']:.1f}"
    bound = f"p99 within {1000 * server['bound']:g} ms"
    cells = [
        Cell(f"{shape}\noffline, samples/s", [f"{offline['samples_per_second']:.0f}", *joules], latest=True),
        Cell(f"{shape}\nserver, queries/s", [rate, bound], latest=True),
    ]
    if "joules" in energy:
        idle = f"beyond what the device takes when idle ({energy['idle_watts']:.0f} W)"
        notes = [f"energy of {row}: {energy['source']}, {idle}"]
    else:
        notes = [f"no energy of {row}: {energy['absent']}"]
    if scenarios["load"].get("noisy"):
        notes.append(f"{shape}, offline and server, of {row} is unreliable: {_load(scenarios['load'])}")
    return cells, notes


def enough_for_p99(figures: dict[str, Any]) -> bool:
    """Whether there are passes enough for a 99th percentile to be more than the slowest of them."""
    return sum(map(len, figures["wall"])) >= PASSES


def _with_tokenizing(speed: record.Speed, figures: dict[str, Any]) -> list[str]:
    """The ratio to the reference if each round is preceded by tokenizing its texts, which all do alike."""
    rate, base = speed.shape.get("tokenizer_sequences_per_second"), speed.implementations.get("reference")
    if rate is None or base is None or base is figures or "ratio" not in figures:
        return []
    seconds = speed.shape["sequences"] / rate
    rounds = zip(*(record.turn_seconds(speed.shape, each) for each in (base, figures)), strict=True)
    ratios = [(ours + seconds) / (theirs + seconds) for ours, theirs in rounds]
    return [f"{median(ratios):.2f}x with tokenizing"]


def share_of_limit(speed: record.Speed, figures: dict[str, Any]) -> float | None:
    """The share of what the machine can do, where it computes in the precision that this was measured in.

    Older records measured the limit once, by oneDNN alone: a share above 100% is noise there, and left out.
    """
    computed = figures.get("computed", figures["precision"])
    limits = figures.get("limits", speed.limits)
    if not limits.get("seconds") or computed != limits.get("precision", speed.precision["resolved"]):
        return None
    share = float(limits["seconds"] * figures["sequences_per_second"] / speed.shape["sequences"])
    return share if share <= 1 or "by" in limits else None


def _computed(what: str, precision: str, computed: str | None, compiled: dict[str, str | None] | None) -> Iterator[str]:
    """What computed, where it is not what was asked for, or not the fastest."""
    if computed == "fp32" and precision in ("bf16", "fp16"):
        yield f"{what}: products in fp32, of weights in {precision}: no such instructions here"
    if compiled and compiled["reason"]:
        yield f"{what}: computed without its compiled functions: {compiled['reason']}"


def _load(load: dict[str, Any]) -> str:
    steal = "" if load.get("steal") is None else f", {load['steal']:.1%} was taken by other virtual machines"
    slower = f", and the reference took {load['quiet']:.2f} times its best" if "quiet" in load else ""
    used = "an unknown part" if load["others"] is None else f"{load['others']:.1%}"
    return f"{_throttled(load)}other processes used {used} of the processor{steal}{slower}"


def _throttled(load: dict[str, Any]) -> str:
    """That a quota of CPU time ran out; nothing where it did not, or where nobody looked (schema 1)."""
    said = load.get("throttled") or {}
    if not isinstance(said.get("periods"), int) or not said["periods"]:
        return ""
    return f"a quota of CPU time ran out in {said['periods']} periods and stopped it for {said['seconds']:.1f} s, "
