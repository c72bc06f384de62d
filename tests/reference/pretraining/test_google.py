"""Instances are those of Google's script: ``google_instances.py`` ran it, and printed these hashes."""

from pathlib import Path
from types import ModuleType

import pytest

from reference.files.vocabulary import by_id
from reference.pretraining.google import Instance, create_instances
from reference.tokenizer import Tokenizer

HASHES = {  # length, passes, most predictions, whole words, seed
    (128, 2, 20, False, 12345): "013c8dfd06715c89f2c2f61b2eb1e7dc0fad97b1b362981132a2eedd417ff17b",
    (128, 2, 20, False, 1): "3a6e2b189c210f72a0fd1b9ce5faaab0c9a2b3d5df8d970246e7688958f35506",
    (128, 2, 20, False, 2): "e2a11fa6a51d4d49232188b8e5894cb0c8bb90cf7c2ee72d15bb2d6a5eddfa55",
    (64, 2, 10, True, 12345): "94c77685b55da5cfbe1928113f3383644cc99769e8cd1d7e74269dfb1dfc6bab",
    (64, 2, 10, True, 1): "d5f99e6b1f29f4d31e3b6ba915c896853d1f20992180f05616e352c1d36597b6",
    (64, 2, 10, True, 2): "874c880bb0499e371b461426c727608651bbdc020503b3e1822b1c314b28cb60",
}


@pytest.fixture(scope="module")
def pieces(minilm_folder: Path) -> list[str]:
    return by_id(Tokenizer.from_folder(minilm_folder).vocabulary())


def documents_of(text: str, folder: Path) -> list[list[list[int]]]:
    tokenizer = Tokenizer.from_folder(folder)
    documents = [document.splitlines() for document in text.split("\n\n")]
    return [[e.ids[1:-1] for e in tokenizer.encode_batch(each, max_length=10**6)] for each in documents]


@pytest.mark.parametrize(("settings", "expected"), HASHES.items(), ids=str)
def test_instance_for_instance(
    settings: tuple[int, int, int, bool, int], expected: str, google: ModuleType, minilm_folder: Path, pieces: list[str]
) -> None:
    length, passes, most, whole_words, seed = settings
    found = create_instances(
        documents_of(google.text(), minilm_folder), pieces, seed, length, passes, 0.15, most, whole_words
    )
    rows = [(list(x.ids), list(x.segments), x.is_random, list(x.positions), list(x.labels)) for x in found]
    assert google.sha256(rows) == expected


def test_a_corpus_of_one_document_has_only_its_own_sentences_as_random_ones(pieces: list[str]) -> None:
    document = [[1000 + 20 * i + j for j in range(20)] for i in range(30)]
    found = create_instances([document], pieces, passes=3)
    assert any(each.is_random for each in found)
    own = {number for sentence in document for number in sentence}
    for each in found:
        assert set(each.labels) <= own


def test_all_pairs_of_a_document_drawn_short_are_short(pieces: list[str]) -> None:
    """And the sentences that a random partner displaced begin the next pair."""
    documents = [[[1000 + d] * 5 for _ in range(200)] for d in range(40)]
    found = create_instances(documents, pieces, passes=1)
    longest: dict[int, int] = {}
    for each in found:
        if len(each.labels) and not each.is_random:
            document = each.labels[0]
            longest[document] = max(longest.get(document, 0), len(each.ids))
    short = [length for length in longest.values() if length < 120]
    assert 0 < len(short) < 15


def test_a_replacement_may_be_any_entry_of_the_vocabulary(pieces: list[str]) -> None:
    documents = [[[2000 + d] * 30 for _ in range(60)] for d in range(20)]
    found: list[Instance] = create_instances(documents, pieces, passes=5)
    replacements = [
        each.ids[position]
        for each in found
        for position, label in zip(each.positions, each.labels, strict=True)
        if each.ids[position] not in (label, pieces.index("[MASK]"))
    ]
    assert any(pieces[number].startswith("[unused") for number in replacements)
