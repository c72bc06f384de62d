"""The kinds of tasks: all that depends on what is predicted, one class for each kind.

To add a kind, write a subclass of ``Kind`` and put it into ``KINDS``. A kind that is trained also needs

- its loss in ``LOSSES`` of ``harness.worker.finetune``, and its name in ``OF_TOKENS`` of ``harness.port.model`` if
  there are logits for every token, in ``LABELLED_TOKENS`` of ``harness.worker.heads`` if there are labels for every
  token, and in ``NAMES`` there if its layer is not called ``classifier`` (the worker runs where this module cannot be
  imported, so it knows kinds by name);
- its head in ``HEADS`` of ``reference.heads``, and its name in ``POOLED`` (if the head needs a pooler),
  ``ARCHITECTURES`` and ``PROBLEM_TYPES`` of ``reference.checkpoint``;
- a class in ``CLASSES`` of ``harness/implementations/transformers.py``, if transformers has one.

``outputs`` are what the head has logits for. Metrics and ``check_answers`` get them as ``labels``, so metrics over
labels, such as accuracy, are only for kinds whose answers are outputs. Then ``python -m harness.data.schema`` writes
the schema for editors again. ``tests/harness/data/test_kinds.py`` tests that the tables agree, and has three kinds as
examples. A metric that does not exist yet is one object in ``harness.statistics.metrics``.
"""

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from harness.data import cells, sentences, tables
from harness.data.encode import Encoded, encode_texts, encode_words, lost_by_texts, lost_by_words
from harness.data.examples import Label, Repairs, TextExample, WordExample
from harness.data.questions import squad, windows
from harness.data.questions.answers import Answered, answered, probabilities
from harness.data.reading import Format, Reading
from harness.errors import BadInput, Failure
from harness.port.batch import Array, Batch
from reference.tokenizer import Tokenizer

Prediction = Label


