"""`data get` and `data list` against a local server that plays the official addresses and the Hub."""

import hashlib
import importlib.util
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from harness.data import download, fetch
from harness.data.examples import TextExample
from harness.data.fetch import Row, get, listing, split_mrpc
from harness.data.read import read_split
from harness.data.task import load_task
from harness.errors import BadInput, Failure
from tests.harness.server import Fault, Server

GLUE = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax"]
MRPC = {
    "msr_paraphrase_train.txt": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    '1\t10\t11\tHe said " no " .\tHe refused .\n0\t20\t21\tA .\tB . \n1\t10\t12\tC .\tD .',
    "msr_paraphrase_test.txt": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    "0\t5\t6\tE .\tF .\n1\t7\t8\tG .\tH .\n",
    "dev_ids.tsv": "10\t11\n99\t98\n",
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Every official address, with small files in archives as untidy as the real ones."""
    monkeypatch.setattr(download, "WAITS", (0.0,))
    sources = yaml.safe_load(fetch.SOURCES.read_text())
    with Server() as running:
        for name, source in sources.items():
            for item in source["downloads"]:
                path = urlsplit(item["url"]).path
                if "save" in item:
                    content = MRPC.get(item["save"], f"{name} {item['save']}\n").encode()
                else:
                    top = Path(path).stem
                    files = {f"{top}/{file}": f"{name} {file}\n".encode() for file in source["files"]}
                    litter = {"__MACOSX/._train.tsv": b"-", f"{top}/.DS_Store": b"-", "timestamp.json": b"{}"}
                    content = make_zip({f"{top}/original/{source['files'][0]}": b"raw"} | files | litter)
                running.files[path] = content
                item |= {"url": running.address + path, "bytes": len(content), "sha256": sha256(content)}
        path = tmp_path / "sources.yaml"
        path.write_text(yaml.safe_dump(sources, sort_keys=False))
        monkeypatch.setattr(fetch, "SOURCES", path)
        yield running


def row(folder: Path, name: str) -> Row:
    return next(row for row in listing(folder) if row.name == name)


def tree(folder: Path) -> set[str]:
    """The files in a data folder, without what the downloads leave behind (locks)."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {file for file in files if not file.startswith(fetch.STAGING)}


# -- the declarations --


def test_every_official_address_has_a_size_and_a_checksum() -> None:
    for dataset in fetch.datasets().values():
        for item in dataset.downloads:
            assert item.url.startswith("https://")
            assert item.bytes > 0
            assert len(bytes.fromhex(item.sha256)) == 32


def test_what_tasks_read_is_what_data_get_writes() -> None:
    known = fetch.datasets()
    for name in [*GLUE, "conll2003", "wnut17", "msra_ner", "go_emotions"]:
        written = {f"{known[name].folder}/{file}" for file in known[name].files}
        assert {str(file.path) for file in load_task(name).files.values()} <= written, name
        assert name in known[name].tasks


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERT_ATLAS_DATA", "/from/environment")
    assert fetch.data_folder(Path("~/given")) == Path.home() / "given"
    assert fetch.data_folder(None) == Path("/from/environment")
    monkeypatch.delenv("BERT_ATLAS_DATA")
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path))
    assert fetch.data_folder(None) == tmp_path / "data"


# -- official addresses --


