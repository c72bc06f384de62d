"""How the examples of a task are read: which files there are, how they are written, and what their labels mean.

``harness.data.task.Task`` adds how a task is trained and scored. A saved model keeps the reading, so that ``predict``
reads new inputs as the run read its data.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import BadInput

Format = Literal["tsv", "csv", "jsonl", "conll", "squad"]
Scheme = Literal["iob1", "iob2", "iob", "bmes", "bioes", "bilou"]
Context = Literal["sentence", "document"]
Separator = Literal["whitespace", "tab"]
Tags = Literal["repair", "strict"]
LabelForm = Literal["names", "multi-hot"]
Windows = Literal["google", "huggingface"]


@dataclass(frozen=True)
class SplitFile:
    """The file of one split."""

    path: Path  # relative to the data folder, or absolute
    header: bool  # whether its first line names the columns (tsv, csv)
    columns: dict[str, str | int]  # role (id, text, pair, label; word, tag) -> name or 0-based number
    more: tuple[Path, ...] = ()  # files that continue it, in this order


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How examples are read, from file to token ids."""

    name: str  # of the task, for messages
    kind: str  # what is predicted: a name in ``harness.data.kinds.KINDS``
    labels: dict[str, str]  # value in the file -> name; entity types in tagging; empty where answers are not labels
    files: dict[str, SplitFile]  # by split: train, dev..., test...
    format: Format  # of all its files
    encoding: str  # of all its files, by Python's name for it
    label_separator: str  # between the labels of an example (multi-label)
    separator: Separator  # between the columns of a line (tagging)
    scheme: Scheme  # how the files tag entities; the tags that reading returns are always iob2
    context: Context  # the text that surrounds a sentence in the model's input (tagging): none, or its document
    max_length: int  # tokens of one input, special ones included
    download: str | None  # the name by which `data get` knows its files
    tags: Tags = "repair"  # impossible tag sequences are read as conlleval reads them, or refused (tagging)
    ignore: tuple[str | None, ...] = ()  # values of the label column that leave an example out; None: JSON's null
    label: LabelForm = "names"  # how the label column gives them (multi-label): by name, or a 0 or 1 for each
    auto_labels: bool = False  # whether `labels` are those that the training split has
    # question-answering: how a long text is read, and which answers are allowed
    windows: Windows = "google"  # the rule that divides it, that of run_squad.py or that of run_qa.py
    doc_stride: int = 128  # pieces from one window's start to the next one's; in Hugging Face's rule, of their overlap
    max_query_length: int = 64  # pieces that are read of a question, in Google's rule
    max_answer_length: int = 30  # pieces of an answer
    unanswerable: bool = False  # whether a text may have no answer, as in SQuAD 2.0
    null_threshold: float = 0.0  # no answer where its score is so much above that of the best answer


def task_files(reading: Reading, data_folder: Path | None) -> dict[str, Path]:
    """The path of each split's file, whether or not the file exists.

    BadInput if the task reads from the data folder and none is given.
    """
    if data_folder is None and not all(file.path.is_absolute() for file in reading.files.values()):
        raise BadInput(f"task {reading.name} needs a data folder: give --data FOLDER or set BERT_ATLAS_DATA")
    return {split: (data_folder or Path()) / file.path for split, file in reading.files.items()}


def all_files(reading: Reading, split: str, data_folder: Path | None) -> list[Path]:
    """The paths of a split's files, of which most splits have one."""
    first = task_files(reading, data_folder)[split]
    return [first, *((data_folder or Path()) / path for path in reading.files[split].more)]
