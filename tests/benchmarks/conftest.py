"""Benchmarks that would measure nothing fail."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where --benchmark-disable or several processes switch the plugin off, so that no limit is checked."""
    benchmark = request.getfixturevalue("benchmark") if "benchmark" in request.fixturenames else None
    yield
    assert benchmark is None or benchmark.stats is not None, "benchmarks are disabled: run these files alone"
