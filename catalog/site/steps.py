"""BERT step by step: numbers and pictures for the hand-written page, from what the harness computed for a sentence.

The page is ``docs/<language>/step-by-step.md``, a template: every figure in it is computed here, and every line of code
is read from the file that it is of.
"""

import ast
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from catalog.errors import BadInput

ROOT = Path(__file__).parents[2]
SCHEMA = 1
LEVELS = (0.08, 0.2, 0.4, 0.7)  # of attention, in a small drawing: four shades
INVISIBLE = 1e-12  # a smaller difference of hidden states is rounding
SHOWN = 128  # tokens, in the table of products
DATA = "assets/attention-data.js"
MASK = "[MASK]"


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Weights(Model):
    """The weights that were explained."""

    name: str
    sha256: str


class Token(Model):
    """One token, with the lengths of the vectors that are added for it."""

    piece: str
    id: int
    segment: int
    position: int
    word: float
    of_segment: float
    of_position: float
    sum: float
    embedded: float


class Head(Model):
    """Mean shares of a head's attention, and its entropy in bits."""

    previous: float
    same: float
    next: float
    separators: float
    entropy: float


class Layer(Model):
    """What a layer changes, by token."""

    input: list[float]
    attention: list[float]
    feed_forward: list[float]
    cosine: list[float]


class Padding(Model):
    """How much a neighbour of another length changes a sequence."""

    lengths: list[int]
    added: int  # padding, for the deviations that concern it
    difference: float


