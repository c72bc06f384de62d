"""The family tree of BERT as SVG, drawn when the site is built.

Colours and type come from the site's style sheet (classes), so that they follow its light and dark scheme.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from catalog.site.view import short_title
from catalog.values import vocabulary

PARENTS = ("base_model", "builds_on", "distils", "compresses", "relates_to")


@dataclass
class Node:
    """A member of the family and its children, the entries that build on it, oldest first."""

    entry: dict[str, Any]
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
            named = [each for field in PARENTS for each in _listed(entry.get(field)) if each in by_id]
            older = [each for each in named if by_id[each]["year"] <= entry["year"]]
            parent = next((each for each in older if each in nodes or (patient and each in absent)), None)
            if parent in nodes:
                nodes[entry["id"]] = Node(entry)
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


def branches(root: Node) -> dict[str, list[Node]]:
    """The children of the root, by their first tag; the largest branch first."""
    found: dict[str, list[Node]] = {}
    for child in root.children:
        found.setdefault(child.entry["tags"][0], []).append(child)
    return dict(sorted(found.items(), key=lambda item: (-sum(map(size, item[1])), item[0])))


def size(node: Node) -> int:
    """The number of entries of a node and its descendants."""
    return 1 + sum(map(size, node.children))


# --- the family tree --------------------------------------------------------------------------------------------------

ROW, YEAR_WIDTH, INDENT, LEFT, TOP, LABEL = 22, 94, 14, 84, 46, 330


def draw_family(root: Node, address: Callable[[str], str], name: Callable[[str], str]) -> str:
    """The tree with time from left to right: one row per entry, descendants below and to the right of their parent.

    ``address`` maps an id to its page, ``name`` a tag to its name in the reader's language.
    """
    first = root.entry["year"]
    places: dict[str, tuple[float, float]] = {}
    marks: list[str] = []
    edges: list[str] = []

    def place(node: Node, parent: tuple[float, float], depth: int, row: int, branch: int) -> int:
        x = max(LEFT + (node.entry["year"] - first) * YEAR_WIDTH, parent[0] + INDENT)
        y = TOP + row * ROW
        places[node.entry["id"]] = (x, y)
        if depth == 1:  # the trunk is drawn once, below
            edges.append(_edge((parent[0], y - 8), (x, y), branch))
        elif depth:
            edges.append(_edge(parent, (x, y), branch))
        marks.append(_mark(node, x, y, branch, address(node.entry["id"])))
        row += 1
        for child in node.children if depth else []:
            row = place(child, (x, y), depth + 1, row, branch)
        return row

    row = place(root, (LEFT - INDENT, 0), 0, 0, 0)
    for number, (tag, members) in enumerate(branches(root).items()):
        row += 2
        y = TOP + (row - 0.8) * ROW
        marks.append(f'<text class="branch b{number % 6}" x="{LEFT + 22}" y="{y:g}">{html.escape(name(tag))}</text>')
        for child in members:
            row = place(child, places[root.entry["id"]], 1, row, number % 6)
    if root.children:
        top, bottom = places[root.entry["id"]][1], places[list(branches(root).values())[-1][-1].entry["id"]][1] - 8
        edges.insert(0, f'<path class="edge trunk" d="M{LEFT} {top}V{bottom:g}"/>')
    last = max([first, *(node.entry["year"] for node in _all(root))])
    width, height = LEFT + (last - first) * YEAR_WIDTH + LABEL, TOP + row * ROW
    return (
        f'<svg class="family" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group">'
        f"{_years(first, last, height)}{''.join(edges)}{''.join(marks)}</svg>"
    )


def _all(node: Node) -> list[Node]:
    return [node, *(each for child in node.children for each in _all(child))]


def _years(first: int, last: int, height: int) -> str:
    parts = []
    for year in range(first, last + 1):
        x = LEFT + (year - first) * YEAR_WIDTH
        parts.append(f'<path class="meridian" d="M{x} 26V{height}"/><text class="year" x="{x}" y="16">{year}</text>')
    return "".join(parts)


def _edge(start: tuple[float, float], end: tuple[float, float], branch: int) -> str:
    (x0, y0), (x1, y1) = start, end
    bend = min(8.0, x1 - x0)
    return f'<path class="edge b{branch}" d="M{x0:g} {y0:g}V{y1 - bend:g}q0 {bend:g} {bend:g} {bend:g}H{x1:g}"/>'


def _mark(node: Node, x: float, y: float, branch: int, address: str) -> str:
    label = html.escape(short_title(node.entry["title"]))
    return (
        f'<a href="{html.escape(address)}"><title>{html.escape(node.entry["title"])}, {node.entry["year"]}</title>'
        f'<circle class="node b{branch}" cx="{x:g}" cy="{y:g}" r="4.5"/>'
        f'<text x="{x + 10:g}" y="{y + 4.5:g}">{label}</text></a>'
    )
