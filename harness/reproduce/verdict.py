"""What a record and its repetition have in common, and what they do not: figures, and circumstances that may be why."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.records.record import (
    UNKNOWN,
    Parity,
    Quality,
    Record,
    Speed,
    hardware,
    predictions_of,
    rates,
)

Row = tuple[str, str, str, str]  # what, as recorded, as measured again, how they agree


@dataclass
class Verdict:
    """How a repetition agrees with its record."""

    rows: list[Row] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)  # figures that do not agree
    equal: bool = True  # whether all figures are, to the last digit
    within: str = "within the interval"  # what else counts as reproduced
    circumstances: list[str] = field(default_factory=list)  # what differs and may be why
    notes: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The verdict."""
        if self.differs:
            return f"Not reproduced: {'; '.join(self.differs)}."
        return f"Reproduced, {'to the last digit' if self.equal else self.within}."


def compare(old: Record, new: Record, old_path: Path | None = None, new_path: Path | None = None) -> Verdict:
    """Compare a repetition with its record; the paths are those of the files, beside which predictions are."""
    found = Verdict(circumstances=list(circumstances(old, new)))
    if new.state != "ok":
        found.differs.append(f"it {'was skipped' if new.state == 'skipped' else 'failed'} this time: {new.reason}")
    elif isinstance(old, Quality) and isinstance(new, Quality):
        _quality(found, old, new)
        _predictions(found, old, new, old_path, new_path)
    elif isinstance(old, Speed) and isinstance(new, Speed):
        _speed(found, old, new)
    elif isinstance(old, Parity) and isinstance(new, Parity):
        _parity(found, old, new)
    return found


def _quality(found: Verdict, old: Quality, new: Quality) -> None:
    for what in ("data", "weights"):
        if (of_what := _identity(old, what)) != _identity(new, what):
            names = [name for name, digest in of_what.items() if _identity(new, what).get(name) != digest]
            found.differs.append(
                f"the {what} are not the record's ({', '.join(names)}), so the figures are of something else"
            )
    again = {(each["split"], each["name"]): each for each in new.metrics}
    for each in old.metrics:
        name = f"{each['split']} {each['name']}"
        other = again.get((each["split"], each["name"]))
        if other is None:
            found.differs.append(f"{name} was not computed")
            continue
        equal = other["value"] == each["value"]
        inside = each["low"] <= other["value"] <= each["high"]
        found.equal &= equal
        how = "equal" if equal else "within the interval" if inside else "outside the interval"
        if not (equal or inside):
            found.differs.append(f"{name} is outside the record's interval")
        recorded = f"{each['value']:.4f} ({each['low']:.4f} to {each['high']:.4f})"
        found.rows.append((name, recorded, f"{other['value']:.4f}", how))


def _identity(each: Quality, what: str) -> dict[str, str]:
    if what == "weights":
        return {each.checkpoint["name"]: each.checkpoint["sha256"]}
    return dict(each.task["data"])


def _predictions(found: Verdict, old: Quality, new: Quality, old_path: Path | None, new_path: Path | None) -> None:
    """How many answers differ, where both files of predictions are there."""
    if old_path is None or new_path is None:
        return
    try:
        before, after = predictions_of(old_path, old), predictions_of(new_path, new)
    except BadInput as error:
        found.notes.append(f"answers are not compared: {error}")
        return
    for split, answers in before.items():
        given = {str(name): answer for name, answer in after.get(split, [])}
        other = sum(given.get(str(name)) != answer for name, answer in answers)
        found.equal &= other == 0
        how = "equal" if not other else f"{other} differ"
        found.rows.append((f"{split} answers", str(len(answers)), str(len(given)), how))


