"""The text of a pull request with records: what was measured, on which machine, and how sure it is."""

from collections.abc import Sequence
from typing import Any

from harness.records import processors, record
from harness.report.arrange import arrange
from harness.report.table import to_markdown

CHECKS = (
    "`python -m harness check-record results` says ok · 全部 ok",
    "Only records that `python -m harness publish` copied, unedited · 只含 `publish` 复制的记录，未经手改",
)
LICENCE = "Results are placed in the public domain (CC0 1.0). 结果以 CC0 1.0 进入公有领域。"


def title(hardware: str) -> str:
    """The first line of the pull request and of its commit."""
    return f"Results: {hardware}"


def text(records: Sequence[record.Record], published: Sequence[record.Record], left_out: dict[str, str]) -> str:
    """The whole text, in Markdown.

    ``published`` are the records that the repository has already, ``left_out`` says of each implementation that was
    not measured why.
    """
    first, days = records[0], sorted({each.started[:10] for each in records})
    hardware, commit = record.hardware(first), str(first.commit)[:12]
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    facts = [
        f"Machine: {hardware}; {standing(first.machine, hardware, published)}",
        f"Measured: {when} at commit {commit}, with `{first.command}`",
        f"Software: {', '.join(f'{name} {version}' for name, version in first.versions.items())}",
        f"Doubtful, as the machine did other work meanwhile: {', '.join(doubtful(records))}"
        if doubtful(records)
        else "No timing was disturbed by other work",
        *(f"Not measured: {name}, {why}" for name, why in left_out.items()),
    ]
    lines = [f"# {title(hardware)}", "", *(f"- {fact}" for fact in facts), "", to_markdown(arrange([*records])).strip()]
    return "\n".join([*lines, "", *(f"- [x] {check}" for check in CHECKS), "", LICENCE, ""])


def doubtful(records: Sequence[record.Record]) -> list[str]:
    """What was timed while the machine did other work."""
    return [each.shape["name"] for each in records if isinstance(each, record.Speed) and each.load.get("noisy")]


def standing(machine: dict[str, Any], hardware: str, published: Sequence[record.Record]) -> str:
    """What these records add to those that there are: the kind of processor, and whether others are of it."""
    kind = processors.kind_of(machine.get("flags") or [])
    name, known = processors.KINDS[kind][0], processors.machines(published)[kind]
    if not known:
        return f"{name}, a kind of processor without records so far"
    if hardware in known:
        return f"{name}; there are records of such a machine already, and these are newer"
    return f"{name}, of which there are records of {len(known)} other machine{'s' if len(known) > 1 else ''}"
