"""What the models of entries accept and refuse, in the words a contributor sees."""

import json
from pathlib import Path

import pytest

from catalog.load import read_folder
from catalog.schema import ENTRY_SCHEMA, KINDS, vocabulary, written_schema
from harness.measure.deviations import DEVIATIONS
from harness.measure.training import optimizers
from harness.statistics.metrics import METRICS
from tests.catalog.conftest import Write


def said(entries: Path) -> list[str]:
    """All problems, without the files' names."""
    return [str(problem).partition(".yaml:")[2] for document in read_folder(entries) for problem in document.problems]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_smallest_entry(kind: str, entries: Path, write: Write) -> None:
    write("smallest", kind)
    assert said(entries) == []


def test_a_full_paper(entries: Path, write: Write) -> None:
    write(
        "bert",
        title='"BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"',
        title_zh="BERT：用于语言理解的深度双向 Transformer 预训练",
        authors="[Jacob Devlin, Ming-Wei Chang]",
        and_others="true",
        venue="NAACL",
        venue_year="2019",
        doi="10.18653/v1/N19-1423",
        url="https://aclanthology.org/N19-1423/",
        code="[https://github.com/google-research/bert]",
        language="[en]",
        seed='"1.1"',
        summary_en="A Transformer encoder trained to fill in masked words (完形填空).",
        summary_zh="用遮盖词预测训练的 Transformer 编码器。",
        sources="[general knowledge]",
        added='"2026-11-22"',
    )
    assert said(entries) == []


