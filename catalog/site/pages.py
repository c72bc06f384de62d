"""Writes the pages of the site: plain Markdown under ``build/docs``, which MkDocs or a successor renders.

There is one set of pages for each language. All text from an entry or a record is escaped, by the templates
(autoescape) or by ``escape_markdown``; ``export.links`` ensures that all addresses are http or https.
"""

import html
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from catalog import export
from catalog.errors import BadInput, Failure
from catalog.folding import replaced
from catalog.links import Link
from catalog.reported import results
from catalog.schema import FOLDERS, Entry, vocabulary
from catalog.site import board, choices, costs, facets, family, leaderboard, steps, theme_search
from catalog.site.api import read_package
from catalog.site.board import board_pages
from catalog.site.choices import ACTIVITIES, Answer, Choice
from catalog.site.costs import Cost, quality
from catalog.site.leaderboard import Board, Source
from catalog.site.lists import RELATED, Page, list_pages, related_pages
from catalog.site.near import Near
from catalog.site.read_next import read_next
from catalog.site.reading_path import Work, read_path
from catalog.site.reported import reported, reported_pages
from catalog.site.steps import Explained, Steps
from catalog.site.tables import record_parts, write_figures
from catalog.site.tasks import Task, read_tasks, task_page, task_pages
from catalog.site.view import KIND, Atlas, Fields, Language, View, fields

LANGUAGES: tuple[Language, ...] = ("en", "zh")
CATALOG = Path(__file__).parents[1]
TEMPLATES = Path(__file__).with_name("templates")
REDIRECTS = CATALOG / "redirects.yaml"
LIST_2018 = CATALOG / "list-2018.yaml"
PACKAGES = ("reference", "harness")
FAMILY_ROOT = "bert"
STEPS = "step-by-step.md"
NAMED = 5  # members of a branch that its line names
STEP = 50  # entries that the catalog's page shows at once


def build(
    entries: list[Entry],
    index_file: Path,
    docs: Path,
    out: Path,
    site: str,
    links: dict[str, Link] | None = None,
    explained_file: Path | None = None,
    near: Near | None = None,
) -> int:
    """Write the pages of both languages into ``out``/en and ``out``/zh, and return their number.

    Both folders are replaced.

    ``index_file`` is the harness's index.json; if there is none, the leaderboard says so. ``docs`` contains the
    hand-written pages, ``site`` is the address of the English home page, ``links`` says which addresses are dead,
    ``near`` which entries are near in meaning. ``explained_file`` is what the harness computed for a sentence; without
    it, the page step by step says so.

    Raises:
        BadInput: the index cannot be read, or ``docs`` is not usable.
        Failure: a file cannot be written.
    """
    if not (docs / "en").is_dir():
        raise BadInput(f"{docs} contains no folder en; name the folder of the hand-written pages with --docs")
    if docs.resolve() in (out.resolve(), *out.resolve().parents) or out.resolve() in docs.resolve().parents:
        raise BadInput(f"{out} and {docs} overlap, so the build would overwrite the hand-written pages")
    index = leaderboard.read_index(index_file)
    listed = sorted(map(fields, entries), key=lambda e: (-e["year"], e["title"].lower()))
    dead = {address: str(link.first_failed) for address, link in (links or {}).items() if link.state == "dead"}
    boards = leaderboard.boards(index, index_file)
    measured = Measured(choices.answers(boards), costs.read(index["against"]), read_tasks())
    atlas = Atlas(listed, boards, dead, results.choose(entries, None, None), near or Near())
    newest = [entry.id for entry in export.newest(entries)]
    packages = [read_package(name) for name in PACKAGES]
    explained = steps.read(explained_file)
    worker, repaired_script = theme_search.repaired()
    count = 0
    for language in LANGUAGES:
        folder = out / language
        _start(folder, docs, language)
        view = View(atlas, language)
        environment = _environment(view, measured.activities)
        for name, (template, values) in _pages(view, newest, packages, measured).items():
            text = environment.get_template(f"{template}.md.j2").render(**values)
            export.write(folder / name, text.strip() + "\n")
            count += 1
        if (folder / STEPS).is_file():
            _explain(folder, environment, explained)
        script = environment.get_template("search.js.j2").render(letters=_letters(folder))
        export.write(folder / "assets/search.js", script + "\n")
        export.write(folder / worker, repaired_script)
        export.write(folder / "assets/entries.js", f"window.CATALOG = {facets.data(view)}\n")
        home = site.rstrip("/") + ("/" if language == "en" else f"/{language}/")
        export.write(folder / "feed.xml", export.to_atom(entries, home, language))
        for tag, _ in view.by_tag:
            tagged = [entry for entry in entries if tag in entry.tags]
            feed = export.to_atom(tagged, home, language, f"tags/{tag}", view.tag_name(tag))
            export.write(folder / f"tags/{tag}.xml", feed)
    for path in write_figures(boards, measured.costs, out / "en"):
        shutil.copy(path, out / "zh")
    export.export(entries, out / "en", site.rstrip("/") + "/")
    results.export(entries, out / "en")
    return count


