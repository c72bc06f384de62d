"""Which implementation to use: one answer for each kind of machine, size of model, input and precision allowed.

All ratios of one answer are to the same reference on the same machine. Those to the reference in a lower precision are
multiplied by its ratio to the reference in float32 where both were timed in one comparison.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from catalog.site.leaderboard import Board, Row, Shape, Speed, family_name

Words = tuple[str, str]  # English, Chinese
Level = Literal["exact", "bf16", "int8"]
Ratio = tuple[float, float, float]  # to the reference: median, lowest and highest of the rounds

# A processor is of the first kind all of whose instructions it has. The harness has the same kinds (a test compares).
MACHINES: dict[str, tuple[frozenset[str], Words]] = {
    "amx": (frozenset({"amx_tile"}), ("AMX", "AMX")),
    "avx-512-vnni": (frozenset({"avx512f", "avx512_vnni"}), ("AVX-512 with VNNI", "带 VNNI 的 AVX-512")),
    "avx-512": (frozenset({"avx512f"}), ("AVX-512 without VNNI", "不带 VNNI 的 AVX-512")),
    "avx2-vnni": (frozenset({"avx2", "avx_vnni"}), ("AVX2 with VNNI", "带 VNNI 的 AVX2")),
    "avx2": (frozenset({"avx2"}), ("AVX2 without VNNI", "不带 VNNI 的 AVX2")),
    "arm": (frozenset({"neon"}), ("Arm", "Arm")),
    "other": (frozenset(), ("other processors", "其他处理器")),
}
COMMON = ("avx2", "avx2-vnni", "avx-512-vnni", "avx-512", "amx")  # the first that was measured is shown first
SIZES: dict[str, Words] = {  # by checkpoint; others are named as they are
    "minilm-l6": ("small: 6 layers of 384", "小：6 层 × 384"),
    "bert-base": ("BERT-base: 12 layers of 768", "BERT-base：12 层 × 768"),
    "bert-large": ("BERT-large: 24 layers of 1,024", "BERT-large：24 层 × 1024"),
}
FEEDS: dict[str, Words] = {
    "short": ("one short sentence", "一个短句"),
    "long": ("one long sentence", "一个长句"),
    "batches": ("batches", "成批输入"),
    "sentences": ("real sentences", "真实句子"),
}
LEVELS: dict[Level, tuple[Words, frozenset[str]]] = {
    "exact": (("exact only", "只要完全一致"), frozenset({"fp32", "fp64"})),
    "bf16": (("bf16 too", "可用 bf16"), frozenset({"fp32", "fp64", "bf16", "fp16"})),
    "int8": (("int8 too", "可用 int8"), frozenset({"fp32", "fp64", "bf16", "fp16", "int16", "int8"})),
}
ACTIVITIES: dict[str, tuple[str, Words]] = {  # of the harness's kinds of timing: page, name
    "inference": ("leaderboard", ("Speed", "速度")),
    "training": ("training", ("Fine-tuning", "微调")),
    "service": ("services", ("Services", "服务")),
    "pretraining": ("pretraining", ("Pre-training", "预训练")),
}
SHORT = 32  # tokens of a short sentence
REFERENCE = "reference"


@dataclass(frozen=True)
class Choice:
    """What is asked."""

    activity: str
    machine: str
    size: str
    feed: str
    level: Level

    @property
    def slug(self) -> str:
        """Its name in addresses."""
        parts = (self.machine, self.size, self.feed, self.level)
        return "-".join(parts if self.activity == "inference" else (self.activity, *parts))


@dataclass(frozen=True)
class Line:
    """One implementation, in the fastest of its variants that are allowed."""

    row: Row
    speed: Speed
    ratio: Ratio
    chained: bool  # the product of two ratios
    others: list["Line"] = field(default_factory=list)  # its other variants
    elsewhere: list[float] = field(default_factory=list)  # ratios on other machines of the kind

    @property
    def family(self) -> str:
        """The implementation without its variant."""
        return family_name(self.row.implementation)


@dataclass(frozen=True)
class Answer:
    """What was measured for a choice, on the machine of the kind that was measured most."""

    choice: Choice
    board: Board
    shape: Shape
    base: str  # precision of the reference in the ratios
    lines: list[Line]  # the fastest first
    otherwise: list[str]  # timed here, but they compute another function than BERT
    machines: int = 1

    @property
    def level_with_first(self) -> list[Line]:
        """Others whose range overlaps that of the fastest."""
        return [line for line in self.lines[1:] if line.ratio[2] >= self.lines[0].ratio[1]]


def machine_of(flags: Iterable[str], gpu: str = "") -> str:
    """The kind of a machine: a GPU's own name, or the processor's widest instructions for products."""
    if gpu:
        return slug(gpu)
    has = frozenset(flags)
    return next(name for name, (needed, _) in MACHINES.items() if needed <= has)


def machine_name(board: Board) -> Words:
    """What people call such a machine."""
    return (board.gpu, board.gpu) if board.gpu else MACHINES[machine_of(board.flags)][1]


def size_of(checkpoint: str) -> str:
    """The size of a checkpoint: random weights are as fast as others."""
    name = slug(checkpoint.removeprefix("random/"))
    return next((known for known in SIZES if name.startswith(known)), name)


def slug(text: str) -> str:
    """Text as a part of an address."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def feed_of(shape: Shape) -> str:
    """What is fed: for inference one of FEEDS, else the name of what was timed."""
    if shape.activity != "inference":
        return slug(shape.name.removesuffix(f", {shape.activity}"))
    if shape.own_lengths:
        return "sentences"
    if not shape.latency:
        return "batches"
    return "short" if shape.tokens <= SHORT else "long"


