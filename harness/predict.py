"""Answers of a fine-tuned model, saved by ``run --save-model``, for a file of texts."""

import csv
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.encode import decode, encode
from harness.errors import BadInput, Failure
from harness.evaluate import BATCH_TOKENS
from harness.examine import check_fit
from harness.finetune import predict
from harness.implementations.reference import Model
from harness.protocol import Array
from harness.read import WordExample, column_names, read_split
from harness.sanity import truncation
from harness.task import SplitFile, Task
from reference.tokenizer import Tokenizer

FORMATS = {".txt": "tsv", ".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".conll": "conll"}


class Answers(NamedTuple):
    """What a model answers to a file."""

    text: str  # one line for each input: id, answer and how sure, tab-separated; for tagging ``word tag`` lines
    inputs: int
    cut: int  # inputs of which the model did not read all


def predict_file(folder: Path, file: Path, device: str = "auto") -> Answers:
    """Answer each text of a file.

    A .txt file has a text a line (text and pair with a tab between); .tsv, .csv and .jsonl have columns ``text`` (and
    ``pair``, and ``id``: elsewhere the id is the row, from 0); .conll has a word a line. BadInput where the folder or
    the file is not such.
    """
    import reference

    task = _task(folder, file)
    if "id" in column_names(task, "test", None):
        with_ids = task.files["test"].columns | {"id": "id"}
        task = replace(task, files={"test": replace(task.files["test"], columns=with_ids)})
    examples = read_split(task, "test", None)
    if file.suffix == ".txt":
        _check_tabs(file, len(task.files["test"].columns) - 1)
    try:
        device = reference.resolve_device(device)
        model = Model(reference.load(folder, task.kind, device, "fp32", frozen=True), device, "fp32")
        tokenizer = Tokenizer.from_folder(folder)
    except (ValueError, OSError, RuntimeError) as error:  # of the weights, of what torch makes of the device
        raise BadInput(f"{folder}: {error}") from error
    check_fit(asdict(model.bert.config), tokenizer, folder, [task])
    encoded = encode(task, examples, tokenizer, task.max_length)
    logits = predict(model, encoded.batch, task.kind, BATCH_TOKENS, lambda **_: None)
    if task.kind == "tagging":
        logits = logits[:, _columns(folder, task)]
    if not np.isfinite(logits).all():
        raise Failure(f"{folder}: the model answers with numbers that are not finite; train it again")
    text = _written(task, examples, decode(task, logits, encoded, examples), logits)
    return Answers(text, len(examples), truncation(task, examples, encoded, tokenizer)["cut"])


def _check_tabs(file: Path, most: int) -> None:
    """BadInput where a line has more tabs than stand between its texts: what is behind would go unread."""
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), 1):
        if line.count("\t") > most:
            what = "a text and its pair, with one tab between" if most else "one text a line, without tabs"
            raise BadInput(f"{file}:{number}: this model reads {what}; .tsv, .csv and .jsonl may have other columns")


def _columns(folder: Path, task: Task) -> list[int]:
    """Which of the model's columns is each tag of the task: a model trained elsewhere may have them in any order."""
    from reference.checkpoint import read_config

    labels = read_config(folder)[1]
    if sorted(labels) != sorted(task.outputs):
        raise BadInput(f"{folder}: its tags are {', '.join(labels)}; in IOB2 they would be {', '.join(task.outputs)}")
    return [labels.index(name) for name in task.outputs]


def _task(folder: Path, file: Path) -> Task:
    """What the folder says of its task, with this file as the split to answer."""
    from reference.checkpoint import read_config

    try:
        said = json.loads((folder / "bert_atlas.json").read_text(encoding="utf-8"))
        said = {name: said[name] for name in ("task", "kind", "pairs", "max_length")}
        labels = read_config(folder)[1]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{folder} is not a folder that `run --save-model` wrote: {error}") from error
    if file.suffix not in FORMATS or (FORMATS[file.suffix] == "conll") != (said["kind"] == "tagging"):
        known = ".conll" if said["kind"] == "tagging" else ", ".join(s for s in FORMATS if s != ".conll")
        raise BadInput(f"{file}: this model reads {known}")
    plain = file.suffix == ".txt"
    columns: dict[str, str | int] = {"text": 0 if plain else "text"}
    if said["pairs"]:
        columns["pair"] = 1 if plain else "pair"
    if said["kind"] == "tagging":
        columns = {"word": 0}
        labels = tuple(dict.fromkeys(label[2:] for label in labels if label != "O"))
    return Task(
        name=said["task"],
        title="",
        suite="own",
        kind=said["kind"],
        labels={} if said["kind"] == "regression" else {label: label for label in labels},
        positive=None,
        files={"test": SplitFile(file.resolve(), header=not plain, columns=columns)},
        format=FORMATS[file.suffix],  # type: ignore[arg-type]
        encoding="utf-8",
        label_separator=",",
        separator="whitespace",
        scheme="iob2",
        context="sentence",
        evaluate=("test",),
        metrics=(),
        max_length=said["max_length"],
        recipes={},
        train_task=None,
        download=None,
    )


def _written(task: Task, examples: list[Any], answers: list[Any], logits: Array) -> str:
    if task.kind == "tagging":
        return "\n".join(_tagged(example, tags) for example, tags in zip(examples, answers, strict=True))
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    writer.writerow(["id", "score"] if task.kind == "regression" else ["id", "label", "probability"])
    for example, answer, row in zip(examples, answers, logits.astype(np.float64), strict=True):
        if task.kind == "regression":
            writer.writerow([example.id, f"{answer:.4f}"])
        elif task.kind == "classification":
            probability = np.exp(row.max() - np.logaddexp.reduce(row))
            writer.writerow([example.id, answer, f"{probability:.4f}"])
        else:
            chosen = [f"{1 / (1 + np.exp(-logit)):.4f}" for logit in row if logit > 0]
            writer.writerow([example.id, ",".join(answer), ",".join(chosen)])
    return out.getvalue()


def _tagged(example: WordExample, tags: tuple[str, ...]) -> str:
    return "".join(f"{word} {tag}\n" for word, tag in zip(example.words, tags, strict=True))
