"""Commands that measure: run, parity, time."""

import re
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import (
    Checkout,
    Data,
    Device,
    Impl,
    OwnTasks,
    Runs,
    Threads,
    Weights,
    check_texts,
    checkouts,
    command_line,
    names,
)
from harness.commands.terminal import log_console, progress, terminal
from harness.errors import BadInput, Failure, ours
from harness.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from harness.measure.plan import Plan
    from harness.records.record import Record

app = typer.Typer()
MAX_SEEDS = 10_000  # each needs a run


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
        str, typer.Option(help="Precision of evaluation and timing: auto, fp32, bf16, fp16, or several with commas.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed for the new head, the example order and dropout.")] = 42,
    seeds: Annotated[int, typer.Option(help="Number of seeds, counted up from --seed.")] = 1,
    threads: Threads = None,
    nproc: Annotated[
        int, typer.Option(help="Processes that train one model together; they divide --threads, or have a GPU each.")
    ] = 1,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate, instead of the task's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data, instead of the task's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step, instead of the task's.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens per sequence, instead of the task's.")] = None,
    context: Annotated[str | None, typer.Option(help="What a model reads in NER: sentence or document.")] = None,
    select: Annotated[str, typer.Option(help="Epoch to score: last, or dev for the best on the dev set.")] = "last",
    limit: Annotated[int | None, typer.Option(help="Use only this many examples of each split.")] = None,
    save_model: Annotated[Path | None, typer.Option(help="Write the fine-tuned model to this folder.")] = None,
    load: Annotated[
        float | None,
        typer.Option(metavar="MS", help="Also find the highest query rate with a p99 latency below this."),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="NUMBER/ALL", help="Do one share of the runs, such as 3/16; the first times.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="ENGINE", help="ray: on the machines of a Ray cluster; ray:HOST:PORT names it."),
    ] = None,
    rerun: Annotated[
        str, typer.Option(help="missing: run what has no record; failed: also what failed before; all: everything.")
    ] = "missing",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run and about how long it would take; run nothing.")
    ] = False,
) -> None:
    """Fine-tune, score and time implementations.

    Prints the table and writes the records.
    """
    from harness.measure import main_path
    from harness.measure.dry_run import print_dry_run
    from harness.measure.plan import Options, prepare_each
    from harness.shares import Share

    own = [str(path) for path in task or []]
    if context not in (None, "sentence", "document"):
        raise BadInput(f"--context {context!r} is neither sentence nor document")
    if load is not None and not 0 < load < float("inf"):
        raise BadInput(f"--load is {load}; it is a latency in milliseconds, above 0")
    if not 1 <= seeds <= MAX_SEEDS:
        raise BadInput(f"--seeds is {seeds}; it must be from 1 to {MAX_SEEDS}")
    _check_engine(on, shard, save_model, device, nproc)
    plans = prepare_each(
        Options(
            implementations=names(impl),
            tasks=names(tasks) + own,
            suite=suite if suite or tasks or own else "mini",
            splits=tuple(names(splits)),
            weights=weights,
            data=data,
            runs=runs,
            seeds=tuple(range(seed, seed + seeds)),
            device=device,
            threads=threads,
            nproc=nproc,
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
            checkouts=checkouts(checkout),
            share=None if shard is None else Share.parse(shard),
            bound=None if load is None else load / 1000,
            command=command_line(data),
        ),
        names(precision),
    )
    print_notes(plans)
    if dry_run:
        print_dry_run(plans, terminal())
        return
    with progress(log := log_console()) as show:
        if on is None:
            steps = main_path.run(plans, show)
        else:
            from harness.cluster import on_ray

            steps = on_ray.run(plans, names(precision), on.partition(":")[2] or None, show)
        records, error = collected(steps, log)
    _finish(records, error, runs)


