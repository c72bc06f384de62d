"""Task data: its folder, its sources, and how it is downloaded."""

import difflib
import importlib.util
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import yaml
from filelock import FileLock

from harness.data.download import download, unzip
from harness.data.network import offline
from harness.errors import BadInput, Failure
from harness.files import cache_folder, disk_errors, expanded, sha256_of

SOURCES = Path(__file__).with_name("sources.yaml")
MANIFEST = ".bert-atlas.json"  # in a data set's folder: where its files came from, and the sha256 of each
STAGING = ".downloads"  # in the data folder: downloads in progress
GLUE_ON_HUB = "nyu-mll/glue"
GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"


@dataclass(frozen=True)
class Download:
    """One official address."""

    url: str
    bytes: int
    sha256: str
    save: str | None = None  # the name to save it under; None if it is a zip with the data set's files


@dataclass(frozen=True)
class HubFile:
    """How one official file is written from a split of the Hub's copy."""

    split: str
    columns: dict[str, str | None]  # official column -> Hub column; None if the copy lacks it
    header: bool = True


@dataclass(frozen=True)
class Hub:
    """The Parquet copy of a data set on the Hub."""

    config: str
    files: dict[str, HubFile]
    values: dict[str, str] = field(default_factory=dict)  # label name -> value in the official file


@dataclass(frozen=True)
class Dataset:
    """A data set as `sources.yaml` declares it."""

    name: str
    folder: str  # in the data folder
    files: list[str]  # what tasks read
    tasks: list[str]  # that need it
    licence: str
    downloads: list[Download]
    group: str | None = None  # a name for several data sets
    warning: str | None = None  # printed whenever the data is fetched
    hub: Hub | None = None


class Row(NamedTuple):
    """One line of `python -m harness data list`."""

    name: str
    tasks: str
    state: str  # present, partial, missing, or altered (other bytes than `data get` wrote)
    size: str  # on disk; of the download if nothing is there yet
    licence: str
    source: str  # official, hub (with its commit), own copy, or the host to get it from


def data_folder(given: Path | None) -> Path:
    """The folder of task data: ``given``, else ``BERT_ATLAS_DATA``, else one in the cache."""
    if given is not None:
        return expanded(given)
    from_environment = os.environ.get("BERT_ATLAS_DATA")
    return expanded(from_environment) if from_environment else cache_folder() / "data"


def datasets() -> dict[str, Dataset]:
    """All data sets that can be fetched, by name."""
    declared = yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
    return {name: _dataset(name, **fields) for name, fields in declared.items()}


def get(
    names: Iterable[str],
    folder: Path,
    source: Literal["official", "hub"] = "official",
    revision: str | None = None,
) -> None:
    """Fetch data sets into ``folder``; complete files are left alone, interrupted downloads are resumed.

    ``names`` are data sets or groups (``glue``). ``source="hub"`` takes the Hub's Parquet copies of GLUE at
    ``revision`` (default: a pinned commit) and writes them in the official layout; the copies lack some columns
    that no task reads, which stay empty. The sha256 of every download is checked before use.

    Raises:
        BadInput: an unknown name or source, a file of yours in the way, or pyarrow missing.
        Failure: a download does not succeed or has the wrong checksum, or the disk is full.
    """
    if source not in ("official", "hub"):
        raise BadInput(f"unknown source {source!r}; choose official or hub")
    chosen = _chosen(names)
    if source == "hub":
        _check_hub(chosen)
    for dataset in chosen:
        if dataset.warning:
            _say(f"{dataset.name}: {dataset.warning}")
        staging = folder / STAGING / dataset.name
        with disk_errors(folder):
            staging.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(staging.with_name(f"{dataset.name}.lock")):
                _get_one(dataset, folder, staging, source, revision or GLUE_REVISION)


def listing(folder: Path) -> list[Row]:
    """The state of each data set in ``folder``; files that `get` wrote are verified by sha256.

    Raises:
        BadInput: a manifest that cannot be read.
    """
    return [_row(dataset, folder / dataset.folder) for dataset in datasets().values()]


