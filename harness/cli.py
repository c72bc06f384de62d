"""The command line. Heavy imports stand inside the commands, so that ``--help`` answers at once."""

import errno
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import __version__
from harness.errors import BadInput, Failure

if TYPE_CHECKING:
    from rich.console import Console

    from harness.record import Record

app = typer.Typer(
    help="Measure BERT implementations: parity, accuracy and throughput, from the same weights on the same data.",
    epilog="Start with: python -m harness run --impl reference",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Get task data from its official addresses, and see what is there.", no_args_is_help=True)
app.add_typer(data_app, name="data")
env_app = typer.Typer(
    help="Environments of implementations that cannot live beside the harness; `run` makes what it needs by itself.",
    no_args_is_help=True,
)
app.add_typer(env_app, name="env")
submit_app = typer.Typer(help="Predictions in the form in which others score them.", no_args_is_help=True)
app.add_typer(submit_app, name="submit")

# Options that several commands have.
Impl = Annotated[str, typer.Option(help="Implementations, separated by commas, or all; see `list`.")]
Checkout = Annotated[
    list[str] | None, typer.Option(help="Where an implementation's repository lies: NAME=FOLDER. Repeatable.")
]
Weights = Annotated[str, typer.Option(help="A name of `list`, a Hub id, a folder or a TensorFlow checkpoint.")]
Data = Annotated[Path | None, typer.Option(envvar="BERT_ATLAS_DATA", help="Folder of task data (see `data get`).")]
Runs = Annotated[Path, typer.Option(help="Folder for the records.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.  [default: all cores]")]
OwnTasks = Annotated[list[Path] | None, typer.Option(help="A task of your own: its YAML file. Repeatable.")]
Records = Annotated[list[Path], typer.Argument(help="Records, or folders of them.")]


def main() -> None:
    """Run the command line; exit code 0 all well, 1 a run failed, 2 bad input, 130 interrupted."""
    try:
        app()
    except BadInput as error:
        _complain(error, 2)
    except Failure as error:
        _complain(error, 1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _complain(Failure(f"the disk is full ({error.filename}); make room and start again: finished runs are kept"), 1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _complain(error: Exception, code: int) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code)


def _version(asked: bool) -> None:
    if asked:
        print(f"BERT Atlas {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options of the program itself."""


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@app.command(
    epilog="Examples:\n\n"
    "python -m harness run --impl reference\n\n"
    "python -m harness run --impl reference,transformers --tasks rte,conll2003 --data ~/data\n\n"
    "python -m harness run --impl reference --task my_task.yaml --weights bert-base-uncased --save-model my-model\n\n"
    "python -m harness run --impl all --checkout bert-chainer=~/bert-chainer\n\n"
    "python -m harness run --impl reference,transformers --tasks rte,mrpc --seeds 5 --precision fp32,bf16 --dry-run"
)
def run(
    impl: Impl = "reference",
    checkout: Checkout = None,
    tasks: Annotated[str, typer.Option(help="Tasks, separated by commas; see `list`.")] = "",
    task: OwnTasks = None,
    suite: Annotated[str | None, typer.Option(help="All tasks of a suite.  [default: mini, if no task]")] = None,
    splits: Annotated[
        str, typer.Option(help="Splits to score, such as dev,test, instead of the task's; test may be test_matched.")
    ] = "",
    weights: Weights = "minilm-l6",
    data: Data = None,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    precision: Annotated[
        str, typer.Option(help="Of evaluation and timing: auto, fp32, bf16, fp16, or several of these, with commas.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the new head, the order of examples and dropout.")] = 42,
    seeds: Annotated[int, typer.Option(help="How many seeds, counted up from --seed.")] = 1,
    threads: Threads = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate, instead of the task's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data, instead of the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step, instead of the task's.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens a sequence, instead of the task's.")] = None,
    context: Annotated[str | None, typer.Option(help="For NER: sentence or document.")] = None,
    select: Annotated[str, typer.Option(help="Epoch to score: last, or dev for the best on the dev set.")] = "last",
    limit: Annotated[int | None, typer.Option(help="Use only so many examples of each split.")] = None,
    save_model: Annotated[Path | None, typer.Option(help="Write the fine-tuned model to this folder.")] = None,
    load: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Also find the highest query rate whose p99 latency stays below this."),
    ] = None,
    rerun: Annotated[
        str, typer.Option(help="missing: run what has no record; failed: also what failed before; all: everything.")
    ] = "missing",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run, and about how long it takes; run nothing.")
    ] = False,
) -> None:
    """Fine-tune, score and time implementations; print the table and write the records."""
    from harness import run as main_path
    from harness.dry_run import print_dry_run
    from harness.plan import Options, prepare_each

    own = [str(path) for path in task or []]
    if context not in (None, "sentence", "document"):
        raise BadInput(f"--context {context!r} is neither sentence nor document")
    if load is not None and not 0 < load < float("inf"):
        raise BadInput(f"--load is {load}; it is a latency in milliseconds, above 0")
    if seeds < 1:
        raise BadInput(f"--seeds is {seeds}; it must be above 0")
    plans = prepare_each(
        Options(
            implementations=_names(impl),
            tasks=_names(tasks) + own,
            suite=suite if suite or tasks or own else "mini",
            splits=tuple(_names(splits)),
            weights=weights,
            data=data,
            runs=runs,
            seeds=tuple(range(seed, seed + seeds)),
            device=device,
            threads=threads,
            epochs=epochs,
            learning_rate=lr,
            batch_size=batch_size,
            max_length=max_length,
            context=context,  # type: ignore[arg-type]
            select=select,  # type: ignore[arg-type]
            limit=limit,
            save_model=save_model,
            rerun=rerun,  # type: ignore[arg-type]
            dry_run=dry_run,
            checkouts=_checkouts(checkout),
            bound=None if load is None else load / 1000,
            command=_command(data, runs),
        ),
        _names(precision),
    )
    if dry_run:
        print_dry_run(plans, _output())
    else:
        _run(plans, runs, main_path.run)


def _checkouts(given: list[str] | None) -> dict[str, Path]:
    folders = {}
    for text in given or []:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise BadInput(f"--checkout {text!r} is not of the form NAME=FOLDER")
        folders[name] = Path(folder).expanduser()
    return folders


def _command(data: Path | None, runs: Path) -> str:
    from harness.provenance import command

    folders = {"BERT_ATLAS_DATA": data.resolve()} if data else {}
    return command(["python", "-m", "harness", *sys.argv[1:]], folders)


def _run(made: Any, runs: Path, path: Callable[..., Iterator["Record"]], layers: bool = False) -> None:
    """Go along the path with progress; print and write the tables, even of what was finished before an error."""
    from rich.console import Console

    from harness.record import Quality
    from harness.report import arrange, layer_tables, print_report, write_report

    records: list[Record] = []
    ended: BaseException | None = None
    log = Console(stderr=True)
    with _progress(log) as show:
        try:
            for each in path(made, show):
                records.append(each)
                log.print(_line(each), highlight=False, markup=False, soft_wrap=True)
        except (KeyboardInterrupt, BadInput, Failure) as error:
            ended = error  # what is finished is shown all the same
    print_report(arrange(records), _output())
    for table in layer_tables(records) if layers else []:
        _output().print(table)
    files = write_report(records, runs) if records else []
    if files:
        log.print(f"records and report in {runs}/", highlight=False)
    if ended is not None:
        raise ended
    if any(isinstance(each, Quality) and each.state == "failed" for each in records):
        log.print("failed runs are not repeated; --rerun failed repeats them", highlight=False)
    if any(each.state == "failed" for each in records) or any(_partly_failed(each) for each in records):
        raise SystemExit(1)


def _partly_failed(each: "Record") -> bool:
    from harness.record import Speed

    return isinstance(each, Speed) and any(f["state"] == "failed" for f in each.implementations.values())


def _output() -> "Console":
    """Standard output; a pipe or file gets a width at which no table is cut."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def _line(each: "Record") -> str:
    """What a finished record says in one line."""
    from harness.record import Parity, Quality

    done = f"{each.state} in {each.seconds:.0f} s" if each.state == "ok" else f"{each.state}: {each.reason}"
    if isinstance(each, Quality):
        values = ", ".join(f"{m['split']} {m['name']} {m['value']:.3f}" for m in each.metrics)
        return f"{each.implementation['name']} on {each.task['name']}, seed {each.seed}: {values} ({done})"
    if isinstance(each, Parity):
        why = f", {each.diagnosis['sentence']}" if each.diagnosis else ""
        return f"{each.implementation['name']}, parity: {each.verdict}{why} ({done})"
    return f"timed {each.shape['name']} ({done})"  # type: ignore[attr-defined]


@contextmanager
def _progress(console: "Console") -> Iterator[Any]:
    """A bar that ``show(what, done, total)`` moves; on a pipe there is none."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=None)

        def show(what: str, done: int = 0, total: int = 1) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        yield show


@app.command(epilog="Example: python -m harness parity --impl transformers,keras-hub --layers")
def parity(
    impl: Impl = "all",
    checkout: Checkout = None,
    weights: Weights = "minilm-l6",
    runs: Runs = Path("runs"),
    device: Device = "auto",
    threads: Threads = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show the differences after every layer.")] = False,
) -> None:
    """Compare hidden states with the reference in float64, and find out why they differ where they do."""
    from harness import run as main_path
    from harness.plan import Options, prepare

    options = Options(
        implementations=_names(impl),
        tasks=[],
        weights=weights,
        runs=runs,
        device=device,
        threads=threads,
        checkouts=_checkouts(checkout),
        command=_command(None, runs),
    )
    _run(prepare(options, tasks_needed=False), runs, main_path.run_parity, layers)


@app.command(
    epilog="Examples:\n\n"
    "python -m harness time --impl reference:bf16,openvino:bf16 --shapes 1x16,1x128,32x128\n\n"
    "python -m harness time --impl reference,transformers --tasks sst2,mrpc --by-length --data ~/data"
)
def time(
    impl: Impl = "reference",
    checkout: Checkout = None,
    shapes: Annotated[str, typer.Option(help="SEQUENCESxLENGTH, separated by commas.")] = "1x128,8x128,32x128",
    tasks: Annotated[str, typer.Option(help="Tasks whose own lengths are timed too; see `list`.")] = "",
    sentences: Annotated[int, typer.Option(help="How many of a task are timed.")] = 128,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Sort these by length for all implementations.")
    ] = False,
    training: Annotated[bool, typer.Option("--training", help="Time fine-tuning on --tasks instead.")] = False,
    weights: Weights = "minilm-l6",
    data: Data = None,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16.")] = "auto",
    threads: Threads = None,
) -> None:
    """Time implementations in turn, without fine-tuning; the reference takes part, as the ratios are to it."""
    from harness import run as main_path
    from harness.plan import Options, prepare

    if training and not _names(tasks):
        raise BadInput("--training needs --tasks, such as --tasks rte: what is fine-tuned on")
    options = Options(
        implementations=list(dict.fromkeys(["reference", *_names(impl)])) if impl != "all" else ["all"],
        tasks=_names(tasks),
        shapes=_shapes(shapes),
        sentences=sentences,
        by_length=by_length,
        training=training,
        weights=weights,
        data=data,
        runs=runs,
        device=device,
        precision=precision,
        threads=threads,
        checkouts=_checkouts(checkout),
        command=_command(data, runs),
    )
    _run(prepare(options, tasks_needed=bool(options.tasks)), runs, main_path.run_time)


