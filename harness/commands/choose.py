"""The command choose: which implementation to use, for the user's own weights, texts and machine."""

import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import Device, Runs, Threads, Weights, check_texts, command_line, names, roles
from harness.commands.terminal import log_console, print_rows, progress
from harness.errors import BadInput
from harness.printable import printable

if TYPE_CHECKING:
    from harness.choose.verdict import Row
    from harness.measure.plan import Options, Plan
    from harness.records.record import Record

app = typer.Typer()
FAST = "reference,reference:bf16,reference:int8,transformers,onnxruntime,openvino"
ENGINES = f"{FAST},onnxruntime:int8,openvino:bf16,openvino-int8,ctranslate2,ctranslate2:int8,sentence-transformers"


@app.command(
    epilog="Examples:\n\n"
    "python -m harness choose --weights my-model --texts mails.txt\n\n"
    "python -m harness choose --texts questions.csv --columns text=question --impl reference,openvino\n\n"
    "python -m harness choose --weights my-classifier --texts mails.txt --head-task classification"
)
def choose(
    texts: Annotated[Path, typer.Option(help="Your texts: .txt (a line each), .tsv, .csv or .jsonl; - for input.")],
    weights: Weights = "minilm-l6",
    impl: Annotated[
        str,
        typer.Option(help="Implementations to compare, or all.  [default: the engines that can run here at once]"),
    ] = "",
    head_task: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Also compare the answers of the weights' head: classification, multi-label or tagging.",
        ),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help=f"Compare only {FAST}.")] = False,
    form: Annotated[
        str | None, typer.Option("--format", help="lines, tsv, csv or jsonl.  [default: by the file's name]")
    ] = None,
    columns: Annotated[
        str, typer.Option(help="Which column is the text: text=NAME, or text=0 without a header.  [default: text]")
    ] = "",
    sentences: Annotated[int, typer.Option(help="Number of texts to time, drawn evenly from all.")] = 128,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Find the implementation to use: for your weights, on your texts, on this machine.

    Each is compared with the reference in float64 first, then timed in turn with the others: one text of your median
    length at a time, and many of yours, fed as its own users feed it. Finished parts are kept: the same command goes
    on where it was interrupted. Records contain the lengths of your texts, not the texts.
    """
    from harness.choose.agreement import agreement
    from harness.choose.head import Head
    from harness.choose.installation import runs_here
    from harness.choose.verdict import rows
    from harness.measure import main_path, speed
    from harness.measure.plan import Options, prepare
    from harness.predict.embed import read_texts
    from harness.registry.implementations import find

    inputs = read_texts(texts, form, roles(columns))
    given = [example.text for example in inputs.examples]
    check_texts(texts, given)
    wanted = names(impl) or [each for each in names(FAST if fast else ENGINES) if runs_here(find(each))]
    options = Options(
        implementations=["reference", *wanted],
        tasks=[],
        texts=tuple(given),
        sentences=sentences,
        weights=weights,
        runs=runs,
        device=device,
        precision="fp32",
        threads=threads,
        command=command_line(),
    )
    left_out: list[str] = []
    if not impl:
        options, left_out = that_fit(options)
    plan = prepare(options, tasks_needed=False)
    for note in (*inputs.notes, *left_out, *plan.notes):
        print(printable(note), file=sys.stderr)
    head = Head(plan.weights, head_task) if head_task else None
    of_texts = replace(speed.of_texts(plan), compare=head.compare if head else partial(agreement, weights=plan.weights))
    if head:  # another question than that of a record without it
        of_texts = replace(of_texts, name=f"{of_texts.name}, {head_task}")
    middle = int(sorted(of_texts.batch.lengths)[len(of_texts.batch.lengths) // 2])
    shapes = [speed.fixed(1, middle, plan.config["vocab_size"]), of_texts]
    records: list[Record] = []
    try:
        with progress(log_console()) as show, closing(main_path.run_choice(plan, shapes, show)) as steps:
            records.extend(steps)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from there: what is finished is kept", file=sys.stderr)
        raise
    _print(rows(records), len(of_texts.batch.lengths), middle)
    _print_sentences(rows(records))
    _print_code(rows(records), plan, head_task)


def that_fit(options: "Options") -> "tuple[Options, list[str]]":
    """Without the implementations that this processor or this model excludes, and why."""
    import reference
    from harness.measure.plan import unfit
    from harness.registry.implementations import find
    from harness.weights.examine import examine
    from harness.weights.find import find_weights

    device = reference.resolve_device(options.device)
    try:
        config = examine(find_weights(options.weights)).config
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(str(error)) from error
    reasons = {name: unfit(find(name), device, config) for name in options.implementations}
    kept = [name for name, reason in reasons.items() if reason is None]
    return replace(options, implementations=kept), [f"{name}: {why}" for name, why in reasons.items() if why]


def _print(found: "list[Row]", texts: int, length: int) -> None:
    from harness.choose.installation import installation_of
    from harness.registry.implementations import find

    head = ["", "parity", "computes in", f"one of {length} tokens", f"{texts} texts", "to reference"]
    answered = any("same_answer" in row.many.get("agreement", {}) for row in found)
    head += ["cosine", *(["same answers"] if answered else []), "memory", "loads in", "installed", "licence"]
    lines = []
    for row in found:
        if not (row.one and row.many):
            lines.append([row.name, row.verdict or row.state, "-", *[""] * (len(head) - 3)])
            continue
        size, licence = installation_of(find(row.name))
        median, least, most = row.many["ratio"]
        memory, agrees = row.many["memory"], row.many.get("agreement", {})
        lines.append(
            [
                row.name,
                row.verdict if row.computed == "fp32" else "rounded",
                row.computed,
                f"{1000 * row.one['p50']:.1f} ms",
                f"{row.many['sequences_per_second']:.0f}/s",
                f"{median:.2f}x ({least:.2f}-{most:.2f})",
                f"{agrees['least']:.4f}" if agrees else "-",
                *([f"{agrees['same_answer']:.1%}" if agrees else "-"] if answered else []),
                f"{(memory['gpu'] or memory['resident']) / 2**20:.0f} MiB",
                f"{row.many['loading']:.1f} s",
                "-" if size is None else f"{size / 2**20:.0f} MiB",
                licence or "-",
            ]
        )
    print_rows(head, lines)
    for row in found:
        if row.reason:
            print(printable(f"{row.name}: {row.state}: {row.reason}"))
        elif row.why and row.verdict == "differs":
            print(printable(f"{row.name}: {row.why}"))


def _print_sentences(found: "list[Row]") -> None:
    from harness.choose.verdict import sentences

    print()
    for text in sentences(found):
        print(printable(text))
    seconds = [row.many["agreement"].get("head_seconds") for row in found if "agreement" in row.many]
    if seconds and seconds[0]:
        print(f"The head, computed apart in float64, takes {1000 * seconds[0]:.1f} ms more for all of these texts.")


def _print_code(found: "list[Row]", plan: "Plan", head: str | None) -> None:
    """How the fastest that computes BERT is used. SystemExit 1 if nothing was timed."""
    from harness.choose.code import lines
    from harness.registry.implementations import find
    from harness.weights.sentences import as_read

    first = next((row for row in found if row.precise and row.many), None)
    if first is None:
        raise SystemExit(1)
    longest = as_read(plan.weights, [], plan.tokenizer.max_length, plan.config["max_position_embeddings"])[1]
    print(f"\n{first.name} in Python; as a service: python -m harness serve --help\n")
    print(printable(lines(find(first.name), plan.weights.folder, plan.device, longest, head)))
