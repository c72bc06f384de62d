"""Plots as SVG without dependencies; colours come from the style sheet of the page.

A plot is an ElementTree element, so that all text in it is escaped. Each has a label for screen readers; the page that
shows it also has its numbers in a table. The harness's report and the catalog's site use these plots.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement

WIDTH = 640
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 26, 44  # margins of a plot with two axes, in pixels as all lengths here
ROW = 22  # height of a row in plots with names at the left
LETTER = 6.4  # width of a letter in a label
FEW = 8  # up to this many points are all labelled; of more, only the reference and those that no other beats


@dataclass(frozen=True)
class Point:
    """An implementation: its rate with the slowest and fastest round, and its score with an interval."""

    name: str
    rate: float
    slowest: float
    fastest: float
    score: float
    low: float
    high: float
    is_reference: bool = False


@dataclass(frozen=True)
class Curve:
    """An implementation: points (place, value) in order of place."""

    name: str
    points: list[tuple[float, float]]
    is_reference: bool = False


@dataclass(frozen=True)
class Row:
    """An implementation: values of the kind that all rows of a plot have."""

    name: str
    values: list[float]
    mark: float | None = None  # drawn as a line, such as the mean
    hollow: tuple[float, ...] = ()  # values drawn as hollow dots, because they do not count


def scatter(points: list[Point], title: str, x_label: str, y_label: str) -> Element:
    """Plot score against rate (log scale); lines show the score's interval and the range of the rate."""
    height = 340
    low, high = min(point.slowest for point in points) / 1.25, max(point.fastest for point in points) * 1.5
    bottom, top = _padded(min(point.low for point in points), max(point.high for point in points))
    x = _scale(math.log(low), math.log(high), LEFT, WIDTH - RIGHT)
    y = _scale(bottom, top, height - BOTTOM, TOP)
    svg = _drawing(WIDTH, height, title)
    for tick in _ticks(bottom, top):
        _line(svg, "grid", LEFT, y(tick), WIDTH - RIGHT, y(tick))
        _text(svg, LEFT - 8, y(tick) + 4, f"{tick:g}", "tick end")
    for tick in _log_ticks(low, high):
        _line(svg, "grid", x(math.log(tick)), TOP, x(math.log(tick)), height - BOTTOM)
        _text(svg, x(math.log(tick)), height - BOTTOM + 17, f"{tick:g}", "tick middle")
    _text(svg, LEFT, 14, y_label, "axis")
    _text(svg, WIDTH - RIGHT, height - 8, x_label, "axis end")
    best = [point for point in points if not any(o.rate > point.rate and o.score > point.score for o in points)]
    named = points if len(points) <= FEW else [point for point in points if point in best or point.is_reference]
    places = {id(point): (x(math.log(point.rate)), y(point.score)) for point in points}
    for point in sorted(points, key=lambda point: point in named):
        px, py = places[id(point)]
        kind = "reference" if point.is_reference else "named" if point in named else "other"
        mark = SubElement(svg, "g", {"class": f"mark {kind}"})
        text = f"{point.name}: {point.score:.3f} ({point.low:.3f} to {point.high:.3f}), {point.rate:.0f} a second"
        SubElement(mark, "title").text = text
        _line(mark, "interval", px, y(point.low), px, y(point.high))
        _line(mark, "interval", x(math.log(point.slowest)), py, x(math.log(point.fastest)), py)
        SubElement(mark, "circle", {"cx": f"{px:.1f}", "cy": f"{py:.1f}", "r": "4.5"})
    _label(svg, [(point.name, *places[id(point)]) for point in named], list(places.values()), height)
    return svg


def curves(lines: list[Curve], title: str, x_label: str, y_label: str) -> Element:
    """Plot a line per implementation on log axes; the reference and those lowest at their end are labelled."""
    height = 340
    places = sorted({place for line in lines for place, _ in line.points})
    values = [value for line in lines for _, value in line.points]
    low, high = min(values) / 1.25, max(values) * 1.25
    of_place = _scale(math.log(places[0]), math.log(places[-1] * 1.6), LEFT + 8, WIDTH - RIGHT)
    of_value = _scale(math.log(low), math.log(high), height - BOTTOM, TOP)
    svg = _drawing(WIDTH, height, title)
    for tick in _log_ticks(low, high):
        _line(svg, "grid", LEFT, of_value(math.log(tick)), WIDTH - RIGHT, of_value(math.log(tick)))
        _text(svg, LEFT - 8, of_value(math.log(tick)) + 4, f"{tick:g}", "tick end")
    for place in places:
        _text(svg, of_place(math.log(place)), height - BOTTOM + 17, f"{place:g}", "tick middle")
    _text(svg, LEFT, 14, y_label, "axis")
    _text(svg, WIDTH - RIGHT, height - 8, x_label, "axis end")
    lowest = sorted(lines, key=lambda line: line.points[-1][1])[:FEW]
    named = [line for line in lines if line in lowest or line.is_reference]
    ends, dots = [], []
    for line in sorted(lines, key=lambda line: line in named):
        kind = "reference" if line.is_reference else "named" if line in named else "other"
        group = SubElement(svg, "g", {"class": f"mark {kind}"})
        SubElement(
            group, "title"
        ).text = f"{line.name}: {', '.join(f'{value:.1f} at {n:g}' for n, value in line.points)}"
        drawn = [(of_place(math.log(place)), of_value(math.log(value))) for place, value in line.points]
        for one, other in pairwise(drawn):
            _line(group, "interval", *one, *other)
        for px, py in drawn:
            SubElement(group, "circle", {"cx": f"{px:.1f}", "cy": f"{py:.1f}", "r": "3"})
        dots += drawn
        ends += [(line.name, *drawn[-1])] if line in named else []
    _label(svg, ends, dots, height)
    return svg


