# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""sentiment_analysis_fine_grain: its program for 20 aspects of a review, derived from Google's.

It runs from the user's checkout, on TensorFlow 2.15, and trains and predicts by itself. Its BERT is the original; the
default recipe is shortened here.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.port import tensorflow1, tensorflow1_program

NAME = "sentiment-fine-grain"
TITLE = "sentiment_analysis_fine_grain"
CATALOG_ID = "brightmart-sentiment-analysis-fine-grain"
CHECKOUT = "https://github.com/brightmart/sentiment_analysis_fine_grain"
JOB = ["sentiment-fine-grain"]  # the task has the program's labels, in its order

# The defaults, 3 epochs of 128 pieces, take twice as long, and give the same answers from English weights.
EPOCHS = 2
BATCH_SIZE = 32
LENGTH = 64  # word pieces of a review
VALUES = ("-2", "-1", "0", "1")  # of each aspect
RECIPE = f"its own: learning rate 5e-5, {EPOCHS} epochs, batches of {BATCH_SIZE}, {LENGTH} word pieces; likeliest value"


def job(
    checkout: str, weights: str, task: dict[str, Any], splits: dict[str, Any], out: str, progress: Callable[..., None]
) -> dict[str, Any]:
    """Train and predict with ``run_classifier_multi_labels_bert.py``; each aspect gets the likeliest of its values."""
    place = Path(out)
    tf = tensorflow1.alias()
    from model import bert_modeling

    names, train = task["outputs"], splits["train"]
    number = {name: label for label, name in enumerate(names)}
    flags = tensorflow1_program.write_release(bert_modeling, weights, place)
    _write(place / "train.tsv", [(e["text"], [number[name] for name in e["label"]]) for e in train])
    scored = {split: [example["text"] for example in splits[split]] for split in splits if split != "train"}
    texts = [text for split in scored.values() for text in split]
    _write(place / "test.tsv", [("text", [0, 1]), *((text, [0, 1]) for text in texts)])  # the first line is skipped
    tensorflow1_program.run(
        Path(checkout) / "run_classifier_multi_labels_bert.py",
        flags
        | {"task_name": "sentiment_analysis", "do_train": True, "do_predict": True}
        | {
            "num_train_epochs": EPOCHS,
            "train_batch_size": BATCH_SIZE,
            "max_seq_length": LENGTH,
            "data_dir": place,
            "output_dir": place / "output",
        },
        place,
        tensorflow1_program.show_stages(progress),
    )
    probabilities = np.loadtxt(place / "output" / "test_results.tsv", ndmin=2)
    if probabilities.shape != (len(texts), len(names)):
        raise ValueError(f"test_results.tsv has the shape {probabilities.shape}, not {(len(texts), len(names))}")
    likeliest = probabilities.reshape(len(texts), -1, len(VALUES)).argmax(-1)
    constant = len(texts) > 1 and (likeliest == likeliest[0]).all()
    answers = iter([[names[len(VALUES) * i + value] for i, value in enumerate(values)] for values in likeliest])
    return {
        "version": f"brightmart/sentiment_analysis_fine_grain, tensorflow {tf.__version__}",
        "recipe": RECIPE + ("; it gave all reviews the same values" if constant else ""),
        "predictions": {split: [next(answers) for _ in examples] for split, examples in scored.items()},
    }


def _write(file: Path, examples: list[tuple[str, list[int]]]) -> None:
    """Write lines of the program's labels, such as ``0_-2,1_1``, a tab, and the text."""
    with file.open("w", encoding="utf-8") as lines:
        for text, labels in examples:
            own = ",".join(f"{label // len(VALUES)}_{VALUES[label % len(VALUES)]}" for label in labels)
            lines.write(f"{own}\t{' '.join(text.split())}\n")
