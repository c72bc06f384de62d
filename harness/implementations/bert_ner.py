# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""BERT-NER: its program for named entities, derived from Google's; from the user's checkout, on TensorFlow 2.15.

The checkout's folder ``bert`` must contain google-research/bert, a submodule that the repository names without an
address. The program trains and predicts by itself. It approximates gelu by tanh.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.port import tensorflow1, tensorflow1_program

NAME = "bert-ner"
TITLE = "BERT-NER"
CATALOG_ID = "kyzhouhzau-bert-ner"
CHECKOUT = "https://github.com/kyzhouhzau/BERT-NER"
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation"}
JOB = ["conll2003", "mini-ner"]  # its entity types are PER, LOC, ORG and MISC

STEPS = 100  # of training: minutes on two cores, where run_ner.sh asks for 4 epochs of the whole of CoNLL-2003
BATCH_SIZE = 32
MAX_LENGTH = 64  # at most so many pieces of a sentence; run_ner.sh has 128, but it merges sentences

Sentence = list[str]


def job(
    checkout: str, weights: str, task: dict[str, Any], splits: dict[str, Any], out: str, progress: Callable[..., None]
) -> dict[str, Any]:
    """Train and predict with ``BERT_NER.py``. Words that it does not score are no entities."""
    place, output = Path(out), Path(out) / "output"
    output.mkdir()
    if not (Path(checkout) / "bert" / "modeling.py").is_file():
        raise ValueError(f"{checkout}/bert is empty: clone google-research/bert there, and check out ffbda2a")
    tf = tensorflow1.alias()
    from bert import modeling, tokenization

    flags = tensorflow1_program.write_release(modeling, weights, place)
    tokenize = tokenization.FullTokenizer(str(flags["vocab_file"]), flags["do_lower_case"]).tokenize
    length = _length([example["words"] for split in splits.values() for example in split], tokenize)
    train = splits["train"]
    scored = {split: [example["words"] for example in splits[split]] for split in splits if split != "train"}
    sentences = [words for split in scored.values() for words in split]
    _write(place / "train.txt", [e["words"] for e in train], [e["tags"] for e in train])
    _write(place / "test.txt", sentences, [["O"] * len(words) for words in sentences])
    epochs = (STEPS + 0.5) * BATCH_SIZE / len(train)  # it rounds the steps down
    tensorflow1_program.run(
        Path(checkout) / "BERT_NER.py",
        flags
        | {"task_name": "NER", "crf": False, "do_train": True, "do_predict": True, "max_seq_length": length}
        | {"train_batch_size": BATCH_SIZE, "num_train_epochs": epochs}
        | {"data_dir": place, "output_dir": output, "middle_output": place},
        place,
        tensorflow1_program.show_stages(progress),
    )
    tags, unscored = _read(output / "label_test.txt", sentences, tokenize)
    answers = iter(tags)
    return {
        "version": f"kyzhouhzau/BERT-NER, tensorflow {tf.__version__}",
        "recipe": f"its own, without CRF: learning rate 5e-5, {STEPS} steps of {BATCH_SIZE} sentences ({epochs:.2g} "
        f"epochs), {length} word pieces; {unscored} words were never scored",
        "predictions": {split: [next(answers) for _ in examples] for split, examples in scored.items()},
    }


def _length(sentences: list[Sentence], tokenize: Callable[[str], list[str]]) -> int:
    """Length of the longest sentence with [CLS], but at most MAX_LENGTH; short, because padding is computed too."""
    longest = max(sum(len(tokenize(word)) for word in _ended(words)) for words in sentences)
    return min(MAX_LENGTH, 1 + longest)


def _ended(words: Sentence) -> Sentence:
    """The words with a full stop at the end, by which the repository's reader finds the end of a sentence."""
    return words if words[-1] == "." else [*words, "."]


def _write(file: Path, sentences: list[Sentence], tags: list[Sentence]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for words, own in zip(sentences, tags, strict=True):
            for word, tag in zip(_ended(words), [*own, "O"], strict=False):
                lines.write(f"{word} {tag}\n")
            lines.write("\n")


def _read(file: Path, sentences: list[Sentence], tokenize: Callable[[str], list[str]]) -> tuple[list[Sentence], int]:
    """Tags for all words of all sentences, and the number of words without a line: beyond the length or without pieces.

    ValueError if the file does not have the lines that the program should have written.
    """
    lines = iter(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    tags, unscored = [], 0
    for words in sentences:
        own = ["O"] * len(_ended(words))
        scored = dict(_scored(_ended(words), tokenize))
        for word, piece in scored.items():
            written, _, rest = next(lines, "").partition("\t")
            if written != piece:
                raise ValueError(f"{file.name} has {written!r} where {piece!r} was expected")
            tag = rest.rpartition("\t")[2]
            own[word] = "O" if tag.startswith("[") else tag  # it can also predict markers such as [SEP]
        tags.append(own[: len(words)])
        unscored += sum(word not in scored for word in range(len(words)))
    if (left := next(lines, None)) is not None:
        raise ValueError(f"{file.name} goes on where it should end: {left!r}")
    return tags, unscored


def _scored(words: Sentence, tokenize: Callable[[str], list[str]]) -> Iterator[tuple[int, str]]:
    """Indices of the words that the program writes a line for, with their first pieces. [CLS] takes one position."""
    used = 0
    for number, word in enumerate(words):
        pieces = tokenize(word)
        if pieces and used < MAX_LENGTH - 1:
            yield number, pieces[0]
        used += len(pieces)
