"""Finds the files of a folder that contain its weights: those that transformers reads, else those of Google's code.

Both the code that reads weights and the code that takes their checksum use it, so that they agree on the files.
It does not need torch.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reference.errors import CheckpointError
from reference.tf_checkpoint import bundle_files

# In transformers' order: it reads the first that exists. TensorFlow's checkpoints come after them.
ORDER = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
CONFIGS = ("config.json", "bert_config.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
TENSORFLOW_2 = 'pip install "transformers<5" tensorflow tf-keras'
CONVERSION = "BertModel.from_pretrained(FOLDER, {}=True).save_pretrained(NEW_FOLDER)"
ELSEWHERE = {  # files that are not read here: what they are, and what to do
    "tf_model*.h5": f"weights of Keras; {TENSORFLOW_2}, then {CONVERSION.format('from_tf')}",
    "flax_model*.msgpack": f'weights of Flax; pip install "transformers<5" flax, then {CONVERSION.format("from_flax")}',
    "rust_model.ot": "weights for Rust; get model.safetensors of the same model",
    "*.gguf": "weights of llama.cpp, quantised; get model.safetensors of the same model",
    "*.onnx": "a graph of ONNX, not weights by name; get model.safetensors of the model that it was exported from",
    "saved_model.pb": "a graph of TensorFlow's; get the checkpoint (*.index, *.data-*) that it was made from",
    "*.data-?????-of-?????": "the data of a TensorFlow checkpoint without its index; put the *.index there too",
    "zero_to_fp32.py": "the parts are DeepSpeed's; run `python zero_to_fp32.py . pytorch_model.bin` in the folder",
    "*.distcp": "parts of a distributed checkpoint; put them together with "
    "torch.distributed.checkpoint.format_utils.dcp_to_torch_save(FOLDER, 'pytorch_model.bin')",
    "openvino_model.bin": "a graph of OpenVINO; get model.safetensors of the model that it was exported from",
}
LFS = b"version https://git-lfs.github.com/spec/"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz")


@dataclass(frozen=True)
class WeightFiles:
    """The files of one set of weights."""

    form: Literal["safetensors", "pickle", "tensorflow"]
    files: tuple[Path, ...]  # all files with weights; the index first, for TensorFlow
    folder: Path  # contains the configuration and the tokenizer too

    @property
    def prefix(self) -> Path:
        """For a TensorFlow checkpoint: the path that its files' names begin with."""
        return self.files[0].with_suffix("")


def find_weight_files(path: Path | str) -> WeightFiles:
    """The files of weights for a path: a folder, one file, or the prefix of a TensorFlow checkpoint.

    Raises CheckpointError if there are none that can be read; it says what was found instead and what to do.
    """
    path = Path(path)
    try:
        return _checked(_in_folder(path) if path.is_dir() else _single(path))
    except OSError as error:
        raise CheckpointError(f"{error.filename or path}: cannot be read: {error.strerror}") from error


def config_file(path: Path | str) -> Path:
    """The configuration file beside weights: Google's beside a TensorFlow checkpoint, else Hugging Face's."""
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    there = [folder / name for name in CONFIGS if (folder / name).is_file()]
    if not there:
        raise CheckpointError(f"{folder} has neither config.json nor bert_config.json; put it beside the weights")
    if len(there) == 1 or find_weight_files(path).form != "tensorflow":
        return there[0]
    return there[-1]


def first_of(names: Collection[str]) -> str | None:
    """Among a folder's file names, the one that transformers reads first; None if it would read none."""
    return next((name for name in ORDER if name in names), None)


def shards(index: str, where: Path | str) -> list[str]:
    """The file names in an index of shards, given as text; ``where`` is its location, for error messages."""
    try:
        named = json.loads(index)["weight_map"].values()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{where}: not an index of shards: {error!r}; get it again") from error
    names = sorted({name if isinstance(name, str) else repr(name) for name in named})
    for name in names:
        if name != Path(name).name or "\\" in name or not name.endswith((".safetensors", ".bin")):
            raise CheckpointError(f"{where}: names {name!r} as a shard; a shard is a file beside its index")
    if not names or len({Path(name).suffix for name in names}) > 1:
        raise CheckpointError(f"{where}: not an index of shards of one kind; get it again")
    return names


# -- where they are --


def _in_folder(folder: Path) -> WeightFiles:
    names = {file.name for file in folder.iterdir() if file.is_file()}
    first = _explicit(folder) or first_of(names)
    if "adapter_config.json" in names:
        raise CheckpointError(f"{folder}: {_adapter(folder, first is not None)}")
    if first is not None:
        return _beginning_with(folder / first)
    indexes = sorted(name for name in names if name.endswith(".index"))
    if len(indexes) > 1:
        raise CheckpointError(f"{folder}: has several TensorFlow checkpoints; name one of {', '.join(indexes)}")
    if indexes:
        return _bundle(folder / indexes[0].removesuffix(".index"))
    raise CheckpointError(f"{folder}: {_without_weights(folder, names)}")


def _explicit(folder: Path) -> str | None:
    """The file that config.json names for transformers, which then ignores all others."""
    try:
        said = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("transformers_weights")
    except (OSError, ValueError, AttributeError, RecursionError):  # reading the configuration reports it
        return None
    if said is not None and (not isinstance(said, str) or said != Path(said).name or not (folder / said).is_file()):
        raise CheckpointError(f"{folder / 'config.json'}: transformers_weights is {said!r}, no file beside it")
    return said