@app.command(
    epilog="Examples:\n\n"
    "python -m harness parity --impl transformers,keras-hub --layers\n\n"
    "python -m harness parity --impl pytorch-pretrained-bert,bert-pytorch --training"
)
def parity(
    impl: Impl = "all",
    checkout: Checkout = None,
    weights: Weights = "minilm-l6",
    runs: Runs = Path("runs"),
    device: Device = "auto",
    threads: Threads = None,
    layers: Annotated[bool, typer.Option("--layers", help="Show the differences after every layer.")] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Compare gradients too, and weights after 20 steps of training.")
    ] = False,
) -> None:
    """Compare hidden states with the reference in float64.

    Where they differ, find out why.
    """
    from harness.measure import main_path
    from harness.measure.plan import Options, prepare

    options = Options(
        implementations=names(impl),
        tasks=[],
        weights=weights,
        runs=runs,
        device=device,
        training=training,
        threads=threads,
        checkouts=checkouts(checkout),
        command=command_line(),
    )
    plan = prepare(options, tasks_needed=False)
    print_notes([plan])
    with progress(log := log_console()) as show:
        records, error = collected(main_path.run_parity(plan, show), log)
    _finish(records, error, runs, layers)


@app.command(
    epilog="Examples:\n\n"
    "python -m harness time --impl reference:bf16,openvino:bf16 --shapes 1x16,1x128,32x128\n\n"
    "python -m harness time --impl reference,transformers --tasks sst2,mrpc --by-length --data ~/data\n\n"
    "python -m harness time --impl reference,openvino --texts mails.txt"
)
def time(
    impl: Impl = "reference",
    checkout: Checkout = None,
    shapes: Annotated[
        str, typer.Option(help="Shapes to time: SEQUENCESxLENGTH, separated by commas.")
    ] = "1x128,8x128,32x128",
    tasks: Annotated[str, typer.Option(help="Tasks to time at their own lengths too; see `list`.")] = "",
    texts: Annotated[
        Path | None, typer.Option(help="Texts of yours to time too: .txt (a line each), .tsv, .csv or .jsonl.")
    ] = None,
    sentences: Annotated[int, typer.Option(help="Number of examples of each task, and of --texts, to time.")] = 128,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Sort the examples by length for all implementations.")
    ] = False,
    training: Annotated[bool, typer.Option("--training", help="Time fine-tuning on --tasks instead.")] = False,
    weights: Weights = "minilm-l6",
    data: Data = None,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    precision: Annotated[str, typer.Option(help="Precision: auto, fp32, bf16 or fp16.")] = "auto",
    threads: Threads = None,
) -> None:
    """Time implementations in turn, without fine-tuning.

    The reference takes part, because the ratios are to it.
    """
    from harness.measure import main_path
    from harness.measure.plan import Options, prepare
    from harness.predict.embed import read_texts

    if training and not names(tasks):
        raise BadInput("--training needs --tasks, such as --tasks rte: what is fine-tuned on")
    if training and texts:
        raise BadInput("--training is of tasks; leave --texts out")
    inputs = read_texts(texts) if texts else None
    given = tuple(example.text for example in inputs.examples) if inputs else ()
    if texts:
        check_texts(texts, given)
    options = Options(
        implementations=["reference", *names(impl)],
        tasks=names(tasks),
        texts=given,
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
        checkouts=checkouts(checkout),
        command=command_line(data),
    )
    plan = prepare(options, tasks_needed=bool(options.tasks))
    print_notes([plan])
    with progress(log := log_console()) as show:
        records, error = collected(main_path.run_time(plan, show), log)
    _finish(records, error, runs)


def _check_engine(on: str | None, shard: str | None, save_model: Path | None, device: str, nproc: int) -> None:
    if on is None:
        return
    if on.partition(":")[0] != "ray":
        raise BadInput(f"--on {on!r:.60} is neither ray nor ray:HOST:PORT")
    if shard is not None:
        raise BadInput("--on and --shard are two ways to divide the runs; give one")
    if nproc != 1:
        raise BadInput("--on gives each run the CPUs and the GPU of one process; leave --nproc out")
    if save_model is not None:
        raise BadInput("--save-model would write to the other machines; run that one here, without --on")
    if device not in ("auto", "cpu", "cuda"):
        raise BadInput(f"--device {device}: the engine gives each run a GPU; say auto, cpu or cuda")


def print_notes(plans: list["Plan"]) -> None:
    for note in plans[0].notes:
        print(printable(note), file=sys.stderr)


def _shapes(text: str) -> tuple[tuple[int, int], ...]:
    shapes = []
    for name in names(text):
        shape = re.fullmatch("0*([1-9][0-9]{0,17})x0*([1-9][0-9]{0,17})", name)
        if shape is None:
            raise BadInput(f"--shapes: {name!r:.60} is not of the form SEQUENCESxLENGTH, such as 32x128")
        shapes.append((int(shape[1]), int(shape[2])))
    if not shapes:
        raise BadInput("--shapes names none; give some, such as 1x128,32x128")
    return tuple(shapes)


