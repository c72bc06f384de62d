"""What makes a score worth less than it seems: texts that were cut, and texts that training has seen too.

Both are counted in every quality run and kept in its record; a large share is a flag. And predictions are scored only
against the examples that they are of.
"""

import unicodedata
from typing import Any

import numpy as np

from harness.data.encode import Encoded
from harness.data.read import TextExample, WordExample
from harness.data.task import Task
from harness.errors import Failure
from harness.records.record import Flag, flag
from reference.tokenizer import Tokenizer

MUCH = 0.01  # share of a scored split above which a reader is told
UNCUT = 2**31  # tokens; no text has so many

Counts = dict[str, int]


def truncation(task: Task, examples: list[Any], encoded: Encoded, tokenizer: Tokenizer) -> Counts:
    """Of examples encoded with ``task.max_length``, how many were ``cut``, and the ``tokens_lost`` by all together.

    A sentence for tagging that is read in several windows loses nothing; only a word longer than the model does.
    """
    lost = _of_words if task.kind == "tagging" else _of_texts
    tokens = lost(task, examples, encoded, tokenizer)
    return {"cut": sum(each > 0 for each in tokens), "tokens_lost": sum(tokens)}


def _of_texts(task: Task, examples: list[TextExample], encoded: Encoded, tokenizer: Tokenizer) -> list[int]:
    """Tokens lost by each example that is as long as the model reads: no other can have been cut."""
    full = [examples[i] for i in np.flatnonzero(encoded.batch.lengths >= task.max_length)]
    if not full:
        return []
    pairs = None if full[0].pair is None else [example.pair or "" for example in full]
    whole = tokenizer.encode_batch([example.text for example in full], pairs, UNCUT)
    return [len(encoding.ids) - task.max_length for encoding in whole]


def _of_words(task: Task, examples: list[WordExample], encoded: Encoded, tokenizer: Tokenizer) -> list[int]:
    """Tokens lost by each example; the pieces of a word do not depend on where it stands."""
    if not (encoded.batch.lengths >= task.max_length).any():
        return []
    words = list({word for example in examples for word in example.words})
    room = task.max_length - 2
    lost = {word: max(0, len(pieces) - room) for word, pieces in zip(words, tokenizer.word_pieces(words), strict=True)}
    return [sum(lost[word] for word in example.words) for example in examples]


def inputs(examples: list[Any]) -> list[tuple[str, ...]]:
    """What a model reads of each example, such that no difference in case, white space or Unicode form is left."""
    texts = (
        [" ".join(example.words)] if isinstance(example, WordExample) else [example.text, example.pair or ""]
        for example in examples
    )
    return [tuple(" ".join(unicodedata.normalize("NFC", text.casefold()).split()) for text in each) for each in texts]


def flags(sanity: dict[str, Counts]) -> list[Flag]:
    """What a reader must be told of the field ``sanity`` of a record."""
    found = []
    for split, counts in sanity.items():
        if split == "train":
            continue
        for name, what in (("cut", "are cut to what the model reads"), ("in_train", "are in the training split too")):
            amount, examples = counts.get(name, 0), counts["examples"]
            if amount > MUCH * examples:
                found.append(flag(f"{amount} of {examples} examples ({amount / examples:.1%}) {what}", split))
    return found


def paired(examples: list[Any], predictions: list[Any], what: str) -> list[list[Any]]:
    """[example id, prediction] of each example, in order. Failure if there is not one for each."""
    if len(predictions) != len(examples):
        raise Failure(f"{what}: {len(predictions)} predictions for {len(examples)} examples; one for each is needed")
    return [[example.id, prediction] for example, prediction in zip(examples, predictions, strict=True)]


def aligned(examples: list[Any], answers: list[list[Any]], what: str) -> list[Any]:
    """The predictions among [example id, prediction] pairs, in the order of the examples.

    Failure unless there is exactly one for each example and none of another.
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