def feed_name(shape: Shape) -> Words:
    """What is fed, in words."""
    name = shape.name.removesuffix(f", {shape.activity}")
    return FEEDS[feed_of(shape)] if shape.activity == "inference" else (name, name)


def answers(boards: list[Board]) -> dict[Choice, Answer]:
    """The answers to all choices that were measured."""
    groups: dict[tuple[str, str], list[Board]] = {}
    for board in boards:
        groups.setdefault((machine_of(board.flags, board.gpu), size_of(board.checkpoint)), []).append(board)
    verdicts = _verdicts(boards)
    found = {}
    for (machine, size), those in groups.items():
        feeds = {(shape.activity, feed_of(shape)) for board in those for shape in board.shapes.values()}
        for activity, feed in sorted(feeds):
            if activity not in ACTIVITIES:
                continue
            for level in LEVELS:
                choice = Choice(activity, machine, size, feed, level)
                if answer := _answer(choice, those, verdicts):
                    found[choice] = answer
    return found


def default(found: dict[Choice, Answer], activity: str = "inference") -> Choice | None:
    """The choice that is shown first."""

    def order(choice: Choice) -> tuple[object, ...]:
        return (
            *place(choice.machine, COMMON),
            -len([each for each in found if each.size == choice.size and each.activity == activity]),
            place(choice.feed, tuple(FEEDS)),
            tuple(LEVELS).index(choice.level),
        )

    return min((each for each in found if each.activity == activity), key=order, default=None)


def place(name: str, order: tuple[str, ...]) -> tuple[int, str]:
    """Sort key: the place in an order, and what is not in it last."""
    return (order.index(name) if name in order else len(order), name)


def alternatives(found: dict[Choice, Answer], choice: Choice) -> Iterator[tuple[str, list[tuple[str, Choice]]]]:
    """For each part of the choice the values that can be chosen, each with the nearest choice that was measured."""
    same = [each for each in found if each.activity == choice.activity]
    for part, order in (
        ("machine", COMMON),
        ("size", tuple(SIZES)),
        ("feed", tuple(FEEDS)),
        ("level", tuple(LEVELS)),
    ):
        values = sorted({getattr(each, part) for each in same}, key=lambda value: place(value, order))
        nearest = [
            (value, max((e for e in same if getattr(e, part) == value), key=lambda e: _alike(e, choice)))
            for value in values
        ]
        yield part, nearest