def test_everything_arrives_in_its_place(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    known = fetch.datasets()
    assert {row.state for row in listing(folder)} == {"missing"}
    get(known, folder)
    expected = {f"{d.folder}/{file}" for d in known.values() for file in [*d.files, fetch.MANIFEST]}
    assert tree(folder) == expected
    assert (folder / "GLUE" / "QQP" / "train.tsv").read_text() == "qqp train.tsv\n"
    assert {(row.state, row.source) for row in listing(folder)} == {("present", "official")}
    assert not list((folder / fetch.STAGING).rglob("*.zip"))


def test_glue_is_ten_data_sets(server: Server, tmp_path: Path) -> None:
    get(["glue", "rte"], tmp_path / "data")
    assert [row.name for row in listing(tmp_path / "data") if row.state == "present"] == GLUE


def test_what_is_there_is_not_fetched_again(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get(["rte"], tmp_path)
    asked = len(server.requests)
    get(["rte"], tmp_path)
    assert len(server.requests) == asked
    assert "rte: already in GLUE/RTE" in capsys.readouterr().err


def test_offline_an_archive_that_was_put_there_is_used(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a network gets its data so: the message says where the file is to be put."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Failure, match=r"HF_HUB_OFFLINE is set, .* put the file of http.* at (.*)\.$") as caught:
        get(["rte"], tmp_path)
    address, place = re.findall(r"the file of (\S+) at (\S+)\.$", str(caught.value))[0]
    Path(place).write_bytes(server.files[address.removeprefix(server.address)])
    get(["rte"], tmp_path)
    get(["rte"], tmp_path)
    assert row(tmp_path, "rte").state == "present"
    assert server.requests == []


def test_what_was_altered_or_deleted_is_seen_and_repaired(server: Server, tmp_path: Path) -> None:
    get(["rte"], tmp_path)
    train, dev = (tmp_path / "GLUE" / "RTE" / name for name in ("train.tsv", "dev.tsv"))
    dev.unlink()
    assert row(tmp_path, "rte").state == "partial"
    train.write_text("edited")
    assert row(tmp_path, "rte").state == "altered"
    get(["rte"], tmp_path)
    assert row(tmp_path, "rte").state == "present"
    assert train.read_text() == "rte train.tsv\n"


def test_a_file_of_the_users_is_never_overwritten(server: Server, tmp_path: Path) -> None:
    mine = tmp_path / "CoNLL-2003" / "valid.txt"
    mine.parent.mkdir()
    mine.write_text("my own")
    with pytest.raises(BadInput, match=r"valid\.txt differs .*Move it away"):
        get(["conll2003"], tmp_path)
    assert mine.read_text() == "my own"
    assert tree(tmp_path) - {"sources.yaml"} == {"CoNLL-2003/valid.txt"}
    mine.unlink()
    asked = len(server.requests)
    get(["conll2003"], tmp_path)
    assert len(server.requests) == asked, "the archive had arrived already"


def test_the_users_own_copy_is_adopted_if_it_is_the_same(server: Server, tmp_path: Path) -> None:
    get(["rte"], tmp_path)
    (tmp_path / "GLUE" / "RTE" / fetch.MANIFEST).unlink()
    assert row(tmp_path, "rte")[2:] == ("present", "0.0 MB", "none stated", "own copy")
    get(["rte"], tmp_path)
    assert row(tmp_path, "rte").source == "official"


def test_a_wrong_archive_leaves_what_was_there(server: Server, tmp_path: Path) -> None:
    get(["rte"], tmp_path)
    (tmp_path / "GLUE" / "RTE" / "dev.tsv").unlink()
    server.files["/glue/data/RTE.zip"] = make_zip({"RTE/train.tsv": b"evil"})
    with pytest.raises(Failure, match=r"RTE\.zip: expected [\d,]+ bytes, got"):
        get(["rte"], tmp_path)
    assert (tmp_path / "GLUE" / "RTE" / "train.tsv").read_text() == "rte train.tsv\n"


def test_a_data_set_broken_off_between_two_files_goes_on(server: Server, tmp_path: Path) -> None:
    path = next(path for path in server.files if path.endswith("emerging.dev.conll"))
    server.faults[path] = [Fault(status=500)] * 2
    with pytest.raises(Failure, match="HTTP 500"):
        get(["wnut17"], tmp_path)
    assert row(tmp_path, "wnut17").state == "missing"
    get(["wnut17"], tmp_path)
    assert row(tmp_path, "wnut17").state == "present"
    train = [path for _, path, _ in server.requests if path.endswith("wnut17train.conll")]
    assert len(train) == 1


def test_two_at_once_fetch_once(server: Server, tmp_path: Path) -> None:
    server.faults["/glue/data/RTE.zip"] = [Fault(pause=0.3)]
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(get, ["rte"], tmp_path) for _ in range(2)]
    assert [call.result() for call in both] == [None, None]
    assert row(tmp_path, "rte").state == "present"
    assert len(server.requests) == 1


def test_conll_says_whose_text_it_is(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get(["conll2003", "rte"], tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "Reuters" in line and "research only" in line] == lines[1:2]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["rtr"], "no data set 'rtr' to get; did you mean 'rte'"),
        (["conll"], "did you mean 'conll2003'"),
        (["imdb"], "Known: .*wnut17"),
    ],
)
def test_unknown_names(server: Server, tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        get(["rte", *names], tmp_path)
    assert server.requests == []


def test_an_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="choose official or hub"):
        get(["rte"], tmp_path, "mirror")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"source": "official"}', '{"source": 1, "files": 2}'])
