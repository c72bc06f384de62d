"""The exported formats, read back by other people's parsers."""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from catalog import export
from catalog.load import load
from catalog.schema import Entry
from tests.catalog.conftest import Write

ATOM = "{http://www.w3.org/2005/Atom}"
NASTY = '"<script>alert(1)</script> {unbalanced & 100% *bold* [x](javascript:alert(1))"'


@pytest.fixture
def found(entries: Path, write: Write) -> list[Entry]:
    write("bert", authors="[Jacob Devlin, 'Research and Co, Ltd']", and_others="true", venue="NAACL",
          venue_year="2019", added='"2026-11-21"', summary_zh="双向编码器。")  # fmt: skip
    write("nasty", arxiv='"1909.11740"', title=NASTY, year="2019", added='"2026-11-22"')
    write("blog", "article", title="'=1+1'", title_zh="一加一")
    return load(entries)


def test_json_is_whole_and_says_its_licence(found: list[Entry]) -> None:
    data = json.loads(export.to_json(found))
    assert (data["license"], data["count"]) == ("CC0-1.0", 3)
    by_id = {entry["id"]: entry for entry in data["entries"]}
    assert by_id["nasty"]["arxiv"] == "1909.11740"
    assert by_id["bert"]["and_others"] is True
    assert "venue" not in by_id["nasty"]


def test_csv_reads_back_and_starts_no_formula(found: list[Entry]) -> None:
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(export.to_csv(found)))}
    assert rows["bert"]["authors"] == "Jacob Devlin; Research and Co, Ltd"
    assert rows["blog"]["title"] == "'=1+1"
    assert rows["blog"]["title_zh"] == "一加一"


@pytest.mark.parametrize(
    "title", ["=1+1", "+1", "-1", "@SUM(1)", "＝1+1", "＋1", "－1", "＠x", "'=1+1", "''-x", "'tis", "a=1"]
)
def test_no_cell_is_a_formula_and_programs_get_the_value_back(title: str, entries: Path, write: Write) -> None:
    write("bert", title=json.dumps(title, ensure_ascii=False), authors='["=cmd", "Bo Li"]')
    (row,) = csv.DictReader(io.StringIO(export.to_csv(load(entries))))
    for cell, value in ((row["title"], title), (row["authors"], "=cmd; Bo Li")):
        assert not re.match("[=+@＝＋＠\\-－\t\r]", cell)
        assert re.sub("^'(?='*[=+@＝＋＠\\-－])", "", cell) == value


def test_the_csv_file_opens_in_excel_and_in_programs(found: list[Entry], tmp_path: Path) -> None:
    export.export(found, tmp_path, "https://example.org/")
    file = tmp_path / "catalog.csv"
    assert file.read_bytes().startswith(b"\xef\xbb\xbfid,kind,title")
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = {row["id"]: row for row in csv.DictReader(opened)}
    assert rows["bert"]["summary_zh"] == "双向编码器。"
    assert rows["bert"]["arxiv"] == "1810.04805"


def test_every_field_of_an_entry_is_a_column() -> None:
    from catalog.schema import MODELS

    fields = {name for model in MODELS.values() for name in model.model_fields}
    assert sorted(export.COLUMNS) == sorted(fields - {"sources", "reported"})


def bibliography(text: str) -> Any:
    """``text`` as a strict parser reads it: it raises on anything that is not valid BibTeX."""
    return pytest.importorskip("pybtex.database").parse_string(text, "bibtex")


def test_bibtex_is_valid(found: list[Entry]) -> None:
    read = bibliography(export.to_bibtex(found))
    assert set(read.entries) == {"bert", "nasty", "blog"}
    bert = read.entries["bert"]
    assert (bert.type, bert.fields["booktitle"], bert.fields["year"]) == ("inproceedings", "NAACL", "2019")
    assert [str(person) for person in bert.persons["author"]] == ["Devlin, Jacob", "{Research and Co, Ltd}", "others"]
    assert bert.fields["eprint"] == "1810.04805"


@pytest.mark.parametrize(
    "doi",
    [
        "10.1162/tacl_a_00349",
        "10.1002/(SICI)1097-4571(199106)42:5<361::AID-ASI6>3.0.CO;2-#",
        "10.1234/a%b&c$d~e^f",
        "10.1016/S0893-6080(05)80010-3",
    ],
)
def test_an_identifier_is_never_escaped_as_text(doi: str, entries: Path, write: Write) -> None:
    url = "https://example.org/a_b%20c?x=1&y=~z#part_2"
    write("bert", title="'100% of a_b & c#'", doi=f"'{doi}'", url=url, arxiv=None)
    (entry,) = load(entries)
    read = bibliography(export.to_bibtex([entry])).entries["bert"].fields
    assert (read["doi"], read["url"]) == (doi, url)
    assert read["title"] == r"{100\% of a\_b \& c\#}"
    assert unquote(dict(export.links(export.fields(entry)))["DOI"]) == f"https://doi.org/{doi}"
    (row,) = csv.DictReader(io.StringIO(export.to_csv([entry])))
    assert (row["doi"], row["url"]) == (doi, url)


def test_the_address_of_a_doi_is_a_valid_one(entries: Path, write: Write) -> None:
    write("bert", doi="'10.1002/x(1)42:5<361::A>3.0.CO;2-#'", arxiv=None)
    (entry,) = load(entries)
    assert export.links(export.fields(entry)) == [("DOI", "https://doi.org/10.1002/x(1)42:5%3C361::A%3E3.0.CO;2-%23")]
    assert "url = {https://doi.org/10.1002/x(1)42:5%3C361::A%3E3.0.CO;2-%23}" in export.to_bibtex([entry])


