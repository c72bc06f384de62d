"""The command contribute: the board's default rows for this machine, as the files of a pull request."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.choose import ENGINES, that_fit
from harness.commands.measure import collected, print_notes
from harness.commands.options import command_line, names
from harness.commands.terminal import log_console, print_rows, progress, terminal
from harness.errors import BadInput, Failure
from harness.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from harness.measure.plan import Plan
    from harness.progress import Show
    from harness.records.record import Record

app = typer.Typer()
TRIES = 2  # a timing that other work disturbed is repeated once


@app.command(
    epilog="Examples:\n\n"
    "python -m harness contribute --dry-run\n\n"
    "python -m harness contribute --output contribution --wait 60"
)
def contribute(
    output: Annotated[Path, typer.Option(help="Folder for the files of the pull request.")] = Path("contribution"),
    wait: Annotated[
        float, typer.Option(metavar="MINUTES", min=0, help="How long to wait for a busy machine to become quiet.")
    ] = 10,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show all that would be measured and sent; measure and write nothing.")
    ] = False,
) -> None:
    """Measure the board's default rows on this machine, in about ten minutes, for a pull request.

    Parity and timing of the engines that are installed here, on the processor. Waits until nothing else runs, checks
    the records as check-record does, and writes them to --output with the text of the pull request. The same command
    goes on where it was interrupted, and repeats timings that other work disturbed.
    """
    from harness.measure import main_path
    from harness.records.quiet import wait_until_quiet
    from harness.results import contribution

    if not wait >= 0:  # not a number
        raise BadInput(f"--wait is {wait}; it is a number of minutes")
    command, published = command_line().replace(" --dry-run", ""), _published()
    refused = contribution.refusal(command)
    if not dry_run:
        if refused:
            raise BadInput(refused)
        contribution.make_folder(output)
    plan, left_out = _plan(output, command, dry_run)
    if dry_run:
        _print_dry_run(plan, left_out, published)
        if refused:
            raise BadInput(refused)
        return
    print_notes([plan])
    _print_left_out(left_out)
    commit = contribution.described(command)["commit"]
    with progress(log := log_console()) as show:
        for attempt in range(TRIES):
            wait_until_quiet(wait, _waiting(show, log))
            contribution.clear(output / contribution.RUNS, commit)
            records, error = collected(main_path.run_choice(plan, None, show), log)
            if error is not None or not any(map(contribution.doubtful, records)):
                break
            if attempt + 1 < TRIES:
                log.print("what other work disturbed is timed once more")
    if error is not None:
        if isinstance(error, KeyboardInterrupt):
            print("interrupted; the same command goes on from there: what is finished is kept", file=sys.stderr)
        raise error
    _write(output, published, left_out)


def _plan(output: Path, command: str, dry_run: bool) -> "tuple[Plan, dict[str, str]]":
    """What is measured; and the engines that are not, each with the reason."""
    from harness.choose.installation import runs_here
    from harness.measure.plan import Options, prepare
    from harness.registry.implementations import find
    from harness.results.contribution import RUNS, SENTENCES, SHAPES, TASK, WEIGHTS

    engines = names(ENGINES)
    installed = [name for name in engines if runs_here(find(name))]
    options = Options(
        implementations=installed,
        tasks=[TASK],
        shapes=SHAPES,
        sentences=SENTENCES,
        weights=WEIGHTS,
        runs=output / RUNS,
        device="cpu",
        precision="fp32",
        dry_run=dry_run,
        command=command,
    )
    options, unfit = that_fit(options)
    reasons = {name: "not installed" for name in engines if name not in installed}
    reasons |= dict(line.split(": ", 1) for line in unfit)
    return prepare(options), reasons


def _published() -> "list[Record]":
    """The records of this checkout: of timings, by which kinds of processors are known, and of parity."""
    from harness.records import record
    from harness.records.provenance import ROOT

    folder = ROOT / "results"
    found = [*folder.glob("*/comparisons/*.json"), *folder.glob("*/*/parity-*.json")]
    return [record.read(path) for path in sorted(found)]


def _waiting(show: "Show", log: "Console") -> Callable[[str], None]:
    """A function that says once what is waited for, and shows it as long as it lasts."""
    said: list[str] = []

    def waiting(what: str) -> None:
        text = printable(f"waiting until the machine is quiet: {what}")
        if not said:
            log.print(text, highlight=False, markup=False, soft_wrap=True)
        said.append(text)
        show(text)

    return waiting


def _print_left_out(left_out: dict[str, str]) -> None:
    for name, why in left_out.items():
        print(printable(f"left out: {name}, {why}"), file=sys.stderr)
    if "not installed" in left_out.values():
        print(
            "`make contribute` installs all engines first; what has no package for this machine stays out",
            file=sys.stderr,
        )


def _print_dry_run(plan: "Plan", left_out: dict[str, str], published: "list[Record]") -> None:
    from harness.report import pull_request
    from harness.results import contribution
    from harness.results.publish import folder_of

    takes = contribution.minutes(plan, published)
    hardware = contribution.hardware()
    folder = folder_of(hardware)
    inputs = f"{', '.join(contribution.inputs(plan))}, the last of {plan.options.sentences} sentences"
    print_rows(
        ["would be measured", ""],
        [
            ["implementations", ", ".join(each.name for each in plan.implementations)],
            ["left out", "; ".join(f"{name}, {why}" for name, why in left_out.items()) or "none"],
            ["of each", "parity in float64 and float32; speed, in turn with the others, in five rounds"],
            ["inputs", inputs],
            ["weights", f"{plan.weights.name}, {plan.threads} threads, on the processor"],
            ["time", "unknown" if takes is None else f"about {takes:.0f} min by the published records, and loading"],
        ],
    )
    print()
    sent = contribution.described(plan.options.command)
    facts = sent["machine"] | {name: value for name, value in sent.items() if name != "machine"}
    lines = [[name, value if isinstance(value, str) else json.dumps(value)] for name, value in facts.items()]
    lines += [["when", "the time at which each measurement began, in UTC"]]
    lines += [["figures", "seconds of each pass, memory, differences from float64, use of the processor by others"]]
    lines += [["files", f"results/{folder}/comparisons/*.json, results/{folder}/*/parity-*.json"]]
    print_rows(["would be sent", ""], lines)
    print()
    print(printable(f"{hardware}: {pull_request.standing(sent['machine'], hardware, published)}"))
    _print_wanted(published)


def _print_wanted(published: "list[Record]") -> None:
    from harness.records.processors import wanted

    if lacking := wanted(published):
        print(f"wanted, as no records are of them yet: {', '.join(lacking)}")


def _write(output: Path, published: "list[Record]", left_out: dict[str, str]) -> None:
    """The files of the pull request, and what to do with them. Failure where an implementation failed."""
    from harness.files import write_whole
    from harness.records import record
    from harness.report import pull_request
    from harness.report.arrange import arrange
    from harness.report.table import print_report
    from harness.results import contribution
    from harness.results.publish import check_public

    files = contribution.collect(output)
    records = [record.read(file) for file in files]
    text = pull_request.text(records, published, left_out)
    check_public("the text of the pull request", text.splitlines())
    write_whole(output / contribution.TEXT, text.encode())
    print_report(arrange(records), terminal())
    if disturbed := pull_request.doubtful(records):
        print(f"\ndoubtful: {', '.join(disturbed)}; on a quieter machine, the same command times these again")
    _print_how_to_send(output, len(files))
    _print_wanted([*published, *records])
    if failed := contribution.failures(records):
        raise Failure("; ".join(f"{name} failed: {why}" for name, why in failed.items()))


def _print_how_to_send(output: Path, number: int) -> None:
    from harness.records.provenance import ROOT
    from harness.report import pull_request
    from harness.results import contribution
    from harness.results.publish import folder_of

    hardware, top = contribution.hardware(), shlex.quote(str(ROOT))
    print(printable(f"\n{number} records of {hardware}; all may be published. To send them:\n"))
    print(f"cp -r {shlex.quote(str((output / contribution.RESULTS).resolve()))} {top}")
    print(f"cd {top} && git switch -c results-{folder_of(hardware)} && git add results")
    print(f"git commit -m {shlex.quote(pull_request.title(hardware))}\n")
    print(f"Then push the branch, and open a pull request with the text of {output / contribution.TEXT}.")
