"""Records to tables: on the terminal, as Markdown, CSV and JSON, and as a picture. (The page is ``page.py``'s.)"""

import dataclasses
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.table import Table
from rich.text import Text

from harness.records import record
from harness.records.models import model_of, named_apart
from harness.results import published as anchors
from harness.statistics import seeds
from harness.statistics.metrics import METRICS

PASSES = 100  # of which one is slower than the 99th percentile
ONE_SEED = "a score of one seed: under it its 95% interval (bootstrap over examples)"
SEVERAL_SEEDS = (
    "a score of several seeds: their mean ± sample standard deviation; under it the lowest and the highest seed, and "
    "the 95% interval within one seed (bootstrap over examples; the mean of the seeds' intervals)"
)
COLLAPSED = (
    "a seed has collapsed if it is no better than a constant answer, such as the majority class; such seeds are "
    "counted, and are in the mean only where it says so, or where all collapsed"
)


@dataclass(frozen=True)
class Report:
    """Records, arranged: rows are implementations, columns what was measured of them."""

    columns: list[str]
    rows: dict[str, dict[str, list[str]]]  # by implementation and column: the lines of the cell
    notes: list[str]  # flags, failures, and how to read the table
    legend: list[str]  # how to read the scores shown
    signatures: list[str]  # of the metrics shown


def arrange(records: list[record.Record]) -> Report:
    """One row for each implementation: parity, main metric of every task and split, speed."""
    rows: dict[str, dict[str, list[str]]] = {}
    notes: list[str] = []
    signatures: dict[str, None] = {}
    records = named_apart(records)
    latest = _latest(records)
    groups = seeds.group(records)
    varied = _varied(records)
    for each in latest:
        if isinstance(each, record.Parity):
            _add_parity(rows, notes, each, varied)
    for runs in groups:
        _add_quality(rows, notes, signatures, runs, varied)
    for each in sorted(latest, key=lambda each: each.started):
        if isinstance(each, record.Speed):
            _add_speed(rows, notes, each, varied)
    rows = dict(sorted(rows.items(), key=lambda item: item[0].split(",")[0] != "reference"))  # it comes first
    columns = list(dict.fromkeys(column for cells in rows.values() for column in cells))
    return Report(columns, rows, list(dict.fromkeys(notes)), _legend(groups), list(signatures))


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


def _varied(records: list[record.Record]) -> set[str]:
    """What is not the same in all records, so that names of rows, columns and cells must say it."""
    found = {
        "checkpoint": {each.checkpoint["name"] for each in records},
        "hardware": {record.hardware(each) for each in records},
        "precision": {each.precision["resolved"] for each in records if not isinstance(each, record.Parity)},
    }
    return {name for name, values in found.items() if len(values) > 1}


def _row(name: str, each: record.Record, varied: set[str]) -> str:
    said = {"checkpoint": each.checkpoint["name"], "hardware": record.hardware(each)}
    return ", ".join([name, *(value for key, value in said.items() if key in varied)])


def _column(subject: str, each: record.Record, varied: set[str]) -> str:
    return f"{subject}, {each.precision['resolved']}" if "precision" in varied else subject


def _cell(rows: dict[str, dict[str, list[str]]], name: str, column: str, *lines: str) -> None:
    rows.setdefault(name, {}).setdefault(column, []).extend(lines)


def _add_parity(
    rows: dict[str, dict[str, list[str]]], notes: list[str], parity: record.Parity, varied: set[str]
) -> None:
    name, column = _row(parity.implementation["name"], parity, varied), "parity\nto float64"
    if parity.state != "ok":
        _cell(rows, name, column, parity.state)
        notes.append(f"{name}, parity {parity.state}: {parity.reason}")
        return
    single, double = parity.differences["fp32"], parity.differences.get("fp64")
    _cell(rows, name, column, parity.verdict, f"{single['max']:.0e} {parity.implementation.get('precision', 'fp32')}")
    if double is not None and parity.implementation.get("precision", "fp32") == "fp32":
        _cell(rows, name, column, f"{double['max']:.0e} fp64")
    if parity.tokenizer:
        same, all_of_them = parity.tokenizer["equal"], parity.tokenizer["strings"]
        _cell(rows, name, "own\ntokenizer", f"{same} of {all_of_them}")
        if same < all_of_them:
            notes.append(f"{name}, own tokenizer: otherwise than ours {', '.join(parity.tokenizer['different'])}")
    if parity.diagnosis:
        notes.append(f"{name} {parity.verdict}: {parity.diagnosis['sentence']}")