def _alike(one: Choice, other: Choice) -> tuple[object, ...]:
    """How alike two choices are; a change of machine weighs most."""
    parts = ("machine", "size", "feed", "level")
    return (*(getattr(one, part) == getattr(other, part) for part in parts), -tuple(LEVELS).index(one.level))


def _verdicts(boards: list[Board]) -> dict[tuple[str, str], str]:
    """Verdicts on parity by implementation and precision of its products: of any machine and checkpoint."""
    found: dict[tuple[str, str], str] = {}
    for row in (row for board in boards for row in board.rows if row.verdict):
        found.setdefault((row.implementation, row.computes), str(row.verdict))
    return found


def _answer(choice: Choice, boards: list[Board], verdicts: dict[tuple[str, str], str]) -> Answer | None:
    """The answer from the board, shape and reference that have most lines; None where none is of the level itself."""
    every = [
        _lines(choice, board, shape, base, verdicts)
        for board in boards
        for shape in board.shapes.values()
        if (shape.activity, feed_of(shape)) == (choice.activity, choice.feed)
        for base in ("fp32", "bf16", "fp16")
    ]
    new = added(choice.level)
    fit = [each for each in every if any(line.row.computes in new for line in each.lines)]
    if not fit:
        return None
    best = max(fit, key=lambda each: (len(each.lines), each.base == "fp32", each.board.last, each.shape.tokens))
    by_machine = {
        each.board.machine: each for each in fit if (each.shape.name, each.base) == (best.shape.name, best.base)
    }
    others = [each for name, each in by_machine.items() if name != best.board.machine]
    lines = [
        replace(
            line,
            elsewhere=[
                other.ratio[0]
                for each in others
                for other in each.lines
                if other.row.implementation == line.row.implementation
            ],
        )
        for line in best.lines
    ]
    return replace(best, lines=lines, machines=len(by_machine))


def added(level: Level) -> frozenset[str]:
    """The precisions that a level allows and the level before it does not."""
    before = tuple(LEVELS).index(level) - 1
    return LEVELS[level][1] - (tuple(LEVELS.values())[before][1] if before >= 0 else frozenset())


def _lines(choice: Choice, board: Board, shape: Shape, base: str, verdicts: dict[tuple[str, str], str]) -> Answer:
    allowed = LEVELS[choice.level][1]
    by_name = {(row.implementation, row.precision): row for row in board.rows if shape.name in row.speeds}
    timed: list[Line] = []
    for row in by_name.values():
        speed = row.speeds[shape.name]
        if not speed.ratio or row.computes not in allowed:
            continue
        ratio: Ratio = (speed.ratio[0], speed.ratio[1], speed.ratio[2])
        if row.precision == base:
            timed.append(Line(row, speed, ratio, chained=False))
            continue
        lower = by_name.get((f"{REFERENCE}:{row.precision}", base))
        factor = lower.speeds[shape.name].ratio if lower and base == "fp32" else None
        if factor:
            product = (ratio[0] * factor[0], ratio[1] * factor[1], ratio[2] * factor[2])
            timed.append(Line(row, speed, product, chained=True))
    direct = {(line.family, line.row.computes) for line in timed if not line.chained}
    timed = [line for line in timed if not line.chained or (line.family, line.row.computes) not in direct]
    bert = [line for line in timed if _is_bert(line, verdicts)]
    families: dict[str, list[Line]] = {}
    for line in sorted(bert, key=lambda line: -line.ratio[0]):
        families.setdefault(line.family, []).append(line)
    lines = [replace(first, others=others) for first, *others in families.values()]
    otherwise = sorted({line.family for line in timed} - families.keys())
    return Answer(choice, board, shape, base, lines, otherwise)


def _is_bert(line: Line, verdicts: dict[tuple[str, str], str]) -> bool:
    """Whether it computes BERT but for rounding: parity is exact in float32; in lower precisions, that it is known."""
    name = line.row.implementation if line.row.computes == "fp32" else line.family
    verdict = verdicts.get((name, "fp32"))
    if line.row.computes == "fp32":
        return verdict == "exact"
    return verdict in ("exact", None)