def _shapes(text: str) -> tuple[tuple[int, int], ...]:
    shapes = []
    for name in _names(text):
        sequences, times, length = name.partition("x")
        if not (times and sequences.isdecimal() and length.isdecimal() and int(sequences) and int(length)):
            raise BadInput(f"--shapes: {name!r} is not of the form SEQUENCESxLENGTH, such as 32x128")
        shapes.append((int(sequences), int(length)))
    return tuple(shapes)


@app.command(epilog="Example: python -m harness report runs results --output report")
def report(
    records: Annotated[list[Path], typer.Argument(help="Folders of records, or single ones.")],
    output: Annotated[Path | None, typer.Option(help="also write report.html, .md, .csv, .json and .svg here.")] = None,
) -> None:
    """Print the table of finished runs."""
    from harness.record import read_all
    from harness.report import arrange, print_report, write_report

    found = read_all(records)
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, records))}; `python -m harness run` makes some")
    print_report(arrange(found), _output())
    if output is not None:
        write_report(found, output)


@app.command(
    epilog="Examples:\n\n"
    "python -m harness compare reference transformers --runs results\n\n"
    "python -m harness compare old/reference new/reference --data ~/data --fail-if-worse 1.5"
)
def compare(
    a: Annotated[str, typer.Argument(help="An implementation in --runs, FOLDER/NAME, a record, a folder of one's.")],
    b: Annotated[str, typer.Argument(help="The same, of what is compared with it.")],
    runs: Annotated[Path, typer.Option(help="Where implementations' records are looked for.")] = Path("runs"),
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
    """Compare B with A: how large the difference is, how sure, in quality and in speed, and on which examples."""
    from harness.compare import compare as compare_records
    from harness.verdict import check_margin, judge, print_comparison, write

    if fail_if_worse is not None:
        check_margin(fail_if_worse)
    made = compare_records(a, b, runs, data, task or [])
    print_comparison(made, _output(), examples)
    if output is not None:
        write(made, output)
    if fail_if_worse is None:
        return
    worse, unsure = judge(made, fail_if_worse)
    for subject in unsure:
        print(f"{subject}: that {made.b} is worse by more than {fail_if_worse:g} points is not ruled out")
    if worse:
        raise Failure(f"{made.b} is worse by more than {fail_if_worse:g} points on {', '.join(worse)}")


@app.command(epilog="Example: python -m harness rescore results --data ~/data")
def rescore(
    records: Records,
    data: Data = None,
    task: OwnTasks = None,
    write: Annotated[bool, typer.Option("--write", help="Put what differs into the records.")] = False,
) -> None:
    """Compute metrics again from stored predictions, without a model; show what differs from the records."""
    from harness.rescore import rescore as rescore_records

    total = differ = 0
    for path, changes in rescore_records(records, data, task or [], write):
        for change in changes:
            print(f"{path}: {change.what}: {change.old} -> {change.new}")
        total, differ = total + 1, differ + bool(changes)
    print(f"{total} scored again, {differ} different{', written anew' if differ and write else ''}")
    if differ and not write:
        raise SystemExit(1)


@app.command(epilog="Example: python -m harness history results runs")
def history(
    records: Annotated[list[Path] | None, typer.Argument(help="Folders of records.  [default: results]")] = None,
) -> None:
    """Show figures over the commits, on each kind of machine, and mark steps beyond the noise."""
    from harness.history import histories, history_tables
    from harness.record import read_all

    folders = records or [Path("results")]
    found = histories(read_all(folders))
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, folders))}; `python -m harness run` makes some")
    for table in history_tables(found):
        _output().print(table)


