"""BERT's WordPiece tokenizer: a thin layer over the ``tokenizers`` library.

Gives the same ids as transformers' ``AutoTokenizer`` for the same folder, or refuses it (``files.tokenizer``). One
exception is meant: a folder of ``vocab.txt`` without settings, as Google released them, keeps capitals where its
vocabulary has them, while transformers lower-cases.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reference.files.tokenizer import ADVICE, Folder, read_folder, write_folder

OTHERS = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "merges.txt",
    "vocab.json",
)  # of SentencePiece, BPE


@dataclass(frozen=True, slots=True)
class Encoding:
    """One sequence as the model reads it: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP]."""

    ids: list[int]
    segments: list[int]  # 0 up to the first [SEP], 1 after it


class Tokenizer:
    """Text to word piece ids."""

    def __init__(self, folder: Folder) -> None:
        self._tokenizer, self._settings = folder.tokenizer, folder.settings
        self._lock = threading.Lock()  # where texts are cut is a setting of the library's tokenizer, not of a call
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.special = folder.special  # tokens by role, such as cls_token
        self.lower_case: bool = folder.settings["do_lower_case"]
        self.case_stated, self.notes = folder.stated, folder.notes  # see ``reference.files.tokenizer.Folder``
        self.max_length: int = folder.settings["model_max_length"] or 512
        self.has_segments = "token_type_ids" in folder.settings["model_input_names"]  # else the model gets none
        self.cls_id, self.sep_id = self._around()
        unknown = self._tokenizer.token_to_id(self._tokenizer.model.unk_token)
        if unknown is None:
            raise ValueError(f"the vocabulary has no {self._tokenizer.model.unk_token}: it is not BERT's")
        self.unk_id: int = unknown

    def _around(self) -> tuple[int, int]:
        """The ids before and after a text."""
        ids = self._tokenizer.encode("").ids
        if len(ids) != 2:
            tokens = self._tokenizer.encode("").tokens
            raise ValueError(f"it puts {tokens} around a text, not one token before and one after it")
        return ids[0], ids[1]

    @classmethod
    def from_folder(cls, folder: Path | str) -> "Tokenizer":
        """Read the folder's tokenizer, from ``tokenizer.json``, else ``vocab.txt``, and the settings beside it.

        Raises FileNotFoundError if the folder has neither file; ValueError, naming the file, if it cannot be used.
        """
        files = [Path(folder) / name for name in ("tokenizer.json", "vocab.txt")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            other = ", ".join(name for name in OTHERS if (Path(folder) / name).is_file())
            instead = f", but {other}: its tokenizer is not BERT's WordPiece; {ADVICE}" if other else ""
            raise FileNotFoundError(f"{folder} has neither tokenizer.json nor vocab.txt{instead}")
        try:
            return cls(read_folder(Path(folder)))
        except Exception as error:  # the library raises nothing more exact
            text = str(error)
            raise ValueError(text if str(folder) in text else f"{file}: not a tokenizer of BERT's: {text}") from error

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Write it as tokenizer.json, tokenizer_config.json and vocab.txt, which all readers read alike.

        ``max_length`` is where transformers and others then cut texts if asked to; None: as in the folder it is from.
        """
        longest = max_length or self.max_length
        write_folder(self._tokenizer, self._settings | {"model_max_length": longest}, folder)

    @property
    def size(self) -> int:
        """One more than the largest id that a text can get: the rows that a model needs."""
        return max(number for token, number in self._tokenizer.get_vocab().items() if token) + 1  # "": a blank line

    @cached_property
    def sha256(self) -> str:
        """Of all that decides which ids a text gets, whatever files it was read from."""
        with self._lock:
            made = [self._tokenizer.to_str(), self._settings.get("truncation_side", "right"), self.has_segments]
        made.append(self._tokenizer.encode_special_tokens)
        return hashlib.sha256(json.dumps(made).encode()).hexdigest()

    def token(self, number: int) -> str:
        """The token of an id."""
        return str(self._tokenizer.id_to_token(number))

    def vocabulary(self) -> dict[str, int]:
        """The ids of all tokens, added ones among them."""
        tokens: dict[str, int] = self._tokenizer.get_vocab()
        return tokens

    @property
    def added(self) -> list[str]:
        """The tokens that are found in a text before it is split."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def encode(self, text: str, pair: str | None = None, max_length: int | None = None) -> Encoding:
        """One text or pair of at most ``max_length`` pieces, by default as many as the folder says.

        Of a pair the longer text is cut, at its end unless the folder says otherwise.
        """
        return self.encode_batch([text], None if pair is None else [pair], max_length)[0]

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int | None = None
    ) -> list[Encoding]:
        """Many texts or pairs at once."""
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        side = self._settings.get("truncation_side", "right")
        with self._lock:
            self._tokenizer.enable_truncation(max_length or self.max_length, strategy="longest_first", direction=side)
            try:
                encodings = self._tokenizer.encode_batch(inputs)
            finally:
                self._tokenizer.no_truncation()
        return [Encoding(e.ids, e.type_ids if self.has_segments else [0] * len(e.ids)) for e in encodings]

    def word_pieces(self, words: Sequence[str]) -> list[list[int]]:
        """The pieces of each word, without [CLS] and [SEP]; a word of nothing visible is one [UNK]."""
        with self._lock:
            encodings = self._tokenizer.encode_batch(list(words), add_special_tokens=False)
        return [encoding.ids or [self.unk_id] for encoding in encodings]
