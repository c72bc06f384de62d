"""One run of load: services are started together and driven in turn, and the record says which rates each met."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from harness.data.read import read
from harness.errors import BadInput, Failure
from harness.files import sha256_of
from harness.load import client
from harness.load.services import OURS, Running, version_of
from harness.measure import keys, scenarios
from harness.measure.plan import Plan
from harness.measure.recording import common_fields
from harness.progress import Show, labelled
from harness.records import record
from harness.records.load import Stretch, load_of, watched
from harness.registry.environments import python_of
from harness.registry.implementations import Implementation

PROBES = 64  # texts whose vectors are compared
COSINE = 0.9999  # least between vectors of one text, for services to be compared
BULK = 32  # texts of a request of the bulk client
LONGEST = 1000  # texts that are sent, of each task


@dataclass(frozen=True)
class Asked:
    """What a run of load does."""

    clients: tuple[int, ...]
    rounds: int
    seconds: float  # of each turn
    bound: float | None  # of the 99th percentile, in seconds; None: no search for a rate


def texts_of(plan: Plan) -> list[str]:
    """The texts of the tasks' first scored splits, mixed: those of all lengths come in turn."""
    found = []
    for task in plan.tasks:
        if not hasattr((examples := read(task, task.evaluate[0], plan.data).examples)[0], "texts"):
            raise BadInput(f"task {task.name} has no texts")
        found += [text for example in examples[:LONGEST] for text in example.texts if text.strip()]
    order = np.random.default_rng(scenarios.SAMPLE_INDEX_SEED).permutation(len(found))
    return [found[i] for i in order]


def run(plan: Plan, chosen: list[Implementation], asked: Asked, show: Show) -> record.Load:
    """Start, compare and drive the services; write the record. A service that fails never stops the others."""
    start, texts = time.perf_counter(), texts_of(plan)
    figures: dict[str, dict[str, Any]] = {each.name: {"state": "ok"} for each in chosen}
    stretches: list[Stretch] = []
    with ExitStack() as stack:
        running: dict[str, Running] = {}
        for service in chosen:
            with _kept(figures[service.name]):
                show(f"starting {service.name}")
                running[service.name] = _started(stack, service, plan, texts, figures[service.name], show)
        _compare(running, texts[:PROBES], figures)
        for count in asked.clients:
            _turns(running, texts, figures, count, 1, asked, stretches, show)
        _turns(running, texts, figures, 1, BULK, asked, stretches, show)
        if asked.bound is not None:
            for name, each in list(running.items()):
                if figures[name]["state"] == "ok":
                    with _kept(figures[name]), watched(stretches):
                        figures[name]["server"] = _highest(each, texts, figures[name], asked, labelled(show, name))
    result = _record(plan, chosen, asked, texts, figures, load_of(stretches))
    result.seconds = time.perf_counter() - start
    record.write(result, plan.options.runs / "load" / f"load-{result.key[:12]}.json")
    return result


@contextmanager
def _kept(figures: dict[str, Any]) -> Iterator[None]:
    """A failure inside is kept in the figures, and the run goes on."""
    try:
        yield
    except (Failure, BadInput) as error:
        figures |= {"state": "failed", "reason": str(error)}


def _started(
    stack: ExitStack, service: Implementation, plan: Plan, texts: list[str], figures: dict[str, Any], show: Show
) -> Running:
    python = python_of(service, labelled(show, service.name))
    figures |= {"version": version_of(service), "catalog_id": service.catalog_id}
    each = stack.enter_context(Running(service, python, plan.weights.folder, plan.threads))
    figures["cold_seconds"] = each.wait(texts[0])
    figures["memory_at_start"] = each.memory
    return each