@app.command("list", epilog="Example: python -m harness list")
def list_() -> None:
    """Show implementations, tasks and weights that can be named."""
    from rich.table import Table

    from harness.implementation import implementations
    from harness.task import load_task, task_names
    from harness.weights import weights_names

    console = _output()
    for title, rows in (
        ("implementations", [(each.name, each.title) for each in implementations().values()]),
        (
            "tasks",
            [(t.name, f"{t.title}; {t.kind}, {t.metrics[0]}; suite {t.suite}") for t in map(load_task, task_names())],
        ),
        ("weights", list(weights_names().items())),
    ):
        table = Table("name", "what it is", title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        console.print(table, "")


@app.command(epilog="Example: python -m harness doctor")
def doctor() -> None:
    """Show this machine, what it can do and what is missing."""
    from rich.table import Table

    from harness.doctor import diagnose

    checks = diagnose()
    table = Table("check", "state", "detail", "advice", box=None, padding=(0, 2, 0, 0))
    colours = {"ok": "green", "missing": "red", "warning": "yellow", "info": "dim"}
    for check in checks:
        table.add_row(check.name, f"[{colours[check.state]}]{check.state}[/]", check.detail, check.advice)
    _output().print(table)
    if any(check.state == "missing" for check in checks):
        raise SystemExit(1)


@app.command(epilog="Example: python -m harness predict my-model sentences.txt --output answers.tsv")
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that `run --save-model` wrote.")],
    file: Annotated[Path, typer.Argument(help="Texts: .txt (a line each), .tsv, .csv, .jsonl or .conll.")],
    output: Annotated[Path | None, typer.Option(help="Write the answers here.  [default: print them]")] = None,
    device: Device = "auto",
) -> None:
    """Answer with a fine-tuned model."""
    from harness.predict import predict_file

    text = predict_file(model, file, device)
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--output: {output} cannot be written: {error.strerror}") from error


