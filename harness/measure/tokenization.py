"""Our tokenizer of a folder against transformers', and against those that implementations ship, on hard strings."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.files import cache_folder, sha256_of
from harness.measure.client import ROOT, Worker
from reference.files.vocabulary import read_json
from reference.tokenizer import Tokenizer

LONGEST = 512  # word pieces; no string below has as many
STRINGS = {
    "plain words": "The ferry left at nine.",
    "punctuation": "Wait... what?! (really) [no] {yes} 50%/50%",
    "apostrophes": "don't, it's, O'Brien's 'quoted'",
    "underscores and signs": "snake_case ~tilde^caret`tick $5 €5 #tag @you",
    "numbers": "3.14159 1,000,000 1e-5 2018-10-11",
    "accents": "Café in Zürich, naïve façade",
    "combining accents": "Cafe\u0301 nai\u0308ve",
    "capitals that change": "İstanbul Iğdır Straße ΣΊΣΥΦΟΣ",
    "ligatures and full width": "ﬁne ﬂow ＢＥＲＴ １２３",
    "Chinese": "她在图书馆里等了一个小时。",
    "Chinese with Latin": "我用BERT做NER任务，2018年",
    "rare Chinese characters": "𠮷野家 㐀 龘",
    "Japanese": "東京タワーへ行きました。",
    "Korean": "한국어 형태소 분석",
    "Arabic and Hindi": "مرحبا بالعالم नमस्ते दुनिया",
    "emoji": "great 👍🏽 job 👩‍👩‍👧",
    "mathematics": "∑ x² ≤ ∞ √2 → ½",
    "control characters": "a\x00b\x07c\ufffdd",
    "tabs and line ends": "one\ttwo\nthree\r\nfour\u2028five",
    "odd spaces": "a\u00a0b\u2003c\u3000d",
    "invisible characters": "zero\u200bwidth\u200djoin\ufeff\u00adsoft",
    "a word of 100 characters": "a" * 100,
    "a word of 101 characters": "a" * 101,
    "special tokens": "[CLS] hello [MASK] world [SEP] [UNK]",
    "nothing": "",
    "only spaces": "   ",
}


CHECKED = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
CODE = (
    "harness/measure/tokenization.py",
    "reference/tokenizer.py",
    "reference/files/tokenizer.py",
    "reference/files/vocabulary.py",
)
SHORT = 12  # word pieces at which the strings are cut too


def check_folder(folder: Path, tokenizer: Tokenizer, keep: bool = True) -> None:
    """BadInput unless our tokenizer gives what transformers' ``AutoTokenizer`` gives for the same folder.

    That it did is kept by the hash of the files, unless ``keep`` is false. Where neither settings nor tokenizer.json
    say whether to lower-case, transformers is given what ours does (``reference.files.vocabulary.case_of``).
    """
    verdict = cache_folder() / "tokenizers" / _fingerprint(folder)
    if verdict.is_file():
        return
    if difference := _difference(folder, tokenizer):
        files = ", ".join(name for name in (*CHECKED, "config.json") if (folder / name).is_file())
        raise BadInput(
            f"{folder}: transformers reads its tokenizer ({files}) otherwise than we do: {difference}. Write it again "
            f"with AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained(...), and use that folder"
        )
    if keep:
        with suppress(OSError):  # it is looked at again next time
            verdict.parent.mkdir(parents=True, exist_ok=True)
            verdict.touch()


def _fingerprint(folder: Path) -> str:
    """Of all that the comparison depends on: the folder's files and name, our code, the libraries."""
    files = [folder / name for name in (*CHECKED, "config.json")] + [ROOT / name for name in CODE]
    parts = [folder.resolve().name, version("transformers"), version("tokenizers")]
    parts += [f"{file.name} {sha256_of(file)}" for file in files if file.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _difference(folder: Path, ours: Tokenizer) -> str:
    """What differs first between our tokenizer and that of transformers, in words; "" if nothing does."""
    try:
        with _quiet():
            theirs = _of_transformers(folder, ours)
            lacking = {theirs.pad_token, theirs.mask_token} - ours.vocabulary().keys()  # see ``files.tokenizer._add``
            texts = [text for text in _texts(ours) if not any(token and token in text for token in lacking)]
            return _of_ids(theirs, ours, lacking) or _of_texts(theirs, ours, texts) or _of_words(theirs, ours, texts)
    except Exception as error:  # of many kinds: it reads what it finds
        return f"there it cannot be read ({type(error).__name__}: {str(error).strip().splitlines()[0]})"


def _of_ids(theirs: Any, ours: Tokenizer, lacking: set[str | None]) -> str:
    numbers = {token: number for token, number in theirs.get_vocab().items() if token not in lacking}
    different = dict(numbers.items() ^ ours.vocabulary().items())
    if not different:
        return ""
    token = min(different)
    return f"{token!r} has the id {numbers.get(token)} there, and {ours.vocabulary().get(token)} here"


def _of_texts(theirs: Any, ours: Tokenizer, texts: list[str]) -> str:
    pairs: list[tuple[str, str | None]] = [*((text, None) for text in texts), *pairwise(texts)]
    for length, (text, pair) in product((LONGEST, SHORT), pairs):
        cut = {"truncation": "longest_first", "max_length": length, "return_token_type_ids": True}
        encoded = theirs([text], None if pair is None else [pair], **cut)
        ids, segments = encoded["input_ids"][0], encoded["token_type_ids"][0]
        own, what = ours.encode(text, pair, length), text if pair is None else (text, pair)
        if own.ids != ids:
            return f"{what!r} is {_tokens(ours, ids)} there, and {_tokens(ours, own.ids)} here"
        if ours.has_segments and own.segments != segments:
            return f"of {what!r} the segments are {segments} there, and {own.segments} here"
    return ""


def _of_words(theirs: Any, ours: Tokenizer, texts: list[str]) -> str:
    words = [word for text in texts for word in text.split()]
    for word, pieces in zip(words, ours.word_pieces(words), strict=True):
        expected = theirs([word], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        if pieces != (expected or [ours.unk_id]):
            return f"the word {word!r} is {_tokens(ours, expected)} there, and {_tokens(ours, pieces)} here"
    return ""


def _of_transformers(folder: Path, ours: Tokenizer) -> Any:
    """The folder's tokenizer in transformers. No code of the folder's own is run, and nothing fetched."""
    import transformers

    said = read_json(folder / "config.json").get("tokenizer_class")
    own: dict[str, Any] = {} if ours.case_stated else {"do_lower_case": ours.lower_case}
    return transformers.AutoTokenizer.from_pretrained(
        folder,
        config=transformers.BertConfig(tokenizer_class=said),  # of models, BERT alone is measured
        trust_remote_code=False,
        local_files_only=True,
        **own,
    )


def _texts(tokenizer: Tokenizer) -> list[str]:
    """The strings above, and the folder's added tokens among words."""
    added = [token for token in tokenizer.added if token.strip()][:100]
    return [*STRINGS.values(), *(f"The {token} end{token}s, {token.upper()} {token.lower()}." for token in added)]


def _tokens(tokenizer: Tokenizer, ids: list[int]) -> str:
    return " ".join(map(tokenizer.token, ids))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of transformers, which are not about what is compared."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def compare(worker: Worker, tokenizer: Any) -> dict[str, Any]:
    """How many of the strings get the same word pieces as from our tokenizer, and which do not; empty: it ships none.

    The worker must have loaded weights, whose vocabulary is used.
    """
    theirs = worker.tokenize(list(STRINGS.values()))
    if theirs is None:
        return {}
    ours = [tokenizer.encode(text, None, max_length=LONGEST).ids for text in STRINGS.values()]
    different = [name for name, ids, own in zip(STRINGS, theirs, ours, strict=True) if ids != own]
    return {"strings": len(STRINGS), "equal": len(STRINGS) - len(different), "different": different}
