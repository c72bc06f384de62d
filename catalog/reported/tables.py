"""Results that others reported: the models of a table in an entry, and the same as one row for each figure.

A table holds what one source says of one model. Its figures are written as the source prints them; rows have all scores
in percent, so that 0.846 of one source and 84.6 of another are one result.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from catalog.addresses import wrong_address
from catalog.values import Id, Line, Unique, nearest, vocabulary

SPLIT = r"^(train|dev|test)(_[a-z0-9]+)*$"
_CODE = re.compile(r"([\w.-]+/[\w.-]+)@([0-9a-f]{7,40}) ([^:\s][^:]*?)(?::(\d+(?:-\d+)?))?")
_LINES = r"^\d+(-\d+)?$"
_RANGES = {"share": (0, 100), "correlation": (-100, 100)}  # in percent; what other metrics count is at least 0
_PARAMETERS = r"^\d+(\.\d+)?[KMB]$"


def _word(value: str, group: str) -> str:
    if value not in vocabulary()[group]:
        raise ValueError(f"{value!r} is not among the {group} of vocabulary.yaml{nearest(value, vocabulary()[group])}")
    return value


def _metric(value: str) -> str:
    return _word(value, "metrics")


def _setting(value: str) -> str:
    return _word(value, "settings")


def _reporter(value: str) -> str:
    return _word(value, "reporters")


def _split(value: str) -> str:
    if not re.match(SPLIT, value):
        raise ValueError(f"{value!r} is not a split; write train, dev or test, or a part of one such as dev_matched")
    return value


def _lines(value: str) -> str:
    if not re.match(_LINES, value):
        raise ValueError(f"{value!r} is not the number of a line, such as 77, or of several, such as 77-79")
    return value


def _parameters(value: str) -> str:
    if not re.match(_PARAMETERS, value):
        raise ValueError(f"{value!r} is not a number of parameters such as 110M, 4.4M or 1.5B")
    return value


def _seen(value: str) -> str:
    if _CODE.fullmatch(value) is None and wrong_address(value):
        raise ValueError(
            f"{value!r} is no place that others can look up; write `owner/name@commit path:line`, "
            "or the address of the page that was opened"
        )
    return value


def _number(value: Any) -> Any:
    """A figure as printed. It stays text, which keeps the digits that the source gives."""
    if not isinstance(value, str):
        return value
    try:
        finite = Decimal(value).is_finite()
    except InvalidOperation:
        finite = False
    if not finite or not re.fullmatch(r"-?\d+(\.\d+)?", value):
        raise ValueError(f"{value!r} is not a number; write digits and a point alone, such as 84.6")
    return value


def _count(value: Any) -> Any:
    """A whole number: all YAML scalars are read as text."""
    if isinstance(value, str):
        if not re.fullmatch("[1-9][0-9]*", value):
            raise ValueError(f"{value!r} is not a whole number from 1 on")
        return int(value)
    return value


def _rate(value: Any) -> Any:
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise ValueError(f"{value!r} is not a number from 0 on, such as 2.0e-5")
        return number
    return value


def _shown(pattern: str) -> Any:
    """A pattern for the JSON Schema alone; here a validator says what is wrong in words."""
    return Field(json_schema_extra={"pattern": pattern})


Metric = Annotated[Line, AfterValidator(_metric)]
Split = Annotated[Line, AfterValidator(_split), _shown(SPLIT)]
Lines = Annotated[
    Line, AfterValidator(_lines), Field(json_schema_extra={"pattern": _LINES, "type": ["string", "integer"]})
]
Number = Annotated[Line, BeforeValidator(_number), Field(json_schema_extra={"type": ["number", "string"]})]
Count = Annotated[int, Field(ge=1), BeforeValidator(_count)]
Rate = Annotated[float, BeforeValidator(_rate)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, str_strip_whitespace=True)


class Figure(_Part):
    """One cell of a table."""

    dataset: Id = Field(description="Id of the data set's entry.")
    subset: Line | None = Field(
        None, description="A part of it that its entry lists under `subsets`, such as a language."
    )
    split: Split = Field(description="train, dev or test, or a part of one such as dev_matched; the entry lists them.")
    metric: Metric = Field(description="A word of vocabulary.yaml.")
    value: Number = Field(description="As the source prints it, without a sign for percent.")
    line: Lines | None = Field(None, description="The line of the file that `seen` names; needed if `seen` has none.")


class Recipe(_Part):
    """How the figures came about, as far as the source states it."""

    runs: Count | None = Field(None, description="How many runs the figure is of.")
    select: Line | None = Field(
        None, description="What was chosen on scored data; last: nothing, the last epoch counts."
    )
    epochs: Count | None = None
    learning_rate: Rate | None = None
    batch_size: Count | None = None
    max_length: Count | None = Field(None, description="In tokens.")
    warmup: Rate | None = Field(None, description="The part of the steps, from 0 to 1.")
    weight_decay: Rate | None = None
    context: Literal["sentence", "document"] | None = Field(None, description="For tagging: what the model reads.")


class Table(_Part):
    """What one source says of one model."""

    model: Line = Field(description="The model's name, with its size; one name for one model in the whole catalog.")
    parameters: Annotated[Line, AfterValidator(_parameters), _shown(_PARAMETERS)] | None = Field(
        None, description="Such as 110M."
    )
    source: Line = Field(description="Who says so, for readers: such as `BERT paper, table 1`.")
    by: Annotated[Line, AfterValidator(_reporter)] = Field(
        description="own-paper, other-paper, repository (the README of its authors) or leaderboard."
    )
    seen: Annotated[Line, AfterValidator(_seen)] = Field(
        description="Where it was seen: owner/name@commit path:line, or the address of the page that was opened."
    )
    via: Line | None = Field(None, description="The copy in which the source was read, if not in the original.")
    unit: Literal["percent", "fraction"] | None = Field(None, description="Of the scores: 84.6 or 0.846.")
    setting: Unique[Annotated[Line, AfterValidator(_setting)]] = Field(
        [], description="Words of vocabulary.yaml; none: one model, fine-tuned on the task alone."
    )
    statistic: Literal["best", "mean", "median"] | None = Field(None, description="Over several runs.")
    condition: Line | None = Field(None, description="What else tells these figures from others of the model.")
    hardware: Line | None = Field(None, description="What it ran on; needed for speeds.")
    recipe: Recipe | None = None
    weights: Unique[Line] = Field(
        [], description="Names that `python -m harness run --weights` knows these weights by."
    )
    figures: Annotated[list[Figure], Field(min_length=1)]


def wrong_figures(table: Table) -> Iterator[tuple[int, str]]:
    """The (position, message) pairs of the figures that do not fit their table."""
    code = _CODE.fullmatch(table.seen)
    for at, figure in enumerate(table.figures):
        if wrong := _wrong(table, figure):
            yield at, wrong
        if code and not (code[4] or figure.line):
            yield at, f"has no line; add `line: N`, or write `seen: {table.seen}:N` if all are in one line"


def _wrong(table: Table, figure: Figure) -> str | None:
    """What is wrong with the unit or the size of a figure; None if nothing is."""
    about, number = vocabulary()["metrics"][figure.metric], Decimal(figure.value)
    values = about["values"]
    if values not in _RANGES:
        if values == "speed" and not table.hardware:
            return f"{figure.metric} depends on the machine; add `hardware:` to the table"
        return f"{figure.value} is less than 0" if number < 0 else None
    if table.unit is None:
        return "the table does not say what its scores are in; add `unit: percent` or `unit: fraction` to it"
    low, high = _RANGES[values]
    one = 100 if table.unit == "percent" else 1
    if not low * one <= number * 100 <= high * one:
        hint = "" if table.unit == "percent" else "; if the table is in percent, write `unit: percent`"
        name = "percent" if table.unit == "percent" else "a fraction"
        return f"{figure.value} is out of range for {figure.metric} as {name}{hint}"
    few_errors = about.get("better") == "lower"  # an error rate may well be below one percent
    if table.unit == "percent" and 0 < abs(number) < 1 and not few_errors:
        return (
            f"{figure.value} is a fraction in a table of percentages; write {number.scaleb(2):f}, or put it into a "
            "table with `unit: fraction`"
        )
    return None


class Reporting(Protocol):
    """An entry that may report results."""

    id: str
    kind: str
    reported: list[Table]


@dataclass(frozen=True)
class Result:
    """One reported figure with all that its table says; scores are in percent."""

    entry: str
    model: str
    parameters: str | None
    dataset: str
    subset: str | None
    split: str
    metric: str
    value: Decimal
    unit: str  # percent, or what the metric counts
    written: str  # the figure as the source prints it
    setting: tuple[str, ...]
    statistic: str | None
    runs: int | None
    condition: str | None
    hardware: str | None
    by: str
    source: str
    seen: str
    url: str
    via: str | None

    @property
    def what(self) -> tuple[str, str | None, str, str]:
        """What was measured: results are compared only where this is the same."""
        return (self.dataset, self.subset, self.split, self.metric)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What two sources must agree in to speak of the same figure."""
        how = (self.setting, self.statistic, self.condition, self.hardware)
        return (self.model.casefold(), *self.what, *how)


