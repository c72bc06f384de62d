"""The pages that say which implementation to use: a sentence, bars, and what a row opens to."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from catalog.site import choices
from catalog.site.choices import ACTIVITIES, COMMON, FEEDS, LEVELS, MACHINES, SIZES, Answer, Choice, Line, Words
from catalog.site.costs import Cost, Quality, quality
from catalog.site.leaderboard import Shape, Source
from catalog.site.view import View

PRECISION_ORDER = ("fp64", "fp32", "bf16", "fp16", "int16", "int8")
SHOWN = 10  # rows before those that open
PART_NAMES = {
    "machine": ("Machine", "机器"),
    "size": ("Model", "模型"),
    "feed": ("Input", "输入"),
    "level": ("Precision", "精度"),
}


@dataclass(frozen=True)
class Bar:
    """One row as the page shows it: lengths are percentages of the longest."""

    line: Line
    quality: Quality
    length: float
    low: float
    high: float
    sources: list[Source]


def board_pages(
    view: View, found: dict[Choice, Answer], costs: list[Cost], places: dict[str, str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """A page for each choice, the default one of each activity under the activity's own name.

    ``places`` are the pages on which records are listed, by key.
    """
    pages = {}
    names = page_names(found)
    for choice, answer in found.items():
        up = "../" if "/" in names[choice] else ""
        values = {
            "answer": answer,
            "choice": choice,
            "here": ACTIVITIES[choice.activity][0],
            "up": up,
            "parts": parts(view, found, names, choice, up),
            "bars": bars(answer, costs),
            "shown": SHOWN,
            "kinds_lacking": [view.t(*MACHINES[each][1]) for each in _lacking(found)],
            "places": places,
            "is_default": "/" not in names[choice],
        }
        pages[f"{names[choice]}.md"] = ("board", values)
    return pages


def page_names(found: dict[Choice, Answer]) -> dict[Choice, str]:
    """The page of each choice, without its ending."""
    defaults = {choices.default(found, activity): page for activity, (page, _) in ACTIVITIES.items()}
    return {choice: defaults.get(choice, f"boards/{choice.slug}") for choice in found}


def _lacking(found: dict[Choice, Answer]) -> list[str]:
    """The kinds of processor without records, those that most people have first."""
    measured = {choice.machine for choice in found}
    return sorted(MACHINES.keys() - measured - {"other"}, key=lambda kind: choices.place(kind, COMMON))


def parts(
    view: View, found: dict[Choice, Answer], names: dict[Choice, str], choice: Choice, up: str
) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """What can be chosen: (name of the part, [(value, address, whether it is chosen)])."""
    given = []
    for part, values in choices.alternatives(found, choice):
        links = [
            (value_name(view, found, part, nearest), f"{up}{names[nearest]}.html", value == getattr(choice, part))
            for value, nearest in values
        ]
        given.append((view.t(*PART_NAMES[part]), links))
    return given


def value_name(view: View, found: dict[Choice, Answer], part: str, choice: Choice) -> str:
    """The name of one part of a choice."""
    if part == "machine":
        return view.t(*choices.machine_name(found[choice].board))
    if part == "size":
        name = found[choice].board.checkpoint.removeprefix("random/")
        return view.t(*SIZES.get(choice.size, (name, name)))
    if part == "feed":
        return view.t(*FEEDS[choice.feed]) if choice.feed in FEEDS else choices.feed_name(found[choice].shape)[0]
    return view.t(*LEVELS[choice.level][0])


def bars(answer: Answer, costs: list[Cost]) -> list[Bar]:
    """The rows of an answer, with the lengths of their bars."""
    longest = max(line.ratio[2] for line in answer.lines)
    found = []
    for line in answer.lines:
        middle, low, high = (100 * each / longest for each in line.ratio)
        sources = [
            each
            for each in answer.board.sources
            if each.subject == answer.shape.name
            and line.row.implementation in each.implementations
            and each.precision == line.row.precision
        ]
        those = costs if answer.shape.activity == "inference" else []  # they are of inference
        found.append(Bar(line, quality(those, line.row, answer.board.hardware), middle, low, high, sources[-3:]))
    return found


def figure(view: View, shape: Shape, line: Line) -> str:
    """The absolute figure of a row: milliseconds for one sequence at a time, else a rate."""
    if shape.latency:
        return f"{significant(1000 * line.speed.p50)} {view.t('ms', '毫秒')}"
    return f"{significant(line.speed.sequences_per_second)} {view.t('/ s', '条/秒')}"


def significant(value: float) -> str:
    """Two or three digits that mean something: 0.85, 3.4, 27, 1,240."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def points(value: float) -> str:
    """A difference of a score in points, such as ``−0.4``; as many decimals as it needs not to be 0."""
    decimals = 1 if abs(value) >= 0.00095 else 2
    text = f"{100 * value:+.{decimals}f}"
    return text.replace("-", "−") if float(text) else "0"


