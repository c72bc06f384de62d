"""The command predict: answers of a fine-tuned model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Device, Threads, check_output, check_precision, roles, thread_count
from harness.errors import BadInput
from harness.printable import printable

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "python -m harness predict my-model dev.csv --output answers.tsv\n\n"
    "python -m harness predict my-model new.csv --columns text=message,id=number\n\n"
    'python -m harness predict my-model --text "Where is my parcel?"\n\n'
    "python -m harness predict questions-model asked.json --output predictions.json\n\n"
    "cut -f 2 mails.tsv | python -m harness predict my-model -"
)
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that `run --save-model` wrote.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            help="Texts: .txt (a line each), .tsv, .csv, .jsonl, .conll or .json (SQuAD); - is standard input."
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="A text instead of a file; of a pair, with a tab between the two. Repeatable."),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="lines, tsv, csv, jsonl, conll or squad.  [default: by the file's name]"),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            help="Which columns are text, pair and id, or word: text=NAME,...  [default: as the task's files]"
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option(help="Write the answers here; .csv, .jsonl, .json (SQuAD) as such.  [default: print them]"),
    ] = None,
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto (that of the model's run), fp32, bf16 or fp16.")] = "auto",
    threads: Threads = None,
) -> None:
    """Answer new texts with a fine-tuned model.

    It answers as its run would: with the task's columns, separator, encoding and context.
    """
    from harness.predict.predict import predict_file, predict_texts

    if (file is None) == (not text):
        raise BadInput("give a file, - for standard input, or --text: one of these")
    if text and (form or columns):
        raise BadInput("--format and --columns are for files; a --text is taken as it is")
    check_precision(precision)
    if output is not None:
        check_output(output)
    if text:
        found = predict_texts(model, text, device, precision=precision, threads=thread_count(threads), output=output)
    else:
        assert file is not None
        found = predict_file(
            model,
            file,
            device,
            form=form,
            columns=roles(columns),
            precision=precision,
            threads=thread_count(threads),
            output=output,
        )
    _write(found.text, output)
    for note in found.notes:
        print(printable(note), file=sys.stderr)
    if found.cut:
        print(f"{found.cut} of {found.inputs} inputs were cut to what the model reads", file=sys.stderr)


def _write(text: str, output: Path | None) -> None:
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8", newline="\n")
        except OSError as error:
            raise BadInput(f"--output: {output} cannot be written: {error.strerror}") from error
        return
    print(text, end="", flush=True)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        escaped = f"standard output is {sys.stdout.encoding}, so that letters it lacks were written as escapes"
        print(f"{escaped}; --output FILE writes UTF-8", file=sys.stderr)