def courses(lines: list[Curve], levels: dict[str, float], title: str, x_label: str, y_label: str) -> Element:
    """Plot lines over a common course from 0, without dots; levels are named horizontal lines to compare with.

    A line that is the reference has dots: of measurements that are few.
    """
    height = 340
    values = [value for line in lines for _, value in line.points] + list(levels.values())
    bottom, top = _padded(min(values), max(values))
    last = max(place for line in lines for place, _ in line.points)
    x = _scale(0, last * 1.25, LEFT, WIDTH - RIGHT)  # the names are at the right
    y = _scale(bottom, top, height - BOTTOM, TOP)
    svg = _drawing(WIDTH, height, title)
    for tick in _ticks(bottom, top):
        _line(svg, "grid", LEFT, y(tick), WIDTH - RIGHT, y(tick))
        _text(svg, LEFT - 8, y(tick) + 4, f"{tick:g}", "tick end")
    for tick in _ticks(0, last):
        _text(svg, x(tick), height - BOTTOM + 17, f"{tick:g}", "tick middle")
    _text(svg, LEFT, 14, y_label, "axis")
    _text(svg, WIDTH - RIGHT, height - 8, x_label, "axis end")
    for name, value in levels.items():
        mark = SubElement(svg, "g", {"class": "mark level"})
        SubElement(mark, "title").text = f"{name}: {value:.3f}"
        _line(mark, "level", LEFT, y(value), x(last), y(value))
    ends = [(name, x(last), y(value)) for name, value in levels.items()]
    for line in lines:
        mark = SubElement(svg, "g", {"class": f"mark {'reference' if line.is_reference else 'named'}"})
        SubElement(mark, "title").text = f"{line.name}: {line.points[-1][1]:.3f} at {line.points[-1][0]:g}"
        drawn = [(x(place), y(value)) for place, value in line.points]
        path = "L".join(f"{px:.1f} {py:.1f}" for px, py in drawn)
        SubElement(mark, "path", {"class": "interval", "d": f"M{path}"})
        for px, py in drawn if line.is_reference else []:
            SubElement(mark, "circle", {"cx": f"{px:.1f}", "cy": f"{py:.1f}", "r": "3"})
        ends.append((line.name, x(last), drawn[-1][1]))
    _label(svg, ends, [], height)
    return svg


def dots(rows: list[Row], title: str, x_label: str) -> Element:
    """Plot a row per implementation: values as dots, the mark as a line, values that do not count as hollow dots."""
    every = [value for row in rows for value in (*row.values, *row.hollow)]
    bottom, top = _padded(min(every), max(every))
    svg, x = _rows(rows, title, x_label, lambda left: _scale(bottom, top, left, WIDTH - RIGHT), _ticks(bottom, top))
    for number, row in enumerate(rows):
        middle = TOP + (number + 0.5) * ROW
        if row.mark is not None:
            _line(svg, "mean", x(row.mark), middle - 8, x(row.mark), middle + 8)
        for values, kind in ((row.values, "seed"), (row.hollow, "seed hollow")):
            for value in values:
                _dot(svg, kind, x(value), middle, f"{row.name}: {value:.3f}")
    return svg


def ranges(rows: list[Row], names: Sequence[str], title: str, x_label: str) -> Element:
    """Plot a row per implementation on a log scale: a line from first to last value, with a dot for each name."""
    every = [value for row in rows for value in row.values]
    low, high = min(every) / 1.15, max(every) * 1.15

    def scale(left: float) -> Callable[[float], float]:
        of_log = _scale(math.log(low), math.log(high), left, WIDTH - RIGHT)
        return lambda value: of_log(math.log(value))

    svg, x = _rows(rows, title, x_label, scale, _log_ticks(low, high))
    for number, row in enumerate(rows):
        middle = TOP + (number + 0.5) * ROW
        _line(svg, "range", x(row.values[0]), middle, x(row.values[-1]), middle)
        for place, (name, value) in enumerate(zip(names, row.values, strict=True)):
            _dot(svg, f"step s{place}", x(value), middle, f"{row.name}: {name} {value:.1f}")
    return svg


