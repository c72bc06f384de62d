"""Reads the files of entries, and keeps the line of each value for error messages.

YAML is read as a stream of events rather than loaded: that keeps line numbers, treats every scalar as text, and with
libyaml reads a thousand entries in a second.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from yaml.events import AliasEvent, Event, MappingStartEvent, ScalarEvent, SequenceStartEvent

from catalog.errors import BadInput, Problem
from catalog.reported.tables import Figure, Recipe, Table, wrong_figures
from catalog.schema import FOLDERS, KINDS, MODELS, Entry
from catalog.values import nearest
from catalog.yaml_text import TEXTS, changed_by_escape, changed_by_folding, cut_by_comment, look_alike

ENTRIES = Path(__file__).with_name("entries")
LARGEST = 1_000_000  # bytes in one file; a typical one has about 1,500
_PARSER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # used for its events alone; libyaml's is 8 times faster
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")

Place = tuple[str | int, ...]  # ("tags", 1) is the second tag, () the file
# The fields with fields inside, and the models of these.
NESTED: dict[str, type[BaseModel]] = {"reported": Table, "figures": Figure, "recipe": Recipe}
DEEPEST = 5  # length of the place of the innermost value: reported, 0, figures, 0, value


@dataclass
class Document:
    """One file as read: all scalars are text, whatever type YAML would give them."""

    file: Path
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    nothing: dict[Place, str] = field(default_factory=dict)  # words that YAML reads as an absent value: null, ~
    text: list[str] = field(default_factory=list)  # the lines of the file
    entry: Entry | None = None  # None if the file has problems

    def wrong(self, message: str, place: Place = (), line: int | None = None) -> None:
        """Record a problem, at the line of ``place`` or of the nearest value around it."""
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        while line is None and place not in self.lines and place:
            place = place[:-1]
        self.problems.append(Problem(self.file, line or self.lines.get(place, 1), name, message))


class _Unreadable(Exception):
    """The YAML of the file is not that of an entry."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def load(folder: Path = ENTRIES) -> list[Entry]:
    """All entries, sorted by id. BadInput, with the first ten problems, if there are any; `check` shows all of them."""
    documents = read_folder(folder)
    problems = sorted(problem for document in documents for problem in document.problems)
    if problems:
        shown = "\n".join(map(str, problems[:10]))
        number = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise BadInput(f"the catalog has {number}; `python -m catalog check` shows all:\n{shown}")
    return sorted((document.entry for document in documents if document.entry), key=lambda entry: entry.id)


