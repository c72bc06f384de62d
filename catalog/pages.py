"""The catalog and the results as pages: plain Markdown under ``build/docs``, which MkDocs (or a successor) renders.

There is one set of pages for each language. Whatever comes from an entry or a record is escaped by the templates
(autoescape) or by ``escape_markdown``; addresses are http or https, which the schema has checked.
"""

import html
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from catalog import drawing, export, leaderboard
from catalog.api import read_package
from catalog.errors import BadInput
from catalog.leaderboard import Board, Row, Speed
from catalog.schema import FOLDERS, Entry, vocabulary

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
TEMPLATES = Path(__file__).with_name("templates")
REDIRECTS = Path(__file__).with_name("redirects.yaml")
PACKAGES = ("reference", "harness")
ROOT = "bert"  # the entry that the family descends from

KIND = {
    "paper": ("paper", "论文"),
    "article": ("article", "文章"),
    "repository": ("repository", "代码仓库"),
    "model": ("model", "模型"),
    "dataset": ("data set", "数据集"),
}
VERDICTS = {"exact": ("exact", "完全一致"), "close": ("close", "接近"), "differs": ("differs", "有差异")}
STATUS = {
    "active": ("active", "活跃"),
    "archived": ("archived", "已归档"),
    "gone": ("gone", "已失效"),
    "renamed": ("renamed", "已改名"),
}
LINK_NAMES = {"today": ("where it is today", "现地址"), "code": ("code", "代码"), "archived copy": ("archived copy", "存档")}


@dataclass
class Atlas:
    """All that the pages show."""

    entries: list[dict[str, Any]]  # the newest year first
    models: list[Entry]
    boards: list[Board]
    docs: Path  # hand-written pages, styles and scripts
    site: str  # the address of the English home page, with a slash at the end


def build(entries: list[Entry], results: Path, docs: Path, out: Path, site: str) -> int:
    """Write the pages of both languages into ``out``/en and ``out``/zh, which are made anew; how many pages.

    ``results`` is the harness's index.json; where there is none, the leaderboard says so. ``docs`` holds the
    hand-written pages. BadInput for an index that cannot be read, Failure on a full disk.
    """
    records = leaderboard.read_index(results)
    listed = sorted(map(export.fields, entries), key=lambda e: (-e["year"], e["title"].lower()))
    atlas = Atlas(listed, entries, leaderboard.boards(records, results), docs, site if site.endswith("/") else f"{site}/")
    if not (docs / "en").is_dir():
        raise BadInput(f"{docs} holds no folder en; name the folder of the hand-written pages with --docs")
    count = 0
    for language in LANGUAGES:
        folder = out / language
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(docs / language, folder)
        shutil.copytree(docs / "assets", folder / "assets")
        for name, text in _pages(atlas, language).items():
            export.write(folder / name, text)
            count += 1
        home = atlas.site if language == "en" else f"{atlas.site}{language}/"
        export.write(folder / "feed.xml", export.to_atom(entries, home, language))
    export.export(entries, out / "en", atlas.site)
    return count


def _pages(atlas: Atlas, language: Language) -> dict[str, str]:
    """The text of every generated page, by file name."""
    view = View(atlas, language)
    pages = {
        "index.md": view.render("index", newest=view.newest(), seeds=view.seeds(), top=view.top()),
        "catalog.md": view.render("catalog"),
        "tags.md": view.render("tags"),
        "timeline.md": view.groups("timeline"),
        "languages.md": view.groups("languages"),
        "list-2018.md": view.render("list-2018", sections=view.sections()),
        "family.md": view.family(),
        "leaderboard.md": view.render("leaderboard", boards=[(board, view.plots(board)) for board in atlas.boards]),
    }
    for folder, kind in FOLDERS.items():
        pages[f"{folder}.md"] = view.kind_list(folder, kind)
    for tag, found in view.by_tag:
        pages[f"tags/{tag}.md"] = view.tag_list(tag, found)
    for entry in atlas.entries:
        pages[f"entries/{entry['id']}.md"] = view.entry(entry)
    for old, new in _redirects(view.by_id).items():
        pages[f"entries/{old}.md"] = view.render("redirect", e=view.by_id[new], target=f"{new}.html")
    for package in map(read_package, PACKAGES):
        pages[f"api/{package.name}.md"] = view.render("api", package=package, modules=package.modules)
    return pages


