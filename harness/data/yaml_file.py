"""Reading YAML that users write."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from harness.errors import BadInput
from harness.printable import UNFIT

# Numbers in YAML 1.2 that PyYAML, which implements YAML 1.1, reads as text or as another number.
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")
INTEGER = re.compile(r"-?[1-9][0-9]*|0")
TEXT, WHOLE, NOTHING = (f"tag:yaml.org,2002:{name}" for name in ("str", "int", "null"))


class Changed(NamedTuple):
    """A value without quotes that YAML reads as something other than the written text."""

    line: int
    written: str
    read: Any


class _Loader(yaml.SafeLoader):
    """PyYAML's loader, but a field that is given twice is an error; in PyYAML the last one wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = (key_node.tag, str(key_node.value))
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"{key[1]} is given twice", problem_mark=key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """PyYAML lets Python's errors through where a value is not what it looks like, as 2024-13-45 is not."""
        if isinstance(node, yaml.ScalarNode) and (found := UNFIT.search(node.value)):
            problem = f"a value with the character U+{ord(found[0]):04X}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError, AttributeError) as error:
            what = f"{node.value!r} is no value" if isinstance(node, yaml.ScalarNode) else "not a value"
            raise yaml.MarkedYAMLError(problem=f"{what}: {error}", problem_mark=node.start_mark) from error


def changed(file: Path, field: str) -> Iterator[Changed]:
    """The values in a field (keys too, at any depth) that YAML reads as something other than they look like.

    The file is one that ``read_yaml`` has read.
    """
    root = yaml.compose(file.read_text(encoding="utf-8"), _Loader)
    fields = root.value if isinstance(root, yaml.MappingNode) else []
    values = [value for key, value in fields if key.value == field and value.tag != NOTHING]
    for node in (node for value in values for node in _scalars(value)):
        if node.style is None and not _as_written(node):
            read = yaml.load(node.value, _Loader)  # noqa: S506 - a SafeLoader
            yield Changed(node.start_mark.line + 1, node.value, read)


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    for child in node.value if isinstance(node, yaml.CollectionNode) else []:
        for each in child if isinstance(child, tuple) else (child,):
            yield from _scalars(each)


def _as_written(node: yaml.ScalarNode) -> bool:
    if node.tag == WHOLE:
        return INTEGER.fullmatch(node.value) is not None
    return node.tag == TEXT and not NUMBER.fullmatch(node.value)


def read_yaml(file: Path, what: str) -> Any:
    """The content of a file. BadInput, with the line, where it cannot be read or is not YAML."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise BadInput(f"cannot read the {what} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file}: a {what} is UTF-8 text, and this is not") from None
    except RecursionError:
        raise BadInput(f"{file}: not valid YAML: values inside values, too deep to read") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{file}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
