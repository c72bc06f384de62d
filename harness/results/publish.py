"""From local records to published ones: checked, and copied to ``results/<machine>/<implementation>/``."""

import dataclasses
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from harness.errors import BadInput
from harness.records import provenance, record


def publish(paths: list[Path], results: Path) -> list[Path]:
    """Copy these records, and their predictions, into the published results; the new files.

    All are checked before the first is copied. BadInput says which record may not be published, and why.
    """
    found = [(path, record.read(path)) for folder in paths for path in record.files(folder)]
    if not found:
        raise BadInput(f"no records in {', '.join(map(str, paths))}")
    for path, each in found:
        _check(path, each)
    return [copy for path, each in found for copy in _copy(path, each, results)]


def check_record(path: Path) -> None:
    """Check one record as `publish` does, copying nothing. BadInput says why it may not be published."""
    _check(path, record.read(path))


def _check(path: Path, each: record.Record) -> None:
    if each.state != "ok" and not each.reason:
        raise BadInput(f"{path}: the run {each.state} and does not say why; run it again")
    if isinstance(each, record.Quality) and each.limit is not None:
        raise BadInput(f"{path}: the run was limited to {each.limit} examples; run it without --limit")
    if isinstance(each, record.Quality) and each.task["suite"] == "own":
        raise BadInput(f"{path}: {each.task['name']} is a task of your own, which nobody else could run")
    if each.machine.get("hidden"):
        hidden = ", ".join(each.machine["hidden"])
        raise BadInput(f"{path}: parts of the processor were switched off ({hidden}); run it again without")
    if not isinstance(each.commit, str):
        why = provenance.git_refusal(provenance.ROOT) or "it was made outside a git checkout, or git did not read that"
        raise BadInput(f"{path}: it names no commit of BERT Atlas: {why}; run again in a checkout that git reads")
    if each.commit.endswith("+changes"):
        raise BadInput(f"{path}: the code was not a clean commit of BERT Atlas; commit, then run again")
    if each.checkpoint.get("source") == "local":
        name = each.checkpoint["name"]
        raise BadInput(
            f"{path}: the weights {name} are your own, which nobody else has; use a name of `list` or the Hub"
        )
    check_public(str(path), dataclasses.asdict(each))
    if each.state == "ok":
        _check_figures(path, each)
    if isinstance(each, record.Quality) and each.state == "ok":
        _check_predictions(path, each)


def check_public(where: str, value: Any) -> None:
    """BadInput if a text anywhere in a JSON value is a path of this machine, or its name or that of its user."""
    for text in _strings(value):
        if private := _private(text):
            raise BadInput(f"{where}: holds {private}, in {text!r}; replace it by a word that says as much in public")


def _check_figures(path: Path, each: record.Record) -> None:
    """BadInput where there are none, or such as no measurement gives."""
    wrong = None
    if isinstance(each, record.Quality):
        odd = [m["name"] for m in each.metrics if not all(-1 <= m[what] <= 1 for what in ("value", "low", "high"))]
        wrong = f"scores beyond -1 and 1, {', '.join(odd)}" if odd else None if each.metrics else "no score"
    elif isinstance(each, record.Parity):
        wrong = None if each.differences else "no differences"
    elif isinstance(each, record.Speed):
        timed = {
            name: figures.get("wall") for name, figures in each.implementations.items() if figures["state"] == "ok"
        }
        odd = [name for name, turns in timed.items() if not _are_seconds(turns)]
        wrong = f"timings that are no seconds, of {', '.join(odd)}" if odd else None
    elif isinstance(each, record.Load):
        wrong = None if any(figures["state"] == "ok" for figures in each.services.values()) else "no service's figures"
    if wrong:
        raise BadInput(f"{path}: {wrong}; run it again")


def _are_seconds(turns: Any) -> bool:
    """Whether there are seconds of passes, turn by turn."""
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, list) and turn for turn in turns):
        return False
    return all(isinstance(seconds, int | float) and seconds > 0 for turn in turns for seconds in turn)


def _check_predictions(path: Path, each: record.Quality) -> None:
    """They are beside the record, without which nobody can check it; one for each example that was scored."""
    stored = record.predictions_of(path, each)
    for metric in each.metrics:
        ids = [name for name, _ in stored.get(metric["split"], [])]
        if not len(ids) == len(set(ids)) == metric["n"]:
            raise BadInput(
                f"{path}: {len(ids)} predictions of {len(set(ids))} examples of {metric['split']}, "
                f"and {metric['n']} were scored; run it again"
            )


def _strings(value: Any) -> Iterator[str]:
    """All texts anywhere in a JSON value."""
    if isinstance(value, str):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _strings(child)


def _private(text: str) -> str | None:
    """The first absolute path, or name of this machine or its user, in a text."""
    path = re.search(r"(?:(?<![\w.$~:/])|file://)/\w[^\"' ]*", text)
    if path:
        return f"the path {path[0]}"
    for what, name in (("host", platform.node()), ("user", psutil.Process().username())):
        if name and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text):
            return f"the {what} name {name}"
    return None


def _copy(path: Path, each: record.Record, results: Path) -> list[Path]:
    """The record's place: by machine, then by implementation (comparisons of several have their own folder)."""
    if isinstance(each, record.Quality | record.Parity):
        who = each.implementation["name"]
    else:
        who = "services" if isinstance(each, record.Load) else "comparisons"
    folder = results / folder_of(record.hardware(each)) / who.replace(":", "-")
    if folder.resolve() == path.parent.resolve():  # it is published already
        return []
    folder.mkdir(parents=True, exist_ok=True)
    copies = [Path(shutil.copyfile(path, folder / path.name))]
    if isinstance(each, record.Quality) and each.predictions:
        copies.append(Path(shutil.copyfile(path.parent / each.predictions, folder / each.predictions)))
    return copies


def folder_of(hardware: str) -> str:
    """The folder of a machine, such as ``intel-xeon-processor-with-amx-2-cores`` or ``nvidia-h100-80gb-hbm3``."""
    return re.sub(r"[^a-z0-9]+", "-", hardware.lower().replace("(r)", "")).strip("-")
