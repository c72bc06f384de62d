"""Writes a model's answers as rows or tagged lines, one for each input, in a form that can be read back."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Literal

from harness.data.encode import Encoded
from harness.data.kinds import KINDS, Prediction
from harness.data.reading import Reading
from harness.errors import BadInput
from harness.predict.inputs import Inputs
from harness.worker.messages import Array

Form = Literal["tsv", "csv", "jsonl", "conll", "squad"]
BREAKS = re.compile(r"[\t\n\r]")  # what a row of tab-separated answers cannot hold


def form_of(reading: Reading, output: Path | None) -> Form:
    """The form of the answers: tab-separated rows, unless the output's name ends in .csv, .jsonl, or .json.

    A .json file of answers to questions is what SQuAD's official scripts read.
    """
    suffix = "" if output is None else output.suffix.lower()
    if suffix == ".json" and "squad" in KINDS[reading.kind].formats:
        return "squad"
    if KINDS[reading.kind].inputs != "words":
        return "csv" if suffix == ".csv" else "jsonl" if suffix == ".jsonl" else "tsv"
    if suffix in (".csv", ".jsonl"):
        raise BadInput(f"--output: {output}: tagged words are written one a line; call the file .conll or .txt")
    return "conll"


def check_writable(inputs: Inputs, form: Form) -> None:
    """BadInput where an id or a label cannot be written in this form; call it before the model runs."""
    reading = inputs.reading
    names = KINDS[reading.kind].outputs(reading.labels)
    if form in ("conll", "jsonl", "squad"):
        return
    several = "label_separator" in KINDS[reading.kind].fields
    if several and any(reading.label_separator in name for name in names):
        said = f"a label holds {reading.label_separator!r}, which would separate labels"
        raise BadInput(f"{said}; write the answers to a .jsonl file with --output")
    if form == "csv":
        return
    for what, values in (("an id", [example.id for example in inputs.examples]), ("a label", names)):
        if odd := next((place for place, value in enumerate(values, 1) if BREAKS.search(value)), None):
            raise BadInput(
                f"{what} ({odd} of {len(values)}) holds a tab or line break, which a row of tab-separated answers "
                "cannot; write them to a .csv or .jsonl file with --output"
            )


def written(inputs: Inputs, logits: Array, encoded: Encoded, form: Form) -> str:
    """The answers that the logits give, as text."""
    kind = KINDS[inputs.reading.kind]
    if form == "conll":
        return _tagged(inputs, kind.decode(inputs.reading, logits, encoded, inputs.examples))
    answers = kind.written(inputs.reading, logits, encoded, inputs.examples)
    rows = [{"id": example.id} | answer for example, answer in zip(inputs.examples, answers, strict=True)]
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if form == "squad":
        return json.dumps({row["id"]: row["answer"] for row in rows}, ensure_ascii=False, indent=1) + "\n"
    for row in rows:
        row.pop("best", None)  # a table has one answer a row
    cells = [list(rows[0]), *([_cell(inputs.reading, *each) for each in row.items()] for row in rows)]
    if form == "tsv":  # without quotes, which would be part of what is read back
        if kind.formats == ("squad",):  # answers are of a text that may hold anything; their places remain exact
            cells = [[BREAKS.sub(" ", cell) for cell in row] for row in cells]
        return "".join("\t".join(row) + "\n" for row in cells)
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(cells)
    return out.getvalue()


def _cell(reading: Reading, column: str, value: Any) -> str:
    if isinstance(value, tuple):
        return reading.label_separator.join(value)
    if value is None:
        return ""
    if isinstance(value, list):
        return ",".join(f"{each:.4f}" for each in value)
    return f"{value:.4f}" if column == "probability" else str(value)


def _tagged(inputs: Inputs, answers: list[Prediction]) -> str:
    """All lines of the input: a word becomes the word and its tag, other lines are unchanged."""
    between = "\t" if inputs.reading.separator == "tab" else " "
    lines = list(inputs.lines)
    words = [word for example in inputs.examples for word in example.words]
    tags = [tag for each in answers for tag in each]  # type: ignore[union-attr]
    for place, word, tag in zip(inputs.words, words, tags, strict=True):
        lines[place] = f"{word}{between}{tag}"
    return "".join(f"{line}\n" for line in lines)
