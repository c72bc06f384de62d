"""Reads questions in SQuAD's JSON layout, of version 1.1 and of 2.0.

``{"data": [{"paragraphs": [{"context": ..., "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}``;
version 2.0 adds ``is_impossible``. Other fields, such as titles and plausible answers, are not read.
"""

import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.examples import Repairs, TextExample
from harness.data.reading import Reading
from harness.data.tables import json_value
from harness.errors import BadInput

NO_ANSWER = ""  # as official scripts and their files of predictions have it
PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")

MOVED = "answers that are at another place of their text than the file says, read as those"
ELSEWHERE = "answers that are not in their text, which count in the score alone"
UNTRAINED = "questions none of whose answers is in their text, not trained on"


@dataclass(frozen=True, slots=True)
class Question(TextExample):
    """A question about a text: ``text`` is the question, ``pair`` the text, ``label`` all accepted answers.

    Where no answer is right, ``label`` is ``("",)``.
    """

    span: tuple[int, int] | None = None  # the characters of the first answer in the text; None where there is none


def normalized(text: str) -> str:
    """A text as the official scripts compare it: in lower case, without ASCII punctuation and English articles."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def questions(reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[Question]:
    """The questions of a file. BadInput names the question that is wrong, or where the file is no JSON."""
    found: list[Question] = []
    seen: set[str] = set()
    labelled = "label" in reading.files[split].columns  # ``predict`` reads no answers
    unlabelled: list[str] = []
    for context, entry in _entries(path, content):
        name = entry["id"]
        where = f"{path}: question {name}"
        if name in seen:
            raise BadInput(f"{where}: its id is that of another one too; an id names one question")
        seen.add(name)
        if not labelled or ("answers" not in entry and split.startswith("test")):
            unlabelled.append(name)
            found.append(Question(name, entry["question"], context, None))
            continue
        answers, span = _answers(reading, where, context, entry, repairs)
        if split == "train" and span is None and answers != (NO_ANSWER,):
            repairs.add(UNTRAINED, name)
            continue
        found.append(Question(name, entry["question"], context, answers, span))
    if not found:
        raise BadInput(f"{path} has no questions; get it again")
    if 0 < len(unlabelled) < len(found):
        raise BadInput(f"{path}: question {unlabelled[0]} has no answers, and others do; give all or none")
    return found


def _entries(path: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question's text and JSON object."""
    try:
        whole = json_value(content)
        if "\\ud" in content.lower():
            json.dumps(whole, ensure_ascii=False, default=str).encode()  # an escape may be half a character: no text
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON: {error}") from None
    if not isinstance(whole, dict) or "data" not in whole:
        raise BadInput(f"{path}: not SQuAD's layout, a JSON object whose `data` lists articles with paragraphs")
    for number, article in enumerate(_list(path, whole, "data")):
        for paragraph in _list(f"{path}: article {number + 1}", article, "paragraphs"):
            where = f"{path}: article {number + 1}"
            context = _text(where, paragraph, "context")
            for entry in _list(where, paragraph, "qas"):
                name = _text(where, entry, "id")
                _text(f"{path}: question {name}", entry, "question")
                yield context, entry


def _answers(
    reading: Reading, where: str, context: str, entry: dict[str, Any], repairs: Repairs
) -> tuple[tuple[str, ...], tuple[int, int] | None]:
    """All answers that count as right, and the characters of the first."""
    listed = _list(where, entry, "answers")
    impossible = entry.get("is_impossible", False)
    if not isinstance(impossible, bool):
        raise BadInput(f"{where}: is_impossible is {impossible!r}, neither true nor false")
    if impossible and listed:
        raise BadInput(f"{where}: is_impossible, and yet it has answers; one of the two is wrong")
    if not listed and not reading.unanswerable:
        raise BadInput(f"{where} has no answer; a task with such questions declares `unanswerable: true`")
    texts = tuple(_text(where, answer, "text") for answer in listed)
    spans = [_span(where, entry["id"], context, answer, repairs) for answer in listed]
    if reading.unanswerable:  # the script of version 2.0 leaves out what normalises to nothing
        texts = tuple(text for text in texts if normalized(text)) or (NO_ANSWER,)
    return texts, next((span for span in spans if span is not None), None)


def _span(where: str, name: str, context: str, answer: dict[str, Any], repairs: Repairs) -> tuple[int, int] | None:
    """The characters of an answer: where the file says, else where its text is if it is there once."""
    text, start = answer["text"], answer.get("answer_start")
    if isinstance(start, bool) or not isinstance(start, int):
        raise BadInput(f"{where}: answer_start is {start!r}, not the number of a character")
    if start < 0 or context[start : start + len(text)] != text:
        if context.count(text) != 1:
            repairs.add(ELSEWHERE, name)
            return None
        repairs.add(MOVED, name)
        start = context.index(text)
    return start, start + len(text)


def _list(where: Any, value: Any, field: str) -> list[Any]:
    found = value.get(field) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise BadInput(f"{where}: {field}: a list is missing, as in SQuAD's layout")
    return found


def _text(where: Any, value: Any, field: str) -> str:
    found = value.get(field) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found.strip():
        raise BadInput(f"{where}: {field}: text is missing")
    return found
