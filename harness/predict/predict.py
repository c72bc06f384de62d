"""Answers of a fine-tuned model, saved by ``run --save-model``: those that its run would give.

Texts are read as the run read them, and the model computes as it did there: the layers as they are trained, the same
batches, the same precision. So the dev file of the run gets the labels of the run, to the last bit of their scores.
"""

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness.data.kinds import KINDS
from harness.data.leakage import truncation
from harness.data.reading import Reading
from harness.errors import BadInput, Failure, ours
from harness.measure.evaluate import AT_ONCE, BATCH_TOKENS
from harness.port.batch import Batch, in_order
from harness.predict import answers, inputs
from harness.predict.inputs import Inputs
from harness.registry.implementations import find
from harness.weights.examine import check_fit
from harness.weights.saved_model import Saved, read_description
from harness.worker.messages import Array
from harness.worker.session import Session
from reference.tokenizer import Tokenizer


class Answers(NamedTuple):
    """The answers of a model to all inputs."""

    text: str  # a row for each input: id, answer, probability; for tagging all lines of the input, words with tags
    inputs: int  # their number
    cut: int  # inputs that are longer than the model reads
    notes: list[str]  # what the user should know of how inputs were read


def predict_file(
    folder: Path,
    file: Path,
    device: str = "auto",
    *,
    form: str | None = None,
    columns: dict[str, str] | None = None,
    precision: str = "auto",
    threads: int | None = None,
    output: Path | None = None,
) -> Answers:
    """Answer each text of a file, or of standard input where it is "-"; see ``harness.predict.inputs.from_file``.

    ``precision`` "auto" is that of the model's run if it computed on such a device, else fp32. ``threads`` None means
    torch's default. ``output`` is the file that the answers are for. BadInput where the folder holds no saved model,
    or the file no inputs for it.
    """
    saved = read_description(folder)
    given = inputs.from_file(saved.reading, file, form, columns)
    return _answered(folder, saved, given, device, precision, threads, output)


def predict_texts(
    folder: Path,
    texts: list[str],
    device: str = "auto",
    *,
    precision: str = "auto",
    threads: int | None = None,
    output: Path | None = None,
) -> Answers:
    """The same for texts from the command line; see ``harness.predict.inputs.from_texts``."""
    saved = read_description(folder)
    return _answered(folder, saved, inputs.from_texts(saved.reading, texts), device, precision, threads, output)


def _answered(
    folder: Path, saved: Saved, given: Inputs, device: str, precision: str, threads: int | None, output: Path | None
) -> Answers:
    reading = given.reading
    kind = KINDS[reading.kind]
    form = answers.form_of(reading, output)
    answers.check_writable(given, form)
    session, columns = _loaded(folder, saved, device, precision, threads)
    try:
        tokenizer = Tokenizer.from_folder(folder)
    except (ValueError, OSError) as error:
        raise BadInput(f"{folder}: {error}") from error
    check_fit(asdict(session.model.bert.config), tokenizer, folder, [reading])
    encoded = kind.encode(reading, given.examples, tokenizer, reading.max_length)
    logits = _logits(session, reading.kind, encoded.batch)[:, columns]
    if not np.isfinite(logits).all():
        raise Failure(f"{folder}: the model answers with numbers that are not finite; train it again")
    text = answers.written(given, logits, encoded, form)
    cut = truncation(reading, given.examples, encoded, tokenizer)["cut"]
    notes = [f"{folder} was saved by an older version and lacks {saved.lacks}"] if saved.lacks else []
    return Answers(text, len(given.examples), cut, notes + given.notes)


def _loaded(folder: Path, saved: Saved, device: str, precision: str, threads: int | None) -> tuple[Session, list[int]]:
    """The model as its run scored it, and which of its outputs is each of the task's."""
    import reference

    session = Session(find("reference").file, lambda **_: None)
    try:
        device = reference.resolve_device(device)
        session.load(str(folder), saved.reading.kind, device, "fp32", "", threads)
        if precision == "auto":
            precision = (saved.precision or "fp32") if device.partition(":")[0] == saved.device else "fp32"
        if precision != "fp32":
            session.cast(precision)
    except (ValueError, OSError, RuntimeError) as error:  # of the weights, of what torch makes of the device
        raise ours(error) or BadInput(f"{folder}: {error}") from error
    return session, _columns(folder, saved.reading)


def _columns(folder: Path, reading: Reading) -> list[int]:
    """The place of each of the task's outputs among the model's: a model trained elsewhere may have another order."""
    from reference.checkpoint import read_config

    kind, labels = KINDS[reading.kind], read_config(folder)[1]
    outputs = kind.outputs(reading.labels)
    if kind.why_no_labels:
        return list(range(len(outputs)))
    if sorted(labels) != sorted(outputs):
        raise BadInput(
            f"{folder}: its {kind.outputs_word} are {', '.join(labels)}; the task's are {', '.join(outputs)}"
        )
    return [labels.index(name) for name in outputs]


def _logits(session: Session, kind: str, batch: Batch) -> Array:
    """The logits for all sequences, computed in the same batches as in a run."""
    parts = []
    for piece in in_order(batch.lengths, AT_ONCE):
        parts.append(session.predict(batch.select(piece), kind, BATCH_TOKENS)[1]["logits"])
    return np.concatenate(parts)
