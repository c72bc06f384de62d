"""Predictions as others score them: the zip that the GLUE server takes, and the columns that conlleval reads."""

import lzma
import math
import re
import shlex
import statistics
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.data.examples import TextExample, WordExample
from harness.data.fetch import data_folder
from harness.data.leakage import aligned
from harness.data.read import read_split
from harness.data.reading import task_files
from harness.data.task import Task, load_task
from harness.errors import BadInput, Failure
from harness.files import sha256_of
from harness.measure.plan import training_task
from harness.records import record
from harness.records.models import model_of


class TestSet(NamedTuple):
    """What one file of a GLUE submission answers."""

    task: str
    split: str
    rows: int


GLUE = {
    "CoLA.tsv": TestSet("cola", "test", 1063),
    "SST-2.tsv": TestSet("sst2", "test", 1821),
    "MRPC.tsv": TestSet("mrpc", "test", 1725),
    "QQP.tsv": TestSet("qqp", "test", 390965),
    "STS-B.tsv": TestSet("stsb", "test", 1379),
    "MNLI-m.tsv": TestSet("mnli", "test_matched", 9796),
    "MNLI-mm.tsv": TestSet("mnli", "test_mismatched", 9847),
    "QNLI.tsv": TestSet("qnli", "test", 5463),
    "RTE.tsv": TestSet("rte", "test", 3000),
    "WNLI.tsv": TestSet("wnli", "test", 146),
    "AX.tsv": TestSet("ax", "test", 1104),
}
HEADER = "index\tprediction"
Run = tuple[Path, record.Quality]


def glue(paths: Sequence[Path], output: Path, data: Path | None = None, fill_missing: bool = False) -> dict[str, str]:
    """Write the zip for the GLUE server from runs that answered the test sets, one of each task.

    Paths are records and folders of them, all of one implementation and checkpoint. ``fill_missing`` answers a test set
    that no run did with what is most frequent in the training data (STS-B: with its mean), which it reads from the
    data folder; given back is that answer, by file of the zip. BadInput where runs are missing, several of one task,
    or of several models; Failure where predictions are not what the test set asks for.
    """
    runs = _test_runs(paths)
    missing = [name for name in GLUE if name not in runs]
    if missing and not fill_missing:
        raise BadInput(_what_is_missing(missing, runs))
    trainers = {name: training_task(load_task(GLUE[name].task)).name for name in missing}  # of AX: MNLI
    constants = {trainer: _constant(trainer, data_folder(data)) for trainer in set(trainers.values())}
    filled = {name: constants[trainer] for name, trainer in trainers.items()}
    columns = {
        name: [filled[name]] * asked.rows if name in filled else _column(runs[name], asked)
        for name, asked in GLUE.items()
    }
    with _in_place(output) as partial:
        with zipfile.ZipFile(partial, "w") as archive:
            for name, column in columns.items():
                rows = [HEADER, *(f"{index}\t{answer}" for index, answer in enumerate(column))]
                # ZipInfo has the same date whenever it is made: the same predictions give the same bytes
                archive.writestr(zipfile.ZipInfo(name), "\n".join(rows) + "\n", zipfile.ZIP_DEFLATED)
        check_glue(partial)
    return filled


def _finished(paths: Sequence[Path]) -> list[Run]:
    """The quality runs at these paths that went well, each once."""
    files = {file.resolve(): file for path in paths for file in record.files(path)}
    found = [(file, record.read(file)) for file in files.values()]
    return [(file, each) for file, each in found if isinstance(each, record.Quality) and each.state == "ok"]