@app.command(epilog="Example: python -m harness publish runs/quality/reference-rte-42-0123456789ab.json")
def publish(
    records: Records,
    results: Annotated[Path, typer.Option(help="Where published records are kept.")] = Path("results"),
) -> None:
    """Check records and copy them to the published ones."""
    from harness.publish import publish as copy

    for path in copy(records, results):
        print(path)


@app.command("check-record", epilog="Example: python -m harness check-record results")
def check_record(
    records: Records,
) -> None:
    """Check that records may be published, as `publish` does; copy nothing."""
    from harness.publish import check_record as check
    from harness.record import files

    found = [file for path in records for file in files(path)]
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, records))}; `python -m harness run` makes some")
    for file in found:
        check(file)
        print(f"{file}: ok")


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
    from harness.submit import glue

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
    from harness.submit import conll

    print(f"{output}: {conll(run, output, split, data)} sentences")


@submit_app.command("check", epilog="Example: python -m harness submit check glue.zip")
def submit_check(file: Annotated[Path, typer.Argument(help="A zip for the GLUE server.")]) -> None:
    """Check that a zip is what the GLUE server takes: its files, their headers, rows and answers."""
    from harness.submit import check_glue

    check_glue(file)
    print(f"{file}: ok")


@data_app.command("get", epilog="Example: python -m harness data get glue conll2003")
def data_get(
    names: Annotated[list[str], typer.Argument(help="glue, one of its tasks, conll2003, wnut17, msra_ner, ...")],
    data: Annotated[Path | None, typer.Option(envvar="BERT_ATLAS_DATA", help="Folder for task data.")] = None,
    source: Annotated[str, typer.Option(help="official, or hub (the Hugging Face Hub's copies).")] = "official",
) -> None:
    """Download data sets, check them by sha256 and unpack them. Broken downloads resume."""
    from harness.data import data_folder, get

    folder = data_folder(data)
    get(names, folder, source)  # type: ignore[arg-type]
    print(f"ready in {folder}; use it with: --data {shlex.quote(str(folder))}")


