"""The JSON schema of task files, as editors use it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.data import schema
from harness.data.kinds import KINDS
from harness.data.task import FIELDS, FOLDER, task_names

TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}


def is_valid(value: Any, rule: Any) -> bool:
    """Whether a value is valid by the keywords of JSON Schema that the schema uses; AssertionError for another."""
    if isinstance(rule, bool):
        return rule
    if "if" in rule:
        return not is_valid(value, rule["if"]) or is_valid(value, rule["then"])
    return all(holds(keyword, limit, value, rule) for keyword, limit in rule.items())


def holds(keyword: str, limit: Any, value: Any, rule: dict[str, Any]) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fields = value if isinstance(value, dict) else {}
    items = value if isinstance(value, list) else []
    if keyword == "type":
        types = [limit] if isinstance(limit, str) else limit
        return any(
            isinstance(value, TYPES[each]) and (each == "boolean" or value not in (True, False) or number)
            for each in types
        )
    if keyword == "properties":
        return all(is_valid(each, limit[name]) for name, each in fields.items() if name in limit)
    if keyword == "additionalProperties":
        return all(is_valid(each, limit) for name, each in fields.items() if name not in rule.get("properties", {}))
    checks = {
        "$schema": lambda: True,
        "title": lambda: True,
        "description": lambda: True,
        "const": lambda: value == limit,
        "enum": lambda: value in limit,
        "anyOf": lambda: any(is_valid(value, each) for each in limit),
        "allOf": lambda: all(is_valid(value, each) for each in limit),
        "required": lambda: not isinstance(value, dict) or set(limit) <= set(fields),
        "propertyNames": lambda: all(is_valid(name, limit) for name in fields),
        "minProperties": lambda: not isinstance(value, dict) or len(fields) >= limit,
        "items": lambda: all(is_valid(each, limit) for each in items),
        "minItems": lambda: not isinstance(value, list) or len(items) >= limit,
        "uniqueItems": lambda: len(set(map(repr, items))) == len(items),
        "minLength": lambda: not isinstance(value, str) or len(value) >= limit,
        "pattern": lambda: not isinstance(value, str) or re.search(limit, value) is not None,
        "minimum": lambda: not number or value >= limit,
        "exclusiveMinimum": lambda: not number or value > limit,
    }
    assert keyword in checks, keyword
    return checks[keyword]()


def declared(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return fields


def test_the_committed_file_is_the_schema() -> None:
    assert schema.FILE.read_text(encoding="utf-8") == schema.text(), "run `python -m harness.data.schema`"


@pytest.mark.parametrize("name", task_names())
def test_every_built_in_task_is_valid_and_names_the_schema(name: str) -> None:
    assert is_valid(declared(name), schema.schema())
    first = (FOLDER / f"{name}.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={schema.FILE.name}"


def test_every_field_of_a_task_and_every_kind_is_known_to_editors() -> None:
    properties = schema.schema()["properties"]
    assert list(properties) == FIELDS
    assert properties["kind"]["enum"] == list(KINDS)
    assert {"kind", "labels", "files", "scheme", "ignore"} <= {
        n for n, each in properties.items() if "description" in each
    }


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("rte", {"metric": ["accuracy"]}),
        ("rte", {"kind": "clasification"}),
        ("rte", {"kind": "regression"}),
        ("rte", {"metrics": ["pearson"]}),
        ("rte", {"format": "conll"}),
        ("rte", {"scheme": "iob1"}),
        ("rte", {"labels": []}),
        ("rte", {"labels": [True, False]}),
        ("rte", {"columns": {"texts": "x"}}),
        ("rte", {"files": {"validation": "b"}}),
        ("rte", {"evaluate": ["dev", "dev"]}),
        ("rte", {"max_length": 0}),
        ("rte", {"max_length": "128"}),
        ("rte", {"recipe": {"epochs": 2.5}}),
        ("rte", {"recipe": {"lr": 1e-5}}),
        ("stsb", {"labels": ["a", "b"]}),
        ("mini-ner", {"ignore": ["-"]}),
        ("mini-ner", {"columns": {"word": "word"}}),
        ("mini-ner", {"tags": "loose"}),
    ],
)
def test_mistakes_are_marked_in_the_editor(task: str, fields: dict[str, Any]) -> None:
    assert not is_valid(declared(task) | fields, schema.schema())


@pytest.mark.parametrize(
    ("task", "fields"),
    [
        ("rte", {"labels": "auto"}),
        ("rte", {"labels": {"0": "no", "1": "yes"}}),
        ("rte", {"ignore": ["-", None]}),
        ("rte", {"recipe": {"epochs": 7, "learning_rate": {"base": "1e-5"}, "batch_size": 16}}),
        ("rte", {"files": {"train": "a.tsv", "dev_own": {"path": "b.tsv", "header": False, "columns": {"text": 0}}}}),
        ("mini-ner", {"context": "document", "columns": {"word": 0, "tag": -1}}),
    ],
)
def test_what_is_right_is_not_marked(task: str, fields: dict[str, Any]) -> None:
    assert is_valid(declared(task) | fields, schema.schema())


def test_python_m_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "FILE", tmp_path / "task.schema.json")
    schema.write()
    assert schema.FILE.read_text(encoding="utf-8") == schema.text()