def test_a_damaged_manifest(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "GLUE" / "RTE"
    folder.mkdir(parents=True)
    (folder / fetch.MANIFEST).write_text(content)
    with pytest.raises(BadInput, match=r"cannot be read .*delete it"):
        listing(tmp_path)


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(BadInput, match="choose another folder"):
        get(["rte"], tmp_path / "data")


# -- MRPC --


def test_mrpc_is_split_by_ids(tmp_path: Path) -> None:
    for name, text in MRPC.items():
        (tmp_path / name).write_text(text)
    split_mrpc(tmp_path)
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    assert (tmp_path / "train.tsv").read_text() == header + "0\t20\t21\tA .\tB .\n1\t10\t12\tC .\tD .\n"
    assert (tmp_path / "dev.tsv").read_text() == header + '1\t10\t11\tHe said " no " .\tHe refused .\n'
    test = "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t5\t6\tE .\tF .\n1\t7\t8\tG .\tH .\n"
    assert (tmp_path / "test.tsv").read_text() == test


def test_mrpc_is_byte_for_byte_glues(data_folder: Path, tmp_path: Path) -> None:
    real = data_folder / "GLUE" / "MRPC"
    for name in MRPC:
        shutil.copy(real / name, tmp_path)
    split_mrpc(tmp_path)
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        assert (tmp_path / name).read_bytes() == (real / name).read_bytes(), name


# -- the Hub's copies --

COMMIT = fetch.GLUE_REVISION
# Hub config -> text columns and label names, as the dataset card of nyu-mll/glue declares them.
FEATURES: dict[str, tuple[list[str], list[str] | None]] = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (["sentence1", "sentence2"], ["not_equivalent", "equivalent"]),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "stsb": (["sentence1", "sentence2"], None),
    "mnli": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
    "qnli": (["question", "sentence"], ["entailment", "not_entailment"]),
    "rte": (["sentence1", "sentence2"], ["entailment", "not_entailment"]),
    "wnli": (["sentence1", "sentence2"], ["not_entailment", "entailment"]),
    "ax": (["premise", "hypothesis"], ["entailment", "neutral", "contradiction"]),
}
TO_HUB = {"dev": "validation", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"}


@dataclass
class HubImitation:
    """The Hub's endpoints for nyu-mll/glue on a local server."""

    server: Server
    stated: dict[str, str | None]  # path -> the sha256 that the Hub states

    def add(self, path: str, content: bytes) -> None:
        url = f"/datasets/nyu-mll/glue/resolve/{COMMIT}/{path}"
        self.server.files[url] = content
        self.stated[path] = sha256(content)
        self.server.headers[url] = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{sha256(content)}"',
            "X-Linked-Size": str(len(content)),
        }

    def paths_info(self, body: bytes) -> bytes:
        asked = parse_qs(body.decode())["paths"]
        answers = []
        for path in asked:
            if path in self.stated:
                digest = self.stated[path]
                lfs = {"lfs": {"oid": digest, "size": 1, "pointerSize": 1}} if digest else {}
                answers.append({"type": "file", "path": path, "size": 1, "oid": "0" * 40} | lfs)
        return json.dumps(answers).encode()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubImitation]:
    with Server() as running:
        imitation = HubImitation(running, {})
        commit = json.dumps({"id": "nyu-mll/glue", "sha": COMMIT, "siblings": [], "tags": []}).encode()
        for revision in (COMMIT, "main"):
            running.files[f"/api/datasets/nyu-mll/glue/revision/{revision}"] = commit
        running.posts[f"/api/datasets/nyu-mll/glue/paths-info/{COMMIT}"] = imitation.paths_info
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        yield imitation


