"""Reading YAML that users write."""

from pathlib import Path
from typing import Any

import yaml

from harness.errors import BadInput
from harness.printable import UNFIT


class _Loader(yaml.SafeLoader):
    """PyYAML's, but a field that stands there twice is an error; there the last one wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = (key_node.tag, str(key_node.value))
            if key in keys:
                raise yaml.MarkedYAMLError(problem=f"{key[1]} stands there twice", problem_mark=key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """PyYAML lets through whatever Python raises where a value is not what it looks like, as 2024-13-45 is not."""
        if isinstance(node, yaml.ScalarNode) and (found := UNFIT.search(node.value)):
            problem = f"a value with the character U+{ord(found[0]):04X}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, ArithmeticError, AttributeError) as error:
            what = f"{node.value!r} is no value" if isinstance(node, yaml.ScalarNode) else "not a value"
            raise yaml.MarkedYAMLError(problem=f"{what}: {error}", problem_mark=node.start_mark) from error


def read_yaml(file: Path, what: str) -> Any:
    """What stands in a file of the user's. BadInput, with the line, where it is not there or not YAML."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise BadInput(f"cannot read the {what} {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{file}: a {what} is UTF-8 text, and this is not") from None
    except RecursionError:
        raise BadInput(f"{file}: not valid YAML: values inside values, too deep to be read") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BadInput(f"{file}{line}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
