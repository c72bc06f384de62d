"""Reading files, cleaning lines, splitting sentences."""

import gzip
import lzma
from pathlib import Path

import pytest

from reference.errors import PretrainingError
from reference.pretraining.text import clean, is_heading, read_documents, sentences

TWO = "First line here.\nsecond line\n\n\n  \nAnother document.\n"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.txt", TWO.encode()),
        ("a.txt.xz", lzma.compress(TWO.encode())),
        ("a.txt.gz", gzip.compress(TWO.encode())),
        ("a.txt", TWO.replace("\n", "\r\n").encode("utf-8-sig")),
    ],
    ids=["plain", "xz", "gz", "windows"],
)
def test_documents_end_at_blank_lines(name: str, raw: bytes, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(raw)
    read: list[int] = []
    found = list(read_documents([file, file], read.append))
    assert found == [["First line here.", "second line"], ["Another document."]] * 2
    assert read == sorted(read)
    assert read[-1] == 2 * len(raw)


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("a.txt", "naïve".encode("latin-1"), "not UTF-8"),
        ("a.xz", b"not compressed at all", "damaged"),
        ("a.xz", lzma.compress(b"text " * 100)[:-20], "damaged"),
        ("a.gz", gzip.compress(b"text " * 100)[:-12], "damaged"),
        ("a.gz", b"plain", "damaged"),
    ],
    ids=["latin-1", "no xz", "half an xz", "half a gz", "no gz"],
)
def test_bad_files_are_named(name: str, raw: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(raw)
    with pytest.raises(PretrainingError, match=said) as raised:
        list(read_documents([file]))
    assert str(file) in str(raised.value)


def test_clean() -> None:
    assert (
        clean("Harrow School () is\u00a0a\tschool （，） in\u200b Shanghai\x07.")
        == "Harrow School is a school in Shanghai."
    )
    assert clean("Cafe\u0301") == "Café"


@pytest.mark.parametrize(
    ("line", "heading"),
    [
        ("Early life.", True),
        ("Professional career statistics.", True),
        ("He died in 1990.", False),
        ("早年生活", True),
        ("他出生在北京，后来到上海读书。", False),
    ],
)
def test_short_lines_are_headings(line: str, heading: bool) -> None:
    assert is_heading(line) == heading


@pytest.mark.parametrize(
    "expected",
    [
        ["He left.", "She stayed!", "Why?", "Nobody knows…", "It ended."],
        ["Dr. Smith met Mr. J. R. Jones of St. Louis.", "They spoke."],
        ["The U.S. Army came in Jan. 1944.", "It won."],
        ["It cost 2.50 dollars, i.e. little.", "1,000 were sold."],
        ['"It is true."', "He left."],
        ["He said: “Go!”", "She went.", "(They all did.)", "Then silence."],
        ["See no. 5, vol. 3, pp. 7.", "That is all."],
        ["今天很好。", "你呢？", "他说：“走吧！”", "Then it ended."],
        ["Founded by Apple Inc.", "It grew."],
        ["no end here"],
    ],
    ids=lambda expected: expected[0],
)
def test_sentences(expected: list[str]) -> None:
    joined = ""
    for before, sentence in zip(["", *expected], expected, strict=False):
        space = " " if before and not (before[-1] in "。？！”" and ord(sentence[0]) > 0x3000) else ""
        joined += space + sentence
    assert sentences(joined) == expected