def layer_tables(records: list[record.Record]) -> list[Table]:
    """For each implementation that shows its layers, how far each is from the reference in float64."""
    tables = []
    for each in records:
        if not isinstance(each, record.Parity):
            continue
        shown = {p: d["layers"] for p, d in each.differences.items() if "layers" in d}
        if not shown:
            continue
        table = Table("after", title=f"{each.implementation['name']}, by layer", title_justify="left")
        for precision in shown:
            for what in ("largest", "mean", "cosine"):
                table.add_column(f"{what}\n{precision}", justify="right")
        for number in range(len(next(iter(shown.values())))):
            cells = [
                text
                for layers in shown.values()
                for text in (
                    f"{layers[number]['max']:.1e}",
                    f"{layers[number]['mean']:.1e}",
                    f"{layers[number]['cosine']:.6f}",
                )
            ]
            table.add_row("embeddings" if number == 0 else f"layer {number}", *cells)
        tables.append(table)
    return tables


def _add_quality(
    rows: dict[str, dict[str, list[str]]],
    notes: list[str],
    signatures: dict[str, None],
    runs: seeds.Runs,
    varied: set[str],
) -> None:
    first = runs.any
    name = _row(first.implementation["name"], first, varied)
    whole_documents = first.task["kind"] == "tagging" and first.task["context"] == "document"
    task = _column(first.task["name"] + (", document" if whole_documents else ""), first, varied)
    if not runs.finished:
        _cell(rows, name, task, runs.failed[0].state)
    for score in seeds.scores(runs):
        if not score.main:
            continue
        split = "" if score.split == "dev" else f", {score.split}"
        published = anchors.beside(runs, score)
        lines = [*score_lines(score), *(f"published {each.value:.3f}" for each in published)]
        _cell(rows, name, f"{task}{split}\n{METRICS[score.metric].title}", *lines)
        said = f"{name} on {task}{split}, {METRICS[score.metric].title}"
        notes += [
            f"published, not measured by us: {said}: {each.value:.3f} ({each.told}, {each.url})" for each in published
        ]
    for run in runs.finished:
        for split in dict.fromkeys(metric["split"] for metric in run.metrics):
            signatures[seeds.main_metric(run, split)["signature"]] = None
    flagged: dict[str, list[record.Quality]] = {}
    for run in runs.finished:
        for text in dict.fromkeys(map(record.flag_text, run.flags)):
            flagged.setdefault(text, []).append(run)
    notes += [f"* {name} on {task}, {_seeds(those)}: {text}" for text, those in flagged.items()]
    for reason in dict.fromkeys(run.reason for run in runs.failed):
        failed = [run for run in runs.failed if run.reason == reason]
        notes.append(f"{name} on {task}, {_seeds(failed)}, {failed[0].state}: {reason}")
    for run in runs.finished:
        precision = run.implementation.get("precision", run.precision["resolved"])
        compiled = run.implementation.get("compiled")
        notes += _computed(f"{name} on {task}", precision, run.precision.get("computed"), compiled)
    if own := first.recipe.get("own"):
        notes.append(f"{name} on {task}, a program that trains itself: {own}")
    if runs.left_out:
        notes.append(f"{name} on {task}: runs with another recipe or other data, left out: {runs.left_out}")
    if first.limit:
        notes.append(f"limited to {first.limit} examples a split: not a result, and cannot be published")


def _seeds(runs: list[record.Quality]) -> str:
    return f"{'seed' if len(runs) == 1 else 'seeds'} {', '.join(str(run.seed) for run in runs)}"


def subject(score: seeds.Score) -> str:
    """The task, and what of context and split must be said: ``conll2003, document, test``."""
    document = ", document" if score.context == "document" else ""
    return f"{score.task}{document}{'' if score.split == 'dev' else f', {score.split}'}"


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


