"""The metrics and the flags of a quality record, computed from its predictions and the examples that they are for."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.data import leakage
from harness.data.examples import repair_text
from harness.data.kinds import KINDS, Prediction
from harness.data.task import Task
from harness.records import record
from harness.statistics import metrics

Predictions = dict[str, list[list[Any]]]  # by split: [example id, prediction] for each example


def score(
    result: record.Quality, task: Task, examples: dict[str, list[Any]], answers: Predictions
) -> tuple[list[dict[str, Any]], list[record.Flag]]:
    """The metrics and the flags of a record, from its predictions; the same at the end of its run and ever after.

    ``examples`` are those of each split in ``answers``. From ``result`` it reads what goes into the signatures, what
    was counted and repaired in its data, and the flags that concern no split; it does not change it. Failure where the
    predictions are not for these examples.
    """
    found, warnings = [], _data_flags(result, task)
    kind = KINDS[task.kind]
    extra = _extra(result, task)
    for split, pairs in answers.items():
        predicted = leakage.aligned(examples[split], pairs, f"{task.name} {split}")
        right = kind.gold(examples[split])
        if right is None:
            warnings.append(record.flag("no labels, predictions only", split))
            continue
        given = metrics.Answers(right, predicted, task.outputs, task.positive)
        for metric in metrics_of(task, split, right, predicted, task.metrics, extra=extra):
            baseline = metrics.METRICS[metric.name].baseline(given)
            found.append({"split": split, **asdict(metric), "baseline": baseline})
            if groups := kind.groups(right, predicted):
                found[-1]["groups"] = groups
            if metric.name == task.metrics[0] and metric.low <= baseline:
                warnings.append(record.flag(f"the interval reaches down to the baseline, {baseline:.3f}", split))
        if warning := kind.degenerate(right, predicted):
            warnings.append(record.flag(warning, split))
    judged = {*answers, *result.sanity, *result.repairs}
    return found, [*(flag for flag in result.flags if flag["split"] not in judged), *warnings]


def metrics_of(
    task: Task, split: str, right: list[Any], predicted: list[Prediction], names: Sequence[str], **settings: Any
) -> list[metrics.Score]:
    """These metrics of the predictions for one split; ``settings`` are those of ``metrics.score``."""
    return metrics.score(
        task.kind,
        names,
        right,
        predicted,
        task=task.name,
        split=split,
        labels=task.outputs,
        positive=task.positive,
        **settings,
    )


def _data_flags(result: record.Quality, task: Task) -> list[record.Flag]:
    """Flags about the data: its labels, what was repaired in the files, what was cut or seen in training."""
    found = [record.flag(text, "train") for text in leakage.label_notes(task)]
    for split, repairs in result.repairs.items():
        found += [record.flag(text, split) for text in map(repair_text, repairs) if text is not None]
    return [*leakage.flags(result.sanity), *found]


def _extra(result: record.Quality, task: Task) -> list[str]:
    """What the signatures say about the run, beside how the metrics are computed."""
    extra = ["select=dev"] if result.recipe["select"] == "dev" else []
    extra += [f"pooling={result.recipe['pooling']}"] if "pooling" in result.recipe else []
    extra += KINDS[task.kind].signature(task)
    return extra + ([f"limit={result.limit}"] if result.limit else [])
