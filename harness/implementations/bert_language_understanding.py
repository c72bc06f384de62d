# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""bert_language_understanding: a TextCNN, pre-trained like BERT and then fine-tuned; from the user's checkout.

Its two programs train by themselves, on TensorFlow 2.15, on words of the task's own texts. It is not a BERT.
"""

import re
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.port import Array, tensorflow1, tensorflow1_program

NAME = "bert-language-understanding"
TITLE = "bert_language_understanding"
CATALOG_ID = "brightmart-bert-language-understanding"
CHECKOUT = "https://github.com/brightmart/bert_language_understanding"
DEVIATIONS = {
    "no-bert": "a TextCNN over words; no weights are read",
    "no-corpus": "it is pre-trained on the task's own texts alone: where they are few, it stays at chance",
}
JOB = ["go_emotions", "mini-sentiment"]

STEPS = 60  # of each stage, roughly: a step of fine-tuning takes two seconds
BATCH_SIZE = 64
LENGTH = 32  # words of a text; by default 200, which long documents need
LM_LENGTH = 10  # of a sentence in pre-training
SIZE = 128  # of a word's vector: the default of fine-tuning, which ignores checkpoints of another size
EPOCHS, LM_EPOCHS = 35, 30  # by default
DATA, PRETRAINED, TUNED = "./data/", "./checkpoint_lm/", "./checkpoint_lm_save/"


def job(
    checkout: str, weights: str, task: dict[str, Any], splits: dict[str, Any], out: str, progress: Callable[..., None]
) -> dict[str, Any]:
    """Pre-train with ``train_bert_lm.py``, fine-tune with ``train_bert_fine_tuning.py``, and predict with its model."""
    place, names = Path(out), task["outputs"]
    lines = [f"{_words(example['text'])} {_labels(example['label'], names)}\n" for example in splits["train"]]
    (place / "lm.txt").write_text("".join(line.partition("__label__")[0] + "\n" for line in lines), encoding="utf-8")
    (place / "train.txt").write_text("".join(lines), encoding="utf-8")
    (place / "valid.txt").write_text("".join(lines[:128]), encoding="utf-8")  # for scores that the program prints
    most = max(1, STEPS * BATCH_SIZE // len(lines))
    lm_epochs, epochs = min(LM_EPOCHS, most), min(EPOCHS, most)
    sizes = {"data_path": DATA, "ckpt_dir": PRETRAINED, "d_model": SIZE, "sequence_length": LENGTH, "process_num": 2}
    files = {"training_data_file": "train.txt", "valid_data_file": "valid.txt", "test_data_file": "valid.txt"}
    stages = {
        "train_bert_lm": {"mask_lm_source_file": "lm.txt", "num_epochs": lm_epochs},
        # The program counts epochs from those in the checkpoint.
        "train_bert_fine_tuning": files | {"ckpt_dir_save": TUNED, "num_epochs": lm_epochs + epochs},
    }
    for done, (program, flags) in enumerate(stages.items()):
        progress(what=program, done=done, total=len(stages))
        script = Path(checkout) / f"{program}.py"
        tensorflow1_program.run(script, sizes | flags, place, lambda line: None, __name__)
    answers = iter(_decode(_predict(splits, place), task["kind"], names))
    return {
        "version": f"brightmart/bert_language_understanding, tensorflow {tensorflow1.alias().__version__}",
        "recipe": f"its own, {lm_epochs} and {epochs} epochs in batches of {BATCH_SIZE}, {LENGTH} words of {SIZE}; "
        f"pre-trained on the {len(lines)} texts of the task alone",
        "predictions": {split: [next(answers) for _ in splits[split]] for split in splits if split != "train"},
    }


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+|[^\w\s]", text.lower()))


def _labels(label: str | list[str], names: list[str]) -> str:
    own = [label] if isinstance(label, str) else label
    return " ".join(f"__label__{names.index(name)}" for name in own)


def prepare() -> None:
    """Make the programs save a checkpoint at their end; by themselves they save one every 256,000 examples."""
    tf = alias()
    base: Any = tf.Session

    class Session(base):
        def __exit__(self, *error: Any) -> None:
            flags = tf.app.flags.FLAGS
            tf.train.Saver().save(self, getattr(flags, "ckpt_dir_save", flags.ckpt_dir) + "last")
            super().__exit__(*error)

    tf.Session = Session


def alias() -> Any:
    """TensorFlow 1, with names that the repository's modules need."""
    tf = tensorflow1.alias()
    tf.contrib.layers.batch_norm = lambda inputs, is_training, scope: tf.layers.batch_normalization(
        inputs, momentum=0.999, epsilon=1e-3, scale=False, training=is_training, name=scope
    )
    time.clock = time.perf_counter  # type: ignore[attr-defined]
    # The texts have spaces between words, like those of the repository; jieba would make a word of every space.
    jieba = types.ModuleType("jieba")
    jieba.lcut = str.split  # type: ignore[attr-defined]
    sys.modules["jieba"] = jieba
    return tf


def _predict(splits: dict[str, Any], place: Path) -> dict[int, Array]:
    """For each label of the training data, by its number: the logits of all examples of the scored splits."""
    tf = alias()
    from data_util_hdf5 import create_or_load_vocabulary, get_lable2index, set_config, transform_data_to_index
    from model.bert_cnn_model import BertCNNModel

    data = f"{place}/{DATA}"
    vocabulary, _ = create_or_load_vocabulary(data, "", 0)  # both read files that the programs saved
    labels = get_lable2index(data, "")
    any_label = next(iter(labels))
    texts = [_words(example["text"]) for split in splits if split != "train" for example in splits[split]]
    lines = [f"{text} __label__{any_label}" for text in texts]
    ids, _ = transform_data_to_index(lines, None, vocabulary, labels, LENGTH, "test", "word")
    flags = types.SimpleNamespace(
        **{"batch_size": BATCH_SIZE, "sequence_length": LENGTH, "sequence_length_lm": LM_LENGTH, "d_model": SIZE},
        **{"is_training": True, "is_fine_tuning": True, "learning_rate": 0.0, "dropout_keep_prob": 1.0},
        **dict.fromkeys(("num_layer", "num_header", "d_k", "d_v")),  # for its transformer, which is not used
    )
    logits = []
    with tf.Graph().as_default(), tf.Session() as session:
        # In training mode, like its own evaluation: batch norm uses the statistics of the batch.
        model = BertCNNModel(set_config(flags, len(labels), len(vocabulary)))
        tf.train.Saver().restore(session, tf.train.latest_checkpoint(f"{place}/{TUNED}"))
        for start in range(0, len(ids), BATCH_SIZE):
            batch = ids[np.arange(start, start + BATCH_SIZE) % len(ids)]  # the last batch wraps around
            logits.append(session.run(model.logits, {model.input_x: batch, model.dropout_keep_prob: 1.0}))
    rows = np.concatenate(logits)[: len(ids)]
    return {int(label): rows[:, column] for label, column in labels.items()}


def _decode(logits: dict[int, Array], kind: str, names: list[str]) -> list[str | list[str]]:
    """The program's rule: labels with a logit of 0.5 or more, else the highest; for classification, the highest."""
    numbers = list(logits)
    rows = np.stack([logits[number] for number in numbers], axis=1)
    likeliest = [names[numbers[column]] for column in rows.argmax(-1)]
    if kind == "classification":
        return list(likeliest)
    chosen = [[names[number] for number, value in zip(numbers, row, strict=True) if value >= 0.5] for row in rows]
    return [own or [first] for own, first in zip(chosen, likeliest, strict=True)]