def _add_speed(rows: dict[str, dict[str, list[str]]], notes: list[str], speed: record.Speed, varied: set[str]) -> None:
    """A later comparison's figures take the place of an earlier one's: ratios hold within one alone."""
    shape = _column(speed.shape["name"], speed, varied)
    for implementation, figures in speed.implementations.items():
        name = _row(implementation, speed, varied)
        cells = rows.setdefault(name, {})
        if figures["state"] != "ok":
            cells["speed"] = [figures["state"]]
            notes.append(f"{name}, timing {figures['state']}: {figures['reason']}")
            continue
        ratio = [f"{figures['ratio'][0]:.2f}x"] if "ratio" in figures else []
        share = _of_limit(speed, figures)
        ratio += _with_tokenizing(speed, figures) + ([] if share is None else [f"{share:.0%} of limit"])
        if share is not None and share > 1:
            notes.append(
                f"{shape}: above 100% of limit: {name} has products that are faster than those of oneDNN, PyTorch and "
                "ours, the fastest of which the limit is made of"
            )
        notes += _computed(name, figures["precision"], figures.get("computed"), figures.get("compiled"))
        if speed.shape["latency"]:
            percentiles = [f"{1000 * figures[p]:.1f}" for p in ("p50", "p90")]
            percentiles.append(f"{1000 * figures['p99']:.1f}" if enough_for_p99(figures) else "–")
            cells[f"{shape}\nms p50/90/99"] = [" / ".join(percentiles), *ratio]
            if not enough_for_p99(figures):
                notes.append(f"{shape}: – stands for a 99th percentile of fewer than {PASSES} passes")
        else:
            unit = "seq/s, own lengths" if speed.shape["own_lengths"] else "seq/s"
            cells[f"{shape}\n{unit}"] = [f"{figures['sequences_per_second']:.0f}", *ratio]
        if "scenarios" in figures:
            _add_scenarios(cells, notes, name, shape, figures["scenarios"])
        memory = figures["memory"]["gpu"] or figures["memory"]["resident"]
        cells.pop("peak\nmemory", None)  # of all shapes so far: the last says it
        cells["peak\nmemory"] = [f"{memory / 2**20:.0f} MiB"]
    if rate := speed.shape.get("tokenizer_sequences_per_second"):
        notes.append(f"tokenizing {speed.shape['name']}: {rate:.0f} sequences a second")
    if speed.limits.get("seconds"):
        notes.append(
            "% of limit: BERT's matrix products alone, in the precision that computed and by the fastest library that "
            "was tried, take that share of the time"
        )
    if speed.load.get("noisy"):
        rows_of = ", ".join(_row(name, speed, varied) for name in speed.implementations)
        notes.append(f"timing of {shape} is unreliable, of {rows_of}: {_load(speed.load)}")


def _add_scenarios(
    cells: dict[str, list[str]], notes: list[str], name: str, shape: str, scenarios: dict[str, dict[str, Any]]
) -> None:
    """What it does as fast as possible, with the energy that took, and the highest rate at which it answers in time."""
    offline, server = scenarios["offline"], scenarios["server"]
    energy = offline["energy"]
    joules = [f"{energy['joules_per_1000_samples']:.3g} J for 1,000"] if "joules" in energy else []
    cells[f"{shape}\noffline, samples/s"] = [f"{offline['samples_per_second']:.0f}", *joules]
    bound = f"p99 within {1000 * server['bound']:g} ms"
    held = "none held" if server["rate"] is None else f"{server['rate']:.1f}"
    cells[f"{shape}\nserver, queries/s"] = [held, bound]
    if "joules" in energy:
        notes.append(
            f"energy of {name}: {energy['source']}, beyond what the device takes when idle "
            f"({energy['idle_watts']:.0f} W)"
        )
    else:
        notes.append(f"no energy of {name}: {energy['absent']}")
    if scenarios["load"].get("noisy"):
        notes.append(f"{shape}, offline and server, of {name} is unreliable: {_load(scenarios['load'])}")


def enough_for_p99(figures: dict[str, Any]) -> bool:
    """Whether there are passes enough for a 99th percentile to be more than the slowest of them."""
    return sum(map(len, figures["wall"])) >= PASSES


def _with_tokenizing(speed: record.Speed, figures: dict[str, Any]) -> list[str]:
    """The ratio to the reference if each round is preceded by the tokenizing of its texts, which all do alike."""
    rate, base = speed.shape.get("tokenizer_sequences_per_second"), speed.implementations.get("reference")
    if rate is None or base is None or base is figures or "ratio" not in figures:
        return []
    seconds = speed.shape["sequences"] / rate
    rounds = zip(*(record.turn_seconds(speed.shape, each) for each in (base, figures)), strict=True)
    ratios = [(ours + seconds) / (theirs + seconds) for ours, theirs in rounds]
    return [f"{median(ratios):.2f}x with tokenizing"]


