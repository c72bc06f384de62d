"""Programs that do a whole task by themselves, from repositories that the user brings.

Each is stood in for by a small one written here, which has the same files, names and formats. What those programs make
of a checkpoint is their own business; tested here is that they get what they read, and that their answers are read.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.examples import TextExample
from harness.data.read import read_split
from harness.data.task import load_task
from harness.measure.client import Worker, WorkerError
from harness.registry.implementations import find
from tests.harness.implementations.test_tensorflow1_ports import FIRST, MODELING, NOW, TOKENIZATION

JOBS = ("bert-ner", "sentiment-fine-grain", "bert-language-understanding")

TF = "import tensorflow as tf\n"
FLAGS = """
import sys
import tensorflow as tf

flags = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
"""

NER = """
from pathlib import Path

from bert.tokenization import FullTokenizer

assert tf.logging.get_verbosity() == tf.logging.INFO
assert tf.contrib.tpu.TPUEstimator and flags["crf"] == "False"
reader = tf.train.load_checkpoint(flags["init_checkpoint"])
assert reader.get_tensor("bert/encoder/layer_0/attention/self/query/kernel").shape == (32, 32)
place, output, room = Path(flags["data_dir"]), Path(flags["output_dir"]), int(flags["max_seq_length"]) - 1


def sentences(name):  # a blank line ends one if a full stop comes before it, and is nothing otherwise
    found, words = [], []
    for line in (place / name).read_text().split("\\n"):
        if line:
            words.append(line.split(" "))
        elif words and words[-1][0] == ".":
            found.append(words)
            words = []
    return found


train = sentences("train.txt")
assert int(len(train) / int(flags["train_batch_size"]) * float(flags["num_train_epochs"])) == 100
known = {word: tag for words in train for word, tag in words}
print("INFO:tensorflow:Running train on CPU/GPU")
print("INFO:tensorflow:Running infer on CPU/GPU")
tokenizer = FullTokenizer(flags["vocab_file"], flags["do_lower_case"] == "True")
with (output / "label_test.txt").open("w") as lines:
    for words in sentences("test.txt"):
        used = 0
        for word, tag in words:
            assert tag == "O", "the program can read the answers"
            pieces = tokenizer.tokenize(word)
            if pieces and used < room:
                lines.write("%s\\t%s\\t%s\\n" % (pieces[0], tag, known.get(word, "[SEP]")))
            used += len(pieces)
"""
PIECES = """
import unicodedata


class FullTokenizer:
    def __init__(self, vocab_file, do_lower_case):
        assert open(vocab_file).readline() == "[PAD]\\n"
        self.lower = do_lower_case

    def tokenize(self, text):
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
        return [piece.lower() if self.lower else piece for piece in text.split("-") if piece]
"""
ASPECTS = """
from pathlib import Path

import tokenization

place, output = Path(flags["data_dir"]), Path(flags["output_dir"])
assert not output.exists() and flags["task_name"] == "sentiment_analysis" and tf.contrib.data.map_and_batch
train = [line.split("\\t") for line in (place / "train.tsv").read_text().removesuffix("\\n").split("\\n")]
known = {text: labels.split(",") for labels, text in train}
assert all(len(labels) == 20 for labels in known.values())
output.mkdir()
header, *tests = (place / "test.tsv").read_text().removesuffix("\\n").split("\\n")
with (output / "test_results.tsv").open("w") as lines:
    for line in tests:
        _, text = line.split("\\t")
        names = ["%d_%d" % (aspect, value) for aspect in range(20) for value in (-2, -1, 0, 1)]
        lines.write("\\t".join("0.3" if name in known[text] else "0.2" for name in names) + "\\n")
"""
CNN_DATA = """
import json, os, time
import jieba

time.clock()


def cached(file, make):
    if not os.path.exists(file):
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "w") as target:
            json.dump(make(), target)
    return json.load(open(file))


def split(line):
    text, *labels = line.strip().split("__label__")
    return jieba.lcut(text), [label.strip() for label in labels]


def numbers(values):
    return {value: number for number, value in enumerate(dict.fromkeys(values))}


def create_or_load_vocabulary(place, file, size):
    make = lambda: numbers(["_PAD", "UNK"] + [word for line in open(file) for word in split(line)[0]])
    return cached(place + "words.json", make), {}


