"""How the record of a measurement begins, when a finished one is kept, and how one fails."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from harness.measure import keys
from harness.measure.client import WorkerError
from harness.measure.plan import Plan
from harness.records import machine, provenance, record
from harness.registry.environments import find_environment
from harness.registry.implementations import Implementation

R = TypeVar("R", bound=record.Record)


def common_fields(plan: Plan, key: str, asked: str, resolved: str) -> dict[str, Any]:
    """The fields of every record; ``asked`` and ``resolved`` are its precision."""
    return {
        "key": key,
        "state": "ok",
        "checkpoint": {
            "name": plan.weights.name,
            "sha256": plan.weights.sha256,
            "source": plan.weights.source,
            "config": plan.config,
            "initialised": [],
        },
        "device": plan.device,
        "precision": {"asked": asked, "resolved": resolved, "computed": resolved},
        "threads": plan.threads,
        "machine": machine.describe(),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "command": plan.options.command,
        "started": now(),
    }


def now() -> str:
    """The time, as records state it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def identity(plan: Plan, implementation: Implementation) -> dict[str, Any]:
    """Name, catalog entry and hash of the code; also the commit of its repository, and the packages of its environment.

    The field ``implementation`` of a record, before the implementation has been started.
    """
    fields: dict[str, Any] = {
        "name": implementation.name,
        "catalog_id": implementation.catalog_id,
        "code": keys.code_of(implementation),
    }
    if implementation.name in plan.checkouts:
        fields["checkout"] = {
            "address": implementation.checkout,
            "commit": provenance.commit_of(plan.checkouts[implementation.name]),
        }
    environment = find_environment(implementation.requirements)
    if environment is not None:
        fields["environment"] = list(environment.installed)
    return fields


def find_kept(plan: Plan, kind: type[R], key: str, path: Path) -> R | None:
    """The finished record with this key; None if there is none, or ``--rerun`` says to replace it."""
    if plan.options.rerun == "all" or not path.is_file():
        return None
    found = record.read(path)
    if not isinstance(found, kind) or found.key != key:
        return None
    return None if found.state == "failed" and plan.options.rerun == "failed" else found


def fail(result: record.Record, error: Exception) -> None:
    """Put the error into the record."""
    result.state = error.state if isinstance(error, WorkerError) else "failed"
    result.reason = str(error)