def test_bibtex_of_the_whole_catalog_is_valid() -> None:
    entries = load()
    assert len(bibliography(export.to_bibtex(entries)).entries) == len(entries)


@pytest.mark.parametrize(
    ("venue", "kind", "field"),
    [
        ("TACL", "article", "journal"),
        ("Bioinformatics", "article", "journal"),
        ("IEEE/ACM Transactions on Audio, Speech, and Language Processing", "article", "journal"),
        ("Science China Technological Sciences", "article", "journal"),
        ("ACM Computing Surveys", "article", "journal"),
        ("Nature Machine Intelligence", "article", "journal"),
        ("ACL", "inproceedings", "booktitle"),
        ("Findings of EMNLP", "inproceedings", "booktitle"),
        ("NeurIPS Datasets and Benchmarks", "inproceedings", "booktitle"),
        ("International Conference on Neural Computing", "inproceedings", "booktitle"),
        ("Workshop on Scientific Document Processing", "inproceedings", "booktitle"),
        ("Proceedings of the National Conference on Artificial Intelligence", "inproceedings", "booktitle"),
        ("Synthesis Lectures on Human Language Technologies", "book", "series"),
        ("nature", "article", "journal"),
        ("PLOS ONE", "article", "journal"),
        ("Naturewise", "inproceedings", "booktitle"),  # begins with no whole word of the list
        ("Science and Systems", "inproceedings", "booktitle"),
    ],
)
def test_a_venue_is_a_journal_a_conference_or_a_series(venue: str, kind: str, field: str) -> None:
    made = export.bibtex({"id": "x", "kind": "paper", "title": "X", "year": 2020, "venue": venue})
    (entry,) = bibliography(made).entries.values()
    assert (entry.type, entry.fields[field]) == (kind, venue)


def test_links_are_only_web_addresses(found: list[Entry]) -> None:
    assert export.links({"url": "javascript:alert(1)", "arxiv": "1810.04805"}) == [
        ("arXiv", "https://arxiv.org/abs/1810.04805")
    ]


def test_atom_names_the_newest_first(found: list[Entry]) -> None:
    feed = ET.fromstring(export.to_atom(found, "https://example.org/zh/", "zh"))
    ids = [entry.findtext(f"{ATOM}id") for entry in feed.iter(f"{ATOM}entry")]
    assert ids == ["https://example.org/zh/entries/nasty.html", "https://example.org/zh/entries/bert.html"]
    assert feed.findtext(f"{ATOM}updated") == "2026-11-22T00:00:00Z"
    assert [e.findtext(f"{ATOM}summary") for e in feed.iter(f"{ATOM}entry")][1] == "双向编码器。"


@pytest.mark.parametrize(("page", "subject"), [("", ""), ("tags/pretraining", "Pre-training")])
@pytest.mark.parametrize("entries_there", [True, False])
def test_atom_has_what_its_rules_ask(found: list[Entry], page: str, subject: str, entries_there: bool) -> None:
    """RFC 4287, sections 4.1.1 and 4.1.2."""
    text = export.to_atom(found if entries_there else [], "https://example.org/", "en", page, subject)
    feed = ET.fromstring(text)
    assert feed.tag == f"{ATOM}feed"
    moment = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
    for each in (feed, *feed.findall(f"{ATOM}entry")):
        for name in ("id", "title", "updated"):
            assert [bool(e.text) for e in each.findall(f"{ATOM}{name}")] == [True], name
        assert (each.findtext(f"{ATOM}id") or "").startswith("https://")
        assert moment.fullmatch(each.findtext(f"{ATOM}updated") or "")
        assert len(each.findall(f"{ATOM}summary")) <= 1
        links = [link.get("rel", "alternate") for link in each.findall(f"{ATOM}link")]
        assert links.count("alternate") == 1
        assert all((link.get("href") or "").startswith("https://") for link in each.findall(f"{ATOM}link"))
    assert feed.findtext(f"{ATOM}author/{ATOM}name")
    own = next(link for link in feed.findall(f"{ATOM}link") if link.get("rel") == "self")
    assert own.get("href") == f"https://example.org/{page or 'feed'}.xml"
    ids = [entry.findtext(f"{ATOM}id") for entry in feed.findall(f"{ATOM}entry")]
    assert len(set(ids)) == len(ids) == (2 if entries_there else 0)
    assert (subject or "new entries") in (feed.findtext(f"{ATOM}title") or "")


def test_markdown_shows_a_nasty_title_as_text(found: list[Entry]) -> None:
    markdown = pytest.importorskip("markdown")
    page = markdown.markdown(export.to_markdown(found), extensions=["attr_list", "md_in_html"])
    assert "<script" not in page
    assert 'href="javascript' not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<strong>bold" not in page


def test_markdown_is_grouped_by_kind_and_year(found: list[Entry]) -> None:
    text = export.to_markdown(found)
    assert text.splitlines()[0].startswith("<!-- Generated by `python -m catalog export`")
    headings = [line for line in text.splitlines() if line.startswith("##")]
    assert headings == ["## Papers · 论文", "### 2019", "### 2018", "## Articles · 文章", "### 2019"]
    assert "- **[Masked words, a study](https://arxiv.org/abs/1810.04805)**" in text
    assert "双向编码器。" in text


def test_export_writes_four_files(found: list[Entry], tmp_path: Path) -> None:
    files = export.export(found, tmp_path / "out", "https://example.org/")
    assert [file.name for file in files] == ["catalog.json", "catalog.csv", "catalog.bib", "feed.xml"]
    assert all(file.stat().st_size for file in files)
