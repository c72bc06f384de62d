"""The course of a pre-training as one HTML file that needs nothing else: curves and, below them, their numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import tostring

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import plots

TEMPLATE, STYLE = Path(__file__).with_name("training.html.j2"), Path(__file__).with_name("page.css")
MOST = 400  # points of a curve; of a longer run, as many means
HELD_OUT = {  # fields of a line on held-out text, and how the table calls them
    "held_out_loss": "loss",
    "held_out_accuracy": "masked tokens right",
    "held_out_nsp_accuracy": "next sentence right",
    "held_out_nsp_majority": "(majority)",
}
GUESSES = {"unigram": "by frequency", "bigram": "from the piece before"}

Log = list[dict[str, Any]]


def training_page(name: str, log: Log) -> str:
    """The page of a run, from the lines of its log; ``name`` heads it."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    measured = [line for line in log if line.get("event") == "held out"]
    known = [field for field in HELD_OUT if any(field in line for line in measured)]
    rows = [[f"{line['tokens']:,}", *(f"{line[field]:.3f}" for field in known)] for line in measured]
    return environment.get_template(TEMPLATE.name).render(
        name=name,
        about=_about(log),
        figures=list(_figures(log)),
        head=["tokens", *map(HELD_OUT.__getitem__, known)],
        rows=rows,
        style=Markup(STYLE.read_text(encoding="utf-8")),  # noqa: S704 - our own file
    )


def _about(log: Log) -> str:
    last: dict[str, Any] = next((line for line in reversed(log) if "mlm_loss" in line), {})
    if not last:
        return "no step yet"
    flop, hours = f"{last['flop']:.2e} FLOP", f"{last['seconds'] / 3600:.2f} hours"
    return f"{last['tokens']:,} tokens in {last['step']:,} steps, {flop}, {hours}"


def _figures(log: Log) -> Iterator[tuple[str, Markup]]:
    """Each with its caption; none for what the log does not have."""
    start: dict[str, Any] = next((line for line in log if line.get("event") == "start"), {})
    last: dict[str, Any] = next((line for line in reversed(log) if "held_out_nsp_majority" in line), {})
    losses = {said: start[f"{name}_loss"] for name, said in GUESSES.items() if f"{name}_loss" in start}
    accuracies = {GUESSES["unigram"]: start["unigram_accuracy"]} if "unigram_accuracy" in start else {}
    majority = {"majority": last["held_out_nsp_majority"]} if last else {}
    for caption, field, measured, levels in (
        ("Loss of masked tokens", "mlm_loss", "held_out_loss", losses),
        ("Masked tokens that are right", "masked_accuracy", "held_out_accuracy", accuracies),
        ("Next sentences that are right", "nsp_accuracy", "held_out_nsp_accuracy", majority),
    ):
        curves = [
            plots.Curve("training", _means(_points(log, field))),
            plots.Curve("held out", _points(log, measured), is_reference=True),
        ]
        if drawn := [curve for curve in curves if curve.points]:
            svg = plots.courses(drawn, levels, caption, "million tokens", "")
            yield caption, Markup(tostring(svg, encoding="unicode"))  # noqa: S704 - its texts are escaped


def _points(log: Log, field: str) -> list[tuple[float, float]]:
    return [(line["tokens"] / 1e6, float(line[field])) for line in log if field in line]


def _means(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST points: each the mean of some that follow one another, at the last of their places."""
    size = -(-len(points) // MOST)
    parts = [points[start : start + size] for start in range(0, len(points), size or 1)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]