def _test_runs(paths: Sequence[Path]) -> dict[str, Run]:
    """By file of the zip, the run that answers it: a whole one, the only one of its task, and all of one model."""
    sets = {(asked.task, asked.split) for asked in GLUE.values()}
    found = _finished(paths)
    runs = [run for run in found if sets & {(run[1].task["name"], split) for split in run[1].task["data"]}]
    if not runs:
        raise BadInput(
            f"no finished run on a test set of GLUE in {', '.join(map(str, paths))}; "
            "`python -m harness run --suite glue --splits test` makes them"
        )
    models = {(each.implementation["name"], model_of(each)): (path, each) for path, each in runs}
    if len(models) > 1:
        names = ", ".join(f"{r.implementation['name']} with {r.checkpoint['name']} ({p})" for p, r in models.values())
        raise BadInput(f"a submission is of one implementation and checkpoint, not of several: {names}; name one's")
    counts = Counter(each.task["name"] for _, each in runs)
    if several := [(path, each) for path, each in runs if counts[each.task["name"]] > 1]:
        names = "".join(f"\n{each.task['name']}, seed {each.seed}: {path}" for path, each in several)
        raise BadInput(f"a submission has one run of each task; name the record of one:{names}")
    if limited := [f"{path} ({each.limit})" for path, each in runs if each.limit is not None]:
        raise BadInput(f"limited to so many examples: {', '.join(limited)}; run them again without --limit")
    return {
        name: (path, each)
        for name, asked in GLUE.items()
        for path, each in runs
        if asked.task == each.task["name"] and asked.split in each.task["data"]
    }


def _what_is_missing(missing: list[str], runs: dict[str, Run]) -> str:
    """All files that no run answers, and the command that makes the runs."""
    _, model = next(iter(runs.values()))
    tasks = ",".join(dict.fromkeys(GLUE[name].task for name in missing))
    command = ["python", "-m", "harness", "run", "--impl", model.implementation["name"], "--tasks", tasks]
    command += ["--splits", "test", "--weights", model.checkpoint["name"]]
    return (
        f"no run answers {', '.join(missing)}, and the server takes all files or none. Make the runs:\n"
        f"{shlex.join(command)}\nor give --fill-missing, for the majority class of the training data"
    )


def _constant(name: str, data: Path) -> str:
    """The answer that is right most often in the training data; of scores their mean."""
    task = load_task(name)
    examples: list[Any] = [*read_split(task, "train", data)]
    labels = [example.label for example in examples]
    return _text(task, statistics.mode(labels) if task.labels else statistics.fmean(labels))


def _column(run: Run, asked: TestSet) -> list[str]:
    """What a run answered, in the order of the test set and as the server has it written.

    The ids of all test sets of GLUE are their rows, so that the data is not needed.
    """
    rows = [TextExample(str(row), "", None, None) for row in range(asked.rows)]
    answers = aligned(
        rows, record.predictions_of(*run, asked.split)[asked.split], f"{run[0]}: {asked.task} {asked.split}"
    )
    task = load_task(asked.task)
    return [_text(task, answer) for answer in answers]


def _text(task: Task, answer: Any) -> str:
    """An answer as the task's own files have it, which is how the server wants it too."""
    if not task.labels:  # a score
        if not isinstance(answer, int | float) or not math.isfinite(answer):
            raise Failure(f"{task.name}: {answer!r} is no number to submit; run it again")
        return f"{min(max(0.0, answer), 5.0):.3f}"
    for value, name in task.labels.items():
        if name == answer:
            return value
    raise Failure(f"{task.name}: {answer!r} is none of the labels {', '.join(task.labels.values())}; run it again")


# ---- what the server would refuse ----

ROW = 64  # bytes of a row at most: an index, a tab, and a label or a number
# What zipfile raises, by where a zip is damaged; RuntimeError: it is encrypted, or compressed in a way nobody knows.
DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError)