def get_lable2index(place, file):
    return cached(place + "/labels.json", lambda: numbers(label for line in open(file) for label in split(line)[1]))


def transform_data_to_index(lines, target, words, labels, length, kind, style):
    import numpy as np

    x, y = np.zeros((len(lines), length), int), np.zeros((len(lines), len(labels)))
    for row, line in enumerate(lines):
        text, own = split(line)
        x[row, : len(text)] = [words.get(word, 1) for word in text[:length]]
        y[row, [labels[label] for label in own]] = 1
    return x, y


def set_config(flags, classes, words):
    assert flags.is_training and flags.is_fine_tuning
    flags.classes, flags.words = classes, words
    return flags
"""
CNN = """
import tensorflow as tf


class BertCNNModel:
    def __init__(self, config):
        self.input_x = tf.placeholder(tf.int32, [config.batch_size, config.sequence_length])
        self.dropout_keep_prob = tf.placeholder(tf.float32)
        self.table = tf.get_variable("table", [config.words, config.classes])
        counts = tf.reduce_sum(tf.gather(self.table, self.input_x), axis=1)
        self.normed = tf.contrib.layers.batch_norm(counts, is_training=True, scope="norm")
        self.logits = counts
"""
CNN_LM = """
from data_util_hdf5 import create_or_load_vocabulary

for name in ("ckpt_dir", "data_path", "mask_lm_source_file", "d_model", "sequence_length", "num_epochs"):
    tf.app.flags.DEFINE_string(name, None, "")
tf.app.flags.DEFINE_integer("process_num", 35, "")


def main(_):
    flags = tf.app.flags.FLAGS
    assert "__label__" not in open(flags.mask_lm_source_file).read()
    create_or_load_vocabulary(flags.data_path, flags.mask_lm_source_file, 9)
    with tf.Session() as session:
        tf.get_variable("pretrained", [1])
        session.run(tf.global_variables_initializer())


tf.app.run()
"""
CNN_TUNE = """
import types
from data_util_hdf5 import create_or_load_vocabulary, get_lable2index, set_config, transform_data_to_index
from model.bert_cnn_model import BertCNNModel

for name in ("ckpt_dir", "ckpt_dir_save", "data_path", "training_data_file", "valid_data_file", "test_data_file"):
    tf.app.flags.DEFINE_string(name, None, "")
for name in ("d_model", "sequence_length", "num_epochs", "process_num"):
    tf.app.flags.DEFINE_integer(name, 35, "")


def main(_):
    flags = tf.app.flags.FLAGS
    words, _ = create_or_load_vocabulary(flags.data_path, flags.training_data_file, 9)
    labels = get_lable2index(flags.data_path, flags.training_data_file)
    lines = open(flags.training_data_file).readlines()
    assert set(open(flags.test_data_file).readlines()) <= set(lines), "the program can read the answers"
    x, y = transform_data_to_index(lines, None, words, labels, flags.sequence_length, "train", "word")
    config = types.SimpleNamespace(
        batch_size=64, sequence_length=flags.sequence_length, is_training=True, is_fine_tuning=True
    )
    with tf.Session() as session:
        model = BertCNNModel(set_config(config, len(labels), len(words)))
        pretrained = tf.train.latest_checkpoint(flags.ckpt_dir)
        assert tf.train.load_checkpoint(pretrained).has_tensor("pretrained")
        session.run(tf.global_variables_initializer())
        table = y[:0].sum(0) + [[0.0]] * len(words)
        for row, own in zip(x, y):
            for word in set(row) - {0, 1}:
                table[word] += own
        model.table.load(table, session)