def _speed(found: Verdict, old: Speed, new: Speed) -> None:
    found.equal, found.within = False, "as the ranges of the ratios to the reference meet"  # no two timings are equal
    for name, was in old.implementations.items():
        now = new.implementations.get(name, {"state": "absent", "reason": "it took no part"})
        if was["state"] != "ok":
            continue
        if now["state"] != "ok":
            found.differs.append(f"{name} was not timed this time: {now['reason']}")
            continue
        (rate, slow, fast), (rate_now, slow_now, fast_now) = rates(old.shape, was), rates(new.shape, now)
        ratio = f"{rate_now / rate:.2f}x ({slow_now / fast:.2f}-{fast_now / slow:.2f})"
        found.rows.append((f"{name}, sequences per second", f"{rate:.1f}", f"{rate_now:.1f}", ratio))
        if name == "reference" or not (was.get("ratio") and now.get("ratio")):
            continue
        (median, low, high), (median_now, low_now, high_now) = was["ratio"], now["ratio"]
        meet = low <= high_now and low_now <= high
        how = "the ranges meet" if meet else f"the ranges are apart, the medians by {abs(median_now / median - 1):.0%}"
        then, again = f"{median:.2f}x ({low:.2f}-{high:.2f})", f"{median_now:.2f}x ({low_now:.2f}-{high_now:.2f})"
        found.rows.append((f"{name}, to the reference", then, again, how))
        if not meet:
            found.differs.append(f"{name} is {median_now:.2f} times as fast as the reference, and was {median:.2f}")
    for what, each in (("the record", old), ("this measurement", new)):
        if each.load.get("noisy"):
            found.notes.append(f"the machine did other work during {what}, which makes its figures doubtful")


def _parity(found: Verdict, old: Parity, new: Parity) -> None:
    found.within = "with the same verdict"
    if old.verdict != new.verdict:
        found.differs.append(f"parity is {new.verdict}, and was {old.verdict}")
    found.rows.append(("verdict", old.verdict, new.verdict, "equal" if old.verdict == new.verdict else "differs"))
    for precision, was in old.differences.items():
        now = new.differences.get(precision, {})
        if "max" in was and "max" in now:
            same = was["max"] == now["max"]
            found.equal &= same
            row = f"largest difference in {precision}", f"{was['max']:.1e}", f"{now['max']:.1e}"
            found.rows.append((*row, "equal" if same else "rounding" if old.verdict == new.verdict else "differs"))


def circumstances(old: Record, new: Record) -> Iterator[str]:
    """All that the two records say differently of machine, versions, precision, recipe and code that computed."""
    pairs: dict[str, tuple[Any, Any]] = {"machine": (hardware(old), hardware(new))}
    pairs |= {f"processor's {what}": (old.machine.get(what), new.machine.get(what)) for what in ("flags", "hidden")}
    pairs |= {
        what: (old.machine.get(key), new.machine.get(key)) for what, key in (("Python", "python"), ("system", "os"))
    }
    pairs |= {name: (version, new.versions.get(name)) for name, version in old.versions.items()}
    pairs["threads"] = old.threads, new.threads
    pairs["computed in"] = old.precision.get("computed"), new.precision.get("computed")
    if isinstance(old, Quality) and isinstance(new, Quality):
        pairs |= {f"recipe's {name}": (value, new.recipe.get(name)) for name, value in old.recipe.items()}
        pairs |= {
            f"data of {split}": (digest, new.task["data"].get(split)) for split, digest in old.task["data"].items()
        }
    if isinstance(old, Quality | Parity) and isinstance(new, Quality | Parity):
        for what in ("version", "code", "environment"):
            pairs[f"implementation's {what}"] = old.implementation.get(what), new.implementation.get(what)
    for what, (was, now) in pairs.items():
        if was != now and UNKNOWN not in (was, now) and was is not None:
            yield f"{what}: {_said(was, now)}"


def _said(was: Any, now: Any) -> str:
    """The two values; of lists only what one of them has alone."""
    if isinstance(was, list) and isinstance(now, list | None):
        gone, come = (
            sorted(set(map(str, was)) - set(map(str, now or []))),
            sorted(set(map(str, now or [])) - set(map(str, was))),
        )
        return "; ".join(
            [*([f"without {', '.join(gone)}"] if gone else []), *([f"with {', '.join(come)}"] if come else [])]
        )
    short = [f"{value:.12}" if isinstance(value, str) and len(value) == 64 else str(value) for value in (was, now)]
    return f"{short[0]}, now {short[1]}"
