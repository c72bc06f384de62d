"""The report as one HTML file that needs nothing else: tables, plots, and under each plot its numbers.

The records become tables and figures here; ``page.html.j2`` is the page, and escapes every text from a record.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import plots
from harness.records import record
from harness.records.models import model_of, named_apart
from harness.records.subject import subject
from harness.report.arrange import Report, arrange, enough_for_p99, mean_and_deviation
from harness.results import published
from harness.statistics import seeds

TEMPLATE, STYLE = Path(__file__).with_name("page.html.j2"), Path(__file__).with_name("page.css")
STATES = ("failed", "skipped", "differs")
PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class Timed:
    """A shape, and what was measured at it last, by name of the implementation."""

    shape: dict[str, Any]
    figures: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Link:
    """A cell that leads elsewhere."""

    text: str
    url: str


@dataclass(frozen=True)
class Table:
    """A plain table; the first cell of a row names it."""

    label: str
    head: list[str]
    rows: list[list[str | Link]]


@dataclass(frozen=True)
class Figure:
    """A plot, what it shows in words, and its numbers."""

    caption: str
    about: str
    drawing: Markup  # SVG; its texts are escaped
    numbers: Table


@dataclass(frozen=True)
class Section:
    """What was measured on one machine, from one checkpoint."""

    heading: str
    measured: str
    report: Report
    published: Table | None
    groups: dict[str, list[Figure]]  # by heading


def to_html(records: list[record.Record]) -> str:
    """The page: a section for each machine and checkpoint, because only what shares both may be compared."""
    groups: dict[tuple[str, str], list[record.Record]] = {}
    for each in named_apart(records):
        groups.setdefault((record.hardware(each), model_of(each)), []).append(each)
    loader = FileSystemLoader(TEMPLATE.parent)
    template = Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template(TEMPLATE.name)
    style = Markup(STYLE.read_text(encoding="utf-8"))  # noqa: S704  our own file
    return template.render(sections=[_section(found) for found in groups.values()], style=style, states=STATES) + "\n"


def _section(records: list[record.Record]) -> Section:
    first = records[0]
    days = sorted({each.started[:10] for each in records})
    commits = sorted({each.commit[:12] for each in records if each.commit})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    code = f", code {', '.join(commits)}" if commits else ""
    quality, timed, named = _scores(records), _timed(records), _namer(records)
    figures = {
        "Accuracy against throughput": _scatters(quality, timed, named),
        "Seeds": _seed_plots(quality, named),
        "Latency": _latencies(timed),
        "Lengths of the sequences timed": _lengths(timed),
    }
    return Section(
        heading=f"{first.checkpoint['name']} on {record.hardware(first)}",
        measured=f"measured {span}{code}",
        report=arrange(records),
        published=_published(records),
        groups=figures,
    )


def _scores(records: list[record.Record]) -> list[seeds.Score]:
    """The main metric of each split."""
    return [score for runs in seeds.group(records) for score in seeds.scores(runs) if score.main]


def _namer(records: list[record.Record]) -> Callable[[str, str], str]:
    """A function: implementation and precision to a name, which says the precision where there are several."""
    several = len({each.precision["resolved"] for each in records if not isinstance(each, record.Parity)}) > 1
    return lambda implementation, precision: f"{implementation}, {precision}" if several else implementation


def _timed(records: list[record.Record]) -> dict[str, Timed]:
    """By shape; a later timing takes the place of an earlier one."""
    found: dict[str, Timed] = {}
    named = _namer(records)
    for each in sorted(records, key=lambda each: each.started):
        if isinstance(each, record.Speed):
            timed = found.setdefault(each.shape["name"], Timed({}, {}))
            timed.shape.update(each.shape)
            good = {name: figures for name, figures in each.implementations.items() if figures["state"] == "ok"}
            timed.figures.update({named(name, each.precision["resolved"]): figures for name, figures in good.items()})
    return found


def _published(records: list[record.Record]) -> Table | None:
    """Figures of others of the same protocol, each with its source."""
    rows: list[list[str | Link]] = [
        [
            score.implementation,
            f"{subject(score.task, score.context, score.split)}, {score.title}",
            mean_and_deviation(score.mean, score.deviation),
            f"{anchor.value:.3f}",
            Link(anchor.citation, anchor.url),
        ]
        for runs in seeds.group(records)
        for score in seeds.scores(runs)
        for anchor in published.beside(runs, score)
    ]
    return (
        Table("Published figures", ["implementation", "score", "ours", "published", "source"], rows) if rows else None
    )


# --- plots ------------------------------------------------------------------------------------------------------------


def _figure(caption: str, about: str, drawing: Element, numbers: Table) -> Figure:
    svg = Markup(tostring(drawing, encoding="unicode", method="html"))  # noqa: S704  its texts are escaped
    return Figure(caption, about, svg, numbers)


def _table(label: str, head: list[str], rows: Iterable[list[str]]) -> Table:
    return Table(label, head, [[*cells] for cells in rows])


def _scatters(quality: list[seeds.Score], timed: dict[str, Timed], named: Callable[[str, str], str]) -> list[Figure]:
    figures = []
    for label, metric, scores in _by_task(quality):
        shape = _stands_for(scores[0].task, timed)
        rates = {name: record.rates(shape.shape, each) for name, each in shape.figures.items()} if shape else {}
        points = []
        for score in scores:
            name = named(score.implementation, score.precision)
            if name in rates:
                is_reference = score.implementation == "reference"
                points.append(plots.Point(name, *rates[name], score.mean, score.low, score.high, is_reference))
        if shape is None or len(points) < 2:
            continue
        points.sort(key=lambda point: -point.rate)
        what = f"{label}'s own lengths" if shape.shape["own_lengths"] else f"{shape.shape['name']} tokens"
        rate = f"sequences a second, {what}"
        rows = ([p.name, f"{p.score:.3f}", f"{p.low:.3f}-{p.high:.3f}", f"{p.rate:.0f}"] for p in points)
        numbers = _table(f"{label}: numbers", ["implementation", metric, "95% interval", "sequences a second"], rows)
        title = f"{label}: {metric} against {rate}, {len(points)} implementations"
        about = "up is better, right is faster; lines are 95% intervals within one seed, and from the slowest round "
        about += "of the timing to the fastest"
        figures.append(_figure(label, about, plots.scatter(points, title, rate, metric), numbers))
    return figures


def _stands_for(task: str, timed: dict[str, Timed]) -> Timed | None:
    """The timing of a task's own lengths, otherwise of the largest fixed shape that most were timed at."""
    if task in timed and timed[task].shape["own_lengths"]:
        return timed[task]
    fixed = [each for each in timed.values() if not each.shape["own_lengths"] and not each.shape["latency"]]
    return max(fixed, key=lambda each: (len(each.figures), each.shape["sequences"]), default=None)