def bars(pairs: list[tuple[int, int]], title: str, x_label: str, y_label: str) -> Element:
    """Plot a histogram of (number, count) pairs, in at most 40 bins of equal width."""
    height, last = 220, max(number for number, _ in pairs)
    width = max(1, math.ceil((last + 1) / 40))
    counts = [0] * (last // width + 1)
    for number, count in pairs:
        counts[number // width] += count
    x = _scale(0, len(counts) * width, LEFT, WIDTH - RIGHT)
    y = _scale(0, max(counts), height - BOTTOM, TOP)
    svg = _drawing(WIDTH, height, title)
    for tick in [tick for tick in _ticks(0, max(counts)) if tick == int(tick)]:
        _line(svg, "grid", LEFT, y(tick), WIDTH - RIGHT, y(tick))
        _text(svg, LEFT - 8, y(tick) + 4, f"{tick:g}", "tick end")
    for number, count in enumerate(counts):
        if count:
            start, end = x(number * width), x((number + 1) * width)
            box = {"x": start + 0.5, "y": y(count), "width": max(1.0, end - start - 1), "height": y(0) - y(count)}
            bar = SubElement(svg, "rect", {"class": "bar", **{name: f"{value:.1f}" for name, value in box.items()}})
            lengths = f"{number * width}" if width == 1 else f"{number * width} to {(number + 1) * width - 1}"
            SubElement(bar, "title").text = f"{lengths}: {count}"
    for tick in _ticks(0, len(counts) * width):
        _text(svg, x(tick), height - BOTTOM + 17, f"{tick:g}", "tick middle")
    _text(svg, LEFT, 14, y_label, "axis")
    _text(svg, WIDTH - RIGHT, height - 8, x_label, "axis end")
    return svg


# --- pieces -----------------------------------------------------------------------------------------------------------


def _drawing(width: float, height: float, title: str) -> Element:
    box = {"viewBox": f"0 0 {width:g} {height:g}", "width": f"{width:g}", "height": f"{height:g}"}
    return Element("svg", {"class": "plot", "role": "img", "aria-label": title, **box})


def _rows(
    rows: list[Row],
    title: str,
    x_label: str,
    scale: Callable[[float], Callable[[float], float]],
    ticks: list[float],
) -> tuple[Element, Callable[[float], float]]:
    """The drawing of a plot by rows with names, lines and axis, and the scale from a value to its x."""
    left = min(max(len(row.name) for row in rows) * LETTER + 14, 0.45 * WIDTH)
    bottom = TOP + len(rows) * ROW
    x, svg = scale(left), _drawing(WIDTH, bottom + BOTTOM - 4, title)
    for tick in ticks:
        _line(svg, "grid", x(tick), TOP - 6, x(tick), bottom)
        _text(svg, x(tick), bottom + 16, f"{tick:g}", "tick middle")
    for number, row in enumerate(rows):
        middle = TOP + (number + 0.5) * ROW
        _line(svg, "row", left, middle, WIDTH - RIGHT, middle)
        _text(svg, left - 10, middle + 4, _cut(row.name, int((left - 14) / LETTER)), "end")
    _text(svg, WIDTH - RIGHT, bottom + 34, x_label, "axis end")
    return svg, x


def _cut(name: str, letters: int) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _line(parent: Element, kind: str, x0: float, y0: float, x1: float, y1: float) -> None:
    SubElement(parent, "path", {"class": kind, "d": f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"})


def _text(parent: Element, x: float, y: float, text: str, kind: str = "") -> None:
    SubElement(parent, "text", {"class": kind, "x": f"{x:.1f}", "y": f"{y:.1f}"}).text = text


def _dot(parent: Element, kind: str, x: float, y: float, text: str) -> None:
    dot = SubElement(parent, "circle", {"class": kind, "cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4.5"})
    SubElement(dot, "title").text = text


def _label(
    svg: Element, names: list[tuple[str, float, float]], points: list[tuple[float, float]], height: float
) -> None:
    """Write names beside their points, or as near as there is room without covering another name or point."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    for name, x, y in names:
        width = LETTER * len(name)
        steps = [sign * 14 * n for n in range(int(height // 14)) for sign in (1, -1)]
        tries = [(left, y + step) for step in steps for left in (x + 9, x - 9 - width)]
        inside = [(a, b) for a, b in tries if LEFT < a < WIDTH - 4 - width and TOP <= b <= height - BOTTOM - 4]
        boxes = {(a, b): (a, b - 7, a + width, b + 7) for a, b in inside or tries[:1]}
        free = (place for place, box in boxes.items() if not any(_overlap(box, each) for each in taken))
        left, middle = next(free, next(iter(boxes)))
        taken.append(boxes[left, middle])
        if abs(middle - y) > 14:
            _line(svg, "leader", x, y, left if left > x else left + width, middle)
        _text(svg, left, middle + 4, name, "name")


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _padded(low: float, high: float) -> tuple[float, float]:
    """The range widened a little, so that it is not empty if all values are equal."""
    pad = max(0.05 * (high - low), 0.005)
    return low - pad, high + pad


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from ``low`` to ``high``."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    return [round(step * n, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten from ``low`` to ``high``; equal steps if there are fewer than two."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    return ticks if len(ticks) >= 2 else _ticks(low, high)