def split_mrpc(folder: Path) -> None:
    """Write MRPC's train.tsv, dev.tsv and test.tsv from Microsoft's two files and the ids of GLUE's dev set.

    This is how GLUE distributes MRPC, and all published results use this split: pairs whose ids are in dev_ids.tsv
    are dev, the rest of the training file is train; the labels of the test file are withheld.
    """
    ids = (folder / "dev_ids.tsv").read_text(encoding="utf-8").splitlines()
    dev_ids = {tuple(line.split("\t")) for line in ids}
    header, *pairs = _lines(folder / "msr_paraphrase_train.txt")
    train, dev = [header], [header]
    for pair in pairs:
        fields = pair.strip().split("\t")
        (dev if (fields[1], fields[2]) in dev_ids else train).append("\t".join(fields))
    test = ["index\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    for index, pair in enumerate(_lines(folder / "msr_paraphrase_test.txt")[1:]):
        test.append("\t".join([str(index), *pair.strip().split("\t")[1:]]))
    for name, lines in {"train.tsv": train, "dev.tsv": dev, "test.tsv": test}.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")


def _dataset(name: str, downloads: list[dict[str, Any]], hub: dict[str, Any] | None = None, **fields: Any) -> Dataset:
    if hub is not None:
        hub["files"] = {file: HubFile(**how) for file, how in hub["files"].items()}
    return Dataset(
        name=name,
        downloads=[Download(**item) for item in downloads],
        hub=Hub(**hub) if hub is not None else None,
        **fields,
    )


def _chosen(names: Iterable[str]) -> list[Dataset]:
    """The data sets that ``names`` stand for, each once, in the order of `sources.yaml`."""
    known = datasets()
    groups = {dataset.group for dataset in known.values() if dataset.group}
    wanted = set(names)
    for name in sorted(wanted - set(known) - groups):
        options = sorted({*known, *groups})
        nearest = difflib.get_close_matches(name, options, 1)
        meant = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise BadInput(f"there is no data set {name!r} to get; {meant}Known: {', '.join(options)}")
    return [dataset for dataset in known.values() if dataset.name in wanted or dataset.group in wanted]


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _get_one(dataset: Dataset, folder: Path, staging: Path, source: Literal["official", "hub"], revision: str) -> None:
    """Download one data set into ``staging`` and move it to its folder."""
    target = folder / dataset.folder
    manifest = _manifest(target)
    origin = source if source == "official" else f"hub@{revision}"
    if manifest.get("source") == origin and _state(dataset, target, manifest) == "present":
        _say(f"{dataset.name}: already in {dataset.folder}")
        return
    arrived = staging / "files"
    if source == "official":
        _fetch_official(dataset, staging, arrived)
    else:
        origin = f"hub@{_fetch_from_hub(dataset, staging, arrived, revision)}"
    _install(dataset, arrived, target, manifest.get("files", {}), origin)
    shutil.rmtree(staging)
    _say(f"{dataset.name}: ready in {dataset.folder}")


def _fetch_official(dataset: Dataset, staging: Path, arrived: Path) -> None:
    for item in dataset.downloads:
        if item.save:
            download(item.url, arrived / item.save, sha256=item.sha256, size=item.bytes)
        else:
            archive = staging / PurePosixPath(urlsplit(item.url).path).name
            download(item.url, archive, sha256=item.sha256, size=item.bytes)
            unzip(archive, arrived, _members(archive, dataset.files))
    if dataset.name == "mrpc":
        split_mrpc(arrived)


def _members(archive: Path, files: list[str]) -> dict[str, str]:
    """The paths of ``files`` in the archive; of several with one name, the least nested (not in `original/`)."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(opened.namelist(), key=lambda name: (name.count("/"), name))
    found = {file: next((name for name in names if PurePosixPath(name).name == file), file) for file in files}
    return {name: file for file, name in found.items()}


def _install(dataset: Dataset, arrived: Path, target: Path, ours: dict[str, str], origin: str) -> None:
    """Move the files to their folder and write the manifest; never overwrite a file that `get` did not write."""
    sums = {file: sha256_of(arrived / file) for file in dataset.files}
    for file, digest in sums.items():
        if file not in ours and (target / file).exists() and sha256_of(target / file) != digest:
            raise BadInput(
                f"{target / file} differs from the file of this name that was fetched, and `data get` did not "
                f"write it. Move it away, or choose another folder with --data."
            )
    target.mkdir(parents=True, exist_ok=True)
    for file in dataset.files:
        (arrived / file).replace(target / file)
    part = target / f"{MANIFEST}.part"
    part.write_text(json.dumps({"source": origin, "files": sums}, indent=1) + "\n", encoding="utf-8")
    part.replace(target / MANIFEST)


def _manifest(target: Path) -> dict[str, Any]:
    """The manifest that `get` wrote in a data set's folder; empty if there is none."""
    path = target / MANIFEST
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {"source": str(manifest["source"]), "files": dict(manifest["files"])}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} cannot be read ({error}); delete it and run `data get` again") from error


def _state(dataset: Dataset, target: Path, manifest: dict[str, Any]) -> str:
    here = [file for file in dataset.files if (target / file).is_file()]
    sums: dict[str, str] = manifest.get("files", {})
    if any(file in sums and sha256_of(target / file) != sums[file] for file in here):
        return "altered"
    if len(here) == len(dataset.files):
        return "present"
    return "partial" if here else "missing"


def _row(dataset: Dataset, target: Path) -> Row:
    manifest = _manifest(target)
    state = _state(dataset, target, manifest)
    on_disk = sum((target / file).stat().st_size for file in dataset.files if (target / file).is_file())
    size = sum(item.bytes for item in dataset.downloads) if state == "missing" else on_disk
    source = manifest.get("source", "own copy")
    if state == "missing":
        source = urlsplit(dataset.downloads[0].url).hostname or ""
    licence = dataset.licence
    return Row(dataset.name, ", ".join(dataset.tasks), state, f"{size / 1e6:.1f} MB", licence, source)


