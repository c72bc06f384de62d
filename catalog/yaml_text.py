"""Finds in the text of a file what YAML would cut, change or misread.

The parser sees a value only after YAML has cut comments, joined lines and replaced escapes. At a look-alike colon it
reports the next line, or nothing.
"""

import re
from itertools import pairwise
from typing import Any

from catalog.schema import MODELS

_FIELDS = "|".join(sorted({name for model in MODELS.values() for name in model.model_fields}))
_SPACE = "\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"  # look like spaces, but are letters to YAML
_COLONS = "：﹕∶꞉ː։"
_BEFORE = re.compile(rf"([ {_SPACE}-]*[{_SPACE}])\S")
_NAME = re.compile(rf"[\"'“‘]?({_FIELDS})[\"'”’]?([ {_SPACE}]*)([{_COLONS}:])([ {_SPACE}]*)(.*)", re.IGNORECASE)
_COMMENT = re.compile(r"(?:, *| +)(#.*)")
_ESCAPE = re.compile(  # escapes of letters; the group is any other escape
    r"\\(?:[\"\\/\n]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})|\\(.)"
)
_WIDE = re.compile("[\u3000-\u303f\u3400-\u9fff\uff00-\uff64]")
TEXTS = ("title", "title_zh", "authors", "venue", "summary_en", "summary_zh", "sources")  # fields with free text


def look_alike(line: str) -> str | None:
    """What is wrong with a line that has a look-alike where YAML needs a space or a colon; None if nothing is.

    >>> look_alike("year：2019")
    "has the full-width colon '：' after `year`; write `year: 2019`"
    """
    if before := _BEFORE.match(line):
        return f"begins with {_code(before[1])}, which is not a plain space; write plain spaces"
    if not (found := _NAME.match(line)):
        return None
    name, gap, colon, space, rest = found.groups()
    if colon != ":":
        what = "full-width colon" if colon == "：" else "sign"
        return f"has the {what} {colon!r} after `{name}`; write `{name}: {rest[:40].strip()}`"
    if odd := re.search(f"[{_SPACE}]", gap + space):
        return f"has {_code(odd[0])} beside the colon of `{name}`, which is not a plain space; write one"
    if rest and not space and name == name.lower():
        return f"has no space after the colon of `{name}`; write `{name}: {rest[:40].strip()}`"
    return None


def cut_by_comment(event: Any, lines: list[str]) -> str | None:
    """The comment that ends an unquoted text; None if there is none."""
    if not event.implicit[0]:  # in quotes, or a block
        return None
    found = _COMMENT.match(lines[event.end_mark.line], event.end_mark.column)
    return found[1] if found else None


def changed_by_escape(event: Any, lines: list[str]) -> str | None:
    r"""The first escape in double quotes for a control character or a space, such as ``\t``."""
    if getattr(event, "style", None) != '"':
        return None
    odd = (found[1] for found in _ESCAPE.finditer(_raw(event, lines)) if found[1])
    return next((f"\\{letter}" for letter in odd), None)


def changed_by_folding(event: Any, lines: list[str]) -> str | None:
    """The two letters between which joining lines added a space that the text does not have; None if there are none."""
    if event.start_mark.line == event.end_mark.line or event.style == "|":
        return None
    parts = [line.strip() for line in _raw(event, lines).split("\n")]
    for one, other in pairwise(parts):
        if one and other and _WIDE.match(one[-1]) and _WIDE.match(other[0]):
            return f"{one[-1]} {other[0]}"
        if re.search(r"[^\W\d_]-$", one) and re.match(r"(?!(?:and|or|to|vs)\b)[^\W\d_]", other):
            return f"{one[-2:]} {other[0]}"
    return None


def _raw(event: Any, lines: list[str]) -> str:
    start, end = event.start_mark, event.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column]
    within = lines[start.line + 1 : end.line]
    return "\n".join([lines[start.line][start.column :], *within, lines[end.line][: end.column]])


def _code(space: str) -> str:
    odd = re.search(f"[{_SPACE}]", space)
    letter = odd[0] if odd else space
    names = {"\u00a0": "a no-break space", "\u3000": "a full-width space"}
    return f"U+{ord(letter):04X} ({names.get(letter, 'a space of another width')})"
