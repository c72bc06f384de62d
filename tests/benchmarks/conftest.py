"""Benchmarks that would measure nothing fail."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def measured(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where --benchmark-disable or several processes switch the plugin off, so that no limit is checked."""
    yield
    if "benchmark" in request.fixturenames:
        assert request.getfixturevalue("benchmark").stats is not None, "benchmarks are disabled: run these files alone"
