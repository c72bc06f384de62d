"""The catalog and the results in one language: the words, groups and facts that the templates use."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from catalog import export
from catalog.folding import otherwise
from catalog.identifiers import identify
from catalog.reported.check import disagreeing
from catalog.reported.results import remarks
from catalog.reported.tables import Result
from catalog.schema import FIELDS, FOLDERS, LINKS, vocabulary
from catalog.site.leaderboard import PARITY, TIMING, Board, Row
from catalog.site.near import Near

Language = Literal["en", "zh"]
FIRST_YEAR = 2017  # first year of the drawing on the home page; older entries share one column
Fields = dict[str, Any]  # the fields of an entry, None if absent

KIND = {
    "paper": ("paper", "论文"),
    "article": ("article", "文章"),
    "repository": ("repository", "代码仓库"),
    "model": ("model", "模型"),
    "dataset": ("data set", "数据集"),
}
VERDICTS = {"exact": ("exact", "完全一致"), "close": ("close", "接近"), "differs": ("differs", "有差异")}
STATES = {"failed": ("failed", "失败"), "skipped": ("skipped", "跳过")}
STATUS = {
    "active": ("active", "活跃"),
    "archived": ("archived", "已归档"),
    "gone": ("gone", "已失效"),
    "renamed": ("renamed", "已改名"),
}
RELATIONS = {  # field: its title on the page of the entry that names, and on the page of the one that is named
    "builds_on": (("Builds on", "前作"), ("Built on by", "后续工作")),
    "distils": (("Distils", "蒸馏自"), ("Distilled by", "蒸馏它的工作")),
    "compresses": (("Compresses", "压缩的模型"), ("Compressed by", "压缩它的工作")),
    "analyses": (("Analyses", "分析的模型"), ("Analysed in", "分析它的工作")),
    "evaluates_on": (("Evaluated on", "评测数据"), ("Used to evaluate", "用它评测的条目")),
    "translates": (("Translates", "翻译自"), ("Translated in", "译文")),
}
EDGES = {  # how one model comes from another, and what a member of the family says of its parent
    "base_model": ("starts from its weights", "以其权重为起点"),
    "builds_on": ("builds on it", "在其基础上改进"),
    "distils": ("distils it", "蒸馏自它"),
    "compresses": ("compresses it", "压缩它"),
    "relates_to": ("belongs with it in another way", "以其他方式相关"),
}
ADDRESSES = {
    "today": ("current address", "现地址"),
    "code": ("code", "代码"),
    "archived copy": ("archived copy", "存档"),
}


@dataclass
class Atlas:
    """The data of all pages."""

    entries: list[Fields]  # the newest year first
    boards: list[Board]
    dead: dict[str, str]  # dead address -> day since when
    results: list[Result]  # what others reported, by data set and the best first
    near: Near


def fields(entry: Any) -> Fields:
    """An entry with every field that any kind has, None if absent."""
    return {**dict.fromkeys(FIELDS), **export.fields(entry)}


class View:
    """An atlas in one language."""

    def __init__(self, atlas: Atlas, language: Language) -> None:
        self.entries, self.boards, self.dead, self.language = atlas.entries, atlas.boards, atlas.dead, language
        self.reported_results = atlas.results
        self.near_weights, self.neighbours = atlas.near.weights, atlas.near.neighbours
        self.by_id = {entry["id"]: entry for entry in self.entries}
        self.by_tag = self._groups(lambda entry: entry["tags"], by_size)
        self.by_year = self._groups(lambda entry: [entry["year"]], lambda item: -item[0])
        self.by_language = self._groups(lambda entry: entry["for_language"] or entry["language"] or [], by_size)
        rows = [row for board in self.boards for row in board.rows if row.measured]
        self.measured = {row.catalog_id for row in rows} & self.by_id.keys()
        self.referring = self._references()
        named = {(id, entry["id"]) for (_, id), found in self.referring.items() for entry in found}
        self.fame = Counter(id for id, _ in named)  # by how many entries each is named
        self.works = Counter(dataset for dataset, _ in {(row.dataset, row.entry) for row in atlas.results})
        self.disputed = disagreeing(atlas.results)

    # --- words --------------------------------------------------------------------------------------------------------

    def t(self, english: str, chinese: str) -> str:
        """The text in the reader's language."""
        return chinese if self.language == "zh" else english

    def title(self, entry: Fields) -> str:
        """The title in the reader's language if there is one."""
        return str((self.language == "zh" and entry["title_zh"]) or entry["title"])

    def other_title(self, entry: Fields) -> str | None:
        """The title in the language that ``title`` is not in."""
        if self.language == "zh":
            return entry["title"] if entry["title_zh"] else None
        return entry["title_zh"]

    def short(self, entry: Fields) -> str:
        """The name before the colon of a title."""
        return short_title(entry["title"], 24)

    def summary(self, entry: Fields) -> str | None:
        """The summary in the reader's language."""
        return entry[f"summary_{self.language}"]

    def other_summary(self, entry: Fields) -> str | None:
        """The summary in the other language."""
        return entry[self.t("summary_zh", "summary_en")]

    def tag_name(self, tag: str) -> str:
        """The name of a tag in the reader's language."""
        return vocabulary()["tags"][tag][self.language]

    def other_tag_name(self, tag: str) -> str:
        """The name of a tag in the other language."""
        return vocabulary()["tags"][tag][self.t("zh", "en")]

    def language_name(self, code: str) -> str:
        """The name of a language, in the reader's language."""
        return vocabulary()["languages"][code][self.language]

    def edge_name(self, field: str) -> str:
        """How a member of the family comes from its parent."""
        return self.t(*EDGES[field])

    def links(self, entry: Fields) -> list[tuple[str, str, str | None]]:
        """Links as (name, address, day since when it is dead or None); the dead come last, before an archived copy."""
        found = [(name, address, self.dead.get(address)) for name, address in export.links(entry)]
        if any(since for _, _, since in found):
            found.sort(key=lambda link: (link[0] == "archived copy", link[2] is not None))
        return [
            (self.t(*ADDRESSES[name]) if name in ADDRESSES else name, address, since) for name, address, since in found
        ]

    def verdict(self, verdict: str | None) -> str:
        """The name of a verdict on parity."""
        return self.t(*VERDICTS.get(verdict, (verdict, verdict))) if verdict else "–"

    def metric_name(self, metric: str) -> str:
        """The name of a metric; the harness's name if the vocabulary has none."""
        return vocabulary()["metrics"].get(metric, {}).get(self.language, metric)

    def cause(self, cause: str) -> str:
        """Why an implementation differs from BERT; causes without a Chinese name keep the harness's words."""
        known = vocabulary()
        for words in (*known["deviations"].values(), *known["training"].values()):
            cause = cause.replace(words["en"], words[self.language])
        return cause

    def seen_in(self, deviation: str) -> list[str]:
        """The entries whose implementation was measured to deviate so, in the harness's words."""
        rows = (row for board in self.boards for row in board.rows if row.catalog_id in self.by_id)
        found = {row.catalog_id for row in rows if any(c.startswith(f"{deviation} (") for c in row.cause.split("; "))}
        return sorted(filter(None, found))

    def state_name(self, state: str) -> str:
        """The name of the state of a run without a number."""
        return self.t(*STATES[state])

    def what_name(self, what: str) -> str:
        """The name of what is missing: parity, timing, or a task."""
        names = {PARITY: self.t("parity", "一致性"), TIMING: self.t("timing", "计时")}
        return names.get(what, what)

    def licence_name(self, licence: str) -> str:
        """A licence for readers: its SPDX id."""
        return self.t("none found", "未见许可证") if licence == "none-found" else licence

    def status_name(self, status: str) -> str:
        """The name of a resource's state."""
        return self.t(*STATUS[status])

    def words(self, entry: Fields) -> str:
        """Words that find an entry besides those that its page shows in this language."""
        tags = [vocabulary()["tags"][tag][language] for tag in entry["tags"] for language in ("en", "zh")]
        shown = [entry["title"], entry["title_zh"], *(entry["authors"] or []), entry["summary_en"], entry["summary_zh"]]
        folded = otherwise(" ".join(filter(None, shown)))
        named = [entry["id"], *names(entry), self.other_title(entry), *tags, *(entry["authors"] or [])]
        return " ".join(filter(None, [*named, *folded]))

    # --- groups of entries --------------------------------------------------------------------------------------------

    def _groups(
        self, keys: Callable[[Fields], Iterable[Any]], order: Callable[[Any], Any]
    ) -> list[tuple[Any, list[Fields]]]:
        groups: dict[Any, list[Fields]] = {}
        for entry in self.entries:
            for key in keys(entry):
                groups.setdefault(key, []).append(entry)
        return sorted(groups.items(), key=order)

    def _references(self) -> dict[tuple[str, str], list[Fields]]:
        """The entries that name an id in a field, by (field, id)."""
        found: dict[tuple[str, str], list[Fields]] = {}
        for entry in self.entries:
            for field in LINKS:
                named = entry[field] or []
                for each in [named] if isinstance(named, str) else named:
                    found.setdefault((field, each), []).append(entry)
        return found

    def eras(self) -> list[tuple[str, str, list[Fields]]]:
        """(label, anchor on the timeline, entries) of each year from FIRST_YEAR; earlier years are one item."""
        years = dict(self.by_year)
        early = [entry for year, found in self.by_year if year < FIRST_YEAR for entry in found]
        eras = [(f"–{FIRST_YEAR - 1}", f"y{early[0]['year']}", early)] if early else []
        last = max(years, default=FIRST_YEAR)
        return eras + [(str(year), f"y{year}", years.get(year, [])) for year in range(FIRST_YEAR, last + 1)]

    def kinds(self) -> list[dict[str, Any]]:
        """The kinds, each with its page and number of entries."""
        return [
            {
                "id": kind,
                "page": folder,
                "name": export.KIND_NAMES[kind][self.language],
                "count": len(self.of_kind(kind)),
            }
            for folder, kind in FOLDERS.items()
        ]

    def of_kind(self, kind: str) -> list[Fields]:
        """All entries of one kind."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def seeds(self) -> list[Fields]:
        """The entries of the 2018 list, in its order."""
        return sorted((e for e in self.entries if e["seed"]), key=lambda e: seed_order(e["seed"]))

    def relations(self, entry: Fields) -> list[tuple[str, list[Fields]]]:
        """The entries related to one, in groups with a title; each appears once."""
        name = entry["id"]
        t = self.t
        related = self._named(entry["relates_to"])
        back = self.referring.get(("relates_to", name), [])
        groups = [
            (t("Implements", "实现的模型"), self._named(entry["implements"])),
            (t("Starts from the weights of", "权重来源"), self._named([entry["base_model"]])),
            (t("Replaces", "取代了"), self._named([entry["supersedes"]])),
            (t("Replaced by", "已被取代"), self.referring.get(("supersedes", name), [])),
            *((t(*words), self._named(entry[field])) for field, (words, _) in RELATIONS.items()),
            (
                t("About", "内容涉及") if entry["kind"] == "article" else t("Belongs with", "相关条目"),
                related,
            ),
            *((t(*words), self.referring.get((field, name), [])) for field, (_, words) in RELATIONS.items()),
            (t("Implementations and weights", "实现与权重"), self.referring.get(("implements", name), [])),
            (t("Weights made from it", "由其得到的权重"), self.referring.get(("base_model", name), [])),
            (t("Explained in", "解读文章"), [e for e in back if e["kind"] == "article"]),
            (t("See also", "另见"), [e for e in back if e["kind"] != "article"]),
        ]
        seen = {name}
        found = []
        for title, group in groups:
            fresh = [each for each in group if each["id"] not in seen]
            seen |= {each["id"] for each in fresh}
            if fresh:
                found.append((title, fresh))
        return found

    def near(self, entry: Fields, most: int = 5) -> list[tuple[Fields, float]]:
        """The entries nearest in meaning that the page does not name already, each with its cosine."""
        linked = {each["id"] for _, found in self.relations(entry) for each in found}
        fresh = [(name, cosine) for name, cosine in self.neighbours.get(entry["id"], []) if name not in linked]
        return [(self.by_id[name], cosine) for name, cosine in fresh[:most]]

    def _named(self, ids: list[str] | None) -> list[Fields]:
        return [self.by_id[each] for each in ids or [] if each in self.by_id]

    # --- facts of one entry -------------------------------------------------------------------------------------------

    def facts(self, entry: Fields) -> list[tuple[str, str]]:
        """The (name, value) pairs of an entry besides title, authors, links and tags."""
        venue = f"{entry['venue']} {entry['venue_year'] or ''}".strip() if entry["venue"] else None
        languages = self._languages(entry["language"])
        rows = [
            (self.t("First appeared", "首次公开"), str(entry["year"])),
            (self.t("Venue", "发表于"), venue),
            (self.t("Licence", "许可证"), self.licence_name(entry["license"]) if entry["license"] else None),
            (self.t("Language", "语言"), languages),
            (self.t("For texts in", "适用语言"), self._languages(entry["for_language"])),
            (self.t("Last commit seen", "所见最后提交"), entry["last_commit"]),
            (self.t("State", "状态"), self.status_name(entry["status"]) if entry["status"] else None),
            ("arXiv", entry["arxiv"]),
            ("DOI", entry["doi"]),
            (self.t("In the 2018 list", "2018 清单编号"), entry["seed"]),
        ]
        return [(name, value) for name, value in rows if value]

    def _languages(self, codes: list[str] | None) -> str:
        return self.t(", ", "、").join(map(self.language_name, codes or []))

    def deciding(self, entry: Fields) -> list[tuple[str, str]]:
        """The (name, value) pairs of a model that say whether one can use it: size, input, training, formats."""
        joined = self.t("; ", "；").join
        rows = [
            (self.t("Parameters", "参数量"), self._millions(entry["parameters"])),
            (self.t("Layers", "层数"), entry["layers"]),
            (self.t("Hidden size", "隐状态宽度"), entry["hidden_size"]),
            (self.t("Longest input", "最长输入"), self._tokens(entry["context_length"])),
            (self.t("Vocabulary", "词表"), self._tokens(entry["vocabulary_size"])),
            (self.t("Tokenizer", "分词器"), entry["tokenizer"]),
            (self.t("Training data", "训练数据"), joined(entry["training_data"] or [])),
            (self.t("Formats", "权重格式"), joined(entry["formats"] or [])),
        ]
        return [(name, str(value)) for name, value in rows if value]

    def _millions(self, count: int | None) -> str | None:
        """Such as ``110 million``; Chinese counts in units of ten thousand."""
        if count is None:
            return None
        return self.t(
            f"{count / 1e6:.4g} million", f"{count / 1e8:.4g} 亿" if count >= 1e8 else f"{count / 1e4:.4g} 万"
        )

    def _tokens(self, count: int | None) -> str | None:
        return None if count is None else self.t(f"{count:,} tokens", f"{count} 词元")

    def today(self, entry: Fields) -> list[str]:
        """The present state, licence and last commit of an item of the 2018 list."""
        shown = (self.t("State", "状态"), self.t("Licence", "许可证"), self.t("Last commit seen", "所见最后提交"))
        return [f"{name}{self.t(': ', '：')}{value}" for name, value in self.facts(entry) if name in shown]

    def results(self, entry: Fields) -> list[tuple[Board, Row]]:
        """The rows of the leaderboard with results of an entry."""
        return [(board, row) for board in self.boards for row in board.rows if row.catalog_id == entry["id"]]

    def reported(self, entry: Fields) -> list[tuple[Fields | None, str, list[Result]]]:
        """Results that others reported, on a data set or of an entry's models: (data set, split and metric, results).

        A table is of one data set, split and metric, so dev and test are never in one; those of the data set that most
        works report on come first. The data set is None on its own page.
        """
        own = entry["kind"] == "dataset"
        rows = [row for row in self.reported_results if entry["id"] == (row.dataset if own else row.entry)]
        found = []
        for (dataset, subset, split, metric), same in itertools.groupby(rows, lambda row: row.what):
            name = self.t(", ", "，").join(filter(None, [subset, split, self.metric_name(metric)]))
            found.append((None if own else self.by_id.get(dataset), name, list(same)))
        if not own:
            found.sort(key=lambda each: self._by_works(each[0]))
        return found

    def _by_works(self, dataset: Fields | None) -> tuple[int, str]:
        """Sort key of data sets: by how many works report on them, then by title."""
        return (-self.works[dataset["id"]], self.title(dataset).lower()) if dataset else (0, "")

    def reported_remarks(self, row: Result) -> str:
        """What distinguishes a reported figure from that of one model, fine-tuned once on the task alone."""
        return self.t("; ", "；").join(remarks(row, self.language))

    def reporter_name(self, by: str) -> str:
        """Who reports a result, in the reader's language."""
        return vocabulary()["reporters"][by][self.language]