def parquet(config: str, rows: list[dict[str, Any]], names: list[str] | None = None) -> bytes:
    """A split as the `datasets` library writes it: label numbers, and their names in the schema's metadata."""
    texts, declared = FEATURES[config]
    names = names or declared
    label = {"names": names, "_type": "ClassLabel"} if names else {"dtype": "float32", "_type": "Value"}
    features: dict[str, Any] = {text: {"dtype": "string", "_type": "Value"} for text in texts}
    features |= {"label": label, "idx": {"dtype": "int32", "_type": "Value"}}
    schema = pa.schema(
        [
            *((text, pa.string()) for text in texts),
            ("label", pa.int64() if names else pa.float32()),
            ("idx", pa.int32()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
    return buffer.getvalue()


def rows(config: str, labels: list[Any]) -> list[dict[str, Any]]:
    texts, _ = FEATURES[config]
    return [
        {text: f'{config} "{text} {number}' for text in texts} | {"label": label, "idx": number}
        for number, label in enumerate(labels)
    ]


def rte(hub: HubImitation, train: bytes) -> None:
    hub.add("rte/train-00000-of-00001.parquet", train)
    hub.add("rte/validation-00000-of-00001.parquet", parquet("rte", rows("rte", [0, 1])))
    hub.add("rte/test-00000-of-00001.parquet", parquet("rte", rows("rte", [-1])))


@pytest.mark.parametrize("config", FEATURES)
def test_the_hubs_copy_reads_like_the_official_file(hub: HubImitation, tmp_path: Path, config: str) -> None:
    """Text and label NAME of every row, through the task's own declaration, for every split of every task."""
    task = load_task(config)
    names = FEATURES[config][1]
    labels: dict[str, list[Any]] = {}
    for split in task.files:
        labelled = [0.0, 3.8, 5.0] if names is None else list(range(len(names)))
        labels[split] = [-1] * 3 if split.startswith("test") else labelled
        path = f"{config}/{TO_HUB.get(split, split)}-00000-of-00001.parquet"
        hub.add(path, parquet(config, rows(config, labels[split])))
    get([config], tmp_path, "hub")
    texts = FEATURES[config][0]
    for split in task.files:
        expected = []
        for row in rows(config, labels[split]):
            label = None if split.startswith("test") else names[row["label"]] if names else row["label"]
            expected.append((*(row[text] for text in texts), *([] if len(texts) == 2 else [None]), label))
        read = read_split(task, split, tmp_path)
        assert [(e.text, e.pair, e.label) for e in read if isinstance(e, TextExample)] == expected, split


def test_label_numbers_are_read_by_the_names_in_the_file(hub: HubImitation, tmp_path: Path) -> None:
    rte(hub, parquet("rte", rows("rte", [0, 1]), names=["not_entailment", "entailment"]))
    get(["rte"], tmp_path, "hub")
    train = read_split(load_task("rte"), "train", tmp_path)
    assert [example.label for example in train if isinstance(example, TextExample)] == [
        "not_entailment",
        "entailment",
    ]
    dev = read_split(load_task("rte"), "dev", tmp_path)
    assert [example.label for example in dev if isinstance(example, TextExample)] == [
        "entailment",
        "not_entailment",
    ]


def nameless() -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows("rte", [0, 1])), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (nameless, "does not name its labels"),
        (lambda: parquet("rte", rows("rte", [0]), names=["yes", "no"]), r"names its labels \['yes', 'no'\]"),
        (lambda: parquet("rte", rows("rte", [0, -1])), "row 1: -1 is no label"),
        (lambda: parquet("rte", rows("rte", [0, 2])), "row 1: 2 is no label"),
        (lambda: parquet("rte", [{"sentence1": "a\tb", "sentence2": "", "label": 0, "idx": 0}]), "does not fit"),
        (lambda: parquet("rte", [{"sentence1": None, "sentence2": "", "label": 0, "idx": 0}]), "does not fit"),
        (lambda: parquet("sst2", rows("sst2", [0])), "lacks sentence1, sentence2"),
    ],
)
def test_a_copy_that_is_not_what_it_should_be(
    hub: HubImitation, tmp_path: Path, train: Callable[[], bytes], message: str
) -> None:
    rte(hub, train())
    with pytest.raises(Failure, match=message):
        get(["rte"], tmp_path, "hub")
    assert row(tmp_path, "rte").state == "missing"