def cost_text(view: View, costs: Quality, reference: bool) -> str:
    """What an implementation costs in quality, in a few words."""
    t = view.t
    if reference:
        return t("is the reference", "即参考实现")
    if not costs.costs:
        return t("not measured", "未测")
    if costs.worst:
        return t(f"{points(costs.worst.difference)} on ", f"{points(costs.worst.difference)}，") + costs.worst.task
    if costs.within:
        return t("none shown", "未见差异")
    if costs.unsure:
        return t("too little to tell", "证据不足")
    return t("none: same answers", "无：答案相同")


def difference_text(view: View, cost: Cost) -> str:
    """One difference with its interval and what it is of."""
    t = view.t
    seeds = t(f"{len(cost.seeds)} seed{'s' if len(cost.seeds) > 1 else ''}", f"{len(cost.seeds)} 个种子")
    if cost.low is None or cost.high is None:
        few = t(
            f"{cost.differing} of {cost.answers} answers differ", f"{cost.answers} 个答案中 {cost.differing} 个不同"
        )
        known = seeds if cost.metric in ("pearson", "spearman") else f"{few}; {seeds}"  # of scores nearly all differ
        return f"{points(cost.difference)} ({t('no interval', '无区间')}; {known})"
    return f"{points(cost.difference)} ({points(cost.low)} {t('to', '至')} {points(cost.high)}; {seeds})"


def verdict_text(view: View, answer: Answer, rows: list[Bar]) -> Markup:
    """The answer in one or two sentences."""
    t = view.t
    first, name = rows[0], _strong(rows[0])
    machine = t(*choices.machine_name(answer.board))
    where = t(
        f"On {machine}, {_fed(view, answer)}",
        f"在{' ' if machine[0].isascii() else ''}{machine} 上，{_fed(view, answer)}",
    )
    figures = figure(view, answer.shape, first.line)
    exactly = answer.choice.level == "exact" and answer.choice.activity == "inference"
    fastest = t(" is the fastest that computes BERT exactly", " 是完全一致的实现中最快的") if exactly else ""
    said = escape(where) + t(", ", "，") + name + (fastest or t(" is the fastest", " 最快"))
    if first.line.family != choices.REFERENCE or first.line.row.computes != answer.base:
        ratio = f"{first.line.ratio[0]:.2f}"
        base = answer.base.replace("fp32", "float32")
        said += t(
            f": {figures}, {ratio} times the reference in {base}", f"：{figures}，为 {base} 参考实现的 {ratio} 倍"
        )
    else:
        said += t(f": {figures}", f"：{figures}")
    said += t(". ", "。")
    level = {line.row.implementation for line in answer.level_with_first}
    near = [_strong(bar) for bar in rows[1:] if bar.line.row.implementation in level][:3]
    if near:
        said += escape(t(", ", "、")).join(near)
        said += t(
            f" {'overlaps' if len(near) == 1 else 'overlap'} it in range: no difference between them is shown. ",
            " 与它的范围重叠，未显示出差异。",
        )
    elif len(rows) > 1:
        factor = f"{rows[1].line.ratio[0] / first.line.ratio[0]:.2f}"
        said += (
            t("Next is ", "其次是 ")
            + _strong(rows[1])
            + t(f", at {factor} of its speed. ", f"，速度为其 {factor} 倍。")
        )
    return said + _cost_sentence(view, first)


