"""The embedded suite: enough examples, balanced, each its own, and installed with the package."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from harness.data.examples import TextExample, WordExample
from harness.data.read import read_split
from harness.data.reading import task_files
from harness.data.task import FOLDER, load_task, suites

TASKS = suites()["mini"] + suites()["mini-hard"]
LABELLED = [name for name in TASKS if load_task(name).kind == "classification"]
LEAST = {"train": 240, "dev": 160}
LEAST_SENTENCES = {"train": 200, "dev": 100}  # of named entities
NEAR = 0.5  # Jaccard similarity of the sets of character 4-grams


def examples(name: str) -> Iterator[tuple[str, Any]]:
    """Split and example, of both splits."""
    task = load_task(name)
    for split in task.files:
        for example in read_split(task, split, None):
            yield split, example


def sentences_of(example: TextExample | WordExample) -> list[str]:
    if isinstance(example, WordExample):
        return [" ".join(example.words)]
    return [example.text] if example.pair is None else [example.text, example.pair]


def plain(text: str) -> str:
    """Lower case, and single spaces for all that is neither letter nor digit."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def near_duplicates(groups: list[list[str]]) -> list[tuple[str, str]]:
    """Pairs of sentences of different groups whose character 4-grams are nearly the same."""
    texts = [text for group in groups for text in group]
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    grams = [{text[i : i + 4] for i in range(max(1, len(text) - 3))} for text in map(plain, texts)]
    column = {gram: i for i, gram in enumerate(sorted(set().union(*grams)))}
    columns = [column[gram] for each in grams for gram in each]
    rows = np.repeat(np.arange(len(grams)), [len(each) for each in grams])
    matrix = csr_matrix((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(len(grams), len(column)))
    common = (matrix @ matrix.T).tocoo()
    size = np.array([len(each) for each in grams])
    jaccard = common.data / (size[common.row] + size[common.col] - common.data)
    near = (owner[common.row] < owner[common.col]) & (jaccard > NEAR)
    return [(texts[i], texts[j]) for i, j in zip(common.row[near], common.col[near], strict=True)]


def test_the_suite_has_every_kind_a_newcomer_meets() -> None:
    assert {load_task(name).kind for name in TASKS} == {"classification", "regression", "tagging"}
    assert any(isinstance(example, TextExample) and example.pair for name in TASKS for _, example in examples(name))


@pytest.mark.parametrize("name", TASKS)
def test_there_are_enough_examples(name: str) -> None:
    rows = Counter(split for split, _ in examples(name))
    least = LEAST_SENTENCES if load_task(name).kind == "tagging" else LEAST
    assert rows.keys() == least.keys()
    assert all(rows[split] >= count for split, count in least.items())


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_balanced_in_each_split_and_mixed_in_order(name: str) -> None:
    task = load_task(name)
    for split in task.files:
        labels = [example.label for each, example in examples(name) if each == split]
        counts = Counter(labels)
        assert counts.keys() == set(task.outputs)
        assert min(counts.values()) >= 0.4 * len(labels)
        for part in (labels[: len(labels) // 2], labels[len(labels) // 2 :]):
            assert min(Counter(part)[label] for label in task.outputs) >= 0.3 * len(part)


def test_similarity_scores_span_the_scale() -> None:
    for split in ("train", "dev"):
        scores = np.array([example.label for each, example in examples("mini-similarity") if each == split])
        assert scores.min() >= 0
        assert scores.max() <= 5
        assert np.histogram(scores, bins=5, range=(0, 5))[0].min() >= 0.1 * len(scores)


@pytest.mark.parametrize("name", [name for name in TASKS if load_task(name).kind != "tagging"])
def test_ids_are_unique_over_both_splits(name: str) -> None:
    ids = [example.id for _, example in examples(name)]
    assert len(set(ids)) == len(ids)


def test_entities_of_every_type_occur_often_and_tags_are_legal() -> None:
    task = load_task("mini-ner")
    for split in task.files:
        begun: Counter[str] = Counter()
        for sentence in [example for each, example in examples("mini-ner") if each == split]:
            before = "O"
            for tag in sentence.tags:
                assert tag in task.outputs
                if tag.startswith("I-"):
                    assert before[2:] == tag[2:], f"{sentence.words}: {tag} continues nothing"
                begun[tag[2:]] += tag.startswith("B-")
                before = tag
        assert all(begun[label] >= 20 for label in task.labels.values()), begun


@pytest.mark.parametrize("name", TASKS)
def test_files_are_plain_ascii_with_a_tab_between_columns_alone(name: str) -> None:
    for path in task_files(load_task(name), None).values():
        content = path.read_bytes().decode("ascii")
        assert content.endswith("\n")
        assert not set(content) - {"\n", "\t"} & set(map(chr, range(32))), "control characters"
    for _, example in examples(name):
        assert all(text.strip() and "\t" not in text for text in sentences_of(example))


@pytest.mark.parametrize("name", TASKS)
def test_no_sentence_is_nearly_that_of_another_example(name: str) -> None:
    groups = [sentences_of(example) for _, example in examples(name)]
    counts = Counter(plain(text) for group in groups for text in group)
    assert [text for text, count in counts.items() if count > 1] == []
    assert near_duplicates(groups) == []


def test_near_duplicates_are_found() -> None:
    first, second = "The ferry left at nine, late as ever.", "The ferry left at ten, late as ever!"
    assert near_duplicates([[first], ["Nobody asked the gardener."], [second]]) == [(first, second)]
    assert near_duplicates([[first, second]]) == [], "a pair may be a paraphrase"


def test_files_are_in_the_package() -> None:
    """What setuptools installs covers every file of the suite."""
    root = Path(__file__).parents[3]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["harness"]
    installed = {path for pattern in patterns for path in (root / "harness").glob(pattern)}
    files = {path for name in TASKS for path in task_files(load_task(name), None).values()}
    assert files <= installed
    assert {FOLDER / f"{name}.yaml" for name in TASKS} <= installed