def _lines(path: Path) -> list[str]:
    """The lines of a text file; only a line feed ends one (`str.splitlines` would also break at U+2028)."""
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


# -- the Hub's copies --


def _check_hub(chosen: list[Dataset]) -> None:
    """BadInput before the first download, where one of them cannot be had from the Hub."""
    if without := [dataset.name for dataset in chosen if dataset.hub is None]:
        raise BadInput(f"the Hub's copies are of GLUE only; get {', '.join(without)} with --source official")
    if importlib.util.find_spec("pyarrow") is None:
        raise BadInput("the Hub's copies are Parquet files; to read them, in the checkout: pip install -e '.[hub]'")


def _fetch_from_hub(dataset: Dataset, staging: Path, arrived: Path, revision: str) -> str:
    """Fetch the Parquet files of a data set and write them as official files; returns the commit."""
    from huggingface_hub import HfApi, RepoFile, errors

    assert dataset.hub is not None
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    config, files = dataset.hub.config, dataset.hub.files
    remote = {file: f"{config}/{how.split}-00000-of-00001.parquet" for file, how in files.items()}
    where = f"{GLUE_ON_HUB}@{revision} on the Hugging Face Hub"
    try:
        commit = str(api.dataset_info(GLUE_ON_HUB, revision=revision).sha)
        infos = api.get_paths_info(GLUE_ON_HUB, list(remote.values()), revision=commit, repo_type="dataset")
        stated = {info.path: info.lfs.sha256 for info in infos if isinstance(info, RepoFile) and info.lfs}
        for path in remote.values():
            if path not in stated:
                raise Failure(f"{where}: there is no {path} with a sha256; choose another revision")
            _fetch_parquet(api, path, commit, staging, stated[path])
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise BadInput(f"{where}: no such data set or revision; check HF_ENDPOINT and the revision") from error
    except (errors.HTTPError, ConnectionError, errors.LocalEntryNotFoundError) as error:
        variable = offline()
        advice = f"Unset {variable}, or use --source official" if variable else "Check the network and run again"
        raise Failure(f"{where}: could not be fetched: {error}. {advice}.") from error
    arrived.mkdir(parents=True, exist_ok=True)
    for file, how in files.items():
        _write_official(staging / remote[file], arrived / file, how, dataset.hub.values)
    return commit


def _fetch_parquet(api: Any, path: str, commit: str, staging: Path, sha256: str) -> None:
    local = Path(api.hf_hub_download(GLUE_ON_HUB, path, repo_type="dataset", revision=commit, local_dir=staging))
    if (actual := sha256_of(local)) != sha256:
        local.unlink()
        raise Failure(
            f"{GLUE_ON_HUB}/{path}: expected sha256 {sha256}, got {actual}. "
            f"The bad download was removed; run the command again."
        )


def _write_official(parquet: Path, target: Path, how: HubFile, values: dict[str, str]) -> None:
    """Write one split as tab-separated text, with the labels' values of the official file."""
    from pyarrow.parquet import ParquetFile

    columns = [column for column in how.columns.values() if column]
    with ParquetFile(parquet) as table, target.open("w", encoding="utf-8", newline="") as file:
        schema = table.schema_arrow
        if missing := set(columns) - set(schema.names):
            raise Failure(f"{parquet.name} lacks {', '.join(sorted(missing))}; use --source official")
        names = _label_names(parquet.name, schema.metadata, values) if "label" in columns and values else []
        if how.header:
            file.write("\t".join(how.columns) + "\n")
        batches = table.iter_batches(batch_size=10_000, columns=columns)
        for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
            try:
                texts = {name: _text(name, value, names, values) for name, value in row.items()}
            except ValueError as error:
                raise Failure(f"{parquet.name}, row {number}: {error}; use --source official") from error
            file.write("\t".join(texts[column] if column else "" for column in how.columns.values()) + "\n")


def _text(column: str, value: object, names: list[str], values: dict[str, str]) -> str:
    """One field of an official file; ValueError if the copy's value cannot be written as one."""
    if column == "label" and names:
        if not (isinstance(value, int) and 0 <= value < len(names)):
            raise ValueError(f"{value!r} is no label")
        return values[names[value]]
    if value is None or any(end in str(value) for end in "\t\n\r"):
        raise ValueError(f"{column} {value!r} does not fit in a line of tab-separated text")
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _label_names(where: str, metadata: dict[bytes, bytes] | None, values: dict[str, str]) -> list[str]:
    """The names of the integer labels from the file itself: an order in our code could be wrong."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = list(features["label"]["names"])
    except (KeyError, ValueError, TypeError) as error:
        raise Failure(f"{where} does not name its labels; use --source official") from error
    if set(names) != set(values):
        raise Failure(f"{where} names its labels {names}, not {list(values)}; use --source official")
    return names
