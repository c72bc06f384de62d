"""The report as one HTML file that needs nothing else: tables, plots, and under each plot its numbers.

The page is built as elements, never as text, so that a name or reason from a record can only ever be text in it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import plots
from harness.records import record
from harness.records.models import model_of, named_apart
from harness.report.table import Report, arrange, enough_for_p99, mean_and_deviation, subject
from harness.results import published
from harness.statistics import seeds
from harness.statistics.metrics import METRICS

STYLE = Path(__file__).with_name("page.css")
STATES = ("failed", "skipped", "differs")
PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True)
class Timed:
    """A shape, and what was measured at it last, by name of the implementation."""

    shape: dict[str, Any]
    figures: dict[str, dict[str, Any]]


def to_html(records: list[record.Record]) -> str:
    """The page: a section for each machine and checkpoint, because only what shares both may be compared."""
    html = Element("html", {"lang": "en"})
    head = SubElement(html, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    SubElement(head, "meta", {"name": "color-scheme", "content": "light dark"})
    _add(head, "title", "BERT Atlas: report")
    _add(head, "style", STYLE.read_text(encoding="utf-8"))
    main = SubElement(SubElement(html, "body"), "main")
    _add(main, "h1", "BERT implementations, measured")
    groups: dict[tuple[str, str], list[record.Record]] = {}
    for each in named_apart(records):
        groups.setdefault((record.hardware(each), model_of(each)), []).append(each)
    for number, found in enumerate(groups.values(), start=1):
        main.append(_section(found, number))
    _add(main, "footer", "Made by python -m harness report, from records that anybody can run again.")
    return "<!doctype html>\n" + tostring(html, encoding="unicode", method="html") + "\n"


def _section(records: list[record.Record], number: int) -> Element:
    """What was measured on one machine, from one checkpoint."""
    first, report = records[0], arrange(records)
    section = Element("section", {"aria-labelledby": f"s{number}"})
    _add(section, "h2", f"{first.checkpoint['name']} on {record.hardware(first)}").set("id", f"s{number}")
    days = sorted({each.started[:10] for each in records})
    commits = sorted({each.commit[:12] for each in records if each.commit})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    code = f", code {', '.join(commits)}" if commits else ""
    _add(section, "p", f"measured {span}{code}", "meta")
    section.append(_report_table(report))
    _notes(section, report)
    quality, timed = [*_scores(records)], _timed(records)
    named = _namer(records)
    _published(section, records)
    _group(section, "Accuracy against throughput", _scatters(quality, timed, named))
    _group(section, "Seeds", _seed_plots(quality, named))
    _group(section, "Latency", _latencies(timed))
    _group(section, "Lengths of the sequences timed", _lengths(timed))
    return section


def _scores(records: list[record.Record]) -> Iterable[seeds.Score]:
    """The main metric of each split."""
    return (score for runs in seeds.group(records) for score in seeds.scores(runs) if score.main)


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


# --- tables -----------------------------------------------------------------------------------------------------------


def _report_table(report: Report) -> Element:
    scroll, table = _scrolling("Results", "results")
    row = SubElement(SubElement(table, "thead"), "tr")
    for column in ("implementation", *report.columns):
        _lines(SubElement(row, "th", {"scope": "col"}), column.split("\n"))
    body = SubElement(table, "tbody")
    for name, cells in report.rows.items():
        row = SubElement(body, "tr")
        _add(row, "th", name).set("scope", "row")
        for column in report.columns:
            lines = cells.get(column, ["-"])
            _lines(SubElement(row, "td", {"class": "state"} if lines[0] in STATES else {}), lines)
    return scroll


def _lines(cell: Element, lines: list[str]) -> None:
    """The first line, and the others smaller below it."""
    cell.text = lines[0]
    for line in lines[1:]:
        SubElement(cell, "br")
        _add(cell, "small", line)


def _scrolling(label: str, kind: str) -> tuple[Element, Element]:
    """A table, in a frame that scrolls where the page is narrow."""
    scroll = Element("div", _focusable(label, "scroll"))
    return scroll, SubElement(scroll, "table", {"class": kind})


def _focusable(label: str, kind: str) -> dict[str, str]:
    """Attributes of what scrolls, so that it can be scrolled with the keyboard too."""
    return {"class": kind, "tabindex": "0", "role": "group", "aria-label": label}


def _table(label: str, head: list[str], rows: Iterable[list[str]]) -> Element:
    """A plain table; the first cell of a row names it."""
    scroll, table = _scrolling(label, "plain")
    top = SubElement(SubElement(table, "thead"), "tr")
    for text in head:
        _add(top, "th", text).set("scope", "col")
    body = SubElement(table, "tbody")
    for cells in rows:
        row = SubElement(body, "tr")
        _add(row, "th", cells[0]).set("scope", "row")
        for text in cells[1:]:
            _add(row, "td", text)
    return scroll


def _notes(section: Element, report: Report) -> None:
    if report.legend or report.notes:
        frame = SubElement(section, "div", _focusable("Notes", "notes"))
        listed = SubElement(frame, "ul")
        for text in report.legend:
            _add(listed, "li", text)
        for text in report.notes:
            _add(listed, "li", text, "flag" if text.startswith("*") else None)
    if report.signatures:
        details = SubElement(section, "details")
        _add(details, "summary", "Signatures of the scores")
        listed = SubElement(details, "ul", {"class": "signatures"})
        for signature in report.signatures:
            _add(SubElement(listed, "li"), "code", signature)


def _published(section: Element, records: list[record.Record]) -> None:
    """Figures of others of the same protocol, each with its source."""
    pairs = [
        (score, anchor)
        for runs in seeds.group(records)
        for score in seeds.scores(runs)
        for anchor in published.beside(runs, score)
    ]
    if not pairs:
        return
    _add(section, "h3", "Published figures, not measured by us")
    rows = (
        [
            score.implementation,
            f"{subject(score)}, {METRICS[score.metric].title}",
            mean_and_deviation(score.mean, score.deviation),
            f"{anchor.value:.3f}",
            anchor.told,
        ]
        for score, anchor in pairs
    )
    scroll = _table("Published figures", ["implementation", "score", "ours", "published", "source"], rows)
    for cell, (_, anchor) in zip(scroll.iterfind("table/tbody/tr/td[4]"), pairs, strict=True):
        link = SubElement(cell, "a", {"href": anchor.url, "rel": "noopener noreferrer"})
        link.text, cell.text = cell.text, None
    section.append(scroll)


# --- plots ------------------------------------------------------------------------------------------------------------


def _group(section: Element, heading: str, figures: list[Element]) -> None:
    if figures:
        _add(section, "h3", heading)
        SubElement(section, "div", {"class": "figures"}).extend(figures)


def _figure(caption: str, about: str, drawing: Element, numbers: Element) -> Element:
    """A plot, what it shows in words, and its numbers."""
    figure = Element("figure")
    _add(figure, "figcaption", caption).append(_small(about))
    SubElement(figure, "div", _focusable(f"{caption}: plot", "frame")).append(drawing)
    details = SubElement(figure, "details")
    _add(details, "summary", "The numbers")
    details.append(numbers)
    return figure


def _scatters(quality: list[seeds.Score], timed: dict[str, Timed], named: Callable[[str, str], str]) -> list[Element]:
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


def _seed_plots(quality: list[seeds.Score], named: Callable[[str, str], str]) -> list[Element]:
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


def _latencies(timed: dict[str, Timed]) -> list[Element]:
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


def _latency_curves(timed: dict[str, Timed]) -> list[Element]:
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


def _lengths(timed: dict[str, Timed]) -> list[Element]:
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
        found.setdefault((subject(score), METRICS[score.metric].title), []).append(score)
    return [(*which, scores) for which, scores in found.items()]


# --- elements ---------------------------------------------------------------------------------------------------------


def _add(parent: Element, tag: str, text: str, kind: str | None = None) -> Element:
    made = SubElement(parent, tag, {} if kind is None else {"class": kind})
    made.text = text
    return made


def _small(text: str) -> Element:
    made = Element("small")
    made.text = text
    return made
