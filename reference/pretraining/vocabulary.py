"""Trains a WordPiece vocabulary, with Google's ids: [PAD] 0, [UNK] 100, [CLS] 101, [SEP] 102, [MASK] 103.

The ids from 1 to 99 are unused, as in Google's files: some readers of BERT have the numbers of the special tokens in
their code. The ``tokenizers`` library chooses pieces by their frequency, as in byte-pair encoding; Google's own trainer
was never published.
"""

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from reference.errors import PretrainingError
from reference.files.tokenizer import DEFAULTS, INPUTS, write_folder
from reference.pretraining.text import clean

FIRST = ("[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN = "[UNK]"
COVERED = 0.9999  # share of the characters of a text whose kinds get a piece; the others become [UNK]
ROWS = 1000  # lines that are normalised at a time
LARGEST = 1 << 20


def train_vocabulary(documents: Iterable[list[str]], size: int, cased: bool = False) -> Tokenizer:
    """A tokenizer whose vocabulary has at most ``size`` pieces; the same text always gives the same.

    Lines are not split into sentences: pieces do not depend on it. Raises PretrainingError if the text is too small,
    or the size too small for its characters.
    """
    if not len(FIRST) < size <= LARGEST:
        raise PretrainingError(
            f"a vocabulary of {size} is not possible: give a size from {len(FIRST) + 1} to {LARGEST}"
        )
    tokenizer, normalizer = _empty(cased), _normalizer(cased)
    lines = [line for document in documents for line in map(clean, document) if line]
    alphabet, rare = _alphabet(normalizer, lines)
    if not alphabet:
        raise PretrainingError("the text is empty: a vocabulary needs text to learn from")
    characters = alphabet + _continuations(normalizer, lines, rare)
    if (least := len(FIRST) + len(characters)) > size:
        raise PretrainingError(
            f"a vocabulary of {size} is too small for the {len(alphabet)} characters of this text, which also occur "
            f"within words; give {least} or more"
        )
    # The library numbers characters, and cuts a large alphabet, in the order of a hash table, which changes from run to
    # run, and it breaks ties by number. So they are given as special tokens, which it numbers in the order given.
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*FIRST, *characters],
        limit_alphabet=1 << 30,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_without(normalizer, lines, rare), trainer, length=len(lines))
    return _finished(tokenizer, cased)


def save_vocabulary(tokenizer: Tokenizer, folder: Path) -> None:
    """Write vocab.txt, tokenizer.json and tokenizer_config.json."""
    normalizer = tokenizer.normalizer
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer.lowercase,
        "strip_accents": normalizer.strip_accents,
        "tokenize_chinese_chars": normalizer.handle_chinese_chars,
        "model_max_length": 512,
        "model_input_names": INPUTS,
        **DEFAULTS,
    }
    write_folder(tokenizer, settings, folder)


def _empty(cased: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = _normalizer(cased)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _normalizer(cased: bool) -> Any:
    """BERT's. One that a tokenizer has is locked while it trains, so the lines that it trains on need another."""
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=not cased
    )


def _alphabet(normalizer: Any, lines: list[str]) -> tuple[list[str], str]:
    """The commonest characters, which cover nearly all of the text; and the others, as one string."""
    counts: Counter[str] = Counter()
    for rows in _rows(lines):
        counts.update(normalizer.normalize_str("\n".join(rows)))
    for white in [each for each in counts if each.isspace()]:
        del counts[white]
    total, covered, kept = counts.total(), 0, []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if covered >= COVERED * total:
            break
        kept.append(character)
        covered += count
    return sorted(kept), "".join(sorted(counts.keys() - set(kept)))


def _continuations(normalizer: Any, lines: list[str], rare: str) -> list[str]:
    """Those characters, with ##, that occur within words, as BERT's pre-tokenizer splits them."""
    found: set[tuple[str, str]] = set()
    for text in _without(normalizer, lines, rare):
        found.update(pairwise(text))
    inside = {after for before, after in found if not (_ends_word(before) or _ends_word(after))}
    return [f"##{character}" for character in sorted(inside)]


def _ends_word(character: str) -> bool:
    return character.isspace() or character in string.punctuation or unicodedata.category(character)[0] == "P"


def _without(normalizer: Any, lines: list[str], rare: str) -> Iterator[str]:
    """The normalised lines with spaces for rare characters."""
    spaces = str.maketrans(dict.fromkeys(rare, " "))
    for rows in _rows(lines):
        yield normalizer.normalize_str("\n".join(rows)).translate(spaces)


def _rows(lines: list[str]) -> Iterator[list[str]]:
    return (lines[start : start + ROWS] for start in range(0, len(lines), ROWS))


def _finished(tokenizer: Tokenizer, cased: bool) -> Tokenizer:
    """A tokenizer with the trained pieces, in their ids' order, and BERT's special tokens around a text."""
    whole = _empty(cased)
    pieces = tokenizer.get_vocab(with_added_tokens=False)
    whole.model = models.WordPiece(pieces, unk_token=UNKNOWN, max_input_chars_per_word=100)
    whole.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in DEFAULTS.values()])
    whole.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(token, whole.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return whole
