"""Which sources can be followed, which claims need a date, and which Chinese words the glossary replaces."""

import re
from pathlib import Path

import pytest

from catalog.check import check
from catalog.evidence import ambiguous_times, meeting_of, names_a_place, undated_rank, wrong_term
from catalog.load import ENTRIES, load
from catalog.values import vocabulary
from tests.catalog.conftest import Write

ROOT = Path(__file__).parents[2]


def said(entries: Path, whole: bool = False) -> list[str]:
    return [str(problem).removeprefix(f"{entries}/") for problem in check(entries, whole)]


@pytest.mark.parametrize(
    "source",
    [
        "google-research/bert@eedf571 README.md:76-116 (layers)",
        "https://aclanthology.org/2021.emnlp-main.627/ (title, authors)",
        "DOI 10.18653/v1/N19-1423 (title, venue)",
        "arXiv 1810.04805, section 4.1 (restarts)",
        "arXiv 2507.00994, abstract",
        "PyPI transformers 4.38.2 METADATA:749",
        "catalog/list-2018.yaml, section 2.1",
    ],
)
def test_sources_that_can_be_followed(source: str) -> None:
    assert names_a_place(source)


@pytest.mark.parametrize(
    "source",
    [
        "public files (authors, DOI)",
        "reference lists of public papers",
        "general knowledge",
        "README.rst of the project",
        "ZhengZixiang/ATPapers README.md",
        "arXiv 1810.04805",
        "PyPI transformers",
        "the repository itself was not available",
        "section 3",
    ],
)
def test_sources_that_lead_nowhere(source: str, entries: Path, write: Write) -> None:
    write("bert", sources=f"['{source}']")
    assert said(entries)[0].startswith(
        f"papers/bert.yaml:7: sources[0]: '{source}' names no place to look; write owner/"
    )


@pytest.mark.parametrize(
    ("text", "language", "claim"),
    [
        ("Distils BERT. One of the most used Chinese encoders.", "en", "One of the most used"),
        ("It became the default small encoder.", "en", "became the default"),
        ("The usual Chinese tagging benchmark.", "en", "The usual Chinese tagging benchmark"),
        ("蒸馏 BERT。是使用最广的中文编码器之一。", "zh", "使用最广"),
        ("此后成为标准做法。", "zh", "标准做法"),
        ("In 2019 the most used encoder.", "en", None),
        ("2019 年使用最广的编码器。", "zh", None),
        ("Keeps the most important weights, as in a standard Transformer, with default settings.", "en", None),
        ("以默认设置训练标准的 Transformer。", "zh", None),
        ("Published in 2019. Widely used.", "en", "Widely used"),
    ],
)
def test_a_rank_needs_a_year_in_its_sentence(
    text: str, language: str, claim: str | None, entries: Path, write: Write
) -> None:
    assert undated_rank(text, language) == claim
    write("bert", **{f"summary_{language}": text})
    remedy = "say since or until which year in that sentence, with a source, or leave it out"
    expected = [f"papers/bert.yaml:7: summary_{language}: {claim!r} claims a rank without a date; {remedy}"]
    assert said(entries) == (expected if claim else [])


def test_a_word_that_the_glossary_replaces(entries: Path, write: Write) -> None:
    write("bert", summary_zh="支持 512 个词的输入，输出隐藏状态。")
    assert said(entries) == [
        "papers/bert.yaml:7: summary_zh: '2 个词' is '词元' here; see the glossary in vocabulary.yaml"
    ]
    assert wrong_term("每个词元的隐状态") is None


