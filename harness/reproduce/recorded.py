"""From a record to the command that measures it again.

A record's command is text from a stranger. It is never run as it is: of its options those are kept that decide about
the result, each after a look at its value, and what is measured is narrowed to what this record is of.
"""

import re
import shlex
from typing import Any

from harness.errors import BadInput
from harness.records.record import NAME, Load, Parity, Quality, Record, Speed

WORD = r"[A-Za-z0-9][\w.-]*"
NUMBER = r"[0-9]{1,18}"
KEPT = {  # options that decide about the result, with their values; a record's fields say the rest
    "run": {
        "--splits": f"{WORD}(,{WORD})*",
        "--threads": NUMBER,
        "--nproc": NUMBER,
        "--lr": r"[0-9.]{1,20}(e-?[0-9]{1,3})?",
        "--epochs": NUMBER,
        "--batch-size": NUMBER,
        "--max-length": NUMBER,
        "--context": "sentence|document",
        "--select": "last|dev",
        "--limit": NUMBER,
    },
    "time": {"--threads": NUMBER},
    "parity": {"--threads": NUMBER},
    "contribute": {},
}
SAID = {  # by the record itself, or by whoever measures it again
    "--impl", "--tasks", "--suite", "--weights", "--data", "--runs", "--device", "--precision", "--seed", "--seeds",
    "--shapes", "--sentences", "--load", "--rerun", "--save-model", "--checkout", "--shard", "--on",
    "--output", "--wait",
}  # fmt: skip
FLAGS = {"--layers", "--by-length", "--training"}
WEIGHTS = re.compile(rf"{WORD}(/{WORD})*(@[\w./-]+)?", re.ASCII)  # a name, or a model on the Hub and its revision
FIXED = re.compile(r"([0-9]{1,9}) x ([0-9]{1,9})")
OWN_LENGTHS = re.compile(rf"({WORD})(, training)?(, by length)?")
SHORTEST = "1x8"  # for `time`, which has to time some shape


def check_record(each: Record) -> None:
    """BadInput for a record that cannot be measured again, whatever the repository holds."""
    if isinstance(each, Load):
        raise BadInput("a comparison of services is not measured again here; `python -m harness load` repeats it")
    if each.state != "ok":
        raise BadInput(f"the run is recorded as {each.state} ({each.reason}): it has no figures to reproduce")
    if each.checkpoint.get("source") == "local":
        raise BadInput(f"its weights, {each.checkpoint['name']}, are a folder of its author's, which nobody else has")
    if isinstance(each, Quality) and each.task["suite"] == "own":
        raise BadInput(f"its task, {each.task['name']}, is its author's own, which nobody else has")


def command_for(each: Record) -> list[str]:
    """The arguments of ``python -m harness`` that measure again what the record is of, and nothing more.

    BadInput where the record's command is none of those in ``KEPT``, has options that those do not have, or where a
    name or value is not of the form that it should have.
    """
    verb, given = _parsed(each.command)
    if isinstance(each, Quality) and verb == "run":
        arguments = ["run", "--impl", _implementation(each.implementation["name"])]
        arguments += ["--tasks", _fitting("task", WORD, each.task["name"])]
        arguments += ["--seed", _fitting("seed", NUMBER, str(each.seed)), "--seeds", "1", *_precision(each)]
    elif isinstance(each, Speed) and verb in ("run", "time", "contribute"):
        timed = [name for name in each.implementations if name != "reference"]
        arguments = ["time", "--impl", ",".join(map(_implementation, timed or ["reference"]))]
        arguments += [*_shape(each.shape), *_precision(each)]
        given = {name: value for name, value in given.items() if name in KEPT["time"]}
    elif isinstance(each, Parity) and verb in ("run", "parity", "contribute"):
        arguments = ["parity", "--impl", _implementation(each.implementation["name"])]
        given = {name: value for name, value in given.items() if name in KEPT["parity"]}
    else:
        raise BadInput(f"its command, {each.command!r:.200}, does not make a record of {each.kind}")
    arguments += ["--weights", _fitting("weights", WEIGHTS.pattern, each.checkpoint["name"])]
    arguments += ["--device", _fitting("device", "cpu|cuda", each.device.partition(":")[0])]
    return [*arguments, *(part for option in given.items() for part in option)]


def _parsed(command: str) -> tuple[str, dict[str, str]]:
    """The subcommand, and the options that are kept, each with its checked value."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BadInput(f"its command, {command!r:.200}, cannot be read: {error}") from None
    verb = words[3] if len(words) > 3 else ""
    if words[:3] != ["python", "-m", "harness"] or verb not in KEPT:
        raise BadInput(
            f"its command, {command!r:.200}, is not `python -m harness` with {', '.join(KEPT)}; nothing else is run"
        )
    kept: dict[str, str] = {}
    rest = iter(words[4:])
    for word in rest:
        name, equals, value = word.partition("=")
        if name in FLAGS:
            continue
        if name not in KEPT[verb] and name not in SAID:
            raise BadInput(
                f"its command has {word!r:.100}, which `{verb}` of a published record does not; it is not run"
            )
        value = value if equals else next(rest, "")
        if name == "--impl" and (own := [each for each in value.split(",") if each.endswith(".py")]):
            raise BadInput(f"its implementation was a file of its author's, {own[0]!r:.100}, which no commit holds")
        if name in KEPT[verb]:
            kept[name] = _fitting(name, KEPT[verb][name], value)
    return verb, kept


def _fitting(what: str, pattern: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value, re.ASCII) or ".." in value:
        raise BadInput(f"its {what} is {value!r:.100}, which is none; the record is not run")
    return value


def _implementation(name: str) -> str:
    if not re.fullmatch(NAME.pattern, name, re.ASCII) or name.endswith(".py"):
        raise BadInput(f"its implementation is {name!r:.100}, which is no name of one; the record is not run")
    return name


def _precision(each: Record) -> list[str]:
    """The precision as it was resolved: "auto" may be another one on this machine."""
    return ["--precision", _fitting("precision", "fp32|bf16|fp16", each.precision["resolved"])]


def _shape(shape: dict[str, Any]) -> list[str]:
    if fixed := FIXED.fullmatch(shape["name"]):
        return ["--shapes", f"{fixed[1]}x{fixed[2]}"]
    own = OWN_LENGTHS.fullmatch(shape["name"])
    if own is None or "sha256" in shape:
        raise BadInput(f"it times {shape['name']!r:.100}, which only its author has")
    sentences = [] if own[2] else ["--sentences", str(shape["sequences"])]
    flags = [flag for flag, said in (("--training", own[2]), ("--by-length", own[3])) if said]
    return ["--shapes", SHORTEST, "--tasks", own[1], *sentences, *flags]