def short_title(title: str, limit: int = 44) -> str:
    """The name before the colon of a title, or as much of the title as fits."""
    head, colon, _ = title.partition(":")
    chosen = head if colon and len(head) <= limit else title
    return chosen if len(chosen) <= limit else chosen[: limit - 1].rstrip() + "…"


def names(entry: Fields) -> list[str]:
    """The identifiers of an entry: arXiv id, DOI, ids of archives, addresses; owner/name also as one word."""
    found = [entry["arxiv"], entry["doi"]]
    for address in filter(None, (entry["doi"], entry["url"], entry["renamed_to"], *(entry["code"] or []))):
        identity = identify(address)
        if identity.what in ("repository", "model", "data set"):
            name = identity.normal.partition("/")[2].removeprefix("datasets/").removeprefix("models/")
            found += [name, re.sub(r"[\W_]", "", name)]
        else:
            found.append(identity.normal)
    return list(dict.fromkeys(filter(None, found)))


def by_size(item: tuple[str, list[Any]]) -> tuple[int, str]:
    """Sort key of groups: the largest first."""
    return (-len(item[1]), item[0])


def seed_order(seed: str) -> tuple[int, int, str]:
    """Sort key of places in the 2018 list: 2.1a comes before 3.10."""
    section, _, number = seed.partition(".")
    return (int(section), int(number.rstrip("abc")), number)