class Product(Model):
    """A matrix product, [rows, inner] x [inner, columns], of all layers and heads."""

    name: str
    count: int
    rows: int
    inner: int
    columns: int
    multiply_adds: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Floating-point operations for each byte that is read or written."""
        return 2 * self.multiply_adds / self.bytes


class Arithmetic(Model):
    """All products of one model for one sequence."""

    model: str
    tokens: int
    products: list[Product]

    @property
    def multiply_adds(self) -> int:
        """Of all products."""
        return sum(each.multiply_adds for each in self.products)

    @property
    def quadratic(self) -> float:
        """The share of the products that grow with the square of the length."""
        return sum(p.multiply_adds for p in self.products if p.name in ("scores", "context")) / self.multiply_adds


class Chosen(Model):
    """A token that pre-training has to predict, and what it is replaced by."""

    position: int
    piece: str


class Masking(Model):
    """The share of tokens that is chosen, of these what is masked and replaced; and the sentence in some epochs."""

    rate: float
    mask: float
    random: float
    epochs: list[list[Chosen]]


class Recipe(Model):
    """How a small model is fine-tuned on an embedded task."""

    task: str
    epochs: int
    learning_rate: float
    batch_size: int


class Deviation(Model):
    """What a known deviation of ports does to the hidden states: the lowest cosine of a token, by layer."""

    name: str
    title: str
    what: str
    layers: list[float]
    max: float

    @property
    def visible(self) -> bool:
        """Whether it changes anything for this sentence."""
        return self.max > INVISIBLE

    @property
    def cosine(self) -> float:
        """The lowest after the last layer."""
        return self.layers[-1]


class Explained(Model):
    """The file that ``python -m harness explain`` writes."""

    version: int = Field(alias="schema")  # of the form of the file
    weights: Weights
    configs: dict[str, dict[str, int | float | str]]  # by model
    text: str
    pair: str | None
    tokens: list[Token]
    attention: list[list[list[list[float]]]]  # by layer and head: a token (row) attends to tokens (columns)
    scores: list[list[list[list[float]]]]
    heads: list[list[Head]]
    layers: list[Layer]
    padding: Padding
    parameters: dict[str, dict[str, int]]
    arithmetic: list[Arithmetic]
    masking: Masking
    recipe: Recipe
    deviations: list[Deviation]


def read(path: Path | None) -> Explained | None:
    """What the harness computed; None if there is no such file. BadInput for a file of another form."""
    if path is None or not path.exists():
        return None
    again = "write it again: python -m harness explain --output"
    try:
        found = Explained.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, ValidationError) as error:
        raise BadInput(f"{path}: not an explanation of a sentence ({str(error).splitlines()[0]}); {again}") from error
    if found.version != SCHEMA:
        raise BadInput(f"{path}: schema {found.version}; this version of BERT Atlas reads schema {SCHEMA}; {again}")
    return found


# --- code ---


@dataclass(frozen=True)
class Source:
    """Lines of a file of ours."""

    file: str
    first: int
    last: int
    text: str
    anchor: str  # on the page of the API


@functools.cache
def source(file: str, name: str) -> Source:
    """The lines of a function or class (``Layer``, ``Layer.forward``) of a file. BadInput if it is not there."""
    text = (ROOT / file).read_text(encoding="utf-8")
    body: list[ast.stmt] = ast.parse(text).body
    found: ast.FunctionDef | ast.ClassDef | None = None
    for part in name.split("."):
        named = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        if not named:
            raise BadInput(f"{file} has no {name}, which a page shows")
        found = named[-1]
        body = found.body
    assert found is not None
    first = min([found.lineno, *(each.lineno for each in found.decorator_list)])
    last = found.end_lineno or first
    lines = text.splitlines()[first - 1 : last]
    indent = len(lines[0]) - len(lines[0].lstrip())
    module = file.removesuffix(".py").replace("/", ".")
    return Source(file, first, last, "\n".join(line[indent:] for line in lines), f"{module}.{name.split('.')[0]}")


# --- what the page shows ---

Pattern = Literal["previous", "next", "same", "separators"]


@dataclass(frozen=True)
class Place:
    """A head by its layer, both counted from 1, and the share of attention that it is shown for."""

    layer: int
    head: int
    share: float


class Steps:
    """What the template of the page asks for."""

    def __init__(self, explained: Explained) -> None:
        self.x = explained
        self.pieces = [token.piece for token in explained.tokens]

    def size(self, name: str, model: str = "") -> int:
        """A size in the configuration of the weights, or of another model."""
        return int(self.x.configs[model or self.x.weights.name][name])

    def index(self, piece: str) -> int:
        """The first place of a piece. BadInput if the sentence lacks it."""
        if piece not in self.pieces:
            raise BadInput(
                f"the page speaks of {piece!r}, which the explained sentence lacks; leave the sentence to the default: "
                "python -m harness explain --output build/explained.json"
            )
        return self.pieces.index(piece)

    def strongest(self, query: str, key: str) -> Place:
        """The head in which one piece attends to another most."""
        q, k = self.index(query), self.index(key)
        share, layer, head = max(
            (each[q][k], -layer, -head)
            for layer, heads in enumerate(self.x.attention, 1)
            for head, each in enumerate(heads, 1)
        )
        return Place(-layer, -head, share)

    def clearest(self, pattern: Pattern) -> Place:
        """The head that attends most to the previous token, the next, the same, or [CLS] and [SEP]."""
        share, layer, head = max(
            (getattr(each, pattern), -layer, -head)
            for layer, heads in enumerate(self.x.heads, 1)
            for head, each in enumerate(heads, 1)
        )
        return Place(-layer, -head, share)

    def broadest(self) -> Place:
        """The head whose attention is spread widest; the share is its entropy as a part of the highest possible."""
        share, layer, head = max(
            (each.entropy / math.log2(len(self.pieces)), -layer, -head)
            for layer, heads in enumerate(self.x.heads, 1)
            for head, each in enumerate(heads, 1)
        )
        return Place(-layer, -head, share)

    def row(self, place: Place, query: str) -> list[tuple[str, float, float]]:
        """(piece, score, share) of all that a piece attends to in a head, the largest first."""
        q = self.index(query)
        scores = self.x.scores[place.layer - 1][place.head - 1][q]
        shares = self.x.attention[place.layer - 1][place.head - 1][q]
        return sorted(zip(self.pieces, scores, shares, strict=True), key=lambda each: -each[2])

    def matrix(self, place: Place) -> list[list[float]]:
        """The attention of a head."""
        return self.x.attention[place.layer - 1][place.head - 1]

    def drawing(self, place: Place, title: str) -> Markup:
        """A head as a small square: a row for each token, and darker where it attends more."""
        matrix, size = self.matrix(place), len(self.pieces)
        paths = []
        for number, low in enumerate(LEVELS):
            high = LEVELS[number + 1] if number + 1 < len(LEVELS) else 2.0
            cells = (f"M{k} {q}h1v1h-1z" for q, row in enumerate(matrix) for k, a in enumerate(row) if low <= a < high)
            paths.append(f'<path class="a{number}" d="{"".join(cells)}"/>')
        svg = f'<svg class="head" viewBox="0 0 {size} {size}" role="img" aria-label="{title}">{"".join(paths)}</svg>'
        return Markup(svg)  # noqa: S704 - numbers, and a title that the template escaped

    def longest_update(self) -> tuple[int, str, float, float]:
        """(layer, piece, its length, the mean of the other tokens) of the longest update by a feed-forward network."""
        _, layer, token = max(
            (length, layer, token)
            for layer, each in enumerate(self.x.layers)
            for token, length in enumerate(each.feed_forward)
        )
        lengths = self.x.layers[layer].feed_forward
        others = [length for number, length in enumerate(lengths) if number != token]
        return layer + 1, self.pieces[token], lengths[token], sum(others) / len(others)

    def parameters(self, model: str) -> int:
        """The number of a model's weights."""
        return sum(self.x.parameters[model].values())

    def arithmetic(self, model: str, tokens: int) -> Arithmetic:
        """The products of a model for a number of tokens."""
        return next(each for each in self.x.arithmetic if (each.model, each.tokens) == (model, tokens))

    @property
    def lengths(self) -> list[int]:
        """For which numbers of tokens products were counted."""
        return [each.tokens for each in self.x.arithmetic if each.model == self.x.weights.name]

    def products(self) -> list[tuple[Product, list[Product]]]:
        """Each product for SHOWN tokens, and the same for every number of tokens."""
        name = self.x.weights.name
        each_length = [self.arithmetic(name, tokens).products for tokens in self.lengths]
        shown = self.arithmetic(name, SHOWN).products
        return [(one, list(others)) for one, others in zip(shown, zip(*each_length, strict=True), strict=True)]

    def epochs(self) -> list[list[tuple[str, str, str]]]:
        """The tokens of each epoch as the model sees them: (piece, what it was, kind); no kind if it was not chosen."""
        found = []
        for epoch in self.x.masking.epochs:
            chosen = {each.position: each.piece for each in epoch}
            found.append([
                (chosen[i], piece, "masked" if chosen[i] == MASK else "kept" if chosen[i] == piece else "random")
                if i in chosen
                else (piece, piece, "")
                for i, piece in enumerate(self.pieces)
            ])  # fmt: skip
        return found

    def masked(self) -> dict[str, int]:
        """How many of the chosen tokens of all epochs became [MASK], another piece, or stayed."""
        kinds = [kind for epoch in self.epochs() for _, _, kind in epoch]
        return {kind: kinds.count(kind) for kind in ("masked", "random", "kept")}

    def deviation(self, name: str) -> Deviation:
        """One of the known deviations."""
        return next(each for each in self.x.deviations if each.name == name)

    def deviations(self) -> list[Deviation]:
        """Those with the largest effect first."""
        return sorted(self.x.deviations, key=lambda each: -each.max)

    def data(self) -> str:
        """A script with the attention of all heads in percent, for the map that can be explored."""
        percent = [[[[round(100 * a) for a in row] for row in head] for head in heads] for heads in self.x.attention]
        values = json.dumps({"pieces": self.pieces, "attention": percent}, separators=(",", ":"))
        return f"window.attention = {values}\n"


def place_of(value: float, low: float, high: float) -> float:
    """A value's place on a logarithmic scale, in percent."""
    return 100 * min(1.0, max(0.0, math.log(value / low) / math.log(high / low)))


def small(value: float) -> str:
    """4.6e-3, 0.35, 147"""
    if value >= 0.01:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"