def results(entries: Iterable[Any]) -> list[Result]:
    """All reported figures of the entries, in the order of the entries."""
    return [
        _result(entry, table, figure)
        for entry in entries
        for table in getattr(entry, "reported", [])
        for figure in table.figures
    ]


def _result(entry: Reporting, table: Table, figure: Figure) -> Result:
    about = vocabulary()["metrics"][figure.metric]
    score = about["values"] in _RANGES
    value = Decimal(figure.value).scaleb(2 if score and table.unit == "fraction" else 0)
    return Result(
        entry=entry.id,
        model=table.model,
        parameters=table.parameters,
        dataset=figure.dataset,
        subset=figure.subset,
        split=figure.split,
        metric=figure.metric,
        value=value,
        unit="percent" if score else about.get("unit", ""),
        written=figure.value,
        setting=tuple(sorted(table.setting)),
        statistic=table.statistic,
        runs=table.recipe.runs if table.recipe else None,
        condition=table.condition,
        hardware=table.hardware,
        by=table.by,
        source=table.source,
        seen=place(table, figure),
        url=address(table, figure),
        via=table.via,
    )


def place(table: Table, figure: Figure) -> str:
    """Where the figure was seen, with its line."""
    return f"{file_of(table)}:{figure.line}" if figure.line else table.seen


def file_of(table: Table) -> str:
    """The file or page of a table, without a line."""
    code = _CODE.fullmatch(table.seen)
    return f"{code[1]}@{code[2]} {code[3]}" if code else table.seen


def address(table: Table, figure: Figure | None = None) -> str:
    """The web page of the place where a table, or one of its figures, was seen."""
    code = _CODE.fullmatch(table.seen)
    if code is None:
        return table.seen
    line = (figure.line if figure else None) or code[4]
    start, _, end = (line or "").partition("-")
    plain = "?plain=1" if code[3].endswith(".md") and line else ""  # GitHub shows the lines of Markdown only so
    mark = f"{plain}#L{start}{f'-L{end}' if end else ''}" if line else ""
    return f"https://github.com/{code[1]}/blob/{code[2]}/{code[3].replace(' ', '%20')}{mark}"
