"""The types of an entry's fields, and the messages for values that do not fit."""

import datetime
import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from pydantic import AfterValidator, BeforeValidator, Field

from catalog import addresses, identifiers
from catalog.characters import wrong_character
from catalog.errors import BadInput

VOCABULARY = Path(__file__).with_name("vocabulary.yaml")

_CHINESE = re.compile(r"[\u3400-\u9fff]")
_WIDE = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uff64]"  # Chinese characters and their punctuation
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_SEED = r"^[123]\.\d{1,2}[ab]?$"


FAMILY = ("member", "about", "neutral")  # what a tag can say of the family tree of BERT
FACETS = ("task", "framework")  # where a tag that is no subject is found on the catalog's page


@functools.cache
def vocabulary() -> dict[str, dict[str, dict[str, str]]]:
    """The controlled words: ``vocabulary()["tags"]["ner"]["zh"]`` is the Chinese name of a tag.

    The other groups are "languages", "deviations" of implementations, "metrics", and "terms" (the glossary). BadInput
    where a word lacks a name, or a tag does not say what it means for the family tree.
    """
    return read_vocabulary(VOCABULARY)


def read_vocabulary(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """As ``vocabulary``, from any file."""
    with path.open(encoding="utf-8") as file:
        found: dict[str, dict[str, dict[str, str]]] = yaml.load(file, yaml.CSafeLoader)
    for group, words in found.items():
        for word, about in words.items():
            if lacking := [language for language in ("en", "zh") if not about.get(language)]:
                raise BadInput(f"{path.name}: {group}: {word}: has no name in {' and '.join(lacking)}")
            if group == "tags" and about.get("family") not in FAMILY:
                raise BadInput(f"{path.name}: tags: {word}: add `family:` with one of {', '.join(FAMILY)}")
            if group == "tags" and about.get("facet", FACETS[0]) not in FACETS:
                raise BadInput(f"{path.name}: tags: {word}: `facet:` is one of {', '.join(FACETS)}")
    return found


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint `` - did you mean 'x'?`` with the most similar of the ``known`` words; empty if none is similar."""
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f" - did you mean {lower[near[0]]!r}?" if near else ""


# --- checks of single values; each raises ValueError with a message -----------------------------------------------


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty; write a value, or leave the line out")
    if wrong := wrong_character(value):
        raise ValueError(wrong[1])
    return value


def _line(value: str) -> str:
    if "\n" in value:
        raise ValueError("has more than one line; write it on one")
    return value


def _chinese(value: str) -> str:
    if not _CHINESE.search(value):
        raise ValueError("is not in Chinese")
    if gap := re.search(f"{_WIDE} +{_WIDE}", value):
        raise ValueError(f"has a space between Chinese characters ({gap[0]!r}), perhaps from a folded line")
    return value


def _english(value: str) -> str:
    if len(_CHINESE.findall(value)) > len(re.findall("[A-Za-z]", value)):
        raise ValueError("is in Chinese - did you mean 'summary_zh'?")
    return value


def _author(value: str) -> str:
    if re.search(r"\bet\.? ?al\b|\band others\b|等人?$", value, re.IGNORECASE):
        raise ValueError(f"{value!r} is not an author; list the names that are known and write `and_others: true`")
    if re.search("[;；，、]", value):
        raise ValueError(f"{value!r} is several authors; write a list of one name each, with `, ` between them")
    if re.fullmatch(r"(?:[A-Z]\.[ -]?)+|[A-Z]|(?:Jr|Sr|Ltd|Inc|Ph\.?D|I{2,3})\.?", value):
        raise ValueError(f"{value!r} is part of a name: a comma between [ and ] ends it; write 'Ann B. Lee', or quotes")
    return value


def _identifier(value: str) -> str:
    if not re.fullmatch(identifiers.ENTRY_ID, value):
        slug = "-".join(re.findall("[a-z0-9]+", value.lower()))
        raise ValueError(f"{value!r} is not an id (lower case, digits, single hyphens) - did you mean {slug!r}?")
    return value


def _arxiv(value: str) -> str:
    if not re.match(identifiers.ARXIV, value):
        meant = identifiers.arxiv_id(value)
        hint = f"- did you mean {meant!r}?" if meant else "(such as 1810.04805 or cs/9901001)"
        raise ValueError(f"{value!r} is not an arXiv id {hint}")
    return value


def _doi(value: str) -> str:
    meant = identifiers.doi_as_written(value)
    if meant is None or (meant != value and "%25" not in value):
        hint = f"- did you mean {meant!r}?" if meant else "(such as 10.18653/v1/N19-1423)"
        raise ValueError(f"{value!r} is not a DOI {hint}")
    if arxiv := identifiers.arxiv_id(value):
        raise ValueError(f"{value!r} is arXiv's DOI - did you mean `arxiv: {arxiv!r}`?")
    return value


def _address(value: str) -> str:
    if wrong := addresses.wrong_address(value):
        raise ValueError(wrong)
    return value


def _tag(value: str) -> str:
    if value not in vocabulary()["tags"]:
        raise ValueError(f"{value!r} is not in vocabulary.yaml{nearest(value, vocabulary()['tags'])}")
    return value


def _language(value: str) -> str:
    languages = vocabulary()["languages"]
    if value not in languages:
        names = {names["en"].lower(): code for code, names in languages.items()}
        code = names.get(value.lower()) or (value.lower()[:2] if value.lower()[:2] in languages else None)
        hint = f" - did you mean {code!r}?" if code else " (ISO 639-1 codes, or multilingual)"
        raise ValueError(f"{value!r} is not a language of vocabulary.yaml{hint}")
    return value


@functools.cache
def _spdx(value: str) -> str | None:
    try:
        return str(canonicalize_license_expression(value))
    except InvalidLicenseExpression:
        return None


def _license(value: str) -> str:
    right = _spdx(value)
    if value == "none-found" or right == value:
        return value
    right = right or _spdx(re.sub(r"\s+", "-", value))
    hint = f"- did you mean {right!r}?" if right else "(see spdx.org/licenses; `none-found` if there is none)"
    raise ValueError(f"{value!r} is not an SPDX licence {hint}")


def _year(value: Any) -> Any:
    """The year as a number: all YAML scalars are read as text; years, counts and `and_others` alone are not text."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{4}", value):
        return int(value)
    if isinstance(value, str):
        raise ValueError(f"{value!r} is not a year of four digits")
    return value


