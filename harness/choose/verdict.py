"""One row for each implementation, and the sentences that say which to use."""

from dataclasses import dataclass, field
from typing import Any

from harness.records.record import Parity, Record, Speed

EXACT = ("exact", "close")  # verdicts of those that compute BERT


@dataclass
class Row:
    """What was measured of an implementation."""

    name: str
    state: str = "ok"
    reason: str = ""  # why it could not be measured
    verdict: str = ""  # of parity, in float32
    why: str = ""  # it differs
    computed: str = ""  # precision of its products
    one: dict[str, Any] = field(default_factory=dict)  # figures for one text at a time
    many: dict[str, Any] = field(default_factory=dict)  # figures for many
    disturbed: bool = False  # whether the machine did other work meanwhile

    @property
    def precise(self) -> bool:
        """Whether it computes BERT in float32."""
        return self.verdict in EXACT and self.computed == "fp32"


def rows(records: list[Record]) -> list[Row]:
    """The rows, the fastest for many texts first; those that could not be measured last."""
    found: dict[str, Row] = {}
    for each in records:
        if isinstance(each, Parity):
            row = found.setdefault(each.implementation["name"], Row(each.implementation["name"]))
            row.verdict = each.verdict
            row.why = each.diagnosis.get("sentence", "")
            if each.state != "ok":
                row.state, row.reason = each.state, each.reason or ""
        elif isinstance(each, Speed):
            for name, figures in each.implementations.items():
                row = found.setdefault(name, Row(name))
                if figures["state"] != "ok":
                    row.state, row.reason = figures["state"], figures["reason"]
                    continue
                row.computed = figures.get("computed", each.precision["computed"])
                row.disturbed |= bool(each.load.get("noisy"))
                # The reference is timed with every group; its first figures count.
                if each.shape["latency"]:
                    row.one = row.one or figures
                else:
                    row.many = row.many or figures
    return sorted(found.values(), key=lambda row: (row.state != "ok", -row.many.get("ratio", [0])[0], row.name))


def sentences(found: list[Row]) -> list[str]:
    """What follows from the rows: the fastest in float32, what lower precision adds and costs, and what to avoid."""
    measured = [row for row in found if row.state == "ok" and row.one and row.many]
    precise = [row for row in measured if row.precise]
    if not precise:
        return ["Nothing that computes BERT in float32 could be timed here; the reasons are above."]
    said = [
        f"In float32, for many texts: {_best(precise, 'many')}.",
        f"In float32, for one text at a time: {_best(precise, 'one')}.",
    ]
    lower = [row for row in measured if row.computed != "fp32"]
    best = max(row.many["ratio"][0] for row in precise)
    if gains := [row for row in lower if row.many["ratio"][0] > best]:
        row = max(gains, key=lambda each: each.many["ratio"][0])
        agrees = row.many["agreement"]
        said.append(
            f"In {row.computed}, {row.name} is {row.many['ratio'][0] / best:.2f} times as fast as the best of these; "
            f"its vectors have a cosine of at least {agrees['least']:.4f} with the exact ones (mean "
            f"{agrees['mean']:.5f}), and {agrees['same_neighbour']:.1%} of your texts keep their nearest neighbour."
        )
        if "same_answer" in agrees:
            said.append(f"It answers {agrees['same_answer']:.1%} of your texts as the exact model does.")
    elif lower:
        said.append("A lower precision is no faster here.")
    if any(row.disturbed for row in measured):
        said.append("The machine did other work meanwhile: these figures are doubtful. Choose again when it is quiet.")
    if wrong := [row for row in measured if row.verdict == "differs" and row.computed == "fp32"]:
        said.append("These compute something else than these weights: " + ", ".join(row.name for row in wrong) + ".")
    return said


def _best(candidates: list[Row], what: str) -> str:
    """The fastest, and those whose range of ratios reaches its own."""
    ordered = sorted(candidates, key=lambda row: -getattr(row, what)["ratio"][0])
    first = ordered[0]
    median, least, _ = getattr(first, what)["ratio"]
    level = [row.name for row in ordered[1:] if getattr(row, what)["ratio"][2] >= least]
    if level:
        return f"{first.name}, level with {', '.join(level)}: their ranges overlap"
    if len(ordered) == 1:
        return f"{first.name}, the only one that was timed"
    second = ordered[1]
    return f"{first.name}, {median / getattr(second, what)['ratio'][0]:.2f} times as fast as {second.name}, the next"
