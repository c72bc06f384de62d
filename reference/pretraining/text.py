"""Reads text files, and cleans lines and splits them into sentences, in English and Chinese.

A file has one paragraph or sentence in each line, and a blank line between documents, as for Google's script. A file
that ends in .xz or .gz is decompressed while it is read.
"""

import gzip
import io
import lzma
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from reference.errors import PretrainingError

REPORT = 1 << 20  # bytes between two reports
SHORTEST = 4  # words; a line of fewer is taken for a heading
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
CHINESE = re.compile(f"[{CJK}]")
EMPTY = re.compile(r"\s*[(（][\s,;，；]*[)）]")  # parentheses whose content an extractor took out
OPENERS, CLOSERS = "\"'“‘«([", "\"'”’»)\\]"
BORDER = re.compile(
    rf"[.!?…]+[{CLOSERS}]*\s+(?=[{re.escape(OPENERS)}]*[^\W_a-z])"  # before a capital, a digit or another script
    r"|[。！？…]+[”’」』）】》]*"
)
# Words with a period after which a sentence goes on; of the second kind, before a number; of the third, as often not.
TITLES = {"mr", "mrs", "ms", "dr", "prof", "rev", "hon", "gen", "col", "maj", "capt", "cmdr", "lt", "sgt", "gov", "sen"}
OTHERS = {"rep", "st", "mt", "vs", "cf", "ca", "approx", "dept", "univ"}
MONTHS = {"jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"}
ABBREVIATIONS = TITLES | OTHERS
BEFORE_NUMBERS = MONTHS | {"no", "nos", "vol", "vols", "p", "pp", "fig", "figs", "ed", "ft", "art", "sec", "ch"}
INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")  # J, U.S, e.g


def read_documents(files: Sequence[Path], report: Callable[[int], None] = lambda done: None) -> Iterator[list[str]]:
    """The non-empty lines of each document. A document ends at a blank line and at the end of its file.

    ``report`` gets the bytes read so far, as they are on the disk. Raises PretrainingError for a file that is not
    UTF-8 text, and for a damaged compressed one.
    """
    before = 0
    for file in files:
        try:
            with file.open("rb") as raw:
                yield from _documents_of(raw, file, lambda done, start=before: report(start + done))  # type: ignore[misc]
        except UnicodeDecodeError as error:
            raise PretrainingError(f"{file} is not UTF-8 text ({error}); convert it, for instance with iconv") from None
        except (lzma.LZMAError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise PretrainingError(f"{file} is damaged or not what its name says ({error}); get it again") from None
        before += file.stat().st_size


def _documents_of(raw: IO[bytes], file: Path, report: Callable[[int], None]) -> Iterator[list[str]]:
    lines: list[str] = []
    reported = 0
    opened = _opened(raw, file)
    for line in opened:
        if line := line.strip():
            lines.append(line)
            continue
        if lines:
            yield lines
            lines = []
        if raw.tell() >= reported + REPORT:
            reported = raw.tell()
            report(reported)
    if lines:
        yield lines
    report(raw.tell())


def _opened(raw: IO[bytes], file: Path) -> IO[str]:
    binary: Any = raw
    if file.suffix == ".xz":
        binary = lzma.open(raw)  # noqa: SIM115 - closed with the file below it
    elif file.suffix == ".gz":
        binary = gzip.open(raw)  # noqa: SIM115
    return io.TextIOWrapper(binary, encoding="utf-8-sig")


def clean(line: str) -> str:
    """The line in Unicode's composed form, without control characters, empty parentheses and repeated spaces."""
    line = unicodedata.normalize("NFC", line)
    if not line.isprintable():
        line = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in line)
    return " ".join(EMPTY.sub("", line).split())


def is_heading(line: str) -> bool:
    """Whether the line is too short for a sentence. Two Chinese characters count as one word."""
    chinese = len(CHINESE.findall(line))
    return len(CHINESE.sub(" ", line).split() if chinese else line.split()) + chinese / 2 < SHORTEST


def sentences(paragraph: str) -> list[str]:
    """Split at sentence ends; what is doubtful, such as after an abbreviation, stays together."""
    found, start = [], 0
    for border in BORDER.finditer(paragraph):
        if border[0][0] == "." and _goes_on(paragraph[start : border.start()], border[0], paragraph[border.end() :]):
            continue
        found.append(paragraph[start : border.end()].strip())
        start = border.end()
    found.append(paragraph[start:].strip())
    return [sentence for sentence in found if sentence]


def _goes_on(before: str, period: str, after: str) -> bool:
    """Whether a sentence goes on after this period, which ends an abbreviation or initials."""
    if period.rstrip() != ".":  # two of them, or a closing quote
        return False
    last = re.split(rf"[\s{re.escape(OPENERS)}]", before)[-1]
    if INITIALS.fullmatch(last):
        return True
    word = last.lower()
    return word in ABBREVIATIONS or (word in BEFORE_NUMBERS and after[:1].isdigit())