@pytest.mark.parametrize(
    ("field", "written", "message"),
    [
        ("id", "BERT Base", "1: id: 'BERT Base' is not the file's name"),
        ("title", "", "3: title: is empty; write a value, or leave the line out"),
        ("title", "null", "3: title: is empty"),
        ("title", "'a\\\n\u200bb'", "4: title: contains the invisible character U+200B"),
        ("title", "[a, b]", "3: title: is a list; write one value: `title: a`"),
        ("title", "x" * 301, "3: title: has 301 characters; 300 is the most"),
        ("year", "18", "4: year: '18' is not a year of four digits"),
        ("year", "[2018]", "4: year: is a list"),
        ("year", "1149", "4: year: "),
        ("tags", "pretraining", "5: tags: is a text; write a list: `tags: [pretraining]`"),
        ("tags", "[]", "5: tags: is an empty list"),
        ("tags", "[ner, ner]", "5: tags: 'ner' is in the list twice"),
        ("tags", "[ner, code, legal, clinical, bias]", "5: tags: has 5 values; 4 is the most"),
        ("tags", "[ner, distilation]", "5: tags[1]: 'distilation' is not in vocabulary.yaml - did you mean 'dist"),
        ("arxiv", "1810.04805v2", "6: arxiv: '1810.04805v2' is not an arXiv id - did you mean '1810.04805'?"),
        ("arxiv", "https://arxiv.org/pdf/1810.04805", "- did you mean '1810.04805'?"),
        ("arxiv", "1810.4805", "6: arxiv: '1810.4805' is not an arXiv id"),
        ("arxiv", "1813.04805", "6: arxiv: '1813.04805' is not an arXiv id"),
        ("arxiv", "1706.03762", "6: arxiv: '1706.03762' is of 2017, before `year`, 2018"),
        ("arxiv", None, "1: a paper needs an identifier: arxiv or doi or url"),
        ("year", None, "1: year: the required field is missing"),
        ("labels", "others", "7: labels: unknown field 'labels'"),
        ("titel", "x", "7: titel: unknown field 'titel' - did you mean 'title'?"),
        ("license", "MIT", "7: license: is not a field of a paper, only of: repository, model, dataset"),
        (
            "doi",
            "https://doi.org/10.18653/v1/N19-1423",
            "7: doi: 'https://doi.org/10.18653/v1/N19-1423' is not a DOI - did",
        ),
        ("doi", "10.1016/j.neunet.2019.01.001.", "did you mean '10.1016/j.neunet.2019.01.001'?"),
        ("doi", "10.1002/x%3C361%3E", "did you mean '10.1002/x<361>'?"),
        ("doi", "https://dl.acm.org/doi/10.1145/3292500.3330701", "did you mean '10.1145/3292500.3330701'?"),
        ("doi", "10.48550/arXiv.1810.04805", "is arXiv's DOI - did you mean `arxiv: '1810.04805'`?"),
        ("venue_year", "2017", "7: venue_year: 2017 is before `year`, 2018"),
        ("authors", "[Jacob Devlin, et al.]", "7: authors[1]: 'et al.' is not an author; list the names"),
        ("authors", "[Devlin et al]", "7: authors[0]: 'Devlin et al' is not an author"),
        ("authors", "[张俊林等]", "7: authors[0]: '张俊林等' is not an author"),
        ("authors", "Jacob Devlin", "7: authors: is a text; write a list: `authors: [Jacob Devlin]`"),
        ("and_others", "true", "7: and_others: is given without `authors`"),
        ("and_others", "yes", "7: and_others: 'yes' is not `true`"),
        (
            "language",
            "[Chinese]",
            "7: language[0]: 'Chinese' is not a language of vocabulary.yaml - did you mean 'zh'?",
        ),
        ("language", "[zh-CN]", "- did you mean 'zh'?"),
        ("language", "[cn]", "7: language[0]: 'cn' is not a language"),
        ("status", "renamed", "7: status: 'renamed' needs the field `renamed_to`"),
        (
            "status",
            "archive",
            "7: status: 'archive' is none of active, archived, gone, renamed - did you mean 'archived'",
        ),
        ("summary_en", "这是一个中文句子。", "7: summary_en: is in Chinese - did you mean 'summary_zh'?"),
        ("summary_zh", "In English.", "7: summary_zh: is not in Chinese"),
        ("summary_zh", "第一行\n  第二行。", "7: summary_zh: has a space between Chinese characters"),
        ("summary_en", "|\n  One.\n\n  Two.", "7: summary_en: has more than one line"),
        ("seed", "4.1", "7: seed: '4.1' is not an item of the 2018 list"),
        ("added", "22.11.2026", "7: added: '22.11.2026' is not a date of the form 2018-10-11"),
        ("added", "2026-02-30", "7: added: day"),
        ("relates_to", "[Some_Thing]", "7: relates_to[0]: 'Some_Thing' is not an id"),
    ],
)
def test_what_is_refused(field: str, written: str | None, message: str, entries: Path, write: Write) -> None:
    write("bert", **{field: written})
    assert any(message in each for each in said(entries)), said(entries)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("javascript:alert(1)", "'javascript' addresses are not allowed, only https and http"),
        ("'JavaScript:alert(1)//http://example.org'", "'JavaScript' addresses are not allowed"),
        ("data:text/html,x", "'data' addresses are not allowed"),
        ("file:///etc/passwd", "'file' addresses are not allowed"),
        ("ftp://example.org/x", "'ftp' addresses are not allowed"),
        ("git@github.com:a/b.git", "is for git - did you mean 'https://github.com/a/b'?"),
        ("ssh://git@github.com/a/b.git", "is for git - did you mean 'https://github.com/a/b'?"),
        ("//example.org/x", "is not a web address - did you mean 'https://example.org/x'?"),
        ("www.example.org", "is not a web address - did you mean 'https://www.example.org'?"),
        ("https:///path", "is not a valid web address"),
        ("https://example.org/a b", "is not a valid web address"),
        ("'https://example.org/\"onclick=x'", "is not a valid web address"),
        ("https://example.org/<b>", "is not a valid web address"),
        ("https://example.org:port/", "is not a valid web address"),
        ("https://[::1/", "is not a valid web address"),
        ("https://user:secret@example.org/", "contains a user name or password"),
        ("http://localhost/x", "is not an address of the public web"),
        ("http://127.0.0.1/x", "is not an address of the public web"),
        ("http://[::1]/x", "is not an address of the public web"),
        ("https://link.zhihu.com/?target=https%3A//arxiv.org/abs/1810.04805", "did you mean 'https://arxiv.org/abs/"),
    ],
)
def test_addresses_that_are_refused(address: str, message: str, entries: Path, write: Write) -> None:
    write("post", "article", url=address)
    (problem,) = said(entries)
    assert problem.startswith("6: url: ")
    assert message in problem


