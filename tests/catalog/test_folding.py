"""Letters as a search compares them."""

import pytest

from catalog.folding import fold, otherwise, replaced


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ＢＥＲＴ－Ｂａｓｅ　１", "bert-base 1"),
        ("Núñez", "nunez"),
        ("Nu\u0301n\u0303ez", "nunez"),
        ("Straße in Łódź, Ærø", "strasse in lodz, aero"),
        ("ﬁne-tuning", "fine-tuning"),
        ("命名實體識別", "命名实体识别"),
        ("が 각 क्षि", "が 각 क्षि"),  # marks that make other letters stay
        ("می\u200cشود", "می\u200cشود"),
        ("BERT 预训练", "bert 预训练"),
    ],
)
def test_what_compares_alike(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_folding_twice_changes_nothing() -> None:
    for text in ("Núñez ＢＥＲＴ 命名實體識別 İstanbul", "".join(map(chr, range(0xA0, 0x250)))):
        assert fold(fold(text)) == fold(text)


def test_only_words_that_change_are_added_to_the_index() -> None:
    assert otherwise("A Café for Núñez, Café: BERT") == ["cafe", "nunez"]
    assert otherwise("Pre-training of GPT-2 and end-to-end models") == ["endtoend", "pretraining"]
    assert otherwise("命名实体识别 with BERT") == []


def test_the_browser_gets_the_letters_that_occur() -> None:
    letters = replaced(["命名实体识别", "x"])
    assert letters["實"] == "实"
    assert letters["ß"] == "ss"
    assert "龍" not in letters  # its simplified form is nowhere on the pages
