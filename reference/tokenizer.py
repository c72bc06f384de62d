"""BERT's WordPiece tokenizer: a thin layer over the ``tokenizers`` library.

Gives the same ids as ``transformers`` for the same folder.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from tokenizers import Tokenizer as FastTokenizer


@dataclass(frozen=True, slots=True)
class Encoding:
    """One sequence as the model reads it: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP]."""

    ids: list[int]
    segments: list[int]  # 0 up to the first [SEP], 1 after it


class Tokenizer:
    """Text to word piece ids."""

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # where texts are cut is a setting of the library's tokenizer, not of a call
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.cls_id, self.sep_id, self.unk_id = map(self._special, ("[CLS]", "[SEP]", "[UNK]"))

    def _special(self, token: str) -> int:
        number: int | None = self._tokenizer.token_to_id(token)
        if number is None:
            raise ValueError(f"the vocabulary has no {token}: it is not BERT's")
        return number

    @classmethod
    def from_folder(cls, folder: Path | str) -> "Tokenizer":
        """Read ``tokenizer.json``, else ``vocab.txt``.

        Raises FileNotFoundError if the folder has neither file; ValueError, naming the file, if it cannot be used.
        """
        files = [Path(folder) / name for name in ("tokenizer.json", "vocab.txt")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"{folder} has neither tokenizer.json nor vocab.txt")
        try:
            return cls(_from_vocabulary(file) if file.name == "vocab.txt" else FastTokenizer.from_file(str(file)))
        except Exception as error:  # the library raises nothing more exact
            raise ValueError(f"{file}: not a tokenizer of BERT's: {error}") from error

    def encode(self, text: str, pair: str | None = None, max_length: int = 512) -> Encoding:
        """One text or pair; the longer text loses its end first where both exceed ``max_length`` pieces."""
        return self.encode_batch([text], None if pair is None else [pair], max_length)[0]

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int = 512
    ) -> list[Encoding]:
        """Many texts or pairs at once."""
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        with self._lock:
            self._tokenizer.enable_truncation(max_length, strategy="longest_first")
            try:
                return [Encoding(e.ids, e.type_ids) for e in self._tokenizer.encode_batch(inputs)]
            finally:
                self._tokenizer.no_truncation()

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that decides which ids a text gets: vocabulary, normalisation, added and special tokens."""
        with self._lock:
            return hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()

    def word_pieces(self, words: Sequence[str]) -> list[list[int]]:
        """The pieces of each word, without [CLS] and [SEP]; a word of nothing visible is one [UNK]."""
        with self._lock:
            encodings = self._tokenizer.encode_batch(list(words), add_special_tokens=False)
        return [encoding.ids or [self.unk_id] for encoding in encodings]


def _from_vocabulary(vocabulary: Path) -> FastTokenizer:
    """Lower-cased or not as ``tokenizer_config.json`` says.

    Without it (Google's folders have none) the vocabulary itself tells: a cased one has words with capitals.
    """
    settings = vocabulary.with_name("tokenizer_config.json")
    said = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    lowercase = said.get("do_lower_case")
    wordpiece = BertWordPieceTokenizer(
        str(vocabulary),
        lowercase=not _has_capitals(vocabulary) if lowercase is None else lowercase,
        strip_accents=said.get("strip_accents"),
        handle_chinese_chars=said.get("tokenize_chinese_chars", True),
    )
    return wordpiece._tokenizer


def _has_capitals(vocabulary: Path) -> bool:
    """Whether any entry but the bracketed ones, such as [CLS], has a capital letter."""
    with vocabulary.open(encoding="utf-8") as lines:
        return any(line != line.lower() for line in lines if not line.startswith("["))
