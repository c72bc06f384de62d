"""Where an implementation runs, and how the record of what it does begins."""

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import plan, provenance, record
from harness.environment import find_environment, python_of
from harness.errors import Failure
from harness.implementation import Implementation
from harness.isolate import Show, Worker

Homes = dict[str, Path]  # by name of implementation: the interpreter that it runs in


def find_homes(made: plan.Plan, show: Show) -> Generator[record.Parity, None, Homes]:
    """The interpreter of each implementation; environments that are not there yet are made.

    One that has no home is recorded as skipped (its repository is not there) or failed, and takes no further part.
    """
    homes: Homes = {}
    for implementation in made.implementations:
        result = parity_record(made, implementation)
        try:
            if implementation.checkout and implementation.name not in made.checkouts:
                result.state, result.reason = "skipped", f"needs a checkout of {implementation.checkout}"
            else:
                homes[implementation.name] = python_of(
                    implementation, lambda what, name=implementation.name: show(f"{name}: {what}", 0, 1)
                )
        except Failure as error:
            fail(result, error)
        if implementation.name not in homes:
            record.write(result, parity_path(made, result))
            yield result
    return homes


def start_worker(made: plan.Plan, implementation: Implementation, homes: Homes) -> Worker:
    return Worker(implementation, homes[implementation.name], made.checkouts.get(implementation.name))


def common(made: plan.Plan, key: str, asked: str, resolved: str) -> dict[str, Any]:
    """The fields that every record has."""
    return {
        "key": key,
        "state": "ok",
        "checkpoint": {"name": made.weights.name, "sha256": made.weights.sha256, "source": made.weights.source},
        "device": made.device,
        "precision": {"asked": asked, "resolved": resolved},
        "threads": made.threads,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "command": made.options.command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def who(made: plan.Plan, implementation: Implementation) -> dict[str, Any]:
    """Name, catalog entry and code; of a repository also which commit, of a foreign environment what it holds."""
    who: dict[str, Any] = {
        "name": implementation.name,
        "catalog_id": implementation.catalog_id,
        "code": plan.code_of(implementation),
    }
    if implementation.name in made.checkouts:
        who["checkout"] = {
            "address": implementation.checkout,
            "commit": provenance.commit_of(made.checkouts[implementation.name]),
        }
    environment = find_environment(implementation.requirements)
    if environment is not None:
        who["environment"] = list(environment.installed)
    return who


def fail(result: record.Record, error: Exception) -> None:
    result.state = "failed"
    result.reason = str(error)


def parity_record(made: plan.Plan, implementation: Implementation) -> record.Parity:
    key = f"parity-{implementation.name.replace(':', '-')}-{made.weights.sha256[:12]}"
    return record.Parity(**common(made, key, "fp32", "fp32"), implementation=who(made, implementation))


def parity_path(made: plan.Plan, result: record.Parity) -> Path:
    return made.options.runs / "parity" / f"{result.key}.json"
