"""Checks of a score: texts that were cut, texts that are in the training split too, labels that nobody declared.

Every quality run counts them in its record; a large share is a flag. And predictions are scored only against the
examples that they were made for.
"""

import unicodedata
from collections.abc import Iterator
from typing import Any

from harness.data.cells import NO_GOLD
from harness.data.encode import Encoded
from harness.data.kinds import KINDS
from harness.data.reading import Reading
from harness.data.spelling import lookalikes
from harness.errors import Failure
from harness.records.record import Flag, flag
from reference.tokenizer import Tokenizer

MUCH = 0.01  # share of a scored split above which there is a flag
MOST_SHOWN = 20  # labels

Counts = dict[str, int]


def truncation(reading: Reading, examples: list[Any], encoded: Encoded, tokenizer: Tokenizer) -> Counts:
    """Of examples encoded with ``reading.max_length``, the number that were ``cut``, and all ``tokens_lost``."""
    tokens = KINDS[reading.kind].tokens_lost(examples, encoded, tokenizer, reading.max_length)
    return {"cut": sum(each > 0 for each in tokens), "tokens_lost": sum(tokens)}


def inputs(examples: list[Any]) -> list[tuple[str, ...]]:
    """What a model reads of each example, without differences in case, white space or Unicode form."""
    return [
        tuple(" ".join(unicodedata.normalize("NFC", text.casefold()).split()) for text in example.texts)
        for example in examples
    ]


def flags(sanity: dict[str, Counts]) -> list[Flag]:
    """The flags that follow from the field ``sanity`` of a record."""
    found = []
    for split, counts in sanity.items():
        if split == "train":
            continue
        for name, what in (("cut", "are cut to what the model reads"), ("in_train", "are in the training split too")):
            amount, examples = counts.get(name, 0), counts["examples"]
            if amount > MUCH * examples:
                found.append(flag(f"{amount} of {examples} examples ({amount / examples:.1%}) {what}", split))
    return found


def label_notes(reading: Reading) -> Iterator[str]:
    """Notes about the labels of `labels: auto`: what they are, which may be the same, which may mean "no label"."""
    if not reading.auto_labels:
        return
    shown, more = list(reading.labels)[:MOST_SHOWN], len(reading.labels) - MOST_SHOWN
    names = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    yield f"`labels: auto` takes {len(reading.labels)} labels from the training split: {names}"
    for group in lookalikes(reading.labels):
        yield f"{' and '.join(map(repr, group))} are labels that differ only in case or width; is one a mistake?"
    for label in sorted({*NO_GOLD} & {*reading.labels}):
        question = "are its examples without gold labels?"
        yield f'{label!r} is one of the labels; {question} Then declare `ignore: ["{label}"]`'


def paired(examples: list[Any], predictions: list[Any], what: str) -> list[list[Any]]:
    """[example id, prediction] of each example, in order. Failure unless there is one for each."""
    if len(predictions) != len(examples):
        raise Failure(f"{what}: {len(predictions)} predictions for {len(examples)} examples; one for each is needed")
    return [[example.id, prediction] for example, prediction in zip(examples, predictions, strict=True)]


def aligned(examples: list[Any], answers: list[list[Any]], what: str) -> list[Any]:
    """The predictions among [example id, prediction] pairs, in the order of the examples.

    Failure unless there is exactly one for each example, and none for another.
    """
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in answers):
        raise Failure(f"{what}: the predictions are not pairs of an example's id and an answer; run it again")
    found = {str(name): tuple(answer) if isinstance(answer, list) else answer for name, answer in answers}
    if len(found) < len(answers):
        raise Failure(f"{what}: {len(answers)} predictions of {len(found)} examples; there must be one for each")
    wanted = [example.id for example in examples]
    if differ := sorted(found.keys() ^ set(wanted)):
        names = ", ".join(differ[:3]) + (", ..." if len(differ) > 3 else "")
        raise Failure(
            f"{what}: the predictions are not of these {len(wanted)} examples: {len(differ)} ids are of one side alone "
            f"({names}); run it again"
        )
    return [found[name] for name in wanted]
