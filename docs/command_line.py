"""Write the guide's page of commands, in both languages, from the commands themselves.

Run it after a change to a command or its help: ``python docs/command_line.py``. A test asks whether it was run.
"""

import html
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FRONT = """---
title: {title}
description: {description}
---

<!-- Written by docs/command_line.py: change the help of a command, not this file. -->

# {title}

{introduction}
"""
LANGUAGES = {
    "en": {
        "title": "Command line",
        "description": "Every command of BERT Atlas, with its arguments, options and defaults.",
        "introduction": "`bert-atlas` is a shorter name for `python -m harness`. Exit codes: 0 when everything went "
        "well or was skipped, 1 when a run failed, 2 when the input cannot be used, 130 after Ctrl-C.",
        "columns": ("option", "meaning", "default"),
        "required": "required",
    },
    "zh": {
        "title": "命令行",
        "description": "BERT Atlas 的全部命令，及其参数、选项和默认值。",
        "introduction": "`bert-atlas` 是 `python -m harness` 的简写。退出码：0 表示一切正常或已跳过，1 表示有运行失败，"
        "2 表示输入无法使用，130 表示被 Ctrl-C 中断。以下说明取自程序自带的英文帮助。",
        "columns": ("选项", "含义", "默认值"),
        "required": "必填",
    },
}


def main() -> None:
    """Write both pages."""
    for language, page in pages().items():
        path = ROOT / "docs" / language / "guide" / "command-line.md"
        path.write_text(page, encoding="utf-8", newline="\n")
        print(path.relative_to(ROOT))


def pages() -> dict[str, str]:
    """The pages as Markdown, by language."""
    sys.path.insert(0, str(ROOT))  # the commands of the checkout that holds this file
    from typer.main import get_command

    import catalog.cli
    import harness.cli

    programs = {
        "python -m harness": get_command(harness.cli.app),
        "python -m catalog": get_command(catalog.cli.app),
    }
    return {
        language: FRONT.format(**words) + "".join(_sections(programs, words)) for language, words in LANGUAGES.items()
    }


def _sections(commands: dict[str, Any], words: dict[str, Any], level: int = 2) -> Iterator[str]:
    """A section for each command, and after it those of its subcommands."""
    for name, command in commands.items():
        yield "\n" + "\n\n".join([f"{'#' * level} {name}", *_body(command, words)]) + "\n"
        inner = {f"{name} {each}": found for each, found in getattr(command, "commands", {}).items()}
        yield from _sections(inner, words, 3)


def _body(command: Any, words: dict[str, Any]) -> Iterator[str]:
    """What a command does, its parameters as a table, and its examples."""
    yield _escaped(command.help)
    rows = [_row(each, words["required"]) for each in command.params if each.name != "help"]
    if rows:
        yield "\n".join([_cells(*words["columns"]), "|---|---|---|", *rows])
    if command.epilog:
        examples = re.split(r":\s+", command.epilog, maxsplit=1)[1]
        yield "```sh\n" + examples.replace("\n\n", "\n") + "\n```"


def _row(parameter: Any, required: str) -> str:
    """The name of an argument or option, what it means, and its default."""
    is_option = parameter.opts[0].startswith("-")
    name = ", ".join(parameter.opts) if is_option else parameter.name.upper()
    meaning, _, default = (parameter.help or "").partition("  [default: ")
    if parameter.envvar:
        meaning += f" Environment variable: `{parameter.envvar}`."
    return _cells(f"`{name}`", _escaped(meaning), required if parameter.required else _default(parameter, default))


def _default(parameter: Any, in_help: str) -> str:
    """The default that the help text names, else the value; nothing where an absent option changes nothing."""
    value = parameter.default
    if in_help or value in (None, "", False):
        return _escaped(in_help.removesuffix("]"))
    if isinstance(value, Path) and value.is_absolute():
        value = value.relative_to(ROOT)
    return f"`{value}`"


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A help message as one line of Markdown: code in backquotes, and no other markup."""
    parts = " ".join(text.split()).split("`")
    plain = [
        part if place % 2 else re.sub(r"([|*\[])", r"\\\1", html.escape(part, quote=False))
        for place, part in enumerate(parts)
    ]
    return "`".join(plain)


if __name__ == "__main__":
    main()