@pytest.mark.parametrize(
    "address",
    [
        "https://zhuanlan.zhihu.com/p/49271699",
        "http://example.org/%E4%B8%AD?a=b&c=d#e",
        "https://例子.中国/文章",
        "https://example.org:8443/a(b)",
    ],
)
def test_addresses_that_are_accepted(address: str, entries: Path, write: Write) -> None:
    write("post", "article", url=address)
    assert said(entries) == []


@pytest.mark.parametrize(
    ("licence", "message"),
    [
        ("MIT", None),
        ("none-found", None),
        ("CC-BY-SA-4.0", None),
        ("Apache-2.0 OR MIT", None),
        ("apache-2.0", "- did you mean 'Apache-2.0'?"),
        ("Apache 2.0", "- did you mean 'Apache-2.0'?"),
        ("free", "'free' is not an SPDX licence (see spdx.org/licenses; `none-found` if there is none)"),
    ],
)
def test_licences_are_spdx_ids(licence: str, message: str | None, entries: Path, write: Write) -> None:
    write("code", "repository", license=licence)
    assert [message is not None and message in each for each in said(entries)] == ([] if message is None else [True])


def test_an_unknown_or_missing_kind(entries: Path, write: Write) -> None:
    file = write("bert")
    file.write_text(file.read_text("utf-8").replace("kind: paper", "kind: papers"), "utf-8")
    no_kind = "kind: 'papers' is not a kind (paper, article, repository, model, dataset) - did you mean 'paper'?"
    assert said(entries) == [f"2: {no_kind}"]
    file.write_text(file.read_text("utf-8").replace("kind: papers\n", ""), "utf-8")
    assert said(entries) == ["1: kind: the required field is missing; add `kind: paper`"]


def test_html_in_a_title_is_kept_as_text(entries: Path, write: Write) -> None:
    write("bert", title="<script>alert(1)</script> & more")
    (document,) = read_folder(entries)
    assert document.entry is not None
    assert document.entry.title == "<script>alert(1)</script> & more"


def test_several_problems_of_one_file_are_all_named(entries: Path, write: Write) -> None:
    write("bert", year="x", tags="ner", arxiv="y", colour="red")
    assert [each.split(":")[0] for each in said(entries)] == ["4", "5", "6", "7"]


def test_the_committed_json_schema_is_the_generated_one() -> None:
    assert ENTRY_SCHEMA.read_text("utf-8") == written_schema(), "run: python -m catalog schema"


def test_the_json_schema_names_fields_and_words_for_editors() -> None:
    schema = json.loads(written_schema())
    assert schema["$defs"]["tag"]["enum"] == list(vocabulary()["tags"])
    assert schema["$defs"]["paper"]["properties"]["tags"]["items"] == {"$ref": "#/$defs/tag"}
    assert schema["$defs"]["paper"]["properties"]["and_others"]["const"] is True
    assert schema["$defs"]["paper"]["properties"]["title"]["description"]
    assert "license" not in schema["$defs"]["paper"]["properties"]
    assert '"null"' not in written_schema()


def test_the_vocabulary_has_what_the_harness_says_of_implementations() -> None:
    said = {name: text.split(":")[0] for name, text in DEVIATIONS.items()}
    words = {name: names["en"] for name, names in vocabulary()["deviations"].items()}
    assert words.pop("precision") in "computes in int8"
    assert words == said
    trained = {name: text.split(":")[0] for name, text in optimizers.DEVIATIONS.items()}
    words = {name: names["en"] for name, names in vocabulary()["training"].items()}
    assert {name: words.get(name) for name in trained} == trained


def test_the_vocabulary_has_the_metrics_of_the_harness() -> None:
    names = {name: about["en"] for name, about in vocabulary()["metrics"].items()}
    assert {name: names.get(name) for name in METRICS} == {name: each.title for name, each in METRICS.items()}


def test_each_metric_says_what_its_values_are() -> None:
    for name, about in vocabulary()["metrics"].items():
        assert about["values"] in ("share", "correlation", "amount", "speed"), name
        assert ("unit" in about) == (about["values"] == "speed"), name


def test_the_vocabulary_has_both_languages() -> None:
    for group, words in vocabulary().items():
        for word, names in words.items():
            more = {"tags": {"family", "facet"}, "terms": {"not"}, "metrics": {"values", "unit", "better"}}.get(
                group, set()
            )
            assert {"en", "zh"} <= set(names) <= {"en", "zh", *more}, word
            assert isinstance(word, str)
            assert all(names.values())