def read_folder(folder: Path = ENTRIES) -> list[Document]:
    """All files of ``folder``, each read and validated on its own. BadInput if there is no such folder."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; name the one that contains {', '.join(FOLDERS)}")
    documents = []
    for path in sorted(Path(where) / name for where, _, names in os.walk(folder) for name in names):
        if not path.name.startswith("."):
            documents.append(read_entry(path, path.relative_to(folder).parts[:-1]))
    return documents


def read_entry(file: Path, below: tuple[str, ...]) -> Document:
    """Read one file and validate it against the model of its kind.

    ``below`` is the path from the folder of the entries to that of the file: one name, which gives the kind.
    """
    document = Document(file)
    if len(below) != 1 or below[0] not in FOLDERS:
        hint = nearest(below[0], FOLDERS) if len(below) == 1 else ""
        document.wrong(f"is not in the folder of a kind: {', '.join(FOLDERS)}{hint}")
        return document
    if file.suffix != ".yaml":
        document.wrong(f"is not a .yaml file; rename it to {file.with_suffix('.yaml').name!r} or remove it")
        return document
    text = _text(document)
    if text is not None and _typed(document) and _parse(document, text):
        _judge(document, FOLDERS[below[0]])
    return document


def _text(document: Document) -> str | None:
    """The text of the file; None, with a problem recorded, if it cannot be read."""
    file = document.file
    if file.is_symlink() or not file.is_file():
        document.wrong("is not a plain file")
        return None
    with file.open("rb") as opened:
        content = opened.read(LARGEST + 1)
    if len(content) > LARGEST:
        document.wrong(f"has more than {LARGEST // 1_000_000} MB; an entry is a page at most")
        return None
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        document.wrong("is not UTF-8; save it as UTF-8", line=content.count(b"\n", 0, error.start) + 1)
        return None
    if text.startswith("\ufeff"):
        document.wrong("begins with a byte order mark; save it as UTF-8 without BOM")
        text = text[1:]
    if "\r" in text:
        line = text.count("\n", 0, text.index("\r")) + 1
        document.wrong("has Windows line ends (CRLF); save it with LF", line=line)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\t" in text:
        line = text.count("\n", 0, text.index("\t")) + 1
        document.wrong("contains a tab; write spaces", line=line)
        return None
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        document.wrong(f"contains the control character U+{ord(control[0]):04X}; remove it", line=line)
        return None
    document.text = text.split("\n")
    return text


def _typed(document: Document) -> bool:
    """Whether names and indentation use the characters of YAML, not look-alikes from Chinese keyboards."""
    found = [(number, wrong) for number, line in enumerate(document.text, 1) if (wrong := look_alike(line))]
    for number, wrong in found:
        document.wrong(wrong, line=number)
    return not found


def _parse(document: Document, text: str) -> bool:
    """Fill ``document.data`` and ``document.lines`` from YAML; False, with a problem recorded, if it is not valid."""
    parser = _PARSER(text)
    try:
        parser.get_event(), parser.get_event()  # start of the stream and of the document
        first = parser.get_event()
        if not isinstance(first, MappingStartEvent):
            empty = first is None or (isinstance(first, ScalarEvent) and not first.value)
            raise _Unreadable("is empty" if empty else "is not a list of `field: value` lines", 1)
        _plain(first)
        _mapping(document, parser, first)
        parser.get_event()  # end of the document
        if not isinstance(last := parser.get_event(), yaml.StreamEndEvent):
            raise _Unreadable("contains more than one document; remove `---`", _line(last))
    except _Unreadable as error:
        document.wrong(str(error), line=error.line)
    except yaml.YAMLError as error:
        problem = str(getattr(error, "problem", None) or error)
        begun = (
            "expected ':'" in problem
        )  # it is missed in the line that the parser began with, and noticed in the next
        mark = getattr(error, "context_mark" if begun else "problem_mark", None)
        document.wrong(_in_words(problem), line=mark.line + 1 if mark else 1)
    else:
        return True
    finally:
        parser.dispose()
    return False


def _in_words(problem: str) -> str:
    """A message of the YAML parser with its usual cause."""
    if "mapping values are not allowed" in problem:
        return "is not valid YAML: a value that contains ': ' needs quotes"
    if "expected ':'" in problem:
        return "is not valid YAML: no `field: value`; indent lines that continue a value, and begin a remark with #"
    if "invalid Unicode character escape" in problem:
        return "is not valid YAML: half a character as an escape, such as \\ud83d; write the character itself"
    if "escape" in problem:
        return "is not valid YAML: a backslash in double quotes begins an escape; write the value in single quotes"
    quoted = "a value that begins with one of []{}\"'@`#&*!|>% or contains ': ' needs quotes"
    return f"is not valid YAML: {problem}; {quoted}"


def _mapping(document: Document, parser: Any, start: Event, place: Place = ()) -> dict[str, Any]:
    """The fields of the file, or of the value at ``place``."""
    document.lines[place] = _line(start)
    found: dict[str, Any] = {} if place else document.data
    while isinstance(event := parser.get_event(), ScalarEvent):
        name = event.value
        if not name.isprintable():  # the name appears in messages
            break
        inner = (*place, name)
        if name in found:
            raise _Unreadable(f"{name}: is written twice (also in line {document.lines[inner]})", _line(event))
        document.lines[inner] = _line(event)
        found[name] = _value(document, parser, inner)
    if not isinstance(event, yaml.MappingEndEvent):
        raise _Unreadable("a field's name must be plain text", _line(event))
    return found


def _value(document: Document, parser: Any, place: Place) -> Any:
    """A text or a list of texts; in the fields of ``NESTED`` also fields. The depth is bounded, and so is memory."""
    event = parser.get_event()
    _plain(event)
    if isinstance(event, ScalarEvent):
        _unchanged(document, event, place)
        if event.implicit[0] and event.value in ("~", "null", "Null", "NULL"):  # not in quotes
            document.nothing[place] = event.value
            return ""
        return event.value
    nested = place[0] in NESTED and len(place) < DEEPEST
    if nested and isinstance(event, MappingStartEvent):
        return _mapping(document, parser, event, place)
    if not isinstance(event, SequenceStartEvent) or (len(place) > 1 and not nested):
        what = "has values inside values; write one text, or a list of texts, in quotes if it begins with [ or {"
        raise _Unreadable(f"{place[0]}: {what}", _line(event))
    items: list[Any] = []
    while not isinstance(parser.peek_event(), yaml.SequenceEndEvent):
        item = (*place, len(items))
        document.lines[item] = _line(parser.peek_event())
        items.append(_value(document, parser, item))
    parser.get_event()
    return items


def _unchanged(document: Document, event: Event, place: Place) -> None:
    """Record what YAML cut from a text or changed in it."""
    if escape := changed_by_escape(event, document.text):
        what = f"contains {escape}, which in double quotes is an escape; write the value in single quotes"
        document.wrong(what, place, line=_line(event))
    if place[0] not in TEXTS and place[0] not in NESTED:
        return
    if comment := cut_by_comment(event, document.text):
        what = f"ends before {_short(comment)}, a comment to YAML; write the value in quotes, or the comment above it"
        document.wrong(what, place, line=_line(event))
    if (gap := changed_by_folding(event, document.text)) and not str(place[0]).endswith(
        "_zh"
    ):  # Chinese text is checked by its own type
        document.wrong(f"has a space ({gap!r}) where its lines are joined; write it on one line", place)


def _plain(event: Event) -> None:
    if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
        raise _Unreadable(
            "YAML anchors and aliases (& and *) are not used here; write the value out, or in quotes", _line(event)
        )
    if tag := getattr(event, "tag", None):
        raise _Unreadable(
            f"YAML tags ({tag[:60]!r}) are not used here; write the plain value, or in quotes", _line(event)
        )


def _line(event: Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark else 1


def _judge(document: Document, expected: str) -> None:
    """Validate the data against the model of its kind: set ``document.entry`` or record the problems."""
    data, kind = document.data, document.data.get("kind")
    if kind != expected:
        if kind is None:
            document.wrong(f"the required field is missing; add `kind: {expected}`", ("kind",))
        elif kind in KINDS:
            right = next(folder for folder, each in FOLDERS.items() if each == kind)
            document.wrong(f"a {kind} belongs in {right}/, not {document.file.parent.name}/", ("kind",))
        else:
            document.wrong(f"{_short(kind)} is not a kind ({', '.join(KINDS)}) - did you mean {expected!r}?", ("kind",))
            return
    if "id" in data and data["id"] != document.file.stem:
        hint = f"did you mean {document.file.stem!r}, or to rename the file?"
        document.wrong(f"{_short(data['id'])} is not the file's name - {hint}", ("id",))
    model = MODELS[kind or expected]  # type: ignore[index]
    try:
        entry = model.model_validate({"kind": expected, **data})
    except ValidationError as failed:
        for error in failed.errors(include_url=False):
            message = _message(error, model)
            if message.startswith("is empty") and (word := document.nothing.get(error["loc"])):
                message = f"is empty, as YAML reads `{word}`; write it in quotes if the word is meant"
            document.wrong(message, error["loc"], _line_of_character(document, error["loc"], message))
    else:
        for table, reported in enumerate(getattr(entry, "reported", [])):
            for at, wrong in wrong_figures(reported):
                document.wrong(wrong, ("reported", table, "figures", at))
        document.entry = None if document.problems else entry


def _line_of_character(document: Document, place: Place, message: str) -> int | None:
    """The line with the character that ``message`` names, for values of several lines."""
    named, start = re.search(r"U\+([0-9A-F]{4,6})", message), document.lines.get(place)
    if named is None or start is None:
        return None
    return next((n for n, line in enumerate(document.text, 1) if n >= start and chr(int(named[1], 16)) in line), None)


def _message(error: Any, model: type[Entry]) -> str:
    """The message for one of pydantic's errors, which says what to do."""
    given, context, name = error["input"], error.get("ctx", {}), error["loc"][-1] if error["loc"] else ""
    match error["type"]:
        case "value_error":
            return str(context["error"])
        case "missing":
            return "the required field is missing"
        case "extra_forbidden":
            return _unknown_field(str(name), model, error["loc"])
        case "model_type":
            return f"is a text; write its fields: {', '.join(NESTED[_innermost(error['loc'])].model_fields)}"
        case "string_type" | "int_type" if isinstance(given, dict):
            return "has fields inside; write one value"
        case "string_type" | "int_type":
            return f"is a list; write one value: `{name}: {given[0] if given else '...'}`"
        case "list_type":
            return f"is a text; write a list: `{name}: [{given}]`"
        case "too_short":
            return "is an empty list; write a value, or leave the line out"
        case "too_long" | "string_too_long":
            what = "characters" if isinstance(given, str) else "values"
            return f"has {len(given)} {what}; {context['max_length']} is the most"
        case "literal_error":
            words = [word.strip(" '") for word in context["expected"].replace(" or ", ",").split(",")]
            return f"{_short(given)} is none of {', '.join(words)}{nearest(str(given), words)}"
        case _:
            return f"{_short(given)}: {error['msg']}"


def _innermost(place: Place) -> str:
    """The field of ``NESTED`` that a place is in; empty if it is in none."""
    return next((str(part) for part in reversed(place) if part in NESTED), "")


def _unknown_field(name: str, model: type[Entry], place: Place) -> str:
    if inside := _innermost(place[:-1]):
        return f"unknown field {_short(name)}{nearest(name, NESTED[inside].model_fields)}"
    others = [kind for kind in KINDS if name in MODELS[kind].model_fields]
    if others:
        return f"is not a field of a {model.__name__.lower()}, only of: {', '.join(others)}"
    return f"unknown field {_short(name)}{nearest(name, model.model_fields)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
