"""Reading entry files: what is text stays text, and files that are no entries get a clear answer."""

import os
from pathlib import Path

import pytest

from catalog.errors import BadInput
from catalog.load import LARGEST, load, read_folder
from tests.catalog.conftest import Write


def said(entries: Path) -> list[str]:
    """All problems, with paths as seen from the folder of entries."""
    problems = (problem for document in read_folder(entries) for problem in document.problems)
    return [str(problem).removeprefix(f"{entries}/") for problem in problems]


@pytest.mark.parametrize(("written", "meant"), [("1909.11740", "1909.11740"), ("'1810.04800'", "1810.04800")])
def test_arxiv_ids_are_text_quoted_or_not(written: str, meant: str, entries: Path, write: Write) -> None:
    write("uniter", arxiv=written, year="2018")
    (entry,) = load(entries)
    assert entry.arxiv == meant  # type: ignore[union-attr]


def test_words_that_yaml_takes_for_other_types_are_text(entries: Path, write: Write) -> None:
    write("norwegian", title="2018-11-02", language="[no]", added="2026-11-22", authors="[on, 1e3, 0x10, yes, 12:30]")
    (entry,) = load(entries)
    assert entry.title == "2018-11-02"
    assert entry.language == ["no"]
    assert entry.added == "2026-11-22"
    assert entry.authors == ["on", "1e3", "0x10", "yes", "12:30"]
    assert entry.year == 2018


def test_entries_come_sorted_by_id_with_folded_text_on_one_line(entries: Path, write: Write) -> None:
    write("b-model", "model", summary_en=">\n  One sentence\n  in two lines.")
    write("c-paper")
    write("a-data", "dataset")
    loaded = load(entries)
    assert [entry.id for entry in loaded] == ["a-data", "b-model", "c-paper"]
    assert loaded[1].summary_en == "One sentence in two lines."


def test_loading_a_catalog_with_problems_names_them(entries: Path, write: Write) -> None:
    write("bert", year="MMXVIII")
    with pytest.raises(
        BadInput, match=r"has a problem(?s:.)*bert.yaml:4: year: 'MMXVIII' is not a year of four digits"
    ):
        load(entries)


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(BadInput, match="is not a folder; name the one that contains papers"):
        load(Path("no/such/folder"))


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "is empty"),
        (b"# only a comment\n", 1, "is empty"),
        (b"---\n", 1, "is empty"),
        (b"- id: bert\n", 1, "is not a list of `field: value` lines"),
        (b"just words\n", 1, "is not a list of `field: value` lines"),
        (b"id: bert\nkind: paper\ntitle: caf\xe9\n", 3, "is not UTF-8"),
        ("id: bert\n".encode("utf-16"), 1, "is not UTF-8"),
        (b"id: bert\n\ttitle: x\n", 2, "contains a tab; write spaces"),
        (b"id: bert\ntitle: BERT: Pre-training\n", 2, "a value that contains ': ' needs quotes"),
        (b"id: bert\ntitle: [unclosed\n", 3, "is not valid YAML"),
        (b"id: bert\ntitle: A\n<!-- seen -->\nyear: 2019\n", 3, "is not valid YAML: no `field: value`"),
        (b"id: bert\ntitle: A long\ntitle in two lines\nyear: 2019\n", 3, "indent lines that continue a value"),
        (b"id: bert\ntitle: a\x07b\n", 2, "contains the control character U+0007"),
        (b"id: bert\nid: bert\n", 2, "id: is written twice (also in line 1)"),
        (b"id: bert\n---\nid: other\n", 2, "more than one document"),
        (b"id: &a bert\ntitle: *a\n", 1, "anchors and aliases"),
        (b"&a\nid: bert\n", 1, "anchors and aliases"),
        (b"id: bert\n<<: *defaults\n", 2, "anchors and aliases"),
        (b"id: bert\ntitle: !!python/object/apply:os.system [ls]\n", 2, "YAML tags"),
        (b"id: bert\nauthors:\n- name: Devlin\n  of: Google\n", 3, "authors: has values inside values"),
        (b"id: bert\nvenue: {name: NAACL}\n", 2, "venue: has values inside values"),
        (b"id: bert\ntags: [[ner]]\n", 2, "tags: has values inside values"),
        (b"id: bert\n? [a, b]\n: c\n", 2, "a field's name must be plain text"),
        (b'id: bert\n"ti\\x1b[31mtle": c\n', 2, "a field's name must be plain text"),
        (b"tags: " + b"[" * 100_000, 1, "tags: has values inside values"),
        (b"title: " + b"x" * LARGEST, 1, "has more than 1 MB"),
    ],
)
def test_files_that_are_no_entries(content: bytes, line: int, message: str, entries: Path) -> None:
    (entries / "papers" / "bert.yaml").write_bytes(content)
    (problem,) = said(entries)
    assert problem.startswith(f"papers/bert.yaml:{line}: ")
    assert message in problem


def test_aliases_that_would_explode_are_refused_at_once(entries: Path) -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    (entries / "papers" / "bomb.yaml").write_text("a0: &a0 [x, x, x]\n" + levels)
    assert said(entries) == [
        "papers/bomb.yaml:1: YAML anchors and aliases (& and *) are not used here; write the value out, or in quotes"
    ]


def test_ten_megabytes_are_not_read(entries: Path) -> None:
    with (entries / "papers" / "large.yaml").open("wb") as file:
        file.truncate(10_000_000)
    assert said(entries) == ["papers/large.yaml:1: has more than 1 MB; an entry is a page at most"]


def test_windows_line_ends_and_byte_order_mark_are_named_beside_other_problems(entries: Path, write: Write) -> None:
    file = write("bert", year="last")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert said(entries) == [
        "papers/bert.yaml:1: begins with a byte order mark; save it as UTF-8 without BOM",
        "papers/bert.yaml:1: has Windows line ends (CRLF); save it with LF",
        "papers/bert.yaml:4: year: 'last' is not a year of four digits",
    ]


def test_files_in_the_wrong_place(entries: Path, write: Write) -> None:
    write("bert").rename(entries / "models" / "bert.yaml")
    write("other").rename(entries / "papers" / "other.yml")
    write("third").rename(entries / "third.yaml")
    (entries / "paper").mkdir()
    write("fourth").rename(entries / "paper" / "fourth.yaml")
    (entries / "papers" / ".gitkeep").touch()
    assert said(entries) == [
        "models/bert.yaml:2: kind: a paper belongs in papers/, not models/",
        "paper/fourth.yaml:1: is not in the folder of a kind: papers, articles, repositories, models, datasets"
        " - did you mean 'papers'?",
        "papers/other.yml:1: is not a .yaml file; rename it to 'other.yaml' or remove it",
        "third.yaml:1: is not in the folder of a kind: papers, articles, repositories, models, datasets",
    ]


def test_links_and_pipes_are_not_followed(entries: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("id: secret\n")
    (entries / "papers" / "a.yaml").symlink_to(tmp_path / "secret")
    os.mkfifo(entries / "papers" / "b.yaml")
    assert said(entries) == ["papers/a.yaml:1: is not a plain file", "papers/b.yaml:1: is not a plain file"]


def test_a_file_name_cannot_steer_the_terminal(entries: Path, write: Write) -> None:
    write("bert").rename(entries / "papers" / "x\x1b[2J\n::error::.yaml")
    assert all("\x1b" not in line and "\n" not in line for line in said(entries))