tf.app.run()
"""


@pytest.fixture(scope="module")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the three programs' repositories, by name of implementation."""
    folders = {name: tmp_path_factory.mktemp(name) for name in JOBS}
    ner, aspects, cnn = folders.values()
    (ner / "bert").mkdir()
    (ner / "bert" / "modeling.py").write_text(MODELING.format(**NOW))
    (ner / "bert" / "tokenization.py").write_text(PIECES)
    (ner / "bert" / "__init__.py").touch()
    (ner / "BERT_NER.py").write_text(FLAGS + NER)
    for folder in (aspects, cnn):
        (folder / "model").mkdir()
        (folder / "model" / "__init__.py").touch()
    (aspects / "model" / "bert_modeling.py").write_text(MODELING.format(**FIRST))
    (aspects / "tokenization.py").write_text(TOKENIZATION)
    (aspects / "run_classifier_multi_labels_bert.py").write_text(FLAGS + ASPECTS)
    (cnn / "model" / "bert_cnn_model.py").write_text(CNN)
    (cnn / "data_util_hdf5.py").write_text(CNN_DATA)
    (cnn / "train_bert_lm.py").write_text(TF + CNN_LM)
    (cnn / "train_bert_fine_tuning.py").write_text(TF + CNN_TUNE)
    return folders


