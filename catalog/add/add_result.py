"""Adds one reported result to an entry's file, and leaves the rest of the file as it is."""

import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from catalog.check import check_documents
from catalog.errors import BadInput
from catalog.load import ENTRIES, Document, read_entry, read_folder
from catalog.schema import Model, Paper
from catalog.values import nearest

OF_TABLE = (
    *("model", "parameters", "source", "by", "seen", "via", "unit", "setting", "statistic", "condition", "hardware"),
    *("recipe", "weights"),
)
OF_FIGURE = ("dataset", "subset", "split", "metric", "value", "line")


QUESTIONS = {
    "model": "Model, with its size",
    "dataset": "Data set, the id of its entry",
    "split": "Split, such as dev or test_matched",
    "metric": "Metric, such as accuracy",
    "value": "Figure, as the source prints it",
    "unit": "Unit of a score: percent or fraction; empty for a speed",
    "source": "Source, such as BERT paper, table 1",
    "by": "By own-paper, other-paper, repository or leaderboard",
    "seen": "Where you read it: owner/name@commit path:line, or an address",
}


@dataclass
class Written:
    """The file that has the result now, and the line of the result in it."""

    file: Path
    line: int


def asked(given: dict[str, str | None]) -> dict[str, str]:
    """The fields, of which those that are empty are asked in the terminal; only ``unit`` may stay empty.

    BadInput names the option that is missing where nobody answers.
    """
    fields = {}
    for name, value in given.items():
        while not value:
            try:
                value = input(f"{QUESTIONS[name]}: ").strip()
            except EOFError:
                raise BadInput(f"--{name} is missing: {QUESTIONS[name]}") from None
            if name == "unit":
                break
        fields[name] = value or ""
    return fields


def add_result(entry: str, fields: dict[str, Any], entries: Path = ENTRIES) -> Written:
    """Add a result to the file of an entry: to the table of the same source and model, or in a new table.

    ``fields`` are those of a table and of a figure together; what is empty is left out. BadInput, and an unchanged
    file, if there is no such paper or model, or the result would not pass `check`.
    """
    documents = read_folder(entries)
    known = {each.entry.id: each for each in documents if isinstance(each.entry, Paper | Model)}
    if entry not in known and any(each.file.stem == entry and each.problems for each in documents):
        raise BadInput(f"the entry {entry!r} has problems; `python -m catalog check` shows them")
    if entry not in known:
        raise BadInput(f"there is no paper or model {entry!r}{nearest(entry, known)}; `python -m catalog add` adds one")
    document = known[entry]
    given = {name: value for name, value in fields.items() if value}
    table = {name: given[name] for name in OF_TABLE if name in given}
    figure = {name: given[name] for name in OF_FIGURE if name in given}
    text = _with(document, document.file.read_text(encoding="utf-8"), table, figure)
    written = Written(document.file, _line_when_checked(document, documents, text, given))
    whole = document.file.with_name(f".{document.file.name}.part")  # a reader never sees half a file
    whole.write_text(text, encoding="utf-8")
    whole.replace(document.file)
    return written


def _with(document: Document, text: str, table: dict[str, Any], figure: dict[str, Any]) -> str:
    """The text of the file with the figure behind the last one of its table, or in a new table."""
    lines = text.rstrip("\n").split("\n")
    line = f"- {_flow(figure)}"
    for number, each in enumerate(document.data.get("reported") or []):
        last = document.lines[("reported", number, "figures", len(each["figures"]) - 1)]
        indent = re.match(" *(?=- )", lines[last - 1])
        if indent and {name: value for name, value in each.items() if name != "figures"} == table:
            while last < len(lines) and lines[last].startswith(f"{indent[0]} "):  # the figure goes on
                last += 1
            return "\n".join([*lines[:last], indent[0] + line, *lines[last:]]) + "\n"
    written = yaml.safe_dump(table, allow_unicode=True, sort_keys=False, width=110).rstrip("\n").split("\n")
    block = [f"  - {written[0]}", *(f"    {each}" for each in written[1:]), "    figures:", f"      {line}"]
    if "reported" not in document.data:
        return "\n".join([*lines, "reported:", *block]) + "\n"
    start = document.lines[("reported",)]
    end = next((at for at in range(start, len(lines)) if lines[at] and lines[at][0] not in " #-"), len(lines))
    return "\n".join([*lines[:end], *block, *lines[end:]]) + "\n"


def _flow(figure: dict[str, Any]) -> str:
    written: str = yaml.safe_dump(figure, default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    return written.strip()


def _line_when_checked(document: Document, documents: list[Document], text: str, given: dict[str, Any]) -> int:
    """The line of the result in the new text of the file. BadInput with the problems that it makes."""
    with TemporaryDirectory() as folder:
        draft = Path(folder) / document.file.name
        draft.write_text(text, encoding="utf-8")
        after = read_entry(draft, (document.file.parent.name,))
    problems = check_documents([after if each is document else each for each in documents])
    if found := [each for each in problems if each.file == draft]:
        shown = "\n".join(f"{each.field}: {each.message}" for each in found[:10])
        raise BadInput(f"the result was not added to {document.file.name}:\n{shown}")
    for number, table in enumerate(after.data["reported"]):
        for at, figure in enumerate(table["figures"]):
            written = {**table, **figure}
            if all(written.get(name) == value for name, value in given.items()):
                return after.lines[("reported", number, "figures", at)]
    raise AssertionError("the result that was written is not there")