def _letters(folder: Path) -> Markup:
    """The letters that a search of the pages in ``folder`` must replace, as JSON."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.md")))
    return Markup(json.dumps(replaced(texts), ensure_ascii=False, separators=(",", ":")))  # noqa: S704 - letters alone


def _start(folder: Path, docs: Path, language: Language) -> None:
    """Replace a folder by the hand-written pages of a language and the assets."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(docs / language, folder)
        shutil.copytree(docs / "assets", folder / "assets")
    except (OSError, shutil.Error) as error:
        raise Failure(f"{folder} could not be written: {error}") from error


def _explain(folder: Path, environment: Environment, explained: Explained | None) -> None:
    """Fill in the hand-written page that explains BERT step by step; or say how it is computed."""
    if explained is None:
        export.write(folder / STEPS, environment.get_template("no-steps.md.j2").render().strip() + "\n")
        return
    found = Steps(explained)
    template = environment.from_string((folder / STEPS).read_text(encoding="utf-8"))
    export.write(folder / STEPS, template.render(x=explained, s=found).strip() + "\n")
    export.write(folder / steps.DATA, found.data())


def _by_board(rows: list[tuple[Board, Source]]) -> list[tuple[Board, list[Source]]]:
    """The records of a page, by board."""
    return [(each, [source for _, source in found]) for each, found in groupby(rows, key=lambda row: row[0])]


def _environment(view: View, activities: list[str]) -> Environment:
    """The templates, with the words of the view's language."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(
        front=_front,
        md=_markdown,
        prose=_prose,
        tag_name=view.tag_name,
        what_name=view.what_name,
        metric=view.metric_name,
    )
    methods = (
        *("t", "title", "other_title", "summary", "other_summary", "words", "tag_name", "other_tag_name"),
        *("language_name", "links", "verdict", "cause", "state_name", "metric_name", "what_name"),
        *("edge_name", "short", "status_name", "facts", "deciding", "today", "reported_remarks", "reporter_name"),
    )
    environment.globals.update({name: getattr(view, name) for name in methods})
    environment.globals.update({name: getattr(view, name) for name in ("entries", "by_tag", "by_year", "by_language")})
    t = view.t
    browse = [("catalog", t("Everything", "全部")), *((kind["page"], kind["name"]) for kind in view.kinds())]
    browse += [
        ("tags", t("Tags", "标签")),
        ("languages", t("Languages", "语言")),
        ("timeline", t("Timeline", "时间线")),
        ("recent", t("Recently added", "最近收录")),
    ]
    words = {"machine_name": choices.machine_name, "feed_name": choices.feed_name, "activities": choices.ACTIVITIES}
    words |= {
        "levels": choices.LEVELS,
        "feeds": choices.FEEDS,
        "significant": board.significant,
        "task_page": task_page,
    }
    words |= {"source": steps.source, "place_of": steps.place_of, "middle": median, "small": steps.small}
    words |= {"seen_in": view.seen_in}
    environment.globals.update(words)
    for text in (board.figure, board.cost_text, board.difference_text, board.verdict_text, board.precision_text):
        environment.globals[text.__name__] = partial(text, view)
    environment.filters["groupby_board"] = _by_board
    environment.globals.update(
        boards_shown=[(ACTIVITIES[each][0], t(*ACTIVITIES[each][1])) for each in activities],
        language=view.language,
        ids=view.by_id.keys(),
        measured=view.measured,
        disputed=view.disputed,
        shown=results.shown,
        kinds=view.kinds(),
        kind_names=KIND,
        browse_pages=browse,
        bibtex=lambda entry: export.bibtex(entry).rstrip(),
    )
    return environment


def _front(text: str) -> Markup:
    """``text`` as a value of the front matter, escaped here because themes insert it into HTML unescaped."""
    return Markup(json.dumps(html.escape(" ".join(text.split())), ensure_ascii=False))  # noqa: S704


def _markdown(text: str) -> Markup:
    return Markup(export.escape_markdown(text))  # noqa: S704


def _prose(docstring: str) -> Markup:
    """A docstring as HTML: paragraphs, with code in double backquotes; examples and tables are preformatted."""
    parts = []
    for paragraph in filter(None, docstring.split("\n\n")):
        if ">>>" in paragraph or "\n " in paragraph:
            parts.append(f'<pre lang="en"><code>{html.escape(paragraph)}</code></pre>')
        else:
            text = re.sub("``(.+?)``", r"<code>\1</code>", html.escape(paragraph))
            parts.append(f'<p lang="en">{text}</p>')
    return Markup("\n".join(parts))  # noqa: S704


# --- which page shows what --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What the index says besides its boards."""

    answers: dict[Choice, Answer]
    costs: list[Cost]
    tasks: dict[str, Task]

    @property
    def activities(self) -> list[str]:
        """What was timed, in the order of ACTIVITIES."""
        timed = {choice.activity for choice in self.answers}
        return [each for each in ACTIVITIES if each in timed]