def _strong(bar: Bar) -> Markup:
    row = bar.line.row
    precision = "" if row.computes in row.implementation else f" ({row.computes})"
    return Markup("<b>{}</b>{}").format(row.implementation, precision if row.computes != "fp32" else "")


def _fed(view: View, answer: Answer) -> str:
    t, shape = view.t, answer.shape
    name = t(*choices.feed_name(shape))
    if shape.activity != "inference":
        doing = t(*ACTIVITIES[shape.activity][1])
        return t(f"{doing.lower()} on {name}", f"{name} {doing}")
    what = shape.name if shape.own_lengths else t(*(f"{shape.name} tokens", f"{shape.name} 词元"))
    what = what.replace(" x ", " × ")
    return t(f"with {name} ({what})", f"输入为{name}（{what}）时")


def _cost_sentence(view: View, bar: Bar) -> str:
    t, costs = view.t, bar.quality
    if bar.line.row.computes == "fp32" or not costs.costs:
        return ""
    tested = len(costs.same) + len(costs.within)
    if costs.worst:
        points_lost = difference_text(view, costs.worst)
        return t(
            f"It costs quality: {costs.worst.task} {points_lost}.", f"质量有代价：{costs.worst.task} {points_lost}。"
        )
    return t(
        f"No loss of quality is shown on the {tested} tasks where one could be." if tested else "",
        f"在能够判断的 {tested} 个任务上未显示质量损失。" if tested else "",
    )


def precision_text(view: View, costs: Quality) -> str:
    """What a lower precision costs on one task, over the implementations that have it."""
    t = view.t
    if not costs.costs:
        return "–"
    if costs.worst:
        return f"{costs.worst.implementation} {difference_text(view, costs.worst)}"
    if costs.within:
        most = max(costs.within, key=lambda cost: len(cost.seeds))
        return t("none shown: ", "未见差异：") + f"{most.implementation} {difference_text(view, most)}"
    return t("none: same answers", "无：答案相同") if costs.same else t("too little to tell", "证据不足")


@dataclass(frozen=True)
class Summary:
    """One implementation on one kind of machine, computing in one precision: its fastest variant for each input."""

    machine: Words
    size: str
    computes: str
    ratios: dict[str, tuple[Line, Answer, str]]  # by input: the row, where from, and the page of that board

    @property
    def memory(self) -> float:
        """Peak memory in bytes over these inputs."""
        return max(line.speed.memory for line, _, _ in self.ratios.values())

    @property
    def line(self) -> Line:
        """One of its rows, for what does not depend on the input."""
        return next(iter(self.ratios.values()))[0]


def summaries(view: View, found: dict[Choice, Answer], entry: str) -> list[Summary]:
    """What the page of an entry shows: one for each kind of machine, size of model and precision."""
    names = page_names(found)
    groups: dict[tuple[str, str, str], dict[str, tuple[Line, Answer, str]]] = {}
    for choice, answer in found.items():
        if choice.activity != "inference":
            continue
        new = choices.added(choice.level)
        for line in answer.lines:
            for each in (line, *line.others):
                if each.row.catalog_id == entry and each.row.computes in new:
                    group = groups.setdefault((choice.machine, choice.size, each.row.computes), {})
                    known = group.get(choice.feed)
                    if known is None or each.ratio[0] > known[0].ratio[0]:
                        group[choice.feed] = (each, answer, names[choice])
    order = sorted(groups, key=lambda key: (choices.place(key[0], COMMON), key[1], list(PRECISION_ORDER).index(key[2])))
    return [
        Summary(
            choices.machine_name(next(iter(groups[key].values()))[1].board),
            view.t(*SIZES.get(key[1], (key[1], key[1]))),
            key[2],
            {feed: groups[key][feed] for feed in FEEDS if feed in groups[key]},
        )
        for key in order
    ]
