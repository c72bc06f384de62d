"""What an entry says without evidence: sources that name no place, claims of rank without a date, wrong terms.

Each function judges one text and returns what is wrong with it, or None.
"""

import functools
import re

from catalog.values import vocabulary

FORMS = "owner/name@commit path:line, an address, a DOI, an arXiv id with section, table or abstract, PyPI name version"

_PLACE = re.compile(
    r"""
    \b[\w.-]+/[\w.-]+@[0-9a-f]{7,40}\b                              # a repository at a commit
  | https?://\w                                                     # an address
  | \b10\.\d{4,9}/\S                                                # a DOI
  | \barXiv\ ?:?\ ?\d{4}\.\d{4,5}\b.*\b(?:section|table|figure|appendix|abstract|footnote|page)s?\b
  | \bPyPI\ [\w.-]+\ \d                                             # a package's release
  | ^(?:catalog|docs|harness|reference|results)/[\w./-]+\.\w+       # a file of this repository
  | ^(?:README\.md|LICENSE)\b
    """,
    re.VERBOSE | re.IGNORECASE,
)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_RANK = {
    "en": re.compile(
        r"\b(?:state[- ]of[- ]the[- ]art|de facto|well[- ]known|widely (?:used|cited|linked|adopted)|yardstick"
        r"|(?:the|one of the|among the) (?:most|best)[- ](?:\w+ )?(?:used|cited|popular|known|common|downloaded)"
        r"|(?:strongest|fastest|largest|smallest|greatest) (?:\S+ ){0,2}(?:today|available|known)|one of the strongest"
        r"|became (?:\w+ ){0,2}(?:standard|default|popular|usual)"
        r"|(?:the|a) (?:usual|standard|default|classic) (?:\w+ ){0,2}"
        r"(?:baseline|benchmark|encoder|base|test|optimizer|start|starting point|input layer)"
        r"|remains? the)\b",
        re.IGNORECASE,
    ),
    "zh": re.compile(
        "最(?:常用|流行|知名|著名|受欢迎|强大?的|先进)|使用最[广多]|引用最多|广泛(?:使用|采用|引用|应用)|公认|业界领先|至今仍"
        "|标准(?:做法|参照|基线|选择)|(?:首选|默认)(?:模型|编码器|选择|基线)|常用的?(?:基线|起点|底座|参照|标尺|基准|对照)|经典测试"
    ),
}
_RANK_WORDS = {  # one of them is in whatever _RANK finds
    "en": (
        *("state", "de facto", "well", "widely", "yardstick", "most", "best", "est ", "strongest", "became"),
        *("usual", "standard", "default", "classic", "remain"),
    ),
    "zh": ("最", "广泛", "公认", "业界", "至今", "标准", "首选", "默认", "常用", "经典"),
}


def names_a_place(source: str) -> bool:
    """Whether a reader can follow ``source`` to where the fact was seen.

    >>> names_a_place("google-research/bert@eedf571 README.md:76-116"), names_a_place("public files (authors)")
    (True, False)
    """
    return bool(_PLACE.search(source))


def undated_rank(text: str, language: str) -> str | None:
    """The words with which a sentence of ``text`` claims a rank or common use without saying in which year.

    >>> undated_rank("Widely used today.", "en"), undated_rank("Widely used in 2021.", "en")
    ('Widely used', None)
    """
    lower = text.lower()
    if not any(word in lower for word in _RANK_WORDS[language]):  # most texts have none, and this is faster
        return None
    for sentence in re.split(r"(?<=[.;:!?])\s|(?<=[。；：！？])", text):
        found = _RANK[language].search(sentence)
        if found and not _YEAR.search(sentence):
            return found[0]
    return None


_TIMES = re.compile(r"(?:快|慢|小|少|低|短|降|减)[^，。；、：）]{0,4}?\d[\d.,]*\s*多?\s*倍")


def ambiguous_times(text: str) -> str | None:
    """Chinese words that some read as "N times as fast" and others as "faster by N times", or that say "N times less".

    >>> ambiguous_times("推理快 3 倍"), ambiguous_times("速度是 BERT 的 3 倍")
    ('快 3 倍', None)
    """
    found = _TIMES.search(text)
    return found[0] if found else None


_ANTHOLOGY = re.compile(
    r"(?:10\.18653/v1/|aclanthology\.org/)"
    r"(?:20\d\d\.(findings-)?([a-z]+)[-.]|([A-Z])\d\d-[0-4]\d{3})",  # older numbers from 5000 on are workshops
    re.IGNORECASE,
)
_MEETINGS = {"acl": "ACL", "naacl": "NAACL", "eacl": "EACL", "aacl": "AACL", "emnlp": "EMNLP", "coling": "COLING"}
_MEETINGS |= {"p": "ACL", "n": "NAACL", "e": "EACL", "d": "EMNLP", "k": "CoNLL", "q": "TACL", "c": "COLING"}


def meeting_of(address: str) -> str | None:
    """The meeting that an address or DOI of the ACL Anthology names; None for workshops and other addresses.

    >>> meeting_of("10.18653/v1/2021.naacl-main.41"), meeting_of("10.18653/v1/P19-1439")
    ('NAACL', 'ACL')
    """
    found = _ANTHOLOGY.search(address)
    if not found:
        return None
    meeting = _MEETINGS.get((found[2] or found[3]).lower())
    return f"Findings of {meeting}" if meeting and found[1] else meeting


def wrong_term(text: str) -> tuple[str, str] | None:
    """A Chinese word that the glossary replaces, and the right one: ``("词片", "词元")``."""
    any_wrong, terms = _glossary()
    if not any_wrong.search(text):
        return None
    return next((found[0], right) for pattern, right in terms if (found := pattern.search(text)))


@functools.cache
def _glossary() -> tuple[re.Pattern[str], list[tuple[re.Pattern[str], str]]]:
    """One pattern for all words that are not used, and for each term its own pattern and the word that is used."""
    terms = [(term["not"], term["zh"]) for term in vocabulary()["terms"].values()]
    return re.compile("|".join(wrong for wrong, _ in terms)), [(re.compile(wrong), right) for wrong, right in terms]