def test_the_commit_is_kept_and_what_is_there_is_skipped(hub: HubImitation, tmp_path: Path) -> None:
    rte(hub, parquet("rte", rows("rte", [1])))
    get(["rte"], tmp_path, "hub")
    assert row(tmp_path, "rte")[2:] == ("present", "0.0 MB", "none stated", f"hub@{COMMIT}")
    asked = len(hub.server.requests)
    get(["rte"], tmp_path, "hub")
    assert len(hub.server.requests) == asked


def test_a_branch_is_resolved_to_its_commit(hub: HubImitation, tmp_path: Path) -> None:
    rte(hub, parquet("rte", rows("rte", [1])))
    get(["rte"], tmp_path, "hub", revision="main")
    assert row(tmp_path, "rte").source == f"hub@{COMMIT}"


def test_a_wrong_checksum_from_the_hub(hub: HubImitation, tmp_path: Path) -> None:
    rte(hub, parquet("rte", rows("rte", [1])))
    hub.stated["rte/test-00000-of-00001.parquet"] = "0" * 64
    with pytest.raises(Failure, match=r"expected sha256 0000.*run the command again"):
        get(["rte"], tmp_path, "hub")
    hub.stated["rte/test-00000-of-00001.parquet"] = None
    with pytest.raises(Failure, match=r"no rte/test-00000-of-00001\.parquet with a sha256"):
        get(["rte"], tmp_path, "hub")
    assert row(tmp_path, "rte").state == "missing"


def test_a_revision_that_the_hub_does_not_have(hub: HubImitation, tmp_path: Path) -> None:
    with pytest.raises((BadInput, Failure), match="nyu-mll/glue@nowhere"):
        get(["rte"], tmp_path, "hub", revision="nowhere")


def test_no_hub_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.address)
    with pytest.raises(Failure, match=r"could not be fetched: .*Check the network"):
        get(["rte"], tmp_path, "hub")


def test_the_hub_when_nothing_may_be_fetched(
    hub: HubImitation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Failure, match="Unset HF_HUB_OFFLINE, or use --source official"):
        get(["rte"], tmp_path, "hub")


def test_the_hub_has_glue_only(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="get conll2003 with --source official"):
        get(["conll2003", "rte"], tmp_path, "hub")


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install -e '\.\[hub\]'"):
        get(["rte"], tmp_path, "hub")


@pytest.mark.parametrize(
    "file", ["SST-2/dev.tsv", "SST-2/test.tsv", "RTE/train.tsv", "RTE/dev.tsv", "RTE/test.tsv", "QNLI/dev.tsv",
             "QNLI/test.tsv", "WNLI/train.tsv", "WNLI/dev.tsv", "WNLI/test.tsv", "diagnostic/diagnostic.tsv"],
)  # fmt: skip
def test_real_files_survive_the_way_over_the_hub(data_folder: Path, tmp_path: Path, file: str) -> None:
    """Where the Hub's copy lacks no column, what is written is byte for byte the official file."""
    official = (data_folder / "GLUE" / file).read_bytes()
    dataset = next(
        d for d in fetch.datasets().values() if d.hub and f"GLUE/{file}" in {f"{d.folder}/{f}" for f in d.files}
    )
    assert dataset.hub
    how = dataset.hub.files[Path(file).name]
    header, *lines = official.decode().removesuffix("\n").split("\n")
    names = FEATURES[dataset.name][1] or []
    values = [dataset.hub.values.get(name) for name in names]
    copy = []
    for number, line in enumerate(lines):
        fields = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        row = {column: fields[name] for name, column in how.columns.items() if column}
        label = values.index(row["label"]) if "label" in row else -1
        copy.append(row | {"idx": number, "label": label})
    (tmp_path / "copy.parquet").write_bytes(parquet(dataset.name, copy))
    fetch._write_official(tmp_path / "copy.parquet", tmp_path / "written", how, dataset.hub.values)
    assert (tmp_path / "written").read_bytes() == official.removesuffix(b"\n") + b"\n"
