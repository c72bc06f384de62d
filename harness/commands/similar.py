"""The command similar: near-duplicates among the texts of a file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import (
    Device,
    Pooling,
    Threads,
    VectorPrecision,
    Weights,
    check_output,
    names,
    roles,
    thread_count,
)
from harness.errors import BadInput
from harness.printable import printable

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "python -m harness similar sentences.txt\n\n"
    "python -m harness similar mails.csv --columns text=message --threshold 0.95 --output pairs.tsv\n\n"
    "python -m harness similar sentences.txt --clusters --output clusters.jsonl"
)
def similar(
    file: Annotated[
        Path, typer.Argument(help="Texts: .txt (a line each), .tsv, .csv or .jsonl; - for standard input.")
    ],
    threshold: Annotated[float, typer.Option(help="The least cosine of a pair, from -1 to 1.")] = 0.9,
    top: Annotated[int, typer.Option(help="Write at most so many pairs, the most similar.")] = 10_000,
    clusters: Annotated[
        bool, typer.Option("--clusters", help="Write the texts that pairs connect, instead of the pairs.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="A .tsv or .jsonl file.  [default: TSV on standard output]")
    ] = None,
    weights: Weights = "minilm-l6",
    form: Annotated[
        str | None, typer.Option("--format", help="lines, tsv, csv or jsonl.  [default: by the file's name]")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Which column is the text: text=NAME, or text=0 without a header.  [default: text]")
    ] = "",
    pooling: Pooling = "",
    device: Device = "auto",
    precision: VectorPrecision = "auto",
    threads: Threads = None,
) -> None:
    """Find pairs of texts in a file that say nearly the same, by the cosine of their vectors.

    Every text is compared with every other. Texts are named by their number in the file, from 1; in TSV, tabs and line
    breaks inside a text are written as \\t and \\n.

    A cluster is all that a chain of pairs connects (single linkage): two of its texts may be less similar than the
    threshold. How similar duplicates are depends on the model and the texts; look at some pairs before trusting a
    threshold.
    """
    from harness.predict.similar import check_form, similar_file

    if not -1 <= threshold <= 1:
        raise BadInput(f"--threshold is {threshold}; a cosine is from -1 to 1")
    if top < 1:
        raise BadInput(f"--top is {top}; it must be above 0")
    if output is not None:
        check_form(output)
        check_output(output)
    content, notes = similar_file(
        file,
        output,
        weights,
        threshold=threshold,
        top=top,
        clusters=clusters,
        form=form,
        columns=roles(columns),
        pooling=names(pooling),
        device=device,
        precision=precision,
        threads=thread_count(threads),
        show_progress=sys.stderr.isatty(),
    )
    print(content, end="")
    for note in notes:
        print(printable(note), file=sys.stderr)
