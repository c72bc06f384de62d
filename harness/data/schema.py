"""The JSON schema of task files, with which editors complete and check them.

It follows from the types of ``Task``, the kinds of tasks, and the comments in ``rte.yaml``, which become the
descriptions. After a change to one of these, ``python -m harness.data.schema`` writes the file again. The schema
accepts every task that ``load_task`` accepts; ``load_task`` finds more mistakes.
"""

import json
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints

from harness.data.kinds import KINDS, Kind
from harness.data.task import EPOCHS, FIELDS, FOLDER, NAME, SPLIT, Task

FILE = FOLDER / "task.schema.json"
EXAMPLE = FOLDER / "rte.yaml"
REQUIRED = ["name", "title", "kind", "format", "files", "evaluate", "metrics"]

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 1}
RATE: Schema = {"type": ["number", "string"], "exclusiveMinimum": 0}  # to YAML, 1e-4 without a point is text
VALUE: Schema = {"type": ["string", "integer"]}
SIMPLE: dict[type, Schema] = {int: COUNT, bool: {"type": "boolean"}, float: {"type": "number"}}


def schema() -> Schema:
    """The schema, in draft 7, which all editors know."""
    properties = {field: _field(field) for field in FIELDS}
    for field, description in _descriptions().items():
        properties[field] = properties[field] | {"description": description}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "A task of BERT Atlas",
        **_mapping(properties, REQUIRED),
        "allOf": [
            {"if": {"properties": {"kind": {"const": name}}, "required": ["kind"]}, "then": _of_kind(kind)}
            for name, kind in KINDS.items()
        ],
    }


def text() -> str:
    """The content of the file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


def _field(field: str) -> Schema:
    """The values of a field, whatever the kind of task."""
    columns = _mapping({role: VALUE for kind in KINDS.values() for role in kind.columns})
    path = {"anyOf": [TEXT, _list(TEXT) | {"uniqueItems": True}]}
    of_file = _mapping({"path": path, "header": {"type": "boolean"}, "columns": columns}, ["path"])
    several_labels = {"type": "object", "minProperties": 1, "additionalProperties": VALUE}
    special: dict[str, Schema] = {
        "name": TEXT | {"pattern": f"^({NAME})$"},
        "kind": {"enum": list(KINDS)},
        "labels": {"anyOf": [{"const": "auto"}, _list(VALUE), several_labels]},
        "ignore": {"type": "array", "items": {"type": ["string", "integer", "null"]}},
        "files": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": f"^({SPLIT})$"},
            "additionalProperties": {"anyOf": [*path["anyOf"], of_file]},
        },
        "header": {"type": "boolean"},
        "columns": columns,
        "evaluate": _list(TEXT) | {"uniqueItems": True},
        "metrics": _list({"enum": _all_metrics()}) | {"uniqueItems": True},
        "recipe": _mapping(
            {"epochs": _by_size(COUNT), "learning_rate": _by_size(RATE), "batch_size": COUNT},
        ),
    }
    return special.get(field) or _of_type(get_type_hints(Task)[field])


def _of_type(annotation: Any) -> Schema:
    if get_origin(annotation) is Literal:
        return {"enum": list(get_args(annotation))}
    return SIMPLE.get(annotation, TEXT)


def _of_kind(kind: Kind) -> Schema:
    """What holds for the tasks of one kind alone."""
    others = {field for each in KINDS.values() for field in each.fields} - {*kind.fields}
    properties: dict[str, Any] = {field: False for field in FIELDS if field in others}
    properties |= {
        "format": {"enum": list(kind.formats)},
        "columns": _mapping({role: {"type": "integer"} if kind.numbered else VALUE for role in kind.columns}),
        "metrics": {"items": {"enum": list(kind.metrics)}},
    }
    if kind.fixed:
        properties["columns"] = False
    if kind.why_no_labels:
        return {"properties": properties | {"labels": False}}
    return {"properties": properties, "required": ["labels"]}


def _mapping(properties: Schema, required: list[str] | None = None) -> Schema:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | {"required": required} if required else found


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _by_size(one: Schema) -> Schema:
    return {"anyOf": [one, _mapping(dict.fromkeys(EPOCHS, one))]}


def _all_metrics() -> list[str]:
    return list(dict.fromkeys(name for kind in KINDS.values() for name in kind.metrics))


def _descriptions() -> dict[str, str]:
    """The comment behind each field of the example that names all of them."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"(?:# )?(\w+): .*\s# (.+)", line) for line in lines)
    return {each[1]: each[2] for each in found if each}


if __name__ == "__main__":
    write()
