"""Reported results: what entries may say, what `check` refuses, and in which words."""

from pathlib import Path
from typing import Any

import pytest

from catalog.check import check
from catalog.load import ENTRIES, load, read_folder
from catalog.reported.check import disagreeing
from catalog.reported.tables import results
from tests.catalog.conftest import Write

TABLE = {"model": "BERT-Base", "source": '"a README"', "by": "repository", "seen": "a/b@0123abc README.md:7"}
TABLE |= {"unit": "percent"}
FIGURE = {"dataset": "mnli", "split": "dev_matched", "metric": "accuracy", "value": "84.4"}


def table(*figures: dict[str, Any], **fields: str | None) -> str:
    """A table of ``reported:`` as YAML, in lines 8 and on of a paper; the first figure is in line 14 of a usual one."""
    lines = [f"    {name}: {value}" for name, value in {**TABLE, **fields}.items() if value is not None]
    lines = ["  - " + lines[0].strip(), *lines[1:], "    figures:"]
    for figure in figures or ({},):
        given = {name: value for name, value in {**FIGURE, **figure}.items() if value is not None}
        lines.append("      - {" + ", ".join(f"{name}: {value}" for name, value in given.items()) + "}")
    return "\n" + "\n".join(lines)


@pytest.fixture
def mnli(write: Write) -> None:
    """A data set with splits and languages."""
    splits = "[dev, dev_matched, dev_mismatched, test_matched, test_mismatched]"
    write("mnli", "dataset", title="MNLI", url="https://example.org/mnli", splits=splits, subsets="[en, zh]")


def said(entries: Path) -> list[str]:
    return [str(problem).partition(".yaml:")[2] for problem in check(entries)]


@pytest.mark.usefixtures("mnli")
def test_a_table_becomes_rows_in_percent(entries: Path, write: Write) -> None:
    more = {"setting": "[ensemble, extra-data]", "recipe": "{runs: 5, epochs: 3, learning_rate: 2.0e-5}"}
    tables = table({}, {"split": "test_matched", "value": "84.6"}, **more)
    tables += table({"value": "0.844", "line": "9"}, unit="fraction", seen="c/d@0123abc docs/a b.md")
    write("bert", reported=tables)
    assert said(entries) == []
    rows = results(load(entries))
    assert [(row.split, str(row.value), row.written) for row in rows] == [
        ("dev_matched", "84.4", "84.4"),
        ("test_matched", "84.6", "84.6"),
        ("dev_matched", "84.4", "0.844"),
    ]
    assert rows[0].setting == ("ensemble", "extra-data")
    assert rows[0].runs == 5
    assert rows[0].url == "https://github.com/a/b/blob/0123abc/README.md?plain=1#L7"
    assert rows[2].seen == "c/d@0123abc docs/a b.md:9"
    assert rows[2].url == "https://github.com/c/d/blob/0123abc/docs/a%20b.md?plain=1#L9"


@pytest.mark.usefixtures("mnli")
@pytest.mark.parametrize(
    ("fields", "figure", "message"),
    [
        ({"source": None}, {}, "8: reported[0].source: the required field is missing"),
        ({"seen": None}, {}, "8: reported[0].seen: the required field is missing"),
        ({"seen": "public files"}, {}, "11: reported[0].seen: 'public files' is no place that others can look up"),
        ({"seen": "a/b@0123abc README.md"}, {}, "14: reported[0].figures[0]: has no line; add `line: N`"),
        ({"by": "me"}, {}, "10: reported[0].by: 'me' is not among the reporters of vocabulary.yaml"),
        ({"unit": None}, {}, "reported[0].figures[0]: the table does not say what its scores are in; add `unit: perce"),
        (
            {"unit": "fraction"},
            {},
            "14: reported[0].figures[0]: 84.4 is out of range for accuracy as a fraction; if the",
        ),
        (
            {},
            {"value": "0.844"},
            "14: reported[0].figures[0]: 0.844 is a fraction in a table of percentages; write 84.4",
        ),
        ({}, {"value": "100.1"}, "14: reported[0].figures[0]: 100.1 is out of range for accuracy as percent"),
        ({}, {"value": "-1"}, "-1 is out of range for accuracy as percent"),
        ({}, {"value": "84,4"}, "reported[0].figures[0].4: unknown field '4'"),
        (
            {},
            {"value": '"84.4%"'},
            "14: reported[0].figures[0].value: '84.4%' is not a number; write digits and a point",
        ),
        ({}, {"value": "nan"}, "'nan' is not a number"),
        ({}, {"value": "[84.4]"}, "14: reported: has values inside values; write one text"),
        ({}, {"metric": "acuracy"}, "'acuracy' is not among the metrics of vocabulary.yaml - did you mean 'accuracy'?"),
        ({}, {"metric": "latency_ms"}, "latency_ms depends on the machine; add `hardware:` to the table"),
        (
            {},
            {"split": "matched"},
            "14: reported[0].figures[0].split: 'matched' is not a split; write train, dev or test",
        ),
        ({}, {"split": "test"}, "14: reported[0].figures[0].split: mnli has no split 'test', only dev, dev_matched,"),
        (
            {},
            {"dataset": "mnlli"},
            "14: reported[0].figures[0].dataset: there is no data set 'mnlli' - did you mean 'mn",
        ),
        ({}, {"dataset": "bert"}, "'bert' is a paper, not a data set"),
        ({}, {"subset": "cz"}, "14: reported[0].figures[0].subset: mnli has no subset 'cz', only en, zh"),
        ({}, {"values": "3"}, "14: reported[0].figures[0].values: unknown field 'values' - did you mean 'value'?"),
        ({"models": "x"}, {}, "unknown field 'models' - did you mean 'model'?"),
        ({"parameters": "110 million"}, {}, "'110 million' is not a number of parameters such as 110M"),
        (
            {"setting": "[esemble]"},
            {},
            "'esemble' is not among the settings of vocabulary.yaml - did you mean 'ensemble'?",
        ),
        ({"statistic": "average"}, {}, "'average' is none of best, mean, median"),
        ({"recipe": "{runs: five}"}, {}, "reported[0].recipe.runs: 'five' is not a whole number from 1 on"),
        ({"recipe": "five runs"}, {}, "reported[0].recipe: is a text; write its fields: runs, select, epochs"),
        ({"condition": "length 384 #1"}, {}, "ends before '#1', a comment to YAML; write the value in quotes"),
    ],
)
def test_what_is_refused(
    fields: dict[str, str | None], figure: dict[str, str], message: str, entries: Path, write: Write
) -> None:
    write("bert", reported=table(figure, **fields))
    assert any(message in problem for problem in said(entries)), said(entries)