def _pages(view: View, newest: list[str], packages: list[Any], measured: Measured) -> dict[str, Page]:
    """All generated pages, by file name."""
    tree = _family(view)
    pages: dict[str, Page] = {
        "index.md": ("index", _home(view, newest, measured)),
        "catalog.md": ("catalog", {"step": STEP}),
        "tags.md": ("tags", {}),
        "list-2018.md": ("list-2018", {"sections": _sections(view)}),
        "family.md": ("family", tree),
        "family-list.md": ("family-list", tree),
        "glossary.md": ("glossary", {"terms": list(vocabulary()["terms"].values())}),
        "leaderboard.md": ("no-board", {}),
        "reading-path.md": ("reading-path", {"path": _path(view)}),
    }
    parts = record_parts(view.boards)
    places = {source.key: name for name, rows in parts.items() for _, source in rows}
    total = len(places)
    for name, rows in parts.items():
        pages[f"{name}.md"] = ("records", {"name": name, "parts": parts, "rows": rows, "total": total})
    pages |= board_pages(view, measured.answers, measured.costs, places)
    pages |= task_pages(view, view.boards, measured.costs, measured.tasks)
    pages |= list_pages(view, newest)
    pages |= reported_pages(view)
    pages |= related_pages(view)
    for entry in view.entries:
        pages[f"entries/{entry['id']}.md"] = ("entry", _entry(view, entry, measured))
    for old, new in _redirects(view).items():
        pages[f"entries/{old}.md"] = ("redirect", {"e": view.by_id[new], "target": f"{new}.html"})
    for package in packages:
        pages[f"api/{package.name}.md"] = ("api", {"package": package})
    return pages


def _home(view: View, newest: list[str], measured: Measured) -> dict[str, Any]:
    """The newest entries, the 2018 list, and the answer to what most people ask."""
    values = {
        "newest": [view.by_id[each] for each in newest],
        "seeds": view.seeds(),
        "eras": view.eras(),
        "answer": None,
    }
    if choice := choices.default(measured.answers):
        answer = measured.answers[choice]
        names = board.page_names(measured.answers)
        parts = dict(board.parts(view, measured.answers, names, choice, ""))
        machines = parts[view.t(*board.PART_NAMES["machine"])]
        values |= {"answer": answer, "bars": board.bars(answer, measured.costs), "machines": machines}
    return values


def _entry(view: View, entry: Fields, measured: Measured) -> dict[str, Any]:
    folder = next(folder for folder, kind in FOLDERS.items() if kind == entry["kind"])
    found = board.summaries(view, measured.answers, entry["id"])
    return {
        **{"e": entry, "folder": folder, "relations": view.relations(entry), "most": RELATED},
        **{"next": read_next(view, entry), "near": view.near(entry), "near_weights": view.near_weights},
        "reported": reported(view, entry),
        "summaries": [(each, quality(measured.costs, each.line.row, "")) for each in found],
        "unmeasured": [] if found else view.results(entry),
        "tasks": [name for name, task in measured.tasks.items() if task.entry == entry["id"]],
    }


def _sections(view: View) -> list[dict[str, Any]]:
    """The 2018 list in its original form, each item with its entry."""
    by_seed = {entry["seed"]: entry for entry in view.entries}
    sections: list[dict[str, Any]] = yaml.safe_load(LIST_2018.read_text(encoding="utf-8"))
    return [
        {**section, "lines": [{**line, "entry": by_seed.get(line["number"])} for line in section["lines"]]}
        for section in sections
    ]


def _family(view: View) -> dict[str, Any]:
    root = family.family(view.entries, FAMILY_ROOT)
    branches = family.branches(root) if root else []

    def picture(branch: family.Branch) -> Markup:
        address = "entries/{}.html".format
        return Markup(family.draw(root, branch, address)) if root else Markup("")  # noqa: S704

    nodes = [node for branch in branches for node in branch.nodes]
    count = Counter(node.by for node in nodes)
    codes = Counter(code for node in nodes for code in facets.languages(node.entry))

    def order(node: family.Node) -> tuple[bool, int]:  # those with a short name, the best known first
        return view.short(node.entry).endswith("…"), -view.fame[node.entry["id"]]

    best = {branch.tag: sorted(branch.nodes, key=order)[:NAMED] for branch in branches}
    return {
        **{"root": root, "branches": branches, "picture": picture, "best": best, "count": len(nodes)},
        "edges": [(by, count[by]) for by in family.PARENTS if by in count],
        "languages": [code for code, _ in codes.most_common()],
    }


def _path(view: View) -> list[tuple[Work, Fields]]:
    """The reading path with its entries; a work that this catalog lacks is left out."""
    return [(work, view.by_id[work.id]) for work in read_path() if work.id in view.by_id]


def _redirects(view: View) -> dict[str, str]:
    """Former ids of entries, with the current ones. BadInput if an old id is in use or a new one does not exist."""
    text = REDIRECTS.read_text(encoding="utf-8")
    found: dict[str, str] = yaml.load(text, yaml.BaseLoader) or {}  # noqa: S506 - all is text: an id may be 2018 or no
    for old, new in found.items():
        if new not in view.by_id or old in view.by_id:
            why = f"{new!r} is not an entry" if new not in view.by_id else f"{old!r} is an entry"
            raise BadInput(f"{REDIRECTS.name}: {old}: {new}: {why}")
    return found
