"""How long reading takes."""

from pathlib import Path

import pytest_benchmark.fixture

from harness.data.read import read_split
from harness.data.task import load_task

ROWS = 67_000  # about those of SST-2


def test_read_sst2_train(benchmark: pytest_benchmark.fixture.BenchmarkFixture, tmp_path: Path) -> None:
    file = tmp_path / "GLUE/SST-2/train.tsv"
    file.parent.mkdir(parents=True)
    rows = (f"sentence number {row} of a film that is neither short nor dull \t{row % 2}\n" for row in range(ROWS))
    file.write_text("sentence\tlabel\n" + "".join(rows), encoding="utf-8")
    examples = benchmark(read_split, load_task("sst2"), "train", tmp_path)
    assert len(examples) == ROWS