def _compare(running: dict[str, Running], texts: list[str], figures: dict[str, dict[str, Any]]) -> None:
    """The vectors of the same texts, compared with ours; one whose vectors differ is not timed."""
    if OURS not in running:
        raise Failure(f"{OURS}: {figures[OURS].get('reason', 'it did not start')}; the others are compared with it")
    ours = _unit(running[OURS].vectors(texts))
    for name, each in running.items():
        with _kept(figures[name]):
            theirs = _unit(each.vectors(texts))
            if theirs.shape != ours.shape:
                raise Failure(f"{name}: its vectors have {theirs.shape[1]} numbers, and ours {ours.shape[1]}")
            least = float((ours * theirs).sum(axis=1).min())
            figures[name]["parity"] = {"texts": len(texts), "least_cosine": least}
            if not least >= COSINE:
                raise Failure(f"{name}: the cosine with our vectors goes down to {least:.5f}, under {COSINE}")


def _unit(vectors: list[list[float]]) -> Any:
    rows = np.array(vectors, dtype=np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _turns(
    running: dict[str, Running],
    texts: list[str],
    figures: dict[str, dict[str, Any]],
    clients: int,
    together: int,
    asked: Asked,
    stretches: list[Stretch],
    show: Show,
) -> None:
    """All services in turn, ``rounds`` times, after a turn that does not count."""
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    for number in range(asked.rounds + 1):
        for name, each in running.items():
            if figures[name]["state"] != "ok":
                continue
            show(f"{name}, {clients} clients, {together} texts a request", number, asked.rounds + 1)
            with _kept(figures[name]), watched(stretches):
                seconds = asked.seconds if number else min(1.0, asked.seconds)
                turn = _turn(each, texts, clients, seconds, together)
                if number:
                    turns[name].append(turn)
                figures[name]["memory"] = max(figures[name].get("memory", 0), each.memory)
    for name, done in turns.items():
        if figures[name]["state"] == "ok":
            # Round by round; ours may have failed before the last one.
            ratios = [a["texts_per_second"] / b["texts_per_second"] for a, b in zip(done, turns[OURS], strict=False)]
            middle = {key: median(turn[key] for turn in done) for key in done[0]}
            figures[name].setdefault("closed", []).append(
                {
                    "clients": clients,
                    "texts": together,
                    **middle,
                    "ratio": median(ratios) if ratios else None,
                    "turns": done,
                }
            )


def _turn(each: Running, texts: list[str], clients: int, seconds: float, together: int) -> dict[str, float]:
    before = each.cpu_seconds
    done = client.closed(each.url, texts, clients, seconds, together)
    count = len(done.latencies) * together
    p50, p90, p99 = np.percentile(done.latencies, [50, 90, 99]).tolist()
    return {
        "texts_per_second": count / done.seconds,
        "p50": p50,
        "p90": p90,
        "p99": p99,
        "cpu_seconds_per_1000_texts": 1000 * (each.cpu_seconds - before) / count,
        "requests": float(len(done.latencies)),
    }


def _highest(each: Running, texts: list[str], figures: dict[str, Any], asked: Asked, show: Show) -> dict[str, Any]:
    assert asked.bound is not None
    serve = partial(client.scheduled, each.url, texts)
    first = max(turn["texts_per_second"] for turn in figures["closed"] if turn["texts"] == 1)
    return scenarios.highest_rate(serve, asked.bound, first, show, seconds=asked.seconds)


def _record(
    plan: Plan,
    chosen: list[Implementation],
    asked: Asked,
    texts: list[str],
    figures: dict[str, dict[str, Any]],
    load: dict[str, Any],
) -> record.Load:
    lengths = [len(each.ids) for each in plan.tokenizer.encode_batch(texts)]
    tokens = np.percentile(lengths, [5, 50, 95]).tolist()
    what = [[each.name, sha256_of(each.file)] for each in chosen]
    key = keys.digest({"services": what, "asked": list(vars(asked).values()), "weights": plan.weights.sha256})
    common = common_fields(plan, key, "fp32", "fp32")
    return record.Load(
        **common,
        services=figures,
        texts={
            "tasks": [task.name for task in plan.tasks],
            "number": len(texts),
            "tokens": dict(zip(("p5", "p50", "p95"), tokens, strict=True)),
        },
        rounds=asked.rounds,
        turn_seconds=asked.seconds,
        bound=asked.bound,
        load=load,
    )
