"""The command embed: vectors of texts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import (
    Device,
    Normalize,
    Pooling,
    Threads,
    VectorPrecision,
    Weights,
    check_output,
    names,
    roles,
    thread_count,
)
from harness.printable import printable

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "python -m harness embed sentences.txt --output vectors.npy\n\n"
    "python -m harness embed mails.csv --columns text=message --output vectors.parquet\n\n"
    "cut -f 2 mails.tsv | python -m harness embed - --weights my-model --output vectors.safetensors"
)
def embed(
    file: Annotated[
        Path, typer.Argument(help="Texts: .txt (a line each), .tsv, .csv or .jsonl; - for standard input.")
    ],
    output: Annotated[Path, typer.Option(help="Where the vectors go: .npy, .parquet or .safetensors.")],
    weights: Weights = "minilm-l6",
    form: Annotated[
        str | None, typer.Option("--format", help="lines, tsv, csv or jsonl.  [default: by the file's name]")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Which column is the text: text=NAME, or text=0 without a header.  [default: text]")
    ] = "",
    pooling: Pooling = "",
    normalize: Normalize = None,
    device: Device = "auto",
    precision: VectorPrecision = "auto",
    threads: Threads = None,
) -> None:
    """Write the vector of each text of a file.

    One row is written for each text, in the same order.

    Vectors are those of sentence-transformers for the same folder. The file is written whole, at the end: an
    interrupted command writes nothing, and starts again from the first text. A .parquet has the columns text and
    vector; it and .safetensors name the weights and how vectors were made.
    """
    from harness.predict.embed import check_form, embed_file

    check_form(output)
    check_output(output)
    for line in embed_file(
        file,
        output,
        weights,
        form=form,
        columns=roles(columns),
        pooling=names(pooling),
        normalize=normalize,
        device=device,
        precision=precision,
        threads=thread_count(threads),
        show_progress=sys.stderr.isatty(),
    ):
        print(printable(line), file=sys.stderr)
