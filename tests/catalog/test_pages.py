"""The pages that are written for MkDocs, and the results on them.

results_index.json was made by running the harness.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("griffe")

from catalog import drawing, leaderboard
from catalog.errors import BadInput
from catalog.load import load
from catalog.pages import build
from tests.catalog.conftest import Write

ROOT = Path(__file__).parents[2]
INDEX = Path(__file__).with_name("results_index.json")
NASTY = """'<img src=x onerror=alert(1)> **b** [l](javascript:alert(1)) "q" {{ 7 * 7 }} | `c`'"""


@pytest.fixture
def catalog(entries: Path, write: Write) -> Path:
    write("bert", title_zh="双向编码器", summary_en="Two ways at once.", summary_zh="同时看左右。", seed='"1.1"',
          language="[en]", added='"2026-11-22"')  # fmt: skip
    write("albert", arxiv='"1909.11942"', title="'ALBERT: A Lite BERT'", year="2019", relates_to="[bert]")
    write("child", arxiv='"2001.00001"', title="'Child: small'", year="2020", relates_to="[albert]")
    write("study", arxiv='"2002.00001"', title="A study of it all", year="2020", relates_to="[bert]", tags="[analysis]")
    write("nasty", arxiv='"1909.11740"', title=NASTY, authors=f"[{NASTY}]", summary_en=NASTY, year="2019",
          relates_to="[bert]", venue=NASTY)  # fmt: skip
    write("bert-atlas", "repository", implements="[bert]", url="https://github.com/a/atlas", license="none-found")
    return entries


def made(catalog: Path, tmp_path: Path, results: Path = INDEX) -> Path:
    build(load(catalog), results, ROOT / "docs", tmp_path / "out", "https://example.org/atlas")
    return tmp_path / "out"


def page(out: Path, name: str) -> str:
    return (out / name).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """The tags and attributes of a page as a browser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_both_languages_have_the_same_pages(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    english, chinese = ({str(p.relative_to(out / x)) for p in (out / x).rglob("*.md")} for x in ("en", "zh"))
    assert english == chinese
    assert {"index.md", "catalog.md", "entries/bert.md", "tags/pretraining.md", "api/reference.md"} <= english


def test_an_entry_in_each_language(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    english, chinese = page(out, "en/entries/bert.md"), page(out, "zh/entries/bert.md")
    assert "\n# Masked words, a study\n" in english
    assert "\n# 双向编码器\n" in chinese
    for text in (english, chinese):
        assert "Two ways at once." in text
        assert "同时看左右。" in text
        assert "@misc{bert," in text
        assert 'href="https://arxiv.org/abs/1810.04805"' in text
        assert "sources" not in text
    assert english.index("Two ways") < english.index("同时看")
    assert chinese.index("同时看", 300) < chinese.index("Two ways", 300)


def test_relations_lead_both_ways(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    assert 'href="albert.html"' in page(out, "en/entries/bert.md")
    assert 'href="bert.html"' in page(out, "en/entries/albert.md")
    assert 'href="bert-atlas.html"' in page(out, "en/entries/bert.md")


def test_what_entries_say_is_shown_as_text(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    markdown = pytest.importorskip("markdown")
    for path in out.rglob("*.md"):
        front, _, body = path.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
        assert "<img" not in front
        rendered = Tags(markdown.markdown(body, extensions=["attr_list", "md_in_html", "tables"]))
        for tag, attributes in rendered.seen:
            assert tag != "img", path
            assert not any(name.startswith("on") for name in attributes), path
            assert not (attributes.get("href") or "").lower().startswith("javascript"), path
    assert "49" not in page(out, "en/entries/nasty.md").split("\n---\n")[0]


def test_a_second_build_leaves_nothing_of_the_first(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    (catalog / "papers" / "study.yaml").unlink()
    made(catalog, tmp_path)
    assert not (out / "en/entries/study.md").exists()


def test_without_results_the_leaderboard_says_so(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path, tmp_path / "absent.json")
    assert "Nothing is published yet." in page(out, "en/leaderboard.md")
    assert "目前还没有发布任何结果。" in page(out, "zh/leaderboard.md")
    assert "No measurement is published yet" in page(out, "en/index.md")


def test_an_empty_index_is_no_result(catalog: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text('{"schema": 1, "records": []}')
    assert "Nothing is published yet." in page(made(catalog, tmp_path, index), "en/leaderboard.md")


def test_results_join_the_entry_by_its_id(catalog: Path, tmp_path: Path) -> None:
    out = made(catalog, tmp_path)
    entry, board = page(out, "en/entries/bert-atlas.md"), page(out, "en/leaderboard.md")
    assert "Measured here" in entry
    assert "parity</th><td>exact" in entry
    assert 'href="entries/bert-atlas.html">reference</a>' in board
    assert "Intel(R) Xeon(R) Processor, 2 cores" in board
    assert "2026-11-22" in board
    assert "Measured here" not in page(out, "en/entries/albert.md")


def test_boards_keep_what_was_recorded() -> None:
    records = leaderboard.read_index(INDEX)
    (board,) = leaderboard.boards(records, INDEX)
    row = next(row for row in board.rows if row.implementation == "reference")
    qualities = [r for r in records if r["kind"] == "quality" and r["implementation"]["name"] == "reference"]
    quality = next(r for r in qualities if r["task"]["name"] == "mini-sentiment")
    score = row.scores["mini-sentiment"]
    assert (score.value, score.low, score.high) == tuple(quality["metrics"][0][k] for k in ("value", "low", "high"))
    assert set(row.speeds) == {r["shape"]["name"] for r in records if r["kind"] == "speed"}
    shape, points = leaderboard.points(board, "mini-sentiment")
    assert shape == "lengths of mini-sentiment"
    assert {point.row.implementation for point in points} == {"reference", "transformers"}


def test_a_task_that_was_not_measured_has_no_number(catalog: Path, tmp_path: Path) -> None:
    index = json.loads(INDEX.read_text())
    index["records"] = [
        r for r in index["records"]
        if not (r["kind"] == "quality" and r["implementation"]["name"] == "transformers" and "ner" in r["task"]["name"])
    ]  # fmt: skip
    path = tmp_path / "index.json"
    path.write_text(json.dumps(index))
    (board,) = leaderboard.boards(leaderboard.read_index(path), path)
    row = next(row for row in board.rows if row.implementation == "transformers")
    assert set(row.scores) == {"mini-sentiment"}
    assert "<td>–</td>" in page(made(catalog, tmp_path, path), "en/leaderboard.md")


def changed(tmp_path: Path, **values: Any) -> Path:
    index = json.loads(INDEX.read_text())
    index["records"][0] |= values
    path = tmp_path / "index.json"
    path.write_text(json.dumps(index))
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 2, "records": []}', "schema 2; this version of BERT Atlas reads schema 1"),
        ("[]", "not an index of results"),
        ("{", "not an index of results"),
        ('{"schema": 1, "records": [{"schema": 1, "kind": "rumour"}]}', "'rumour'"),
        ('{"schema": 1, "records": [{"schema": 7, "kind": "speed"}]}', "schema 7"),
        ('{"schema": 1, "records": [{"schema": 1, "kind": "speed", "state": "ok"}]}', "lacks or misuses 'machine'"),
    ],
)
def test_a_bad_index_is_refused(text: str, message: str, catalog: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=re.escape(message)):
        made(catalog, tmp_path, path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused(number: float, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a number that a record may hold"):
        leaderboard.read_index(changed(tmp_path, seconds=number))


def test_infinity_in_disguise_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, seconds="BIG")
    path.write_text(path.read_text().replace('"BIG"', "1e999"))
    with pytest.raises(BadInput, match="not finite"):
        leaderboard.read_index(path)


def test_the_family_is_a_tree_of_models(catalog: Path, tmp_path: Path) -> None:
    from catalog.view import fields

    listed = [fields(entry) for entry in load(catalog)]
    root = drawing.family(listed, "bert")
    assert root is not None
    assert {child.entry["id"] for child in root.children} == {"albert", "nasty"}
    albert = next(child for child in root.children if child.entry["id"] == "albert")
    assert [child.entry["id"] for child in albert.children] == ["child"]
    out = made(catalog, tmp_path)
    assert 'href="entries/child.html"' in page(out, "en/family.md")
    assert drawing.family(listed, "absent") is None


def test_a_circle_of_relations_does_not_hang(entries: Path, write: Write) -> None:
    from catalog.view import fields

    write("bert", relates_to="[one]")
    write("one", arxiv='"1901.00001"', year="2019", relates_to="[two]")
    write("two", arxiv='"1901.00002"', year="2019", relates_to="[one, bert]")
    root = drawing.family([fields(entry) for entry in load(entries)], "bert")
    assert root is not None
    assert drawing.size(root) == 3


def test_the_2018_list_stands_whole_and_leads_to_entries() -> None:
    import yaml

    from catalog.pages import LIST_2018

    lines = [line for section in yaml.safe_load(LIST_2018.read_text("utf-8")) for line in section["lines"]]
    assert len(lines) == 23
    seeds = {entry.seed for entry in load() if entry.seed}
    assert {line["number"] for line in lines} == seeds


def test_a_missing_docs_folder_is_named(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--docs"):
        build(load(catalog), INDEX, tmp_path / "none", tmp_path / "out", "https://example.org/")