def _seed_plots(quality: list[seeds.Score], named: Callable[[str, str], str]) -> list[Figure]:
    figures = []
    for label, metric, every in _by_task(quality):
        scores = sorted((score for score in every if len(score.values) > 1), key=lambda score: -score.mean)
        if not scores:
            continue
        rows = [
            plots.Row(
                named(score.implementation, score.precision), score.counted, score.mean, tuple(_not_counted(score))
            )
            for score in scores
        ]
        cells = (
            [
                row.name,
                mean_and_deviation(score.mean, score.deviation),
                ", ".join(f"{value:.3f} (seed {s})" for s, value in zip(score.seeds, score.values, strict=True)),
                ", ".join(map(str, score.collapsed)) or "-",
                ", ".join(map(str, score.failed)) or "-",
            ]
            for row, score in zip(rows, scores, strict=True)
        )
        head = ["implementation", "mean ± deviation", metric, "collapsed", "failed"]
        title = f"{label}: {metric} of each seed, {len(rows)} implementations"
        about = "a dot is a seed, a line their mean; a hollow dot is a seed that collapsed and is not in the mean"
        figures.append(_figure(label, about, plots.dots(rows, title, metric), _table(f"{label}: numbers", head, cells)))
    return figures


def _not_counted(score: seeds.Score) -> list[float]:
    every = zip(score.seeds, score.values, strict=True)
    return [v for seed, v in every if seed in score.collapsed] if score.with_collapsed else []


