"""Kinds of tasks: the table agrees with the worker's and the metrics', and takes kinds unlike those that it has.

The three kinds below are what a new one takes: a class, and a metric where there is none yet. (One that is trained
also needs its loss, in ``harness.worker.finetune.LOSSES``.) They go the way of every task: YAML, reading, encoding,
logits, which are made up here, answers, and a record's metrics and flags.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.data import cells, leakage, schema, tables
from harness.data.encode import Encoded
from harness.data.examples import Repairs, TextExample
from harness.data.kinds import KINDS, Kind
from harness.data.read import read
from harness.data.reading import Reading
from harness.data.task import Task, load_task
from harness.errors import BadInput
from harness.port.batch import Batch, from_lists
from harness.records import record
from harness.records.record import Quality
from harness.statistics.intervals import Floats, averaged
from harness.statistics.metrics import METRICS, Answers, Metric
from harness.statistics.score import score
from harness.worker.messages import Array
from reference.tokenizer import Tokenizer

NO_WORDS = np.array([], dtype=np.int64)


@pytest.fixture(scope="module")
def tokenizer(minilm_folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder)


# ---- the tables agree ----


def test_kinds_name_the_metrics_that_there_are() -> None:
    assert {name for kind in KINDS.values() for name in kind.metrics} == METRICS.keys()
    assert all(KINDS[name].name == name for name in KINDS)
    assert all(METRICS[name].name == name for name in METRICS)


def test_the_worker_knows_the_kinds_that_are_trained_by_their_names() -> None:
    from harness.worker.finetune import LOSSES
    from harness.worker.heads import OF_TOKENS

    assert LOSSES.keys() == {kind.name for kind in KINDS.values() if kind.trained}
    assert {kind.name for kind in KINDS.values() if kind.of_tokens} == OF_TOKENS


def test_the_reference_has_a_head_for_every_kind_that_is_trained() -> None:
    from reference.checkpoint import ARCHITECTURES, POOLED
    from reference.heads import HEADS

    trained = {kind.name for kind in KINDS.values() if kind.trained}
    assert trained <= HEADS.keys()
    assert trained <= ARCHITECTURES.keys()
    assert {kind.name for kind in KINDS.values() if kind.trained and not kind.of_tokens} <= {*POOLED}


# ---- kinds that are not trained: numbers from the vectors of two texts ----


class Similarity(Kind):
    """The cosine of two texts' vectors, beside a number that people gave them."""

    name = "stub-similarity"
    metrics = ("spearman",)
    trained = False
    formats = ("tsv",)
    columns = ("text", "pair", "label")
    text = "text"
    answer = "label"
    why_no_labels = "its label column is a number"

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
        return tables.text_examples(reading, split, path, content, repairs, cells.Number)

    def encode(self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        """Two sequences for each example."""
        encodings = tokenizer.encode_batch([text for example in examples for text in example.texts], None, max_length)
        return Encoded(from_lists([e.ids for e in encodings], [e.segments for e in encodings]), None, NO_WORDS)

    def tokens_lost(self, *_: Any) -> list[int]:
        return []

    def shape(self, reading: Reading, batch: Batch) -> tuple[int | None, ...]:
        return self.rows(batch), None  # the width of the model

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[float]:
        unit = logits / np.linalg.norm(logits, axis=1, keepdims=True)
        return [float(cosine) for cosine in (unit[::2] * unit[1::2]).sum(axis=1)]

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        if not isinstance(answer, float):
            raise BadInput(f"{what} is no number")


# ---- several sequences for an example: which of two sentences the model finds more probable ----


@dataclass(frozen=True)
class EncodedPairs(Encoded):
    """With the example, and which of its two sentences, of each sequence; and the token that it hides."""

    owners: list[tuple[int, int]]
    hidden: list[int]


class MinimalPairs(Kind):
    """Two sentences, of which the first is grammatical: a sequence for each word, with that word hidden."""

    name = "stub-pairs"
    metrics = ("accuracy",)
    trained = False
    of_tokens = False
    formats = ("tsv",)
    columns = ("text", "pair")
    text = "text"
    answer = "pair"
    why_no_labels = "the first text is the right one"

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
        return tables.text_examples(reading, split, path, content, repairs, cells.OneLabel)

    def right_answer(self, example: Any) -> str:
        return "first"

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("first", "second")

    def encode(self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        mask, sequences, owners, hidden = tokenizer.vocabulary()["[MASK]"], [], [], []
        for number, example in enumerate(examples):
            for which, text in enumerate(example.texts):
                ids = tokenizer.encode(text, None, max_length).ids
                for place in range(1, len(ids) - 1):
                    sequences.append([*ids[:place], mask, *ids[place + 1 :]])
                    owners.append((number, which))
                    hidden.append(ids[place])
        batch = from_lists(sequences, [[0] * len(sequence) for sequence in sequences])
        return EncodedPairs(batch, None, NO_WORDS, owners, hidden)

    def tokens_lost(self, *_: Any) -> list[int]:
        return []

    def shape(self, reading: Reading, batch: Batch) -> tuple[int | None, ...]:
        return (self.rows(batch),)  # the logarithm of the hidden token's probability

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[str]:
        assert isinstance(encoded, EncodedPairs)
        sums = np.zeros((len(examples), 2))
        for owner, logarithm in zip(encoded.owners, logits, strict=True):
            sums[owner] += logarithm
        return ["first" if first > second else "second" for first, second in sums]

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        if answer not in labels:
            raise BadInput(f"{what} is none of {', '.join(labels)}")


# ---- answers that are text, found in several overlapping windows ----


class Text(cells.LabelColumn):
    """The answer itself."""

    def _read(self, cell: Any) -> str:
        return cells.text_of(cell)


@dataclass(frozen=True)
class EncodedWindows(Encoded):
    """With the place, as example and word, of each of ``words``: windows overlap."""

    places: list[tuple[int, int]]


class Extraction(Kind):
    """The words of a text that answer a question."""

    name = "stub-extraction"
    metrics = ("stub_exact",)
    of_tokens = True
    formats = ("tsv",)
    columns = ("id", "text", "question", "label")
    text = "text"
    answer = "label"
    why_no_labels = "its answers are text"
    window = 4  # words
    step = 3

    def read(self, reading: Reading, split: str, path: Path, content: str, repairs: Repairs) -> list[TextExample]:
        return tables.text_examples(reading, split, path, content, repairs, Text)

    def outputs(self, labels: dict[str, str]) -> tuple[str, ...]:
        return ("start", "end")

    def encode(self, reading: Reading, examples: list[TextExample], tokenizer: Tokenizer, max_length: int) -> Encoded:
        sequences: list[list[int]] = []
        words, places, tokens = [], [], 0
        for number, example in enumerate(examples):
            pieces = tokenizer.word_pieces(example.text.split())
            for start in range(0, len(pieces), self.step):
                sequence = [tokenizer.cls_id]
                for word in range(start, min(start + self.window, len(pieces))):
                    words.append(tokens + len(sequence))
                    places.append((number, word))
                    sequence += pieces[word]
                sequences.append([*sequence, tokenizer.sep_id])
                tokens += len(sequences[-1])
        batch = from_lists(sequences, [[0] * len(sequence) for sequence in sequences])
        return EncodedWindows(batch, None, np.array(words), places)

    def tokens_lost(self, *_: Any) -> list[int]:
        return []

    def decode(self, reading: Reading, logits: Array, encoded: Encoded, examples: list[TextExample]) -> list[str]:
        assert isinstance(encoded, EncodedWindows)
        best: dict[tuple[int, int], tuple[float, int]] = {}  # by example and output: logit, word
        for (number, word), row in zip(encoded.places, logits[encoded.words], strict=True):
            for output, logit in enumerate(row):
                best[number, output] = max(best.get((number, output), (-np.inf, 0)), (float(logit), word))
        return [" ".join(example.text.split()[best[i, 0][1] : best[i, 1][1] + 1]) for i, example in enumerate(examples)]

    def check_answer(self, what: str, answer: Any, labels: Sequence[str]) -> None:
        if not isinstance(answer, str):
            raise BadInput(f"{what} is no text")

    def degenerate(self, gold: Sequence[str], predicted: Sequence[str]) -> str | None:
        return None if any(predicted) else "no answer is found"

    def signature(self, reading: Reading) -> list[str]:
        return [f"window={self.window}"]


class Exact(Metric):
    """The share of answers that are the gold answer."""

    name, title, library = "stub_exact", "exact match", "numpy"
    statistic = staticmethod(averaged(lambda means: means[:, 0]))

    def value(self, of: Answers) -> float:
        return float(self.features(of).mean())

    def features(self, of: Answers) -> Floats:
        return np.array([[float(a == b)] for a, b in zip(of.gold, of.predicted, strict=True)])


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three kinds and their metric are in the tables."""
    for kind in (Similarity(), MinimalPairs(), Extraction()):
        monkeypatch.setitem(KINDS, kind.name, kind)
    monkeypatch.setitem(METRICS, Exact.name, Exact())


@pytest.fixture
def scored(
    registered: None, tokenizer: Tokenizer, quality_record: Callable[..., Quality], tmp_path: Path
) -> Callable[..., tuple[list[Any], list[dict[str, Any]], list[record.Flag]]]:
    """A function: a kind, the content of a file, logits from examples and their encoding; to answers and scores."""

    def run(
        kind: str, content: str, logits: Callable[[list[Any], Encoded], Array], **fields: Any
    ) -> tuple[list[Any], list[dict[str, Any]], list[record.Flag]]:
        task = load_task(write(tmp_path, kind, content, **fields))
        found = read(task, "dev", None)
        encoded = KINDS[task.kind].encode(task, found.examples, tokenizer, task.max_length)
        made = logits(found.examples, encoded)
        KINDS[task.kind].check_shape(task, encoded.batch, made)
        answers = KINDS[task.kind].decode(task, made, encoded, found.examples)
        pairs = leakage.paired(found.examples, answers, task.name)
        result = quality_record(metrics=[], flags=[], repairs={}, recipe={"select": "last"}, limit=None)
        result.sanity = {"dev": {"examples": len(answers)}}
        result.sanity["dev"] |= leakage.truncation(task, found.examples, encoded, tokenizer)
        return answers, *score(result, task, {"dev": found.examples}, {"dev": pairs})

    return run


Scored = Callable[..., tuple[list[Any], list[dict[str, Any]], list[record.Flag]]]


def write(folder: Path, kind: str, content: str, **fields: Any) -> str:
    """The path of a task file."""
    (folder / "dev.tsv").write_text(content)
    declared = {
        "name": "mine",
        "title": "Mine",
        "kind": kind,
        "format": "tsv",
        "columns": {role: role for role in content.partition("\n")[0].split("\t")},
        "files": {"dev": "dev.tsv"},
        "evaluate": ["dev"],
        "metrics": list(KINDS[kind].metrics),
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(declared | fields, sort_keys=False))
    return str(folder / "mine.yaml")


SIMILAR = "text\tpair\tlabel\na ferry\ta boat\t4.5\nrain\tsnow\t2\nrain\ttax\t0\n"


def test_a_kind_without_training_is_scored_from_vectors(scored: Scored) -> None:
    def vectors(examples: list[Any], encoded: Encoded) -> Array:
        angles = [angle for example in examples for angle in (0.0, 5.0 - example.label)]
        return np.array([[np.cos(angle / 5), np.sin(angle / 5), 0.0] for angle in angles])

    answers, (metric,), flags = scored(Similarity.name, SIMILAR, vectors)
    assert answers == pytest.approx(np.cos(np.array([0.5, 3, 5]) / 5))
    assert (metric["name"], metric["value"], metric["n"], metric["baseline"]) == ("spearman", pytest.approx(1), 3, 0)
    assert metric["signature"].startswith("spearman|task:mine|split:dev|n:3|")
    assert [flag["text"] for flag in flags] == ["the interval reaches down to the baseline, 0.000"]


def test_a_kind_without_training_has_no_training_split(registered: None, tmp_path: Path) -> None:
    files = {"train": "dev.tsv", "dev": "dev.tsv"}
    for fields in ({"files": files}, {"train_task": "stsb"}):
        with pytest.raises(BadInput, match="files: a task of kind stub-similarity is not trained; give no train split"):
            load_task(write(tmp_path, Similarity.name, SIMILAR, **fields))


def test_logits_of_any_width_where_a_kind_does_not_say(registered: None, tmp_path: Path) -> None:
    task = load_task(write(tmp_path, Similarity.name, SIMILAR))
    batch = from_lists([[1], [2]], [[0], [0]])
    for width in (3, 384):
        KINDS[task.kind].check_shape(task, batch, np.zeros((2, width)))
    for shape in ((3, 3), (2,), (2, 3, 1)):
        with pytest.raises(ValueError, match=r"logits of shape .*, not \(2, None\)"):
            KINDS[task.kind].check_shape(task, batch, np.zeros(shape))


def test_several_sequences_of_one_example_give_one_answer(scored: Scored) -> None:
    content = "text\tpair\nthe ferries are late\tthe ferries is late\nit rains\tit rain\nwe are\twe is\n"

    def log_probabilities(examples: list[Any], encoded: Encoded) -> Array:
        assert isinstance(encoded, EncodedPairs)
        assert len(encoded.owners) == len(encoded.batch.lengths) == 4 + 4 + 2 + 2 + 2 + 2
        # The third is answered wrongly: its second sentence gets the higher sum.
        return np.array([-1.0 - which if number < 2 else -2.0 + which for number, which in encoded.owners])

    answers, (metric,), _ = scored(MinimalPairs.name, content, log_probabilities)
    assert answers == ["first", "first", "second"]
    assert (metric["name"], metric["value"]) == ("accuracy", pytest.approx(2 / 3))


QUESTIONS = (
    "id\ttext\tquestion\tlabel\n"
    "q1\tthe ferry to Oslo is late again\twhere to?\tOslo\n"
    "q2\tit rains in the old town of Zug\twhere?\tthe old town of Zug\n"
    "q3\tall is well\twho?\tnobody\n"
)


def spans(found: list[tuple[int, int]]) -> Callable[[list[Any], Encoded], Array]:
    """Logits for these first and last words of the examples' answers."""

    def logits(examples: list[Any], encoded: Encoded) -> Array:
        assert isinstance(encoded, EncodedWindows)
        made = np.zeros((len(encoded.batch.ids), 2))
        for (number, word), token in zip(encoded.places, encoded.words, strict=True):
            made[token] = [word == place for place in found[number]]
        return made

    return logits


def test_answers_that_are_text_are_scored_as_text(scored: Scored) -> None:
    train = {"files": {"train": "dev.tsv", "dev": "dev.tsv"}}
    answers, (metric,), flags = scored(Extraction.name, QUESTIONS, spans([(3, 3), (3, 7), (0, 0)]), **train)
    assert answers == ["Oslo", "the old town of Zug", "all"]
    assert (metric["name"], metric["value"], metric["baseline"]) == ("stub_exact", pytest.approx(2 / 3), 0.0)
    assert metric["signature"].split("|")[-2:] == [f"numpy:{np.__version__}", "window=4"]
    assert [flag["text"] for flag in flags] == ["the interval reaches down to the baseline, 0.000"]
    assert scored(Extraction.name, QUESTIONS, spans([(1, 0)] * 3), **train)[2][1:] == [
        record.flag("no answer is found", "dev")
    ]


def test_a_task_file_of_a_new_kind_is_checked_like_the_others(registered: None, tmp_path: Path) -> None:
    train: dict[str, Any] = {"files": {"train": "dev.tsv", "dev": "dev.tsv"}}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"labels": ["a", "b"]}, "labels: a stub-extraction task has none, its answers are text"),
        ({"metrics": ["accuracy"]}, "metrics: 'accuracy' is none of the metrics of a stub-extraction task: stub_exact"),
        ({"format": "jsonl"}, "format: jsonl does not go with kind stub-extraction"),
        ({"columns": {"text": "text", "question": "question"}}, "columns: label: split train needs it"),
        ({"columns": {"question": "question", "label": "label"}}, "columns: text: missing"),
        ({"scheme": "iob1"}, "scheme: only a task of kind tagging has it, and this one is of kind stub-extraction"),
    ]
    for fields, message in wrong:
        with pytest.raises(BadInput, match=message):
            load_task(write(tmp_path, Extraction.name, QUESTIONS, **(train | fields)))
    assert isinstance(load_task(write(tmp_path, Extraction.name, QUESTIONS, **train)), Task)


def test_editors_know_a_new_kind(registered: None) -> None:
    found = schema.schema()
    assert Extraction.name in found["properties"]["kind"]["enum"]
    assert Exact.name in found["properties"]["metrics"]["items"]["enum"]
    assert "question" in found["properties"]["columns"]["properties"]


def test_labels_auto_is_refused_where_answers_are_no_labels(registered: None, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="labels: a stub-pairs task has none, the first text is the right one"):
        load_task(write(tmp_path, MinimalPairs.name, "text\tpair\na\tb\n", labels="auto"))
