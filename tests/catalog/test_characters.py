"""Characters that nobody sees are refused with their line; those that languages and emoji are made of are not."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from catalog import export
from catalog.characters import wrong_character
from catalog.load import load, read_folder
from tests.catalog.conftest import Write

UNSEEN = [
    *("\u00ad", "\u034f", "\u061c", "\u115f", "\u1160", "\u180e", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029"),
    *("\u202a", "\u202e", "\u2060", "\u2061", "\u2066", "\u2069", "\u206f", "\u2800", "\u3164", "\ufeff", "\uffa0"),
    *("\ufff9", "\ufffa", "\ufffb", "\ufffc", "\ufffd", "\ufffe", "\uffff", "\ufdd0", "\U0001fffe", "\U000e0001"),
    *("\U000e0020", "\U000e007f", "\U000e0061", "\ue000", "\U000f0000", "\x00", "\x01", "\x07", "\x08", "\x09"),
    *("\x0b", "\x0c", "\x1b", "\x7f", "\x80", "\x85", "\x9f", "\u00a0", "\u1680", "\u2003", "\u2009", "\u202f"),
    *("\u200c", "\u200d", "\ufe0f", "\U000e0100", "\u180b"),
]


@pytest.mark.parametrize("letter", UNSEEN, ids=ascii)
def test_what_cannot_be_seen_in_a_latin_word_is_refused(letter: str) -> None:
    found = wrong_character(f"pre{letter}training")
    assert found is not None
    assert found[0] == letter
    assert f"U+{ord(letter):04X}" in found[1]


@pytest.mark.parametrize(
    "text",
    [
        "می\u200cشود",  # Persian: between letters of one word
        "क्\u200dष",  # Hindi: half a letter
        "क्\u200cष",
        "ශ්\u200dරී ලංකා",  # Sinhala
        "👩\u200d👩\u200d👧\u200d👦 at work",
        "🏳\ufe0f\u200d🌈",
        "👩🏽\u200d💻",
        "❤\ufe0f\u200d🔥",
        "🐻\u200d❄\ufe0f",
        "1\ufe0f\u20e3 first",
        "#\ufe0f\u20e3",
        "☺\ufe0e",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # Scotland
        "葛\U000e0100城",  # a form of a character in a name
        "ᠠ\u180bᠨ",
        "自然语言\u3000处理",
        "Núñez, Naïve \u2013 “quoted” … 10\u2032",
        "Nu\u0301n\u0303ez",
        "السلام عليكم",
        "α → β, x² ≥ ½",
        "\U0001fae9",  # newer than this Python's Unicode
    ],
    ids=ascii,
)
def test_what_languages_and_emoji_are_made_of_is_not(text: str) -> None:
    assert wrong_character(text) is None


@pytest.mark.parametrize(
    "text", ["می\u200c", "\u200cمی", "word\u200d", "👩\u200d", "a\u200d👩", "BERT\u200c-base"], ids=ascii
)
def test_joiners_that_join_nothing_are_refused(text: str) -> None:
    assert wrong_character(text) is not None


def test_the_line_is_that_of_the_character(entries: Path, write: Write) -> None:
    write("bert", summary_en=">\n  A study\n  of soft\u00adhyphens.", authors="[Ann Lee, 'Bo\u202eLi']", year="2018")
    found = [str(problem).partition(".yaml:")[2] for d in read_folder(entries) for problem in d.problems]
    assert found == [
        "10: authors[1]: contains the invisible character U+202E (right-to-left override); remove it",
        "9: summary_en: contains the invisible character U+00AD (soft hyphen); remove it",
    ]


def test_an_escape_of_such_a_character_is_refused_too(entries: Path, write: Write) -> None:
    write("bert", title='"BERT\\ufffe"', venue='"A\\u00ADB"')
    found = [str(problem).partition(".yaml:")[2] for d in read_folder(entries) for problem in d.problems]
    assert found == [
        "3: title: contains U+FFFE, which is not a character and may not be in XML; remove it",
        "7: venue: contains the invisible character U+00AD (soft hyphen); remove it",
    ]


def test_a_feed_of_joined_letters_is_read_back(entries: Path, write: Write) -> None:
    title = "می\u200cشود 👩\u200d👧 & <b>"
    write("bert", title=f"'{title}'", added="2026-11-22")
    feed = ET.fromstring(export.to_atom(load(entries), "https://example.org/", "en"))
    assert [each.text for each in feed.iter("{http://www.w3.org/2005/Atom}title")][1] == title