def check_glue(path: Path) -> None:
    """BadInput, saying all that is wrong, unless this is a zip that the GLUE server takes.

    Which is: every file and no other, its header, one row for each example in order, and answers the task has.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wanted, there = Counter(list(GLUE)), Counter(archive.namelist())
            problems = [f"{name}: missing" for name in wanted - there]
            problems += [f"{name}: no file of a submission, or there twice" for name in there - wanted]
            for name in wanted & there:
                with archive.open(name) as file:
                    problems += _wrong_content(name, file.read(_most_bytes(name) + 1))
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    except DAMAGE as error:
        raise BadInput(f"{path} is not a sound zip: {error}; make it with `python -m harness submit glue`") from error
    if problems:
        raise BadInput("\n".join([f"{path} is not what the GLUE server takes; make it with `submit glue`", *problems]))


def _most_bytes(name: str) -> int:
    """More than any right answer takes: what a few bytes of a zip may unpack to has no end."""
    return ROW * (GLUE[name].rows + 1)


def _wrong_content(name: str, content: bytes) -> list[str]:
    """What is wrong with one file: its size, its header, how many rows it has, and the first row that is not right."""
    if len(content) > _most_bytes(name):
        return [f"{name}: more than {_most_bytes(name)} bytes, which no answer takes"]
    try:
        header, *rows = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        return [f"{name}: not UTF-8 text"]
    problems = [] if header == HEADER else [f"{name}:1: the header is {header!r}, not {HEADER!r}"]
    wanted = GLUE[name].rows
    problems += [] if len(rows) == wanted else [f"{name}: {len(rows)} rows, not {wanted}"]
    task = load_task(GLUE[name].task)
    right = re.compile("|".join(task.labels) or r"[0-4](\.[0-9]+)?|5(\.0+)?")
    for index, row in enumerate(rows):
        number, tab, answer = row.partition("\t")
        if not tab or number != str(index):
            return [*problems, f"{name}:{index + 2}: {row!r} does not begin with index {index} and a tab"]
        if not right.fullmatch(answer):
            known = ", ".join(task.labels) or "a number from 0 to 5"
            return [*problems, f"{name}:{index + 2}: the answer is {answer!r}, not {known}"]
    return problems


# ---- conlleval ----


def conll(path: Path, output: Path, split: str = "test", data: Path | None = None) -> int:
    """Write each word of a split with its right and its predicted tag, as conlleval reads them; returns the sentences.

    ``path`` is the record of a finished run on a tagging task, or a folder with no other. White space in a word becomes
    an underscore, as it would begin a column. BadInput where there is no such run or not the data that it had.
    """
    runs = [run for run in _finished([path]) if run[1].task["kind"] == "tagging"]
    if len(runs) != 1:
        names = "".join(f"\n{file}" for file, _ in runs)
        raise BadInput(f"{path} has {len(runs)} finished runs on tagging tasks; name the record of one{names}")
    path, each = runs[0]
    if each.task["suite"] == "own":
        raise BadInput(f"{path}: task {each.task['name']} is not built in, so its words are not at hand")
    stored = record.predictions_of(*runs[0], split)[split]
    task, folder = load_task(each.task["name"]), data_folder(data)
    examples: list[Any] = [*read_split(task, split, folder)][: each.limit]
    file = task_files(task, folder)[split]
    if sha256_of(file) != each.task["data"].get(split):
        raise BadInput(f"{file} is not the file that the run had (another sha256); name the data's folder with --data")
    answers = aligned(examples, stored, f"{path}: {task.name} {split}")
    sentences = [_lines(path, task, example, tags) for example, tags in zip(examples, answers, strict=True)]
    with _in_place(output) as partial:
        partial.write_text("".join(f"{sentence}\n" for sentence in sentences), encoding="utf-8", newline="\n")
    return len(sentences)


def _lines(path: Path, task: Task, example: WordExample, tags: Any) -> str:
    """A sentence's lines: word, right tag, predicted tag."""
    if example.tags is None:
        raise BadInput(f"{path}: the split has no tags to score against; choose another with --split")
    if not isinstance(tags, tuple) or len(tags) != len(example.words) or not set(tags) <= set(task.outputs):
        raise Failure(f"{path}: sentence {example.id} is not answered with one tag for each word; run it again")
    words = [re.sub(r"\s", "_", word) for word in example.words]
    return "".join(f"{' '.join(row)}\n" for row in zip(words, example.tags, tags, strict=True))


@contextmanager
def _in_place(output: Path) -> Iterator[Path]:
    """A file to write, which is moved to its place once it is whole."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".submit-", dir=output.parent) as folder:
            partial = Path(folder) / output.name
            yield partial
            partial.replace(output)
    except OSError as error:
        raise BadInput(f"--output: {output} cannot be written: {error.strerror}") from error
