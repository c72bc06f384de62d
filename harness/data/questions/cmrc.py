"""How the official script of CMRC 2018 compares answers: Chinese by characters, all else by words."""

import re
from difflib import SequenceMatcher

PUNCTUATION = str.maketrans("", "", "-:_*^/\\~`+=，。：？！“”；’《》……·、「」（）－～『』")
CHINESE = re.compile("([\u4e00-\u9fa5])")
# Where NLTK's word_tokenize, which the script calls, divides what is neither Chinese nor left out.
MARKS = re.compile(r"([\[\](){}<>;@#$%&?!\"\u2013\u2014]|,(?!\d)|\.$)")


def without_punctuation(text: str) -> str:
    """In lower case, without the punctuation that does not count; white space within remains."""
    return text.lower().strip().translate(PUNCTUATION)


def segments(text: str) -> list[str]:
    """Each Chinese character, and each word of what is between them."""
    parts = CHINESE.split(without_punctuation(text))
    return [segment for part in parts for segment in MARKS.sub(r" \1 ", part).split()]


def overlap(a: list[str], b: list[str]) -> int:
    """The length of the longest run of segments that both have."""
    return SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size