def _redirects(by_id: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Ids that entries had before, with those of today."""
    found: dict[str, str] = (yaml.safe_load(REDIRECTS.read_text(encoding="utf-8")) or {}) if REDIRECTS.exists() else {}
    for old, new in found.items():
        if new not in by_id or old in by_id:
            why = f"{new!r} is no entry" if new not in by_id else f"{old!r} is an entry"
            raise BadInput(f"{REDIRECTS}: {old}: {new}: {why}")
    return found


class View:
    """The atlas as the readers of one language see it."""

    def __init__(self, atlas: Atlas, language: Language) -> None:
        self.atlas, self.language = atlas, language
        self.by_id = {entry["id"]: entry for entry in atlas.entries}
        self.by_tag = self._grouped(lambda entry: entry["tags"], self._by_size)
        self.by_year = self._grouped(lambda entry: [entry["year"]], lambda item: -item[0])
        self.by_language = self._grouped(lambda entry: entry.get("language", []), self._by_size)
        self.back = self._references()
        self.measured = {row.catalog_id for board in atlas.boards for row in board.rows} & self.by_id.keys()
        self.environment = self._environment()

    def _environment(self) -> Environment:
        made = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        made.filters.update(front=_front, md=_markdown, prose=_prose, tag_name=self.tag_name)
        public = ("t", "title", "other_title", "summary", "other_summary", "words", "tag_name", "other_tag_name")
        made.globals.update({name: getattr(self, name) for name in public})
        made.globals.update({name: getattr(self, name) for name in ("language_name", "link_name", "rows", "facts")})
        made.globals.update({name: getattr(self, name) for name in ("by_tag", "by_year", "by_language", "measured")})
        made.globals.update(
            language=self.language,
            entries=[_lenient(entry) for entry in self.atlas.entries],
            ids=self.by_id.keys(),
            kind_names=KIND,
            kinds=self._kinds(),
            browse_pages=self._browse_pages(),
            links=export.links,
            bibtex=lambda entry: export.bibtex(entry).rstrip(),
            verdict=lambda verdict: self.t(*VERDICTS.get(verdict, (verdict, verdict))) if verdict else "–",
            status_name=lambda status: self.t(*STATUS[status]),
            speed_text=self.speed_text,
        )
        return made

    def render(self, template: str, **values: Any) -> str:
        """One page; its first line is that of the front matter."""
        return self.environment.get_template(f"{template}.md.j2").render(**values).strip() + "\n"

    # --- words ---

    def t(self, english: str, chinese: str) -> str:
        """The one of two texts that is in the reader's language."""
        return chinese if self.language == "zh" else english

    def title(self, entry: dict[str, Any]) -> str:
        return (self.language == "zh" and entry.get("title_zh")) or entry["title"]

    def other_title(self, entry: dict[str, Any]) -> str | None:
        if self.language == "zh":
            return entry["title"] if "title_zh" in entry else None
        return entry.get("title_zh")

    def summary(self, entry: dict[str, Any]) -> str | None:
        """In the reader's language if there is one."""
        return entry.get(f"summary_{self.language}") or self.other_summary(entry)

    def other_summary(self, entry: dict[str, Any]) -> str | None:
        return entry.get("summary_en" if self.language == "zh" else "summary_zh")

    def tag_name(self, tag: str) -> str:
        return vocabulary()["tags"][tag][self.language]

    def other_tag_name(self, tag: str) -> str:
        return vocabulary()["tags"][tag][self.t("zh", "en")]

    def language_name(self, code: str) -> str:
        return vocabulary()["languages"][code][self.language]

    def link_name(self, name: str) -> str:
        return self.t(*LINK_NAMES[name]) if name in LINK_NAMES else name

    def words(self, entry: dict[str, Any]) -> str:
        """What an entry is to be found by beside what its row or page shows in this language."""
        tags = [name for tag in entry["tags"] for name in vocabulary()["tags"][tag].values()]
        return " ".join(filter(None, [entry["id"], self.other_title(entry), *tags, *entry.get("authors", [])]))

    # --- arrangements of the entries ---

    def _grouped(self, keys: Callable[[dict[str, Any]], Iterable[Any]], order: Callable[[Any], Any]) -> list[Any]:
        groups: dict[Any, list[dict[str, Any]]] = {}
        for entry in map(_lenient, self.atlas.entries):
            for key in keys(entry) or []:
                groups.setdefault(key, []).append(entry)
        return sorted(groups.items(), key=order)

    @staticmethod
    def _by_size(item: tuple[str, list[Any]]) -> tuple[int, str]:
        return (-len(item[1]), item[0])
