"""Which records are of one model, and names that distinguish models.

A model is weights and a configuration: the same weights with another activation compute something else.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from harness.records.record import UNKNOWN, Record

R = TypeVar("R", bound=Record)


def model_of(each: Record) -> str:
    """An id of the record's model: the sha256 of the weights and, if it may change, a hash of the configuration.

    Weights from an archive (a package, one of Google's zips) and our random ones have a fixed configuration.
    """
    config = each.checkpoint["config"] if _may_change(each) else {}
    return f"{each.checkpoint['sha256']}, {_digest(config)}" if config else str(each.checkpoint["sha256"])


def configuration_of(each: Record) -> dict[str, Any]:
    """The model's settings, to be compared with another's; empty if its configuration cannot change."""
    if not _may_change(each):
        return {}
    config = each.checkpoint["config"]
    return {f"configuration: {key}": value for key, value in config.items()} or {"configuration": UNKNOWN}


def _may_change(each: Record) -> bool:
    source = str(each.checkpoint.get("source"))
    return source == "local" or source.startswith("https://huggingface.co/")


def named_apart(records: Sequence[R]) -> list[R]:
    """The records; models that share a name get names that say how they differ."""
    models: dict[str, dict[str, dict[str, Any]]] = {}
    for each in records:
        models.setdefault(each.checkpoint["name"], {}).setdefault(model_of(each), each.checkpoint)
    names = {(name, model): said for name, several in models.items() for model, said in _names(name, several).items()}
    return [
        replace(each, checkpoint=each.checkpoint | {"name": names[each.checkpoint["name"], model_of(each)]})
        for each in records
    ]


def _names(name: str, several: dict[str, dict[str, Any]]) -> dict[str, str]:
    """A name for each model: with the settings and the weights in which they differ."""
    if len(several) == 1:
        return dict.fromkeys(several, name)
    configs = [checkpoint["config"] for checkpoint in several.values()]
    settings = [key for key in dict.fromkeys(key for each in configs for key in each) if _differ(configs, key)]
    weights = len({checkpoint["sha256"] for checkpoint in several.values()}) > 1
    found = {}
    for model, checkpoint in several.items():
        config = checkpoint["config"]
        said = [f"weights {checkpoint['sha256'][:8]}"] if weights else []
        said += [f"{key} {config[key]}" for key in settings if key in config]
        said += [] if config else ["configuration unknown"]
        found[model] = f"{name} ({', '.join(said)})"
    return found


def _differ(configs: list[dict[str, Any]], key: str) -> bool:
    values = [json.dumps(each[key]) for each in configs if key in each]
    return len(set(values)) > 1


def _digest(config: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
