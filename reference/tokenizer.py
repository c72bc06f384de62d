"""BERT's WordPiece tokenizer: a thin layer over the ``tokenizers`` library.

It gives the same ids as transformers' ``AutoTokenizer`` for the same folder, or rejects the folder
(``reference.files.tokenizer``). One exception is intended: for a folder with ``vocab.txt`` and no settings, as Google
released them, it keeps capitals if the vocabulary has them, whereas transformers lower-cases.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reference.files.tokenizer import ADVICE, Folder, read_folder, write_folder

OTHERS = (  # files of SentencePiece and BPE
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "merges.txt",
    "vocab.json",
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The model's input for one sequence: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP]."""

    ids: list[int]
    segments: list[int]  # 0 up to the first [SEP], 1 after it


@dataclass(frozen=True, slots=True)
class Pieces:
    """The word pieces of a text, without [CLS] and [SEP], and where in the text each is."""

    ids: list[int]
    starts: list[int]  # the first character of each
    ends: list[int]  # one past its last


class Tokenizer:
    """Converts texts to word piece ids."""

    def __init__(self, folder: Folder) -> None:
        self._tokenizer, self._settings = folder.tokenizer, folder.settings
        self._lock = threading.Lock()  # truncation is a setting of the library's tokenizer, not an argument
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.special = folder.special  # special tokens by role, such as cls_token
        self.lower_case: bool = folder.settings["do_lower_case"]
        self.case_stated, self.notes = folder.stated, folder.notes  # see ``Folder``
        self.max_length: int = folder.settings["model_max_length"] or 512
        self.has_segments = "token_type_ids" in folder.settings["model_input_names"]  # else all segments are 0
        self.cls_id, self.sep_id = self._around()
        unknown = self._tokenizer.token_to_id(self._tokenizer.model.unk_token)
        if unknown is None:
            raise ValueError(f"the vocabulary has no {self._tokenizer.model.unk_token}: it is not BERT's")
        self.unk_id: int = unknown
        mask = folder.special.get("mask_token")
        self.mask_id: int | None = None if mask is None else self._tokenizer.token_to_id(mask)

    def _around(self) -> tuple[int, int]:
        """The ids of the tokens before and after a text: [CLS] and [SEP]."""
        ids = self._tokenizer.encode("").ids
        if len(ids) != 2:
            tokens = self._tokenizer.encode("").tokens
            raise ValueError(f"it puts {tokens} around a text, not one token before and one after it")
        return ids[0], ids[1]

    @classmethod
    def from_folder(cls, folder: Path | str) -> "Tokenizer":
        """Read a folder's tokenizer: ``tokenizer.json``, else ``vocab.txt``, and the settings beside it.

        Raises FileNotFoundError if there is neither file, and ValueError, which names the file, if it is unusable.
        """
        files = [Path(folder) / name for name in ("tokenizer.json", "vocab.txt")]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            other = ", ".join(name for name in OTHERS if (Path(folder) / name).is_file())
            instead = f", but {other}: its tokenizer is not BERT's WordPiece; {ADVICE}" if other else ""
            raise FileNotFoundError(f"{folder} has neither tokenizer.json nor vocab.txt{instead}")
        try:
            return cls(read_folder(Path(folder)))
        except Exception as error:  # the library raises no more specific class
            text = str(error)
            raise ValueError(text if str(folder) in text else f"{file}: not a tokenizer of BERT's: {text}") from error

    def save(self, folder: Path, max_length: int | None = None) -> None:
        """Write tokenizer.json, tokenizer_config.json and vocab.txt, which all libraries read alike.

        ``max_length``: the length at which other libraries truncate by default; None: as in the folder that was read.
        """
        longest = max_length or self.max_length
        write_folder(self._tokenizer, self._settings | {"model_max_length": longest}, folder)

    @property
    def size(self) -> int:
        """One more than the largest id of a token: the number of embeddings that a model needs."""
        # The token "" comes from a blank line of vocab.txt.
        return max(number for token, number in self._tokenizer.get_vocab().items() if token) + 1

    @cached_property
    def sha256(self) -> str:
        """Hash of everything that determines the ids of a text, whichever files it was read from."""
        with self._lock:
            determinants = [self._tokenizer.to_str(), self._settings.get("truncation_side", "right"), self.has_segments]
        determinants.append(self._tokenizer.encode_special_tokens)
        return hashlib.sha256(json.dumps(determinants).encode()).hexdigest()

    def token(self, number: int) -> str:
        """The token of an id."""
        return str(self._tokenizer.id_to_token(number))

    def vocabulary(self) -> dict[str, int]:
        """All tokens with their ids, including added tokens."""
        tokens: dict[str, int] = self._tokenizer.get_vocab()
        return tokens

    @property
    def added(self) -> list[str]:
        """The added tokens, which are matched in a text before it is split into words."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values()]

    def encode(self, text: str, pair: str | None = None, max_length: int | None = None) -> Encoding:
        """Encode one text or pair, truncated to ``max_length`` ids, by default the folder's maximum.

        The longer text of a pair is truncated first; at the end, unless the folder's settings say otherwise.
        """
        return self.encode_batch([text], None if pair is None else [pair], max_length)[0]

    def encode_batch(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_length: int | None = None
    ) -> list[Encoding]:
        """Encode many texts or pairs at once, as ``encode`` does."""
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
        """The ids of each word's pieces, without [CLS] and [SEP]; [UNK] for a word that normalises to nothing."""
        with self._lock:
            encodings = self._tokenizer.encode_batch(list(words), add_special_tokens=False)
        return [encoding.ids or [self.unk_id] for encoding in encodings]

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """The word pieces of each whole text, with their places in it."""
        with self._lock:
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        found = []
        for encoding in encodings:
            places = encoding.offsets
            found.append(Pieces(encoding.ids, [start for start, _ in places], [end for _, end in places]))
        return found