@data_app.command("list", epilog="Example: python -m harness data list")
def data_list(
    data: Annotated[Path | None, typer.Option(envvar="BERT_ATLAS_DATA", help="Folder of task data.")] = None,
) -> None:
    """Show which data sets are there, and where the others come from."""
    from rich.table import Table

    from harness.data import data_folder, listing

    folder = data_folder(data)
    rows = listing(folder)
    table = Table(*rows[0]._fields, box=None, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*map(str, row))
    console = _output()
    console.print(f"data folder: {folder}", highlight=False)
    console.print(table)


@env_app.command("list", epilog="Example: python -m harness env list")
def env_list() -> None:
    """Show which implementations have an environment of their own, and which of them exist."""
    from rich.table import Table

    from harness.environment import find_environment, folder_of, listing, unmet
    from harness.implementation import implementations

    table = Table("implementation", "runs in", "state", box=None, padding=(0, 2, 0, 0))
    for each in implementations().values():
        lacking = unmet(each.requirements)
        if not lacking:
            table.add_row(each.name, "the harness's own", "ok")
            continue
        made = find_environment(each.requirements)
        state = f"ok, {made.size / 2**20:.0f} MiB" if made else f"not made; lacking here: {', '.join(lacking[:3])}"
        table.add_row(each.name, folder_of(each.requirements).name, state)
    console = _output()
    console.print(table, highlight=False)
    for environment in listing():
        if not environment.used_by():
            console.print(f"{environment.key}: used by nothing any more; `env remove {environment.key}` deletes it")


@env_app.command("create", epilog="Example: python -m harness env create bert-for-tf2 keras-bert")
def env_create(
    names: Annotated[list[str], typer.Argument(help="Implementations, or all.")],
) -> None:
    """Make the environments of implementations, or find them made."""
    from rich.console import Console

    from harness.environment import create, unmet
    from harness.implementation import find, implementations

    chosen = list(implementations().values()) if names == ["all"] else [find(name) for name in names]
    failed = []
    with _progress(Console(stderr=True)) as show:
        for each in chosen:
            if not unmet(each.requirements):
                print(f"{each.name}: runs beside the harness, needs no environment")
                continue
            try:
                made = create(each.requirements, lambda what, name=each.name: show(f"{name}: {what}"))
                print(f"{each.name}: {made.folder}")
            except Failure as error:
                failed.append(f"{each.name}: {error}")
    if failed:
        raise Failure("\n".join(failed))


@env_app.command("remove", epilog="Example: python -m harness env remove bert-for-tf2")
def env_remove(
    names: Annotated[list[str], typer.Argument(help="Implementations or keys of `env list`, or all.")],
) -> None:
    """Delete environments; `run` makes them again when it needs them."""
    from harness.environment import listing, remove

    gone = []
    for environment in listing():
        users = environment.used_by()
        if names == ["all"] or environment.key in names or set(users) & set(names):
            remove(environment)
            gone.append(environment)
            print(f"removed {environment.key} ({', '.join(users) or 'used by nothing'})")
    if not gone:
        raise BadInput(f"there is no environment of {', '.join(names)}; `python -m harness env list` shows them")