class Kind(ABC):
    """What is predicted, from the task file to the flags of a record.

    Predictions have the form that ``decode`` returns, and so have gold answers unless the kind says otherwise.
    """

    name: str  # in task files, records, and for the worker
    metrics: tuple[str, ...]  # that answers can be scored by: names in ``harness.statistics.metrics.METRICS``
    trained = True  # whether a head is fine-tuned; if not, a task needs no training split
    words = False  # if not: whether masked words are predicted; else vectors of sentences are compared
    of_tokens = False  # whether there are logits for every token, instead of for every sequence

    # The task file
    fields: tuple[str, ...] = ()  # its fields that not every kind has
    formats: tuple[Format, ...]  # how the examples may be written
    columns: tuple[str, ...]  # the roles that columns have
    text: str  # the role that every file has
    answer: str  # the role of the right answer, which only a test file may lack
    usual_columns: ClassVar[dict[str, str | int] | None] = None  # where a task file gives none
    numbered = False  # whether columns go by number in any case
    several_files = False  # whether the training split may be in several files; without training, every split
    fixed = False  # whether the format says where everything is, so that a task file names no columns
    pairs = False  # whether every example is a pair of texts
    least_labels = 1
    why_no_labels: str | None = None  # for kinds whose answers are not labels

    # Saved models
    inputs: Literal["texts", "words"] | None = None  # what ``predict`` reads for it; None: it cannot
    outputs_word = "labels"  # what messages call the outputs

    # ---- reading ----

    @abstractmethod
    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[Any]:
        """The examples in the text of a file; each has an ``id`` and, in ``texts``, all that a model reads.

        BadInput, with file and line, where something is wrong with it.
        """

    def label_names(self, reading: Reading, split: str, path: Path, content: str) -> Iterator[str]:
        """All labels that the text of a file names, for `labels: auto`."""
        raise NotImplementedError(self.name)

    def right_answer(self, example: Any) -> Any:
        """The right answer to an example; None where it has none."""
        return example.label

    def gold(self, examples: Sequence[Any]) -> list[Any] | None:
        """The right answers; None where one is missing."""
        answers = [self.right_answer(example) for example in examples]
        return None if any(answer is None for answer in answers) else answers

    # ---- the model's input and output ----

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        """The meaning of each output of the head, in order."""
        return tuple(dict.fromkeys(labels.values()))

    @abstractmethod
    def encode(self, reading: Reading, examples: list[Any], tokenizer: Tokenizer, max_length: int) -> Encoded:
        """The examples of one split as token ids and numbers; any number of sequences for each example."""

    def least_length(self, reading: Reading) -> tuple[int, str]:
        """The least ``max_length`` with which it can be encoded, and what needs that many tokens."""
        return 3, "[CLS], one piece and [SEP] need that many"

    @abstractmethod
    def tokens_lost(self, examples: list[Any], encoded: Encoded, tokenizer: Tokenizer, max_length: int) -> list[int]:
        """The number of tokens cut off each example; examples that lose none may be left out."""

    def rows(self, batch: Batch) -> int:
        """The number of rows of logits for a batch."""
        return len(batch.ids) if self.of_tokens else len(batch.lengths)

    def shape(self, reading: Reading, batch: Batch) -> tuple[int | None, ...]:
        """The shape of the logits for a batch; None where it may be any number."""
        return self.rows(batch), len(self.outputs(reading.labels))

    def check_shape(self, reading: Reading, batch: Batch, logits: Array) -> None:
        """ValueError where the logits are of another shape."""
        wanted = self.shape(reading, batch)
        fits = len(wanted) == logits.ndim and all(
            size is None or size == found for size, found in zip(wanted, logits.shape, strict=True)
        )
        if not fits:
            raise ValueError(f"logits of shape {logits.shape}, not {wanted}")

    @abstractmethod
    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[Any]) -> list[Any]:
        """The answers to the examples that the logits give."""

    def row(self, answer: Any, logits: Array) -> dict[str, Any]:
        """An answer as ``predict`` writes it, by column; ``logits`` are those for the example."""
        return {"answer": answer}

    def written(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[Any]) -> list[dict[str, Any]]:
        """The answers as ``predict`` writes them, each by column; for kinds with one row of logits an example."""
        answers = self.decode(reading, logits, encoded, examples)
        return [self.row(answer, each) for answer, each in zip(answers, logits.astype(np.float64), strict=True)]

    # ---- scoring ----

    def check_answers(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> None:
        """BadInput unless these are answers to the same examples; Failure for one that is not a finite number."""
        if len(gold) != len(predicted):
            raise BadInput(f"{len(gold)} gold answers but {len(predicted)} predictions; score those of the same file")
        if len(gold) == 0:
            raise BadInput("there is no example to score; give a file that has some")
        for what, answers in (("gold answer", gold), ("prediction", predicted)):
            for number, answer in enumerate(answers, start=1):
                self.check_answer(f"{what} {number}", answer, labels)

    @abstractmethod
    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        """BadInput or Failure, which begins with ``what``, unless this can be an answer; ``labels``: the outputs."""

    def groups(self, gold: Sequence[Any], predicted: Sequence[Any]) -> dict[str, dict[str, int]]:
        """Counts of groups of examples, by name, which a record has beside a metric; most kinds have no groups."""
        return {}

    def degenerate(self, gold: Sequence[Any], predicted: Sequence[Any]) -> str | None:
        """A sentence about predictions that no working model would make, or None."""
        return None

    def signature(self, reading: Reading) -> list[str]:
        """What the signatures of its metrics say about the reading."""
        return []

    # ---- comparing two models ----

    def distance(self, a: Any, b: Any) -> float:
        """How far two different answers are apart; comparisons show the greatest distance first."""
        return 1.0

    def places(self, a: Any, b: Any) -> list[int] | None:
        """The places where two answers with many parts differ; None where an answer is shown as a whole."""
        return None


class _OfTexts(Kind):
    """What is common to kinds whose examples are texts, or pairs of them, in a table."""

    formats = ("tsv", "csv", "jsonl")
    columns = ("id", "text", "pair", "label")
    text = "text"
    answer = "label"
    inputs: Literal["texts", "words"] | None = "texts"
    label_column: type[cells.LabelColumn]

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
        return tables.text_examples(reading, split, path, content, repairs, self.label_column)

    def label_names(self, reading: Reading, split: str, path: Path, content: str) -> Iterator[str]:
        return tables.label_names(reading, split, path, content, self.label_column)

    def encode(self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        gold = self.gold(examples)
        labels = None if gold is None else self.numbers(gold, self.outputs(reading.labels))
        return encode_texts(examples, labels, tokenizer, max_length)

    def tokens_lost(
        self, examples: list[TextExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int
    ) -> list[int]:
        return lost_by_texts(examples, encoded, tokenizer, max_length)

    @abstractmethod
    def numbers(self, gold: list[Any], outputs: Sequence[str]) -> Array:
        """The right answers as an array for the loss, one row for each example."""


class Classification(_OfTexts):
    """One of several labels."""

    name = "classification"
    metrics = ("accuracy", "f1", "macro_f1", "micro_f1", "matthews")
    fields = ("ignore", "positive")
    least_labels = 2
    label_column = cells.OneLabel

    def numbers(self, gold: list[str], outputs: Sequence[str]) -> Array:
        """[examples], int64."""
        number = {name: i for i, name in enumerate(outputs)}
        return np.array([number[name] for name in gold], dtype=np.int64)

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[str]:
        names = self.outputs(reading.labels)
        return [names[i] for i in logits.argmax(-1)]

    def row(self, answer: str, logits: Array) -> dict[str, Any]:
        return {"label": answer, "probability": round(float(np.exp(logits.max() - np.logaddexp.reduce(logits))), 4)}

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        _check_names(what, [answer], labels)

    def degenerate(self, gold: Sequence[str], predicted: Sequence[str]) -> str | None:
        if len(set(predicted)) == 1:
            return f"{predicted[0]} is predicted for every example"
        majority, amount = Counter(gold).most_common(1)[0]
        correct = sum(answer == name for answer, name in zip(gold, predicted, strict=True))
        if correct > amount:
            return None
        return (
            f"accuracy is {correct / len(gold):.3f}, and always answering {majority} would give "
            f"{amount / len(gold):.3f}"
        )


class Regression(_OfTexts):
    """A number."""

    name = "regression"
    metrics = ("pearson", "spearman")
    fields = ("ignore",)
    why_no_labels = "its label column is a number"
    label_column = cells.Number

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("score",)

    def numbers(self, gold: list[float], outputs: Sequence[str]) -> Array:
        """[examples], float32."""
        return np.array(gold, dtype=np.float32)

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[float]:
        return [float(score) for score in logits[:, 0]]

    def row(self, answer: float, logits: Array) -> dict[str, Any]:
        return {"score": float(str(np.float32(logits[0])))}  # the shortest number that is this one in float32

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        if not math.isfinite(answer):
            raise Failure(f"{what} is {answer}, not a finite number")

    def degenerate(self, gold: Sequence[float], predicted: Sequence[float]) -> str | None:
        return f"all scores are equal ({predicted[0]:g})" if len(set(predicted)) == 1 else None

    def distance(self, a: float, b: float) -> float:
        return abs(a - b)


class MultiLabel(_OfTexts):
    """Any number of several labels."""

    name = "multi-label"
    metrics = ("macro_f1", "micro_f1")
    fields = ("ignore", "label_separator", "label")
    label_column = cells.SeveralLabels

    def numbers(self, gold: list[tuple[str, ...]], outputs: Sequence[str]) -> Array:
        """[examples, labels], float32: 1 where an example has a label."""
        number = {name: i for i, name in enumerate(outputs)}
        labels = np.zeros((len(gold), len(number)), dtype=np.float32)
        for row, names in zip(labels, gold, strict=True):
            row[[number[name] for name in names]] = 1
        return labels

    def decode(
        self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]
    ) -> list[tuple[str, ...]]:
        names = self.outputs(reading.labels)
        return [tuple(name for name, logit in zip(names, row, strict=True) if logit > 0) for row in logits]

    def row(self, answer: tuple[str, ...], logits: Array) -> dict[str, Any]:
        return {
            "label": answer,
            "probability": [round(float(1 / (1 + np.exp(-logit))), 4) for logit in logits if logit > 0],
        }

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        _check_names(what, answer, labels)

    def degenerate(self, gold: Sequence[tuple[str, ...]], predicted: Sequence[tuple[str, ...]]) -> str | None:
        if len({frozenset(names) for names in predicted}) > 1:
            return None
        return f"every example is given the same labels ({', '.join(sorted(predicted[0])) or 'none'})"


class Similarity(Regression):
    """How alike two texts are: the cosine of their vectors, without any training."""

    name = "similarity"
    trained = False
    pairs = True
    inputs = None

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("cosine",)

    def encode(self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        """Each text of a pair on its own: two sequences for each example."""
        return encode_texts(_singles(examples), None, tokenizer, max_length)

    def tokens_lost(
        self, examples: list[TextExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int
    ) -> list[int]:
        return lost_by_texts(_singles(examples), encoded, tokenizer, max_length)

    def shape(self, reading: Reading, batch: Batch) -> tuple[int | None, ...]:
        return self.rows(batch), None  # a vector for each text, as wide as the model makes it

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[float]:
        """The cosines of neighbouring vectors, in float64; 0 for a vector that is zero."""
        vectors = logits.astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(lengths > 0, lengths, 1)
        return [float(cosine) for cosine in (unit[::2] * unit[1::2]).sum(axis=1)]


class MinimalPairs(_OfTexts):
    """Which of two sentences, of which one is good, a masked language model finds more probable, without training.

    A prediction is the two pseudo-log-likelihoods, of the good sentence and of the bad one. Which is right is known, so
    the gold answer is the pair's group instead, such as its paradigm; "" where the file names none.
    """

    name = "minimal-pairs"
    metrics = ("pair_accuracy",)
    trained = False
    words = True
    answer = "text"
    pairs = True
    several_files = True
    why_no_labels = "its first text is the right one"
    inputs = None
    label_column = cells.Group

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
        """The ids begin with the group: in files of one paradigm each, all number their pairs from 0."""
        found = super().read(reading, split, path, content, repairs)
        return [replace(each, id=f"{each.label}-{each.id}") if each.label else each for each in found]

    def right_answer(self, example: TextExample) -> str:
        return str(example.label or "")

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("good", "bad")

    def numbers(self, gold: list[Any], outputs: Sequence[str]) -> Array:
        raise NotImplementedError(self.name)

    def encode(self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        """Each sentence of a pair on its own: two sequences for each example."""
        return encode_texts(_singles(examples), None, tokenizer, max_length)

    def tokens_lost(
        self, examples: list[TextExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int
    ) -> list[int]:
        return lost_by_texts(_singles(examples), encoded, tokenizer, max_length)

    def shape(self, reading: Reading, batch: Batch) -> tuple[int | None, ...]:
        return (len(batch.ids),)  # the logarithm of each token's probability

    def decode(
        self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]
    ) -> list[tuple[float, float]]:
        """Sums over the tokens of a sentence. Sentences of the same tokens get the same sum, without rounding."""
        batch = encoded.batch
        sums = np.add.reduceat(logits.astype(np.float64), batch.cu_seqlens[:-1])
        texts = np.split(batch.ids, batch.cu_seqlens[1:-1])
        scores = []
        for number in range(len(examples)):
            first, second = texts[2 * number], texts[2 * number + 1]
            good, bad = float(sums[2 * number]), float(sums[2 * number + 1])
            scores.append((good, good if np.array_equal(first, second) else bad))
        return scores

    def check_answers(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> None:
        super().check_answers([(0.0, 0.0)] * len(gold), predicted, labels)

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        if not (isinstance(answer, tuple) and len(answer) == 2):
            raise BadInput(f"{what} is {answer!r}, not the scores of two sentences")
        if not all(math.isfinite(score) for score in answer):
            raise Failure(f"{what} is {answer}, not two finite numbers")

    def groups(self, gold: Sequence[str], predicted: Sequence[tuple[float, float]]) -> dict[str, dict[str, int]]:
        """Of each group the number of pairs, of those judged right, and of ties."""
        found: dict[str, dict[str, int]] = {}
        for name, (good, bad) in zip(gold, predicted, strict=True):
            counts = found.setdefault(name or "all", {"n": 0, "right": 0, "ties": 0})
            counts["n"] += 1
            counts["right"] += good > bad
            counts["ties"] += good == bad
        return found

    def degenerate(self, gold: Sequence[str], predicted: Sequence[tuple[float, float]]) -> str | None:
        ties = sum(good == bad for good, bad in predicted)
        return f"{ties} of {len(predicted)} pairs are ties, which count as wrong" if ties else None

    def signature(self, reading: Reading) -> list[str]:
        return ["score=pseudo-log-likelihood"]

    def distance(self, a: tuple[float, float], b: tuple[float, float]) -> float:
        """Between the margins by which the good sentence is the more probable one."""
        return abs((a[0] - a[1]) - (b[0] - b[1]))


def _singles(examples: list[TextExample]) -> list[TextExample]:
    return [TextExample(example.id, text, None, None) for example in examples for text in example.texts]


class Tagging(Kind):
    """An IOB2 tag for each word of a sentence."""

    name = "tagging"
    metrics = ("entity_f1",)
    of_tokens = True
    fields = ("separator", "scheme", "context", "tags")
    formats = ("conll",)
    columns = ("word", "tag")
    text = "word"
    answer = "tag"
    usual_columns: ClassVar[dict[str, str | int] | None] = {"word": 0, "tag": -1}
    numbered = True
    inputs = "words"
    outputs_word = "tags"

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[WordExample]:
        return sentences.word_examples(reading, split, path, content, repairs)

    def label_names(self, reading: Reading, split: str, path: Path, content: str) -> Iterator[str]:
        return sentences.entity_types(reading, split, path, content)

    def right_answer(self, example: WordExample) -> tuple[str, ...] | None:
        return example.tags

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("O", *(f"{prefix}-{name}" for name in super().outputs(labels) for prefix in "BI"))

    def encode(self, reading: Reading, examples: list[WordExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        return encode_words(examples, self.outputs(reading.labels), reading.context, tokenizer, max_length)

    def tokens_lost(
        self, examples: list[WordExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int
    ) -> list[int]:
        """A sentence that is read in several windows loses nothing; only a word longer than the model does."""
        return lost_by_words(examples, encoded, tokenizer, max_length)

    def decode(
        self, reading: Reading, logits: Array, encoded: Encoded, examples: list[WordExample]
    ) -> list[tuple[str, ...]]:
        names = self.outputs(reading.labels)
        tags = iter(names[i] for i in logits[encoded.words].argmax(-1))
        return [tuple(next(tags) for _ in example.words) for example in examples]

    def check_answers(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> None:
        super().check_answers(gold, predicted, labels)
        for number, (tags, other) in enumerate(zip(gold, predicted, strict=True), start=1):
            if len(tags) != len(other):
                raise BadInput(
                    f"sentence {number} has {len(tags)} words but {len(other)} predicted tags; "
                    "there must be one for each word"
                )

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        for tag in answer:
            if tag != "O" and not re.match("[BI]-.", tag):
                said, _, number = what.rpartition(" ")
                raise BadInput(f"{said} of sentence {number} has the tag {tag!r}; IOB2 tags are O, B-TYPE and I-TYPE")

    def degenerate(self, gold: Sequence[tuple[str, ...]], predicted: Sequence[tuple[str, ...]]) -> str | None:
        none_found = all(tag == "O" for tags in predicted for tag in tags)
        return "no entity is predicted" if none_found else None

    def signature(self, reading: Reading) -> list[str]:
        return [f"context={reading.context}"]

    def places(self, a: Sequence[str], b: Sequence[str]) -> list[int]:
        if len(a) != len(b):
            raise BadInput(f"one answer has {len(a)} tags and the other {len(b)}; they are not of the same words")
        return [place for place, (tag, other) in enumerate(zip(a, b, strict=True)) if tag != other]


class QuestionAnswering(Kind):
    """The span of a text that answers a question, or none.

    A prediction is the answer's text, "" for no answer; the gold answer is a tuple of all texts that count as right.
    """

    name = "question-answering"
    metrics = ("exact", "answer_f1", "cmrc_exact", "cmrc_f1")
    of_tokens = True
    fields = ("windows", "doc_stride", "max_query_length", "max_answer_length", "unanswerable", "null_threshold")
    formats = ("squad",)
    columns = ("id", "text", "pair", "label")
    text = "pair"
    answer = "label"
    usual_columns: ClassVar[dict[str, str | int] | None] = {
        "id": "id",
        "text": "question",
        "pair": "context",
        "label": "answers",
    }
    several_files = True
    fixed = True
    why_no_labels = "its answers are text"
    inputs = "texts"

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
        """Also from a table of questions and texts, in which ``predict`` gets them."""
        if reading.format == "squad":
            return [*squad.questions(reading, split, path, content, repairs)]
        return tables.text_examples(reading, split, path, content, repairs, cells.OneLabel)

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("start", "end")

    def encode(
        self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int
    ) -> windows.EncodedQuestions:
        return windows.encode_questions(reading, examples, tokenizer, max_length)

    def least_length(self, reading: Reading) -> tuple[int, str]:
        what = "max_query_length" if reading.windows == "google" else "doc_stride"
        return windows.least_length(reading), f"{what}, [CLS], two [SEP] and a piece of the text need that many"

    def tokens_lost(
        self, examples: list[TextExample], encoded: Encoded, tokenizer: Tokenizer, max_length: int
    ) -> list[int]:
        """Those of questions; a text that is read in several windows loses nothing."""
        assert isinstance(encoded, windows.EncodedQuestions)
        return encoded.cut

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[str]:
        return [each.chosen(reading).text for each in self._answered(reading, logits, encoded, examples)]

    def written(
        self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]
    ) -> list[dict[str, Any]]:
        """With the characters of the answer in the text, its score, and all answers that come into question."""
        rows = []
        for each in self._answered(reading, logits, encoded, examples):
            answer = each.chosen(reading)
            shares = probabilities(each, reading.unanswerable)
            rows.append(
                {"answer": answer.text, "start": answer.start, "end": answer.end, "score": round(answer.score, 4)}
                | ({"null_score": round(each.null_score, 4)} if reading.unanswerable else {})
                | {
                    "best": [
                        {"answer": one.text, "start": one.start, "end": one.end, "probability": round(share, 4)}
                        for one, share in zip(each.best, shares, strict=True)
                    ]
                }
            )
        return rows

    @staticmethod
    def _answered(reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[Answered]:
        assert isinstance(encoded, windows.EncodedQuestions)
        return answered(reading, logits, encoded, examples)

    def check_answers(self, gold: Sequence[Any], predicted: Sequence[Any], labels: Sequence[str]) -> None:
        super().check_answers(gold, [(each,) for each in predicted], labels)

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        if not isinstance(answer, tuple) or not answer or not all(isinstance(text, str) for text in answer):
            raise BadInput(f"{what} is {answer!r}, not text")

    def degenerate(self, gold: Sequence[tuple[str, ...]], predicted: Sequence[str]) -> str | None:
        return None if any(predicted) else "no question is answered"

    def signature(self, reading: Reading) -> list[str]:
        said = [f"windows={reading.windows}", f"stride={reading.doc_stride}", f"answer={reading.max_answer_length}"]
        return said + ([f"null={reading.null_threshold:g}"] if reading.unanswerable else [])


def _check_names(what: str, names: Any, labels: Sequence[str]) -> None:
    for name in names:
        if name not in labels:
            raise BadInput(f"{what} is {name!r}, which is none of the task's labels: {', '.join(labels)}")


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Classification(),
        Regression(),
        MultiLabel(),
        Tagging(),
        QuestionAnswering(),
        Similarity(),
        MinimalPairs(),
    )
}
