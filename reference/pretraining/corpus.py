"""A corpus on disk: word pieces of cleaned text, end to end in one file that is mapped into memory.

A folder has ``manifest.json``, the vocabulary, and for each of the splits ``train`` and ``held_out``

- ``pieces.bin``: uint16 ids, or uint32 if the vocabulary has more than 65,536,
- ``sentences.bin``: int64, where each sentence begins in it, and at last its length,
- ``documents.bin``: int64, the same for documents, counted in sentences,
- ``continues.bin``: uint8, 1 where a piece continues the word of the piece before; only with a segmenter.

The folder is written beside its place and renamed at the end, so there is never a part of one under its name.
"""

import hashlib
import json
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from reference.errors import PretrainingError
from reference.files.tokenizer import read_folder
from reference.pretraining.duplicates import Sketches
from reference.pretraining.text import clean, is_heading, read_documents, sentences
from reference.tokenizer import Tokenizer

FORMAT = 1
SPLITS = ("train", "held_out")
AT_ONCE = 64  # documents that are encoded together
VOCABULARY = ("vocab.txt", "tokenizer.json", "tokenizer_config.json")
Report = Callable[[int], None]
Segmenter = Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class Split:
    """The documents for training, or those held out."""

    pieces: NDArray[np.integer]  # [pieces] mapped
    sentences: NDArray[np.int64]  # [sentences + 1] where each begins in ``pieces``
    documents: NDArray[np.int64]  # [documents + 1] where each begins in ``sentences``
    continues: NDArray[np.uint8] | None  # [pieces] 1: of the same word as the piece before