@pytest.fixture
def run(
    environment: Callable[[str], Path], checkouts: dict[str, Path], tiny_checkpoint: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """A function: name, task and splits to what the program answers; ``stages`` then has what it showed."""

    def run(name: str, task: str, splits: dict[str, Any], checkout: Path | None = None) -> dict[str, Any]:
        outputs = load_task(task).outputs
        stages: list[tuple[str, int, int]] = []
        checkout = checkout or checkouts[name]
        with Worker(find(name), environment(name), checkout) as worker:
            answer = worker.job(
                tiny_checkpoint,
                {"name": task, "kind": load_task(task).kind, "outputs": list(outputs), "max_length": 128},
                splits,
                tmp_path,
                threads=1,
                on_progress=lambda what, done, total: stages.append((what, done, total)),
            )
        return answer._asdict() | {"stages": stages}

    return run


@pytest.mark.ports
def test_bert_ner_reads_each_sentence_as_one_and_tags_every_word(run: Callable[..., dict[str, Any]]) -> None:
    train = [
        {"words": ["Anna", "sailed", "."], "tags": ["B-PER", "O", "O"]},
        {"words": ["To", "New", "York"], "tags": ["O", "B-LOC", "I-LOC"]},
    ]
    long = ["a-b-c-d-e"] * 12 + ["Anna", "Anna"]  # 60 pieces, and 63 are read
    dev = [
        {"words": ["New", "Zürich"], "tags": ["B-LOC", "B-LOC"]},
        {"words": [".", "\u200b", "Anna", "."], "tags": ["O", "O", "B-PER", "O"]},
        {"words": [*long, "York-York", "Anna"], "tags": ["O"] * 16},
    ]
    test = [{"words": ["York"], "tags": ["B-LOC"]}]
    answer = run("bert-ner", "conll2003", {"train": train, "dev": dev, "test": test})
    assert answer["predictions"] == {
        "dev": [["B-LOC", "O"], ["O", "O", "B-PER", "O"], ["O"] * 12 + ["B-PER", "B-PER", "O", "O"]],
        "test": [["I-LOC"]],
    }
    assert "2 words were never scored" in answer["recipe"], "the invisible one, and the last Anna"
    assert "100 steps of 32 sentences (1.6e+03 epochs)" in answer["recipe"]
    assert answer["version"] == "kyzhouhzau/BERT-NER, tensorflow 2.15.1"
    assert answer["stages"] == [("training", 0, 2), ("predicting", 1, 2)]


@pytest.mark.ports
def test_bert_ner_reads_no_more_pieces_than_the_longest_sentence_has(run: Callable[..., dict[str, Any]]) -> None:
    words = [{"words": ["Anna"], "tags": ["B-PER"]}, {"words": ["a-b", "Anna"], "tags": ["O", "B-PER"]}]
    answer = run("bert-ner", "mini-ner", {"train": words, "dev": words})
    assert answer["predictions"] == {"dev": [["B-PER"], ["O", "B-PER"]]}
    assert "5 word pieces; 0 words were never scored" in answer["recipe"], "[CLS], three pieces and a full stop"


@pytest.mark.ports
def test_bert_ner_without_googles_code_says_where_to_get_it(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"/bert is empty: clone google-research/bert there, and check out ffbda2a"):
        run("bert-ner", "conll2003", {"train": [], "dev": []}, checkout=tmp_path)


@pytest.mark.ports
def test_a_program_that_fails_is_quoted(
    run: Callable[..., dict[str, Any]], checkouts: dict[str, Path], tmp_path: Path
) -> None:
    checkout = tmp_path / "broken"
    shutil.copytree(checkouts["bert-ner"], checkout)
    (checkout / "BERT_NER.py").write_text("raise KeyError('X-MISC')\n")
    words = [{"words": ["Anna"], "tags": ["B-PER"]}]
    with pytest.raises(WorkerError, match=r"BERT_NER.py ended with exit code 1: KeyError: 'X-MISC'") as error:
        run("bert-ner", "conll2003", {"train": words, "dev": words}, checkout=Path(os.path.relpath(checkout)))
    assert "raise KeyError('X-MISC')" in error.value.stderr, "its last lines are kept"


@pytest.mark.ports
def test_each_aspect_of_a_review_gets_one_of_its_values(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    names = load_task("sentiment-fine-grain").outputs
    reviews = {
        f"味道 \t{row}": [names[4 * aspect + (aspect + row) % 4] for aspect in range(20)]  # a tab must not cut the text
        for row in range(3)
    }
    splits = {
        "train": [{"text": text, "label": label} for text, label in reviews.items()],
        "dev": [{"text": text, "label": []} for text in reversed(reviews)],
    }
    answer = run("sentiment-fine-grain", "sentiment-fine-grain", splits)
    assert answer["predictions"] == {"dev": list(reversed(reviews.values()))}
    assert answer["recipe"].startswith("its own: learning rate 5e-5, 2 epochs")
    assert "the same values" not in answer["recipe"]
    shutil.rmtree(tmp_path / "output")
    splits["dev"] = splits["dev"][:1] * 2
    assert run("sentiment-fine-grain", "sentiment-fine-grain", splits)["recipe"].endswith("all reviews the same values")


@pytest.mark.ports
def test_the_cnn_is_pre_trained_fine_tuned_and_asked_in_the_order_given(run: Callable[..., dict[str, Any]]) -> None:
    words = {"Fine,": "positive", "bad!": "negative"}
    train = [{"text": f"{word} {i}", "label": label} for word, label in words.items() for i in range(3)]
    dev = [{"text": ("fine ,", "BAD")[i % 3 == 0], "label": None} for i in range(70)]  # more than one batch
    answer = run("bert-language-understanding", "mini-sentiment", {"train": train, "dev": dev})
    assert answer["predictions"] == {"dev": [("positive", "negative")[i % 3 == 0] for i in range(70)]}
    assert answer["stages"] == [("train_bert_lm", 0, 2), ("train_bert_fine_tuning", 1, 2)]
    assert "30 and 35 epochs" in answer["recipe"]
    assert answer["recipe"].endswith("pre-trained on the 6 texts of the task alone")


@pytest.mark.ports
def test_the_cnn_gives_all_labels_that_reach_half_or_else_the_highest(run: Callable[..., dict[str, Any]]) -> None:
    train = [
        {"text": "hooray", "label": ["joy", "pride"]},
        {"text": "hmm", "label": ["neutral"]},
        {"text": "oh", "label": ["joy"]},
    ]
    splits = {"train": train, "dev": [{"text": "hooray"}, {"text": "hmm hooray"}], "test": [{"text": "unheard"}]}
    predictions = run("bert-language-understanding", "go_emotions", splits)["predictions"]
    assert [sorted(labels) for labels in predictions["dev"]] == [["joy", "pride"], ["joy", "neutral", "pride"]]
    assert predictions["test"] == [["joy"]], "the first of equals"


# -- the task whose files a repository holds --


def test_the_reviews_have_a_value_for_each_of_20_aspects(data_folder: Path) -> None:
    task = load_task("sentiment-fine-grain")
    assert len(task.outputs) == 80
    assert task.labels["19_-2"] == "others willing to consume again, not mentioned"
    for split in ("train", "dev"):
        examples = read_split(task, split, data_folder)
        assert len(examples) == 1000
        for example in examples:
            assert isinstance(example, TextExample)
            assert isinstance(example.label, tuple)
            assert sorted(task.outputs.index(name) // 4 for name in example.label) == list(range(20))


def test_jobs_name_tasks_that_there_are() -> None:
    for name in JOBS:
        assert find(name).checkout
        assert [load_task(task).name for task in find(name).job] == list(find(name).job) != []