def _count(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,12}", value):
        return int(value)
    if isinstance(value, str):
        raise ValueError(f"{value!r} is not a whole number in digits, such as 110000000")
    return value


def _true(value: Any) -> Any:
    if value not in ("true", True):
        raise ValueError(f"{value!r} is not `true`; leave the line out if all authors are listed")
    return True


def _seed_item(value: str) -> str:
    if not re.match(_SEED, value):
        raise ValueError(f"{value!r} is not an item of the 2018 list; write section.number, such as '3.1'")
    return value


def _date(value: str) -> str:
    if not re.match(_DATE, value):
        raise ValueError(f"{value!r} is not a date of the form 2018-10-11")
    datetime.date.fromisoformat(value)  # its ValueError says which part is out of range
    return value


def _no_repeats(values: list[str]) -> list[str]:
    twice = {value for value in values if values.count(value) > 1} if len(set(values)) < len(values) else ()
    if twice:
        raise ValueError(f"{', '.join(map(repr, sorted(twice)))} is in the list twice")
    return values


# --- the types of the fields ------------------------------------------------------------------------------------------


def _shown(pattern: str, **more: str) -> Any:
    """A pattern for the JSON Schema alone; here a validator reports the problem in words."""
    return Field(json_schema_extra={"pattern": pattern, **more})


T = TypeVar("T")
Text = Annotated[str, AfterValidator(_text)]
Line = Annotated[Text, Field(max_length=300), AfterValidator(_line)]
Chinese = Annotated[Line, AfterValidator(_chinese)]
Id = Annotated[Line, AfterValidator(_identifier), _shown(identifiers.ENTRY_ID)]
Author = Annotated[Line, AfterValidator(_author)]
Arxiv = Annotated[Line, AfterValidator(_arxiv), _shown(identifiers.ARXIV)]
Doi = Annotated[Line, AfterValidator(_doi), _shown(identifiers.DOI)]
Address = Annotated[
    Text, Field(max_length=2000), AfterValidator(_line), AfterValidator(_address), _shown(addresses.ADDRESS)
]
Tag = Annotated[Line, AfterValidator(_tag)]
Language = Annotated[Line, AfterValidator(_language)]
License = Annotated[Line, AfterValidator(_license)]
SeedItem = Annotated[Line, AfterValidator(_seed_item), _shown(_SEED)]
Year = Annotated[int, Field(ge=1950, le=2100), BeforeValidator(_year)]
Count = Annotated[int, BeforeValidator(_count)]
Date = Annotated[Line, AfterValidator(_date), _shown(_DATE, format="date")]
SummaryEnglish = Annotated[Text, Field(max_length=1000), AfterValidator(_line), AfterValidator(_english)]
SummaryChinese = Annotated[Text, Field(max_length=500), AfterValidator(_line), AfterValidator(_chinese)]
True_ = Annotated[bool, BeforeValidator(_true), Field(json_schema_extra={"const": True})]
Unique = Annotated[list[T], Field(min_length=1), AfterValidator(_no_repeats)]