def _beginning_with(file: Path) -> WeightFiles:
    """The weights in a file, or in the shards if it is an index."""
    if file.name.endswith(".index.json"):
        files = tuple(file.parent / name for name in shards(file.read_text(encoding="utf-8", errors="replace"), file))
        if absent := [shard.name for shard in files if not shard.is_file()]:
            raise CheckpointError(f"{file}: the shards {_some(absent)} that it names are missing; get them all")
    else:
        files = (file,)
    form: Literal["safetensors", "pickle"] = "safetensors" if files[0].suffix == ".safetensors" else "pickle"
    return WeightFiles(form, files, file.parent)


def _single(path: Path) -> WeightFiles:
    """The weights for a path that is no folder: TensorFlow's prefix, with or without ".index", or a file."""
    prefix = path.with_name(path.name.removesuffix(".index"))
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return _bundle(prefix)
    of_data = path.with_name(path.name.partition(".data-")[0])
    if of_data != path and of_data.with_name(f"{of_data.name}.index").is_file():
        return _bundle(of_data)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such folder or file, nor a TensorFlow checkpoint {path.name}.index")
    if path.suffix == ".safetensors" or path.name.endswith(".index.json"):
        return _beginning_with(path)
    if path.suffix in PICKLES and _begins(path, b"PK", b"\x80"):
        return _beginning_with(path)
    raise CheckpointError(f"{path}: {_what_file(path)}")


def _bundle(prefix: Path) -> WeightFiles:
    return WeightFiles("tensorflow", tuple(bundle_files(prefix)), prefix.parent)


# -- what there is instead --


def _checked(found: WeightFiles) -> WeightFiles:
    """Return ``found``. Raises CheckpointError for a placeholder or a web page in place of weights."""
    for file in found.files:
        if _begins(file, LFS):
            raise CheckpointError(
                f"{file}: a pointer of Git LFS, not the weights; run `git lfs pull` in its repository"
            )
        if found.form != "tensorflow" and _begins(file, b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"):
            raise CheckpointError(f"{file}: a web page, not weights; download the file itself")
    return found


def _begins(file: Path, *beginnings: bytes) -> bool:
    with file.open("rb") as content:
        return content.read(64).startswith(beginnings)


def _what_file(path: Path) -> str:
    if path.name.endswith(ARCHIVES):
        return "an archive; unpack it and give the folder"
    for pattern, advice in ELSEWHERE.items():
        if path.match(pattern):
            return advice
    if _begins(path, LFS):
        return "a pointer of Git LFS, not the weights; run `git lfs pull` in its repository"
    if path.suffix == ".json":
        return "not weights; give its folder"
    return (
        "a TensorFlow checkpoint in one file (V1 format), or no checkpoint at all; save it again with "
        "tf.train.Saver(write_version=tf.train.SaverDef.V2)"
    )


def _without_weights(folder: Path, names: set[str]) -> str:
    """What a folder without weights seems to be, and what to give instead."""
    if dangling := sorted(each.name for each in folder.iterdir() if each.is_symlink() and not each.exists()):
        return f"{dangling[0]} is a link to a file that is not there; copy the folder with what its links lead to"
    if inner := list(_below(folder)):
        what = "a folder of sentence-transformers" if "modules.json" in names else "has no weights itself"
        return f"{what}; give the folder with the BERT: {_some(inner)}"
    for pattern, advice in ELSEWHERE.items():
        if found := [name for name in sorted(names) if Path(name).match(pattern)]:
            return f"has no weights but {found[0]}: {advice}"
    if unfinished := [name for name in sorted(names) if name.endswith((".incomplete", ".part", ".crdownload"))]:
        return f"has no weights but {unfinished[0]}, a download that was broken off; get it again"
    if odd := [name for name in sorted(names) if name.endswith((".safetensors", *PICKLES)) and name not in NO_WEIGHTS]:
        return f"has weights, but under a name that nobody looks for: give the file itself, {folder / odd[0]}"
    return (
        "has no weights: give a folder with model.safetensors, pytorch_model.bin or a TensorFlow checkpoint "
        "(*.index) in it"
    )


NO_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt", "optimizer.bin", "scheduler.bin", "scaler.pt")


def _below(folder: Path) -> Iterator[str]:
    """The subfolders with weights and a configuration; those in modules.json come first."""
    named = []
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        named = [folder / each["path"] for each in modules if each["path"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    others = sorted(each for each in [*folder.iterdir(), *folder.glob("snapshots/*")] if each not in named)
    for inner in [*named, *others]:
        names = {file.name for file in inner.iterdir()} if inner.is_dir() else set()
        with_weights = first_of(names) or any(name.endswith(".index") for name in names)
        if with_weights and not names.isdisjoint(CONFIGS):
            yield str(inner)


def _adapter(folder: Path, with_weights: bool) -> str:
    if with_weights:
        return (
            "has both weights and an adapter of PEFT (adapter_config.json), and transformers loads the adapter too "
            "where PEFT is installed; merge the two, or take the adapter out of the folder"
        )
    try:
        base = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        base = "its base model"
    return (
        f"an adapter of PEFT for {base}, not a model; merge the two: "
        "PeftModel.from_pretrained(BASE, FOLDER).merge_and_unload().save_pretrained(NEW_FOLDER)"
    )


def _some(names: Collection[str], most: int = 3) -> str:
    shown = list(names)[:most]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
