"""The page that explains BERT step by step: its code, its numbers, and the reading path."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("griffe")

from catalog.errors import BadInput
from catalog.load import load
from catalog.site import steps
from catalog.site.pages import build
from catalog.site.reading_path import read_path
from catalog.site.steps import Steps, place_of, small, source
from tests.catalog.conftest import Write
from tests.published import explained_file

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found() -> Steps:
    explained = steps.read(explained_file())
    assert explained is not None
    return Steps(explained)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page in both languages, on a site of one entry without results."""
    out = tmp_path_factory.mktemp("pages")
    entries = [entry for entry in load() if entry.id == "bert"]
    build(entries, out / "none.json", ROOT / "docs", out, "https://example.org", None, explained_file())
    return {language: (out / language / "step-by-step.md").read_text("utf-8") for language in ("en", "zh")}


def test_code_is_that_of_the_file() -> None:
    for name in ("Embeddings", "Layer", "Packed.mask", "attention_as_in_the_paper"):
        shown = source("reference/model.py", name)
        lines = (ROOT / "reference/model.py").read_text("utf-8").splitlines()[shown.first - 1 : shown.last]
        assert [line.strip() for line in shown.text.splitlines()] == [line.strip() for line in lines]
        assert not shown.text.startswith(" ")
    assert source("reference/model.py", "Packed.mask").text.startswith("@cached_property\ndef mask")
    assert source("reference/model.py", "Layer").anchor == "reference.model.Layer"
    with pytest.raises(BadInput, match=r"has no Layer\.backward"):
        source("reference/model.py", "Layer.backward")


@pytest.mark.slow
def test_both_languages_show_the_same_code_and_the_same_figures(pages: dict[str, str]) -> None:
    blocks, figures = {}, {}
    for language, text in pages.items():
        assert "{{" not in text
        assert "{%" not in text
        assert "--tasks mini-sentiment\n" in text
        blocks[language] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        figures[language] = [re.sub(r"[^\d.]+", " ", each) for each in re.findall(r"<tbody>.*?</tbody>", text, re.S)]
        assert len(re.findall(r"^\d+\. .*[?？]$", text, re.MULTILINE)) == 10
        answers = text.partition("</summary>")[2].partition("</details>")[0]
        assert len(re.findall(r"^\d+\. .*\(#", answers, re.MULTILINE)) == 10
    assert blocks["en"] == blocks["zh"]
    assert len(blocks["en"]) >= 14
    assert figures["en"] == figures["zh"]


@pytest.mark.slow
def test_links_within_the_page_lead_to_a_heading(pages: dict[str, str]) -> None:
    for text in pages.values():
        anchors = set(re.findall(r"\{: #([\w-]+) \}", text)) | {"map"}
        assert set(re.findall(r"(?:\(|href=\")#([\w-]+)", text)) <= anchors


def test_works_that_the_page_names_are_entries() -> None:
    entries = {entry.id for entry in load()}
    for language in ("en", "zh"):
        text = (ROOT / "docs" / language / "step-by-step.md").read_text("utf-8")
        named = re.findall(r'k\.entry\("([\w-]+)"', text)
        assert named
        assert set(named) <= entries


def test_heads_are_those_that_the_page_describes(found: Steps) -> None:
    pronoun = found.strongest("it", "ferry")
    assert pronoun.share > 0.5
    assert found.row(pronoun, "it")[0][0] == "ferry"
    assert found.clearest("previous").share > 0.9
    matrix = found.matrix(found.clearest("previous"))
    assert all(row.index(max(row)) == number for number, row in enumerate(matrix[1:]))
    assert 0.9 < found.broadest().share <= 1
    assert found.drawing(pronoun, "x").count("<path") == 4
    with pytest.raises(BadInput, match="speaks of 'tram'"):
        found.index("tram")
    assert found.longest_update()[1] == "[CLS]"
    assert found.x.recipe.task == "mini-sentiment"  # as the page's command says
    assert set(found.masked()) == {"masked", "random", "kept"}
    assert min(found.masked().values()) > 0  # the page describes all three


def test_the_script_of_attention_is_in_whole_percent_and_small(found: Steps) -> None:
    script = found.data()
    values = json.loads(script.removeprefix("window.attention = "))
    assert len(values["pieces"]) == len(values["attention"][0][0])
    assert abs(sum(values["attention"][2][3][4]) - 100) <= len(values["pieces"]) / 2
    assert len(script) + len((ROOT / "docs/assets/attention.js").read_bytes()) < 80_000


def test_without_numbers_the_page_says_how_to_compute_them(tmp_path: Path, entries: Path, write: Write) -> None:
    write("bert")
    build(load(entries), tmp_path / "none.json", ROOT / "docs", tmp_path / "out", "https://example.org")
    text = (tmp_path / "out/en/step-by-step.md").read_text("utf-8")
    assert "python -m harness explain --output build/explained.json" in text
    assert '<a class="card-title" href="entries/bert.html">' in (tmp_path / "out/zh/reading-path.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("change", "why"),
    [({"schema": 2}, "reads schema 1"), ({"layers": 3}, "not an explanation"), ({"more": 1}, "not an explanation")],
)
def test_files_of_another_form_are_refused(change: dict[str, object], why: str, tmp_path: Path) -> None:
    values = json.loads(explained_file().read_text("utf-8"))
    (tmp_path / "explained.json").write_text(json.dumps(values | change), "utf-8")
    with pytest.raises(BadInput, match=why):
        steps.read(tmp_path / "explained.json")
    (tmp_path / "broken.json").write_text("{", "utf-8")
    with pytest.raises(BadInput, match="not an explanation"):
        steps.read(tmp_path / "broken.json")


def test_the_reading_path_has_twenty_entries_and_a_reason_for_each() -> None:
    path, entries = read_path(), {entry.id for entry in load()}
    assert len(path) == len({work.id for work in path}) == 20
    assert {work.id for work in path} <= entries
    assert all(re.search("[一-鿿]", work.zh) and not re.search("[一-鿿]", work.en) for work in path)


def test_numbers_are_short() -> None:
    assert [small(value) for value in (221.3, 7.28, 0.45, 0.0019, 3.8e-15)] == [
        "221",
        "7.3",
        "0.45",
        "1.9e-3",
        "3.8e-15",
    ]
    assert place_of(10, 0.1, 1000) == pytest.approx(50)
    assert place_of(1e-9, 0.1, 1000) == 0
