"""The vocabulary, which contributors extend: what a word must say."""

from pathlib import Path

import pytest

from catalog.errors import BadInput
from catalog.values import read_vocabulary, vocabulary


def test_every_tag_says_what_it_means_for_the_family_tree() -> None:
    assert {words["family"] for words in vocabulary()["tags"].values()} == {"member", "about", "neutral"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tags:\n  ner: {en: NER, zh: 命名实体识别}", "tags: ner: add `family:` with one of member, about, neutral"),
        ("tags:\n  ner: {en: NER, zh: 命名实体识别, family: yes}", "tags: ner: add `family:`"),
        (
            "tags:\n  ner: {en: NER, zh: 命名实体识别, family: about, facet: x}",
            "tags: ner: `facet:` is one of task, fra",
        ),
        ("tags:\n  ner: {en: NER, family: about}", "tags: ner: has no name in zh"),
        ("languages:\n  en: {zh: 英语}", "languages: en: has no name in en"),
    ],
)
def test_a_word_that_lacks_something_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocabulary.yaml").write_text(text, "utf-8")
    with pytest.raises(BadInput, match=message):
        read_vocabulary(tmp_path / "vocabulary.yaml")