def _latencies(timed: dict[str, Timed]) -> list[Figure]:
    figures = _latency_curves(timed)
    for name, each in timed.items():
        if not each.shape["latency"] or not each.figures:
            continue
        percentiles = PERCENTILES if all(map(enough_for_p99, each.figures.values())) else PERCENTILES[:2]
        by_name = {who: [1000 * f[p] for p in percentiles] for who, f in each.figures.items()}
        rows = [plots.Row(who, by_name[who]) for who in sorted(by_name, key=lambda who: by_name[who][0])]
        cells = ([row.name, *(f"{value:.1f}" for value in row.values)] for row in rows)
        numbers = _table(f"{name}: numbers", ["implementation", *(f"{p}, ms" for p in percentiles)], cells)
        title = f"{name}: {', '.join(percentiles)} of latency, {len(rows)} implementations"
        about = f"from left to right the {', '.join(p[1:] + 'th' for p in percentiles)} percentile; left is faster"
        drawing = plots.ranges(rows, percentiles, title, "milliseconds")
        figures.append(_figure(f"{name}: one sequence at a time", about, drawing, numbers))
    return figures


def _latency_curves(timed: dict[str, Timed]) -> list[Figure]:
    """How the time of one sequence grows with its length; none where one length alone was timed."""
    by_length = sorted((each.shape["tokens"], each.figures) for each in timed.values() if each.shape["latency"])
    names = dict.fromkeys(name for _, figures in by_length for name in figures)
    points = {name: [(n, 1000 * figures[name]["p50"]) for n, figures in by_length if name in figures] for name in names}
    lines = [plots.Curve(name, found, name.split(",")[0] == "reference") for name, found in points.items() if found[1:]]
    if not lines:
        return []
    rows = ([line.name, ", ".join(f"{value:.1f} ({n})" for n, value in line.points)] for line in lines)
    numbers = _table("Latency by length: numbers", ["implementation", "ms (tokens)"], rows)
    title = f"Median latency by length, {len(lines)} implementations"
    drawing = plots.curves(lines, title, "tokens", "milliseconds")
    return [_figure("Latency by length", "the median of one sequence at a time; lower is faster", drawing, numbers)]


def _lengths(timed: dict[str, Timed]) -> list[Figure]:
    """Of the tasks whose lengths are recorded."""
    figures = []
    for name, each in timed.items():
        shape = each.shape
        if not shape["own_lengths"] or not shape.get("lengths"):
            continue
        pairs = [(int(length), int(count)) for length, count in shape["lengths"]]
        mean = shape["tokens"] / shape["sequences"]
        about = f"{shape['sequences']} sequences, {mean:.1f} tokens on average, {shape['longest']} the longest"
        drawing = plots.bars(pairs, f"{name}: lengths of {about}", "tokens", "sequences")
        rows = ([str(length), str(count)] for length, count in pairs)
        figures.append(_figure(name, about, drawing, _table(f"{name}: lengths", ["tokens", "sequences"], rows)))
    return figures


def _by_task(quality: list[seeds.Score]) -> list[tuple[str, str, list[seeds.Score]]]:
    """(task and split, metric, scores)."""
    found: dict[tuple[str, str], list[seeds.Score]] = {}
    for score in quality:
        found.setdefault((subject(score.task, score.context, score.split), score.title), []).append(score)
    return [(*which, scores) for which, scores in found.items()]
