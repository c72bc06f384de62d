"""The command similar: which pairs and clusters it finds, and how it writes them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness import cli
from harness.predict import similar as finding
from reference import SentenceEncoder

TEXTS = ["Where is my parcel?", "A cat sat.", "Where is my package?", "Where is my parcel?", "", "A dog \\ sat."]
Said = tuple[int, str, str]
Similar = Callable[..., Said]


@pytest.fixture
def similar(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Similar:
    """A function: arguments to exit code, standard output and standard error."""
    threads = torch.get_num_threads()
    weights = ["--weights", str(tiny_checkpoint), "--precision", "fp32", "--device", "cpu", "--threads", "1"]

    def call(*arguments: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["harness", "similar", *map(str, arguments), *weights])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        torch.set_num_threads(threads)
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "texts.txt"
    found.write_text("".join(f"{text}\n" for text in TEXTS))
    return found


def cosines(rows: Any) -> NDArray[np.float64]:
    exact = np.asarray(rows, np.float64)
    exact = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    return exact @ exact.T


def test_pairs_are_those_of_the_vectors_best_first(similar: Similar, file: Path, tiny_checkpoint: Path) -> None:
    scores = cosines(SentenceEncoder(tiny_checkpoint, precision="fp32", device="cpu").encode(TEXTS))
    code, out, err = similar(file, "--threshold", "0.5")
    head, *rows = [line.split("\t") for line in out.splitlines()]
    expected = sorted((-scores[i, j], i, j) for i in range(6) for j in range(i + 1, 6) if scores[i, j] >= 0.5)
    assert code == 0
    assert head == ["similarity", "first", "second", "first_text", "second_text"]
    assert rows[0] == ["1.000000", "1", "4", TEXTS[0], TEXTS[3]]
    assert [(int(row[1]) - 1, int(row[2]) - 1) for row in rows] == [(i, j) for _, i, j in expected]
    np.testing.assert_allclose([float(row[0]) for row in rows], [-score for score, *_ in expected], atol=1e-6)
    assert f"{len(expected)} pairs of 6 texts are at 0.5 or above\n" in err


def test_json_has_the_texts_as_they_are(similar: Similar, file: Path, tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    code, out, err = similar(file, "--threshold", "-1", "--top", "3", "--output", output)
    assert (code, out) == (0, "")
    assert "15 pairs of 6 texts are at -1 or above; these are the 3 most similar (--top)" in err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(lines) == 3
    assert lines[0] == {
        "similarity": 1.0,
        "first": {"number": 1, "text": TEXTS[0]},
        "second": {"number": 4, "text": TEXTS[3]},
    }


def test_clusters_are_what_pairs_connect(similar: Similar, file: Path, tmp_path: Path) -> None:
    code, out, err = similar(file, "--threshold", "0.99999", "--clusters")
    assert (code, out) == (0, f"cluster\tnumber\ttext\n1\t1\t{TEXTS[0]}\n1\t4\t{TEXTS[0]}\n")
    assert "1 pairs at 0.99999 or above connect 2 of 6 texts to 1 clusters" in err
    output = tmp_path / "clusters.jsonl"
    assert similar(file, "--threshold", "-1", "--clusters", "--output", output)[0] == 0
    everything = [{"number": i, "text": text} for i, text in enumerate(TEXTS, 1)]
    assert json.loads(output.read_text()) == {"cluster": 1, "texts": everything}


def test_tabs_and_line_breaks_stay_inside_their_field(similar: Similar, tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": "a\tb\nc\\"}) + "\n" for _ in "12"))
    _, out, _ = similar(tmp_path / "texts.jsonl")
    assert out.splitlines()[1].split("\t")[3:] == ["a\\tb\\nc\\\\"] * 2


def test_nothing_similar_is_no_error(similar: Similar, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("one text\n")
    assert similar(tmp_path / "one.txt") == (
        0,
        "similarity\tfirst\tsecond\tfirst_text\tsecond_text\n",
        "0 pairs of 1 texts are at 0.9 or above\n",
    )
    assert similar(tmp_path / "one.txt", "--clusters")[:2] == (0, "cluster\tnumber\ttext\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threshold", "1.5"], "--threshold is 1.5; a cosine is from -1 to 1"),
        (["--threshold", "nan"], "--threshold is nan"),
        (["--top", "0"], "--top is 0; it must be above 0"),
        (["--output", "pairs.csv"], "--output: pairs.csv ends in none of .tsv, .jsonl"),
        (["--output", "no/pairs.tsv"], "its folder is not there"),
        (["--format", "xml"], "'xml' is not one that this model reads"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments: list[str], said: str, similar: Similar, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    code, out, err = similar(file, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


# -- the comparison of all pairs, in small blocks --


@pytest.fixture(params=[(4, 8), (32, 512)])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = request.param
    monkeypatch.setattr(finding, "ROWS", rows)
    monkeypatch.setattr(finding, "COLUMNS", columns)
    monkeypatch.setattr(finding, "AT_ONCE", rows)


def near_duplicates() -> NDArray[np.float32]:
    """Vectors in groups, some of them equal."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((9, 16))
    rows = centres[draw.integers(0, 9, 70)] + draw.choice([0, 1e-4, 0.3], (70, 1)) * draw.standard_normal((70, 16))
    rows[11] = 0
    return finding.unit(rows.astype(np.float32))


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("threshold", [-1.0, 0.2, 0.9, 0.999999, 1.0])
@pytest.mark.parametrize("top", [1, 20, 10_000])
def test_all_pairs_are_counted_and_the_best_kept(threshold: float, top: int) -> None:
    rows = near_duplicates()
    first, second = np.triu_indices(70, 1)
    scores = finding._products(rows, first, second)
    right = scores >= threshold
    found = finding.pairs_of(rows, threshold, top)
    order = np.lexsort((second[right], first[right], -scores[right]))[:top]
    assert found.count == right.sum()
    np.testing.assert_array_equal(found.first, first[right][order])
    np.testing.assert_array_equal(found.second, second[right][order])
    np.testing.assert_array_equal(found.scores, scores[right][order])


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("threshold", [0.2, 0.9, 0.999999, 1.0])
def test_clusters_are_the_connected_components(threshold: float) -> None:
    rows = near_duplicates()
    first, second = np.triu_indices(70, 1)
    right = finding._products(rows, first, second) >= threshold
    groups = {i: {i} for i in range(70)}
    for i, j in zip(first[right].tolist(), second[right].tolist(), strict=True):
        if groups[i] is not groups[j]:
            groups[i] |= groups[j]
            for each in groups[j]:
                groups[each] = groups[i]
    expected = {tuple(sorted(group)) for group in groups.values() if len(group) > 1}
    found, count = finding.clusters_of(rows, threshold)
    assert count == right.sum()
    assert {tuple(group) for group in found} == expected
    assert [len(group) for group in found] == sorted(map(len, found), reverse=True)