@dataclass(frozen=True)
class Corpus:
    """Both splits, and what made them."""

    folder: Path
    manifest: dict[str, Any]
    train: Split
    held_out: Split
    vocabulary: list[str]  # pieces by id

    @property
    def sha256(self) -> str:
        """Hash of the manifest, which has the hashes of all files."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()


def open_corpus(folder: Path) -> Corpus:
    """Open a folder, after comparing every file with its sha256. Raises PretrainingError if one differs."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PretrainingError(f"{folder} is no corpus: it has no manifest.json; make one with `corpus`") from None
    except ValueError as error:
        raise PretrainingError(f"{folder / 'manifest.json'} is not JSON ({error}); make the corpus again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise PretrainingError(f"{folder}: the format of this corpus is not {FORMAT}; make it again with `corpus`")
    for name, expected in manifest["files"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise PretrainingError(f"{folder / name} is missing or not as it was written; make the corpus again")
    kind = np.dtype(manifest["pieces"])
    train, held_out = (_open(folder / name, kind) for name in SPLITS)
    return Corpus(folder, manifest, train, held_out, _pieces_by_id(Tokenizer.from_folder(folder)))


def _open(folder: Path, kind: np.dtype[Any]) -> Split:
    def mapped(name: str, dtype: Any) -> NDArray[Any]:
        file = folder / f"{name}.bin"
        return np.memmap(file, dtype, "r") if file.stat().st_size else np.zeros(0, dtype)

    continues = mapped("continues", np.uint8) if (folder / "continues.bin").is_file() else None
    return Split(mapped("pieces", kind), mapped("sentences", np.int64), mapped("documents", np.int64), continues)


def _pieces_by_id(tokenizer: Tokenizer) -> list[str]:
    names = {number: token for token, number in tokenizer.vocabulary().items() if token}
    return [names.get(number, f"[unused-{number}]") for number in range(max(names) + 1)]


def build_corpus(
    files: Sequence[Path],
    vocabulary: Path,
    output: Path,
    held_out: float = 0.01,
    segmenter: Segmenter | None = None,
    report: Report = lambda done: None,
) -> dict[str, Any]:
    """Write the folder ``output`` and return its manifest.

    A document belongs to the held-out ones by a hash of its pieces, so it stays there when other text is added.
    ``segmenter`` splits a text into words, for masks of whole words in Chinese. ``report`` gets the bytes read.
    Raises PretrainingError for text or a vocabulary that cannot be used, and if no text is left.
    """
    tokenizer = _tokenizer(vocabulary)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise PretrainingError(f"{output} is there already; name another folder, or delete it")
    partial = output.with_name(f"{output.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        manifest = _write(files, tokenizer, vocabulary, partial, held_out, segmenter, report)
        if output.is_dir():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_folder(folder)
    except (ValueError, OSError) as error:
        raise PretrainingError(f"--vocab: {error}") from error
    if missing := [token for token in ("[PAD]", "[MASK]") if token not in tokenizer.vocabulary()]:
        raise PretrainingError(f"--vocab: {folder} has no {' and no '.join(missing)}, which pre-training needs")
    return tokenizer


def _write(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    vocabulary: Path,
    folder: Path,
    held_out: float,
    segmenter: Segmenter | None,
    report: Report,
) -> dict[str, Any]:
    kind = np.dtype(np.uint16 if tokenizer.size <= 1 << 16 else np.uint32)
    writers = {name: _Writer(folder / name, kind, segmenter is not None) for name in SPLITS}
    tokenizer.save(folder, max_length=512)
    counts: Counter[str] = Counter()
    sketches = Sketches()
    cleaned = _cleaned(read_documents(files, report), counts)
    for encoded in _encoded(cleaned, vocabulary, segmenter):
        joined = np.concatenate([pieces for pieces, _ in encoded])
        if sketches.seen(joined):
            counts["near-duplicate documents"] += 1
            continue
        digest = hashlib.sha256(joined.astype("<u4").tobytes()).digest()
        split = SPLITS[int.from_bytes(digest[:8], "big") < held_out * 2**64]
        writers[split].add(encoded)
        counts["unknown pieces"] += int((joined == tokenizer.unk_id).sum())
    splits = {name: writer.close() for name, writer in writers.items()}
    if not splits["train"]["documents"]:
        raise PretrainingError(
            "no text is left to train on: sentences need four words or more, and blank lines between documents "
            f"({', '.join(f'{count} {what}' for what, count in sorted(counts.items())) or 'the files are empty'})"
        )
    sources = [{"name": file.name, "bytes": file.stat().st_size, "sha256": _sha256(file)} for file in files]
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "pieces": kind.name,
        "vocabulary": {"size": tokenizer.size, "sha256": tokenizer.sha256, "lower_case": tokenizer.lower_case},
        "segmenter": getattr(segmenter, "__module__", None) if segmenter else None,
        "sources": sources,
        "held_out": held_out,
        "splits": splits,
        "left_out": dict(sorted(counts.items())),
        "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in paths},
    }
    with (folder / "manifest.json").open("w", encoding="utf-8") as file:
        file.write(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return manifest


Encoded = list[tuple[NDArray[np.int64], NDArray[np.uint8] | None]]  # of each sentence: pieces, and which continue


class _Writer:
    """Appends documents to the files of a split."""

    def __init__(self, folder: Path, kind: np.dtype[Any], continues: bool) -> None:
        folder.mkdir(parents=True)
        self.folder, self.kind = folder, kind
        self.sentences, self.documents = array("q", [0]), array("q", [0])
        self.pieces: IO[bytes] = (folder / "pieces.bin").open("wb")
        self.continues: IO[bytes] | None = (folder / "continues.bin").open("wb") if continues else None

    def add(self, document: Encoded) -> None:
        for pieces, continues in document:
            self.pieces.write(pieces.astype(self.kind).tobytes())
            if self.continues is not None and continues is not None:
                self.continues.write(continues.tobytes())
            self.sentences.append(self.sentences[-1] + len(pieces))
        self.documents.append(len(self.sentences) - 1)

    def close(self) -> dict[str, int]:
        for file in (self.pieces, self.continues):
            if file is not None:
                file.close()
        for name, numbers in (("sentences", self.sentences), ("documents", self.documents)):
            (self.folder / f"{name}.bin").write_bytes(numbers.tobytes())
        return {
            "documents": len(self.documents) - 1,
            "sentences": len(self.sentences) - 1,
            "pieces": self.sentences[-1],
        }


def _cleaned(documents: Iterator[list[str]], counts: Counter[str]) -> Iterator[list[str]]:
    """The sentences of each document, without headings and without lines that an earlier document has too."""
    seen: set[bytes] = set()
    for document in documents:
        kept = []
        for line in map(clean, document):
            if not line:
                continue
            if is_heading(line):
                counts["headings"] += 1
                continue
            digest = hashlib.blake2b(line.encode(), digest_size=8).digest()
            if digest in seen:
                counts["repeated lines"] += 1
                continue
            seen.add(digest)
            kept.extend(sentences(line))
        if kept:
            yield kept
        else:
            counts["documents without sentences"] += 1


def _encoded(documents: Iterator[list[str]], vocabulary: Path, segmenter: Segmenter | None) -> Iterator[Encoded]:
    """The pieces of each sentence of each document, and which of them continue a word."""
    tokenizer = read_folder(vocabulary).tokenizer
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a text that has "[SEP]" means these letters
    while chunk := list(islice(documents, AT_ONCE)):
        encodings = iter(tokenizer.encode_batch([s for each in chunk for s in each], add_special_tokens=False))
        for document in chunk:
            encoded: Encoded = []
            for sentence in document:
                found = next(encodings)
                if found.ids:
                    continues = None if segmenter is None else _continuing(sentence, found, segmenter)
                    encoded.append((np.array(found.ids, np.int64), continues))
            if encoded:
                yield encoded


def _continuing(sentence: str, encoding: Any, segmenter: Segmenter) -> NDArray[np.uint8]:
    words = list(segmenter(sentence))
    if "".join(words) != sentence:
        raise PretrainingError(f"the segmenter changes the text: {sentence[:40]!r} became {words[:8]!r}")
    starts = set(np.cumsum([0, *map(len, words)]).tolist())
    continues = np.array([start not in starts for start, _ in encoding.offsets], np.uint8)
    continues[0] = 0
    return continues


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
