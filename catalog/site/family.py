"""The family tree of BERT as SVG, one drawing for each branch, drawn when the site is built.

Colours, type and the strokes of lines come from the site's style sheet (classes), so that they follow its light and
dark scheme.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from catalog.site.view import short_title
from catalog.values import vocabulary

PARENTS = ("base_model", "builds_on", "distils", "compresses", "relates_to")  # fields that lead to a parent
SMALL = 3  # members; smaller branches are one, which is named OTHERS
OTHERS = ""
OPEN = 60  # rows of drawings that are open at first


@dataclass
class Node:
    """A member of the family and its children, the entries that build on it, oldest first."""

    entry: dict[str, Any]
    by: str = ""  # the field that leads to the parent
    children: list["Node"] = field(default_factory=list)


def family(entries: list[dict[str, Any]], root: str) -> Node | None:
    """The tree of papers and models that descend from ``root``; None if there is no such entry.

    The parent of an entry is the first that it names in the fields of PARENTS, in their order, that belongs to the
    family and is not younger.
    """
    by_id = {entry["id"]: entry for entry in entries}
    if root not in by_id:
        return None
    nodes = {root: Node(by_id[root])}
    waiting = [e for e in entries if e["id"] != root and _is_model(e)]
    waiting.sort(key=lambda e: (e["year"], e["title"].lower()))
    patient = True  # an entry waits for the parent that it names first, unless that leaves everyone waiting
    while waiting:
        absent = {entry["id"] for entry in waiting}
        placed = set()
        for entry in waiting:
            named = [(each, by) for by in PARENTS for each in _listed(entry.get(by)) if each in by_id]
            older = [(each, by) for each, by in named if by_id[each]["year"] <= entry["year"]]
            known = ((each, by) for each, by in older if each in nodes or (patient and each in absent))
            parent, by = next(known, (None, ""))
            if parent in nodes:
                nodes[entry["id"]] = Node(entry, by)
                nodes[parent].children.append(nodes[entry["id"]])
                placed.add(entry["id"])
        waiting = [entry for entry in waiting if entry["id"] not in placed]
        if not placed and not patient:
            break
        patient = bool(placed)
    for node in nodes.values():
        node.children.sort(key=lambda child: (child.entry["year"], child.entry["title"].lower()))
    return nodes[root]


def _listed(named: str | list[str] | None) -> list[str]:
    return [named] if isinstance(named, str) else named or []


def _is_model(entry: dict[str, Any]) -> bool:
    """Whether an entry presents a model: some tag says that it does, and none that it is about models of others."""
    said = {vocabulary()["tags"][tag]["family"] for tag in entry["tags"]}
    return entry["kind"] in ("paper", "model") and "member" in said and "about" not in said


@dataclass(frozen=True)
class Branch:
    """The children of the root that have the same first tag, with their descendants."""

    tag: str  # OTHERS for small branches together
    members: list[Node]
    number: int
    open: bool

    @property
    def nodes(self) -> list[Node]:
        """All entries of the branch."""
        return [each for member in self.members for each in _all(member)]

    @property
    def years(self) -> tuple[int, int]:
        """The first and the last year."""
        found = [node.entry["year"] for node in self.nodes]
        return min(found), max(found)


def branches(root: Node) -> list[Branch]:
    """The branches, the largest first; small ones are together at the end."""
    found: dict[str, list[Node]] = {}
    for child in root.children:
        found.setdefault(child.entry["tags"][0], []).append(child)
    small = [tag for tag, members in found.items() if sum(map(size, members)) < SMALL]
    if len(small) > 1:
        others = [member for tag in small for member in found.pop(tag)]
        found[OTHERS] = sorted(others, key=lambda node: (node.entry["year"], node.entry["title"].lower()))
    ordered = sorted(found.items(), key=lambda item: (item[0] == OTHERS, -sum(map(size, item[1])), item[0]))
    listed, rows = [], 0
    for number, (tag, members) in enumerate(ordered):
        rows += sum(map(size, members))
        listed.append(Branch(tag, members, number, open=number == 0 or rows <= OPEN))
    return listed


def size(node: Node) -> int:
    """The number of entries of a node and its descendants."""
    return 1 + sum(map(size, node.children))


def _all(node: Node) -> list[Node]:
    return [node, *(each for child in node.children for each in _all(child))]


# --- the drawing ------------------------------------------------------------------------------------------------------

ROW, YEAR_WIDTH, INDENT, LEFT, TOP, LABEL = 22, 94, 14, 64, 66, 330


def draw(root: Node, branch: Branch, address: Callable[[str], str]) -> str:
    """A branch with time from left to right: one row per entry, descendants below and to the right of their parent.

    ``address`` maps an id to its page.
    """
    first, last = root.entry["year"], max(root.entry["year"], branch.years[1])
    parts: list[str] = []

    def place(node: Node, parent: tuple[float, float], row: int) -> int:
        x = max(LEFT + (node.entry["year"] - first) * YEAR_WIDTH, parent[0] + INDENT)
        y = TOP + row * ROW
        languages = " ".join(node.entry["for_language"] or node.entry["language"] or [])
        parts.append(
            f'<g class="member" data-by="{node.by}" data-language="{languages}">'
            f"{_edge(parent, (x, y), node.by)}{_mark(node, x, y, address(node.entry['id']))}</g>"
        )
        row += 1
        for child in node.children:
            row = place(child, (x, y), row)
        return row

    top, row = TOP - 1.2 * ROW, 0
    for member in branch.members:
        row = place(member, (LEFT, top), row)
    width, height = LEFT + (last - first) * YEAR_WIDTH + LABEL, TOP + row * ROW - 6
    extent = f'viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}"'
    return (
        f'<svg class="family b{branch.number % 6}" {extent} role="group">'
        f"{_years(first, last, height)}{_mark(root, LEFT, top, address(root.entry['id']))}"
        f"{''.join(parts)}</svg>"
    )


def _years(first: int, last: int, height: float) -> str:
    parts = []
    for year in range(first, last + 1):
        x = LEFT + (year - first) * YEAR_WIDTH
        parts.append(f'<path class="meridian" d="M{x} 26V{height:g}"/><text class="year" x="{x}" y="16">{year}</text>')
    return "".join(parts)


def _edge(start: tuple[float, float], end: tuple[float, float], by: str) -> str:
    (x0, y0), (x1, y1) = start, end
    bend = min(8.0, x1 - x0)
    return f'<path class="edge by-{by}" d="M{x0:g} {y0:g}V{y1 - bend:g}q0 {bend:g} {bend:g} {bend:g}H{x1:g}"/>'


def _mark(node: Node, x: float, y: float, address: str) -> str:
    label = html.escape(short_title(node.entry["title"]))
    titles = ", ".join(filter(None, [node.entry["title"], node.entry["title_zh"], str(node.entry["year"])]))
    return (
        f'<a href="{html.escape(address)}"><title>{html.escape(titles)}</title>'
        f'<circle cx="{x:g}" cy="{y:g}" r="4.5"/>'
        f'<text x="{x + 10:g}" y="{y + 4.5:g}">{label}</text></a>'
    )