def _of_limit(speed: record.Speed, figures: dict[str, Any]) -> float | None:
    """How near it comes to what the machine can do, where it computes in the precision that this was measured in.

    Of older records, which were measured once by oneDNN, no more than all of it: whatever is above is noise.
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


def print_report(report: Report, console: Console) -> None:
    """The tables, then what a reader must know: quality and parity in one, speed below it if both do not fit."""
    for columns in _split_to_fit(report, console.width):
        table = Table(show_lines=True, header_style="bold", title_justify="left")
        table.add_column("implementation")
        for column in columns:
            table.add_column(Text(column), justify="right")
        for name, cells in report.rows.items():
            table.add_row(Text(name), *(_styled(cells.get(column, ["-"])) for column in columns))
        console.print(table)
    for note in report.notes:
        console.print(Text(note), style="yellow" if note.startswith("*") else None)
    for text in report.legend:
        console.print(Text(text), style="dim")
    if report.signatures:
        console.print(Text("signatures:"), style="dim")
        for signature in report.signatures:
            console.print(Text(f"  {signature}"), style="dim", soft_wrap=True)


def _styled(lines: list[str]) -> Text:
    text = Text(lines[0], style="red" if lines[0] in ("failed", "skipped", "differs") else "bold")
    for line in lines[1:]:
        text.append(f"\n{line}", style="not bold dim")
    return text


def _split_to_fit(report: Report, width: int) -> list[list[str]]:
    """Columns for one table after another, as many in each as the terminal has room for."""
    room = width - 4 - max([14, *(len(name) for name in report.rows)])
    tables: list[list[str]] = [[]]
    used = 0
    for column in report.columns:
        lines = [*column.split("\n"), *(line for cells in report.rows.values() for line in cells.get(column, []))]
        size = 3 + max(map(len, lines))
        if used + size > room and tables[-1]:
            tables.append([])
            used = 0
        tables[-1].append(column)
        used += size
    return tables


def to_markdown(report: Report) -> str:
    """The same as one Markdown table with the notes below."""

    def line(cells: list[list[str]]) -> str:
        return f"| {' | '.join('<br>'.join(map(_escaped, lines)) for lines in cells)} |"

    rows = [
        line([[name], *(cells.get(column, ["-"]) for column in report.columns)]) for name, cells in report.rows.items()
    ]
    header = line([["implementation"], *(column.split("\n") for column in report.columns)])
    parts = [header, f"| --- |{' ---: |' * len(report.columns)}", *rows, ""]
    parts += [f"- {_escaped(note)}" for note in [*report.legend, *report.notes]]
    parts += ["", "Signatures:", "", *(f"- `{signature}`" for signature in report.signatures)]
    return "\n".join(parts) + "\n"


def _escaped(text: str) -> str:
    """On one line, and without what Markdown or HTML would take for markup."""
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


def to_json(records: list[record.Record]) -> str:
    """All records as one list."""
    return json.dumps([{"kind": each.kind, **dataclasses.asdict(each)} for each in records], indent=1) + "\n"


def to_svg(report: Report) -> str:
    """The tables as a picture of a terminal, in fonts that the reader has."""
    console = Console(record=True, width=150, file=io.StringIO())
    print_report(dataclasses.replace(report, signatures=[]), console)
    no_foreign_fonts = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title="python -m harness report", code_format=no_foreign_fonts)


def write_report(records: list[record.Record], folder: Path) -> list[Path]:
    """``report.html``, ``report.md``, ``report.csv``, ``report.json`` and ``report.svg``, each replaced as a whole."""
    from harness.report.csv_table import to_csv
    from harness.report.page import to_html

    report = arrange(records)
    texts = {
        "report.html": to_html(records),
        "report.md": to_markdown(report),
        "report.svg": to_svg(report),
        "report.csv": to_csv(records),
        "report.json": to_json(records),
    }
    for name, text in texts.items():
        record.write_whole(folder / name, text.encode())
    return [folder / name for name in texts]
