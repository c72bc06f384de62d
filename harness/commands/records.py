"""Commands on what was recorded: report, compare, rescore, history, publish, check-record, submit."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Data, OwnTasks, Records
from harness.commands.terminal import terminal
from harness.errors import BadInput, Failure
from harness.printable import printable

app = typer.Typer()
submit_app = typer.Typer(
    help="Write predictions for the GLUE server or for conlleval.",
    epilog="Examples:\n\n"
    "python -m harness submit glue runs/quality --output glue.zip\n\n"
    "python -m harness submit check glue.zip",
    no_args_is_help=True,
)


@app.command(
    epilog="Examples:\n\n"
    "python -m harness report runs results --output report\n\n"
    "python -m harness report results/intel-xeon-processor-with-amx-2-cores/reference --latex > tables.tex"
)
def report(
    records: Annotated[list[Path], typer.Argument(help="Folders of records, or single ones.")],
    output: Annotated[Path | None, typer.Option(help="Also write report.html, .md, .csv, .json and .svg here.")] = None,
    latex: Annotated[
        bool, typer.Option("--latex", help="Print LaTeX for a paper: tables with intervals, seeds and how to cite.")
    ] = False,
) -> None:
    """Print the table of finished runs."""
    from harness.records.record import read_all
    from harness.report.arrange import arrange
    from harness.report.table import print_report, write_report

    found = read_all(records)
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, records))}; `python -m harness run` makes some")
    if output is not None:
        write_report(found, output)
    if latex:
        from harness.report.latex import to_latex

        print(to_latex(found), end="")
        return
    print_report(arrange(found), terminal())


@app.command(
    epilog="Examples:\n\n"
    "python -m harness compare reference transformers --runs results\n\n"
    "python -m harness compare old/reference new/reference --data ~/data --fail-if-worse 1.5"
)
def compare(
    a: Annotated[
        str,
        typer.Argument(
            help="The first side: an implementation in --runs, FOLDER/NAME, a record file, or a folder of records."
        ),
    ],
    b: Annotated[str, typer.Argument(help="The second side, which is compared with the first; the same forms.")],
    runs: Annotated[Path, typer.Option(help="Folder of records, for sides named by implementation.")] = Path("runs"),
    data: Data = None,
    task: OwnTasks = None,
    examples: Annotated[int, typer.Option(min=0, help="How many answers that differ are shown of each task.")] = 10,
    output: Annotated[
        Path | None, typer.Option(help="Also write everything but the right answers to this JSON file.")
    ] = None,
    fail_if_worse: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="Exit code 1 if on a task B's whole 95% interval is more than this below A, or B has no score.",
        ),
    ] = None,
) -> None:
    """Compare B with A in quality and speed.

    Shows how large each difference is, how sure, and on which examples the answers differ.
    """
    from harness.compare.compare import compare as compare_records
    from harness.compare.judge import check_margin, judge, print_comparison, write

    if fail_if_worse is not None:
        check_margin(fail_if_worse)
    comparison = compare_records(a, b, runs, data, task or [])
    if output is not None:
        write(comparison, output)
    print_comparison(comparison, terminal(), examples)
    if fail_if_worse is None:
        return
    worse, unsure = judge(comparison, fail_if_worse)
    for subject in unsure:
        print(f"{subject}: that {comparison.b} is worse by more than {fail_if_worse:g} points is not ruled out")
    if worse:
        raise Failure(f"{comparison.b} is worse by more than {fail_if_worse:g} points on {', '.join(worse)}")


@app.command(epilog="Example: python -m harness rescore results --data ~/data")
def rescore(
    records: Records,
    data: Data = None,
    task: OwnTasks = None,
    write: Annotated[bool, typer.Option("--write", help="Put what differs into the records.")] = False,
) -> None:
    """Compute metrics again from stored predictions.

    No model is loaded. Shows what differs from the records.
    """
    from harness.results.rescore import rescore as rescore_records

    total = differ = 0
    for path, changes in rescore_records(records, data, task or [], write):
        for change in changes:
            print(printable(f"{path}: {change.what}: {change.old} -> {change.new}"))
        total, differ = total + 1, differ + bool(changes)
    print(f"{total} scored again, {differ} different{', rewritten' if differ and write else ''}")
    if differ and not write:
        raise SystemExit(1)


@app.command(epilog="Example: python -m harness history results runs")
def history(
    records: Annotated[list[Path] | None, typer.Argument(help="Folders of records.  [default: results]")] = None,
) -> None:
    """Show figures over the commits.

    There is a table for each kind of machine; steps beyond the noise are marked.
    """
    from harness.records.record import read_all
    from harness.results.history import histories, history_tables

    folders = records or [Path("results")]
    found = histories(read_all(folders))
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, folders))}; `python -m harness run` makes some")
    repeated = [each for each in found if len({point.commit for point in each.points}) > 1]
    for table in history_tables(repeated):
        terminal().print(table)
    if alone := len(found) - len(repeated):
        print(f"not shown, as they were measured at one commit alone: {alone} figures")


@app.command(epilog="Example: python -m harness publish runs/quality/reference-rte-42-0123456789ab.json")
def publish(
    records: Records,
    results: Annotated[Path, typer.Option(help="Where published records are kept.")] = Path("results"),
) -> None:
    """Check records and copy them to --results."""
    from harness.results.publish import publish as copy

    for path in copy(records, results):
        print(printable(str(path)))


@app.command(
    epilog="Examples:\n\npython -m harness figures docs/records.md\n\npython -m harness figures docs/records.md --check"
)
def figures(
    documents: Annotated[list[Path], typer.Argument(help="Markdown files with blocks of figures.")],
    results: Annotated[Path, typer.Option(help="The records that the figures are of.")] = Path("results"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 where a table is not up to date.")
    ] = False,
) -> None:
    """Write the tables of Markdown files from records.

    A comment above each table says what it shows.
    """
    from harness.files import write_whole
    from harness.records.record import read_all
    from harness.report.figures import with_figures

    records, old = read_all([results]), []
    for document in documents:
        try:
            text = document.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"{document} cannot be read: {error}") from error
        try:
            written = with_figures(text, records)
        except BadInput as error:
            raise BadInput(f"{document}, {error}") from None
        if written != text and not check:
            write_whole(document, written.encode())
        old += [str(document)] if written != text else []
    if check and old:
        raise Failure(
            f"not what the records say: {', '.join(old)}; `python -m harness figures {' '.join(old)}` writes it"
        )


@app.command(epilog="Example: python -m harness index --output build/index.json")
def index(
    results: Annotated[Path, typer.Option(help="The folder of published records.")] = Path("results"),
    output: Annotated[Path, typer.Option(help="The JSON file to write.")] = Path("build/index.json"),
    data: Data = None,
) -> None:
    """Write all published records into one file.

    `python -m catalog build` makes the site from it. With task data, differences to the reference have an interval
    over examples; without, over seeds.
    """
    from harness.compare.against import against_reference
    from harness.results.index import write_index

    print(f"{write_index(results, output, against_reference(results, data))} records in {output}")


@app.command("check-record", epilog="Example: python -m harness check-record results")
def check_record(
    records: Records,
) -> None:
    """Check that records may be published; copy nothing.

    The checks are those of `publish`.
    """
    from harness.records.record import files
    from harness.results.publish import check_record as check

    found = [file for path in records for file in files(path)]
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, records))}; `python -m harness run` makes some")
    for file in found:
        check(file)
        print(printable(f"{file}: ok"))


@submit_app.command("glue", epilog="Example: python -m harness submit glue runs/quality --output glue.zip")
def submit_glue(
    runs: Annotated[list[Path], typer.Argument(help="Records of `run --splits test`, or folders of them.")],
    output: Annotated[Path, typer.Option(help="The zip to write.")],
    data: Data = None,
    fill_missing: Annotated[
        bool, typer.Option("--fill-missing", help="Predict the majority class where a task has no run.")
    ] = False,
) -> None:
    """Write the zip that the GLUE server takes, from one model's answers to all test sets."""
    from harness.results.submit import glue

    for name, answer in glue(runs, output, data, fill_missing).items():
        what = "mean" if name == "STS-B.tsv" else "majority class"
        print(f"{name}: no run; every answer is {answer}, the {what} of the training data")
    print(f"{output}: ok")


@submit_app.command("conll", epilog="Example: python -m harness submit conll runs/quality --output conll.txt")
def submit_conll(
    run: Annotated[Path, typer.Argument(help="The record of a run on a tagging task, or the folder of one.")],
    output: Annotated[Path, typer.Option(help="The file to write.")],
    split: Annotated[str, typer.Option(help="The split whose answers are written.")] = "test",
    data: Data = None,
) -> None:
    """Write words with their right and their predicted tags, as the program conlleval reads them."""
    from harness.results.submit import conll

    print(f"{output}: {conll(run, output, split, data)} sentences")


@submit_app.command("check", epilog="Example: python -m harness submit check glue.zip")
def submit_check(file: Annotated[Path, typer.Argument(help="A zip for the GLUE server.")]) -> None:
    """Check that a zip is what the GLUE server takes: its files, their headers, rows and answers."""
    from harness.results.submit import check_glue

    check_glue(file)
    print(f"{file}: ok")