@pytest.mark.parametrize(
    ("reported", "message"),
    [
        ("85", "reported: is a text; write a list"),
        ("[]", "reported: is an empty list"),
        ("[85]", "reported[0]: is a text; write its fields: model, parameters, source"),
        ("\n  - model: {name: {x: {y: {z: 1}}}}", "reported: has values inside values"),
        ("\n  - {model: a, model: b}", "model: is written twice"),
        ("\n  - {model: &a x}", "YAML anchors and aliases"),
    ],
)
def test_other_forms_are_refused(reported: str, message: str, entries: Path, write: Write) -> None:
    write("bert", reported=reported)
    assert any(message in problem for problem in said(entries)), said(entries)


def test_a_data_set_without_splits_asks_for_them(entries: Path, write: Write) -> None:
    write("mnli", "dataset", title="MNLI", url="https://example.org/mnli")
    write("bert", reported=table())
    assert said(entries) == [
        "14: reported[0].figures[0].dataset: the entry of 'mnli' lists no splits; add "
        "`splits: [dev_matched, ...]` to it"
    ]


@pytest.mark.usefixtures("mnli")
def test_a_result_of_an_article_is_refused(entries: Path, write: Write) -> None:
    write("post", "article", reported=table())
    assert said(entries) == ["7: reported: is not a field of a article, only of: paper, model"]


@pytest.mark.usefixtures("mnli")
def test_the_same_figure_twice_from_one_source(entries: Path, write: Write) -> None:
    write("bert", reported=table({}, {"value": "84.6"}) + table({}, seen="a/b@0123abc README.md:90"))
    assert said(entries) == [
        "15: reported[0].figures[1]: BERT-Base has 84.4 on it in bert.yaml, line 14, from the same source; remove one, "
        "or say in `condition`, `setting` or `statistic` how they differ",
        "22: reported[1].figures[0]: BERT-Base has the same on it in bert.yaml, line 14, from the same source; remove "
        "one, or say in `condition`, `setting` or `statistic` how they differ",
    ]


@pytest.mark.usefixtures("mnli")
def test_two_sources_that_disagree_are_kept_and_shown(entries: Path, write: Write) -> None:
    other = table({"value": "83.9"}, {"split": "dev_mismatched"}, seen="c/d@0123abc README.md:1")
    write("bert", reported=table({}, {"split": "dev_mismatched"}) + other)
    assert said(entries) == []
    rows = results(load(entries))
    assert [row.identity in disagreeing(rows) for row in rows] == [True, False, True, False]


@pytest.mark.usefixtures("mnli")
def test_a_name_is_that_of_one_model(entries: Path, write: Write) -> None:
    write("bert", reported=table(parameters="110M"))
    write("biobert", arxiv="1901.08746", year="2019", reported=table(model="bert-base"))
    write(
        "bert-base",
        "model",
        reported=table(parameters="110M", model="B") + table({"line": 8}, parameters="108M", model="b"),
    )
    assert [each for each in said(entries) if "models need two names" in each or "a model of" in each] == [
        "21: reported[1].parameters: 108M, but 110M in bert-base.yaml, line 8: two models need two names",
        "8: reported[0].model: 'bert-base' is a model of bert.yaml too (line 8); write its results there, or a name "
        "that tells the two apart",
    ]


def test_errors_may_be_below_one_percent(entries: Path, write: Write) -> None:
    write("imdb", "dataset", title="IMDb", url="https://example.org/imdb", splits="[test]")
    figure = {"dataset": "imdb", "split": "test", "metric": "error_rate", "value": "0.62"}
    write("xlnet", reported=table(figure))
    assert said(entries) == []


def test_every_figure_of_the_catalog_has_a_place_and_a_page() -> None:
    rows = results(load(ENTRIES))
    assert len(rows) > 1200
    assert len({row.dataset for row in rows}) >= 40
    assert all(row.url.startswith("https://") for row in rows)
    assert all(":" in row.seen for row in rows)


def test_two_thousand_figures_are_read_without_a_line_per_letter(entries: Path, write: Write) -> None:
    """Each value has the line that an editor jumps to."""
    write("mnli", "dataset", title="MNLI", url="https://example.org/mnli", splits="[dev_matched]")
    write(
        "bert",
        reported=table(
            *({"line": str(at), "value": f"{at / 100:.2f}"} for at in range(100, 2100)), seen="a/b@0123abc r"
        ),
    )
    (bert,) = (each for each in read_folder(entries) if each.file.stem == "bert")
    assert bert.lines[("reported", 0, "figures", 1999, "value")] == 14 + 1999