def collected(steps: Generator["Record", None, None], log: "Console") -> tuple[list["Record"], BaseException | None]:
    """All records, with a line for each as soon as it is finished; and the error that ended the work, if any did."""
    records = []
    try:
        with closing(steps):
            for each in steps:
                records.append(each)
                log.print(printable(_line(each)), highlight=False, markup=False, soft_wrap=True)
    except KeyboardInterrupt as error:
        return records, error
    except Exception as error:
        return records, ours(error) or error
    return records, None


def _finish(records: list["Record"], error: BaseException | None, runs: Path, layers: bool = False) -> None:
    """Report what is finished, even before an error; then raise the error, or exit with 1 if anything failed."""
    if records:
        unwritten = _report(records, runs, layers)
        error = error or unwritten
    _exit(records, error)


def _report(records: list["Record"], runs: Path, layers: bool) -> BaseException | None:
    """Write the report and print the tables of these records. Returns the error if the report cannot be written."""
    from harness.records.provenance import ROOT, git_refusal
    from harness.report.arrange import arrange
    from harness.report.table import layer_tables, print_report, without_layers

    unwritten = None
    try:
        _write_report(records, runs)  # before the screen, which may be a pipe that ends
    except (BadInput, Failure, OSError) as error:
        unwritten = ours(error)
    print_report(arrange(records), terminal())
    if layers:
        for table in layer_tables(records):
            terminal().print(table)
        for name in without_layers(records):
            print(f"{name} shows no layers: its model has no method `layers`", file=sys.stderr)
    if refused := git_refusal(ROOT):
        print(printable(f"records name no commit: {refused}"), file=sys.stderr)
    print(f"records and report in {runs}/", file=sys.stderr)
    return unwritten


def _exit(records: list["Record"], error: BaseException | None) -> None:
    from harness.records.record import Quality

    if isinstance(error, KeyboardInterrupt):
        print("interrupted; the same command goes on from there: what is finished is kept", file=sys.stderr)
    if error is not None:
        raise error
    if any(isinstance(each, Quality) and each.state == "failed" for each in records):
        print("failed runs are not repeated; --rerun failed repeats them", file=sys.stderr)
    if any(each.state == "failed" for each in records) or any(_partly_failed(each) for each in records):
        raise SystemExit(1)


def _write_report(records: list["Record"], runs: Path) -> None:
    """The report of all records in the folder, including those of earlier commands."""
    from harness.files import exclusive
    from harness.records.record import read_all
    from harness.report.table import write_report

    with exclusive(runs / "report.json", lambda: None):  # of two commands that end now, the later reads all records
        try:
            records = read_all([runs])
        except BadInput as error:
            print(printable(f"the report is of this command's records alone: {error}"), file=sys.stderr)
        write_report(records, runs)


def _partly_failed(each: "Record") -> bool:
    from harness.records.record import Parity, Speed

    if isinstance(each, Parity):
        return each.training.get("state") == "failed"
    return isinstance(each, Speed) and any(f["state"] == "failed" for f in each.implementations.values())


def _line(each: "Record") -> str:
    """What a finished record says in one line."""
    from harness.records.record import Parity, Quality

    done = f"{each.state} in {each.seconds:.0f} s" if each.state == "ok" else f"{each.state}: {each.reason}"
    if isinstance(each, Quality):
        values = ", ".join(f"{m['split']} {m['name']} {m['value']:.3f}" for m in each.metrics)
        return f"{each.implementation['name']} on {each.task['name']}, seed {each.seed}: {values} ({done})"
    if isinstance(each, Parity):
        why = f", {each.diagnosis['sentence']}" if each.diagnosis else ""
        said = f"{each.implementation['name']}, parity: {each.verdict}{why} ({done})"
        return said + _of_training(each.training) if each.training else said
    return f"timed {each.shape['name']} ({done})"  # type: ignore[attr-defined]


def _of_training(training: dict[str, Any]) -> str:
    if training["state"] != "ok":
        return f"; training {training['state']}: {training['reason']}"
    gradients, weights = training["gradients"], training["weights"]
    return f"; gradients: {gradients['verdict']}; weights after {weights['steps']} steps: {weights['verdict']}"