@pytest.mark.parametrize(
    "page",
    [*(ROOT / "docs" / "zh").rglob("*.md"), ROOT / "README.zh.md", ROOT / "CONTRIBUTING.zh.md"],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_the_pages_use_the_words_of_the_glossary(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [(number, wrong) for number, line in enumerate(lines, 1) if (wrong := wrong_term(line))] == []


def test_the_sites_templates_use_the_words_of_the_glossary() -> None:
    sources = [*(ROOT / "catalog/site").rglob("*.j2"), *(ROOT / "catalog/site").glob("*.py")]
    found = [(path.name, wrong) for path in sources if (wrong := wrong_term(path.read_text(encoding="utf-8")))]
    assert found == []


def test_no_term_of_the_glossary_is_refused_by_it() -> None:
    for term in vocabulary()["terms"].values():
        assert wrong_term(term["zh"]) is None
        assert re.compile(term["not"])


def test_code_that_is_an_entry_implements_the_paper(entries: Path, write: Write) -> None:
    write("a", code="[https://github.com/one/a]")
    write("b", "repository", url="https://github.com/One/A.git")
    assert said(entries) == ["papers/a.yaml:7: code[0]: is repositories/b.yaml; add 'a' to its `implements`"]
    write("b", "repository", url="https://github.com/One/A.git", implements="[a]")
    assert said(entries) == []


def test_a_repository_that_says_it_was_renamed_gives_its_address(entries: Path, write: Write) -> None:
    write("a", "repository", summary_en="Is called bert-two now.", summary_zh="现名 bert-two。")
    assert [problem.split("; ")[1] for problem in said(entries)] == ["add `renamed_to`, its present address"]
    write("a", "repository", summary_en="It is now called bert-two.", renamed_to="https://github.com/someone/bert-two")
    assert said(entries) == []


def test_a_whole_catalog_has_no_entry_alone_and_no_tag_unused(entries: Path, write: Write) -> None:
    write("bert", tags="[pretraining]")
    write("roberta", arxiv='"1907.11692"', title="Another", builds_on="[bert]")
    write("alone", arxiv='"1907.11693"', title="A third")
    alone, tags = sorted(said(entries, whole=True), key=lambda each: "vocabulary" in each)
    assert alone.startswith("papers/alone.yaml:1: id: is linked with no other entry")
    assert "no entry has it" in tags
    assert said(entries) == []


def test_links_lead_to_entries_of_their_kind(entries: Path, write: Write) -> None:
    write("bert")
    write("glue", "dataset")
    write("a", title="A", arxiv='"1901.00001"', builds_on="[bert, glue]", evaluates_on="[glue, bert]", distils="[brt]")
    assert said(entries) == [
        "papers/a.yaml:7: builds_on[1]: 'glue' is a dataset; a paper or model is built on; write other entries in "
        "`relates_to`",
        "papers/a.yaml:8: evaluates_on[1]: 'bert' is a paper; a data set is evaluated on",
        "papers/a.yaml:9: distils[0]: there is no entry 'brt' - did you mean 'bert'?",
    ]


def test_each_fact_of_a_model_has_a_source_that_names_it(entries: Path, write: Write) -> None:
    facts = {"layers": "12", "hidden_size": "768", "training_data": "[Wikipedia]"}
    write("m", "model", **facts, sources="['google-research/bert@eedf571 README.md:350 (layers, hidden size)']")
    assert said(entries) == [
        "models/m.yaml:9: training_data: no source states it; write (training data) after the source that does"
    ]
    write("m", "model", layers="twelve", formats="[pickle]")
    assert [problem.split(":", 2)[2] for problem in said(entries)] == [
        " layers: 'twelve' is not a whole number in digits, such as 110000000",
        " formats[0]: 'pickle' is none of pytorch, safetensors, tensorflow, flax, onnx, openvino, coreml, rust, paddle",
    ]


def test_sizes_of_models_agree_with_each_other() -> None:
    """A base encoder has at least as many parameters as its layers and its table of words need."""
    for entry in load(ENTRIES):
        layers, width = getattr(entry, "layers", None), getattr(entry, "hidden_size", None)
        if layers and width and entry.parameters and entry.id != "mobilebert-uncased":  # its layers are narrower inside
            assert entry.parameters >= 7 * layers * width**2, entry.id


@pytest.mark.parametrize(
    ("address", "meeting"),
    [
        ("10.18653/v1/2021.naacl-main.41", "NAACL"),
        ("10.18653/v1/2020.findings-emnlp.3", "Findings of EMNLP"),
        ("https://aclanthology.org/P19-1439/", "ACL"),
        ("10.18653/v1/D19-6106", None),  # a workshop, in the volumes of EMNLP
        ("10.18653/v1/2020.emnlp-demos.6", "EMNLP"),
        ("10.18653/v1/2020.blackboxnlp-1.3", None),
        ("10.1145/3292500.3330672", None),
    ],
)
def test_the_meeting_that_an_id_names(address: str, meeting: str | None) -> None:
    assert meeting_of(address) == meeting


def test_a_venue_is_the_meeting_of_the_papers_id(entries: Path, write: Write) -> None:
    write("demo", doi="10.18653/v1/2020.emnlp-demos.6", arxiv=None, venue="EMNLP Demo")
    assert not [line for line in said(entries) if "Anthology" in line]
    write("bert", doi="10.18653/v1/2021.naacl-main.41", arxiv=None, venue="ACL")
    (line,) = [line for line in said(entries) if "Anthology" in line]
    assert "venue: is 'ACL', but the Anthology's doi is of NAACL" in line


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("推理快 3 倍。", "快 3 倍"),
        ("体积小约 7.5 倍", "小约 7.5 倍"),
        ("速度是 BERT 的 3 倍", None),
        ("内存降至 1/4，吞吐量为 2 倍", None),
    ],
)
def test_chinese_multiples_that_can_be_read_in_two_ways(text: str, found: str | None) -> None:
    assert ambiguous_times(text) == found


def test_an_entry_with_such_a_multiple_is_refused(entries: Path, write: Write) -> None:
    write("bert", summary_zh="推理快 3 倍。")
    assert any("'快 3 倍' can be read in two ways" in line for line in said(entries))
