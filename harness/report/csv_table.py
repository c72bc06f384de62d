"""Every number of the records as one line of CSV."""

import csv
import io
from typing import Any

from harness.records import record
from harness.records.models import named_apart
from harness.statistics import seeds

Line = list[Any]  # kind, implementation, subject, split, seed, name, value, low, high, state

HEAD = ["kind", "implementation", "subject", "split", "seed", "name", "value", "low", "high", "state"]


def to_csv(records: list[record.Record]) -> str:
    """One line for each number of each record; after them what several seeds give together."""
    out, records = io.StringIO(), named_apart(records)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEAD, "checkpoint", "hardware", "precision"])
    found = [(each, _lines(each)) for each in records]
    found += [(runs.any, _seed_lines(score)) for runs in seeds.group(records) for score in seeds.scores(runs)]
    for each, lines in found:
        where = [each.checkpoint["name"], record.hardware(each), each.precision["resolved"]]
        writer.writerows([*line, *where] for line in lines)
    return out.getvalue()


def _seed_lines(score: seeds.Score) -> list[Line]:
    """Low and high of a mean are those of the interval within one seed."""
    if score.tried == 1:
        return []
    head = ["seeds", score.implementation, score.task, score.split, " ".join(map(str, score.seeds))]
    figures = {"deviation": score.deviation, "least": score.least, "greatest": score.greatest}
    if score.with_collapsed:
        figures["mean_with_collapsed"] = score.with_collapsed[0]
    figures |= {"counted": len(score.counted), "collapsed": len(score.collapsed), "failed": len(score.failed)}
    mean = [*head, f"{score.metric}_mean", score.mean, score.low, score.high, "ok"]
    return [mean, *([*head, f"{score.metric}_{name}", value, "", "", "ok"] for name, value in figures.items())]


def _lines(each: record.Record) -> list[Line]:
    if isinstance(each, record.Quality):
        head: Line = ["quality", each.implementation["name"], each.task["name"]]
        if each.state != "ok":
            return [[*head, "", each.seed, "", "", "", "", each.state]]
        cut = {split: counts["cut"] for split, counts in each.sanity.items() if "cut" in counts}
        return [
            *([*head, m["split"], each.seed, m["name"], m["value"], m["low"], m["high"], "ok"] for m in each.metrics),
            *([*head, split, each.seed, "examples_cut", amount, "", "", "ok"] for split, amount in cut.items()),
        ]
    if isinstance(each, record.Parity):
        head = ["parity", each.implementation["name"], each.checkpoint["name"], "", ""]
        lines = [[*head, f"max_{p}", d["max"], "", "", each.state] for p, d in each.differences.items()]
        if each.training.get("state") == "ok":
            slopes, weights = each.training["gradients"], each.training["weights"]
            lines += [[*head, f"gradients_max_{p}", d["max"], "", "", "ok"] for p, d in slopes["differences"].items()]
            lines.append([*head, "weights_after_steps_max", weights["differences"]["max"], "", "", "ok"])
        return lines or [[*head, "", "", "", "", each.state]]
    assert isinstance(each, record.Speed)
    lines = []
    for name, figures in each.implementations.items():
        head = ["speed", name, each.shape["name"], "", ""]
        if figures["state"] != "ok":
            lines.append([*head, "", "", "", "", figures["state"]])
            continue
        names = ("sequences_per_second", "tokens_per_second", "p50", "p90", "p99")
        lines += [[*head, key, figures[key], "", "", "ok"] for key in names]
        if "scenarios" in figures:
            lines += [[*head, key, value, "", "", "ok"] for key, value in _under_load(figures["scenarios"]).items()]
    return lines


def _under_load(scenarios: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Names as in the record; a rate of None: no rate met the bound."""
    offline, server = scenarios["offline"], scenarios["server"]
    return {
        "offline_samples_per_second": offline["samples_per_second"],
        "joules_per_1000_samples": offline["energy"].get("joules_per_1000_samples"),
        "server_rate": server["rate"],
        "server_bound": server["bound"],
    }
