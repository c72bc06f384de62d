"""Where an implementation runs, and how the record of what it does begins."""

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import Failure
from harness.measure import keys, plan
from harness.measure.client import Show, Worker, WorkerError
from harness.records import provenance, record
from harness.registry.environments import find_environment, python_of
from harness.registry.implementations import Implementation

R = TypeVar("R", bound=record.Record)
Homes = dict[str, Path]  # by name of implementation: the interpreter that it runs in


def find_homes(made: plan.Plan, show: Show) -> Generator[record.Parity, None, Homes]:
    """The interpreter of each implementation; environments that are not there yet are made.

    One that has no home is recorded as skipped (its repository is not there) or failed, and takes no further part.
    It is tried again each time, as that depends on what else is on the machine.
    """
    homes: Homes = {}
    for implementation in made.implementations:
        if lacking := lacks(made, implementation):
            yield _without_home(made, implementation, "skipped", lacking)
            continue
        try:
            homes[implementation.name] = python_of(
                implementation, lambda what, name=implementation.name: show(f"{name}: {what}", 0, 1)
            )
        except Failure as error:
            yield _without_home(made, implementation, "failed", str(error))
    return homes


def _without_home(made: plan.Plan, implementation: Implementation, state: str, reason: str) -> record.Parity:
    result = parity_record(made, implementation, starts=False)
    result.state, result.reason = state, reason
    path = parity_path(made, result)
    with record.exclusive(path, lambda: None):
        record.write(result, path)
    return result


def lacks(made: plan.Plan, implementation: Implementation) -> str | None:
    """What must be given before an implementation can take part; None: nothing."""
    if implementation.checkout and implementation.name not in made.checkouts:
        return f"needs a checkout of {implementation.checkout}"
    return plan.unfit(implementation, made.device, made.config)


def start_worker(made: plan.Plan, implementation: Implementation, homes: Homes, beside_others: bool = False) -> Worker:
    """In its own interpreter, with its repository; see ``Worker``."""
    home, checkout = homes[implementation.name], made.checkouts.get(implementation.name)
    return Worker(implementation, home, checkout, beside_others)


def common(made: plan.Plan, key: str, asked: str, resolved: str) -> dict[str, Any]:
    """The fields that every record has."""
    return {
        "key": key,
        "state": "ok",
        "checkpoint": {
            "name": made.weights.name,
            "sha256": made.weights.sha256,
            "source": made.weights.source,
            "config": made.config,
            "initialised": [],
        },
        "device": made.device,
        "precision": {"asked": asked, "resolved": resolved, "computed": resolved},
        "threads": made.threads,
        "machine": provenance.machine(),
        "versions": provenance.versions(),
        "commit": provenance.git_commit(),
        "command": made.options.command,
        "started": now(),
    }


def now() -> str:
    """As records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def kept(made: plan.Plan, kind: type[R], key: str, path: Path) -> R | None:
    """The record of the same run, where there is one that ``--rerun`` does not say to make anew."""
    if made.options.rerun == "all" or not path.is_file():
        return None
    known = record.read(path)
    if not isinstance(known, kind) or known.key != key:
        return None
    return None if known.state == "failed" and made.options.rerun == "failed" else known


def who(made: plan.Plan, implementation: Implementation) -> dict[str, Any]:
    """Name, catalog entry and code; of a repository also which commit, of a foreign environment what it holds."""
    who: dict[str, Any] = {
        "name": implementation.name,
        "catalog_id": implementation.catalog_id,
        "code": keys.code_of(implementation),
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
    result.state = error.state if isinstance(error, WorkerError) else "failed"
    result.reason = str(error)


def parity_record(made: plan.Plan, implementation: Implementation, starts: bool = True) -> record.Parity:
    key = keys.parity_key(made, implementation, starts)
    return record.Parity(**common(made, key, "fp32", "fp32"), implementation=who(made, implementation))


def parity_path(made: plan.Plan, result: record.Parity) -> Path:
    name = result.implementation["name"].replace(":", "-")
    return made.options.runs / "parity" / f"parity-{name}-{result.key[:12]}.json"
