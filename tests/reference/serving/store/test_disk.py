"""The store in a folder when something goes wrong: killed, full, damaged, or not what it was taken for."""

import multiprocessing
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.serving.store import disk
from reference.serving.store.disk import DiskStore
from reference.serving.store.items import Item, NotWritten, Space, Unusable
from tests.reference.serving.store.conftest import SIZE, SPACE, Open, expected, put, vector_of, vectors_of

ROUNDS = 12
SOON = 30


def items(*names: str) -> list[Item]:
    return [Item(name, f"text of {name}", {"first": name[0]}) for name in names]


# -- what is acknowledged is kept --


def test_a_store_is_as_it_was_when_it_is_opened_again(opened: Open) -> None:
    collection = opened().create("letters")
    put(collection, *items("a", "b", "c", "d"))
    put(collection, Item("b", "other"))
    collection.delete(["a"])
    hits = collection.search(vector_of("q"), 9)
    again = opened().open("letters")
    assert again.search(vector_of("q"), 9) == hits
    assert len(again) == 3
    put(again, *items("e"))
    assert len(opened().open("letters").page(None, 9)) == 4
    store = opened()
    store.drop("letters")
    assert opened().names() == []


def writes(folder: Path, seed: int, acknowledged: Connection) -> None:
    """Add, replace and delete until killed; say before each change what it is, and after it that it is made."""
    draw = random.Random(seed)
    store = DiskStore(folder, SPACE)
    collection = store.open("all") if "all" in store.names() else store.create("all")
    for step in range(10**9):
        names = sorted({str(draw.randrange(60)) for _ in range(draw.randint(1, 12))})
        deletes = draw.random() < 0.4
        change = {name: None if deletes else f"{name} {seed} {step}" for name in names}
        acknowledged.send(("start", change))
        if deletes:
            collection.delete(names)
        else:
            put(collection, *(Item(name, str(text), {"step": step}) for name, text in change.items()))
        acknowledged.send(("done", change))


def killed_at_random(folder: Path, rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill a writing process again and again; each time the store has all that was acknowledged, and nothing half."""
    context = multiprocessing.get_context("forkserver")  # a process for each round without importing torch again
    context.set_forkserver_preload([__name__])
    known: dict[str, str] = {}
    draw, changes = random.Random(1), 0
    for seed in range(rounds):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=writes, args=(folder, seed, theirs), daemon=True)
        process.start()
        theirs.close()
        said: list[tuple[str, dict[str, str | None]]] = []
        for _ in range(draw.randint(1, 12)):
            assert ours.poll(SOON), "the writer does not write"
            said.append(ours.recv())
        time.sleep(draw.uniform(0, 0.02))
        process.kill()
        process.join(SOON)
        with suppress(EOFError):
            while True:
                said.append(ours.recv())
        done = [change for word, change in said if word == "done"]
        changes += len(done)
        for change in done:
            known = apply(known, change)
        possible = [known] if said[-1][0] == "done" else [known, apply(known, said[-1][1])]
        store = DiskStore(folder, SPACE)
        found = store.open("all").page(None, 1000) if "all" in store.names() else []
        texts = {item.id: item.text for item in found}
        assert texts in possible
        known = texts
        for item in found:
            assert item.metadata == {"step": int(item.text.split()[2])}
        if found:
            collection = store.open("all")
            vectors = collection.vectors(list(texts))
            np.testing.assert_array_equal([vectors[id] for id in texts], vectors_of(list(texts.values())))
            hits = collection.search(vector_of("q"), 10)
            assert [hit.item.id for hit in hits] == [id for id, _ in expected(found, vector_of("q"), 10)]
        assert store.repaired == 0
        store.close()
    assert changes > rounds


def apply(known: dict[str, str], change: dict[str, str | None]) -> dict[str, str]:
    merged = {**known, **change}
    return {name: text for name, text in merged.items() if text is not None}


@pytest.mark.slow
def test_a_writer_that_is_killed_loses_nothing_that_was_acknowledged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at_random(folder, ROUNDS, monkeypatch)


@pytest.mark.soak
def test_a_writer_that_is_killed_a_hundred_times(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_at_random(folder, 100, monkeypatch)


def test_vectors_are_on_the_disk_before_the_rows_that_name_them(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    collection = store.create("letters")
    events: list[str] = []
    real = os.fsync
    store.database.set_trace_callback(lambda sql: events.append(sql.split()[0]))
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("fsync"), real(number))[1])
    put(collection, *items("a"))
    assert events.index("fsync") < events.index("INSERT") < events.index("COMMIT")
    assert store.database.execute("PRAGMA synchronous").fetchone() == (2,)


# -- no room --


def test_a_full_disk_refuses_what_is_new_and_keeps_the_rest(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = opened().create("letters")
    put(collection, *items("a", "b"))
    real = os.pwrite

    def half(descriptor: int, content: memoryview, place: int) -> int:
        if len(content) < 20:
            raise OSError(28, os.strerror(28))
        return real(descriptor, content[: len(content) // 2], place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(NotWritten, match=r"nothing was changed: .*No space left on device"):
            put(collection, *items("b", "c"))
    assert [hit.item.id for hit in collection.search(vector_of("text of b"), 1)] == ["b"]
    assert len(collection) == 2
    put(collection, *items("c"))
    assert [item.id for item in opened().open("letters").page(None, 9)] == ["a", "b", "c"]


def test_a_database_without_room_refuses_what_is_new_and_keeps_the_rest(opened: Open) -> None:
    store = opened()
    collection = store.create("letters")
    put(collection, *items("a", "b"))
    pages = store.database.execute("PRAGMA page_count").fetchone()[0]
    store.database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NotWritten, match="database or disk is full"):
        put(collection, Item("b", "x" * 100_000), Item("c", "c"))
    assert [item.text for item in collection.page(None, 9)] == ["text of a", "text of b"]
    assert collection.delete(["a"]) == 1
    store.database.execute("PRAGMA max_page_count = 1000000")
    put(collection, *items("c"))
    assert [item.id for item in opened().open("letters").page(None, 9)] == ["b", "c"]


def test_deleted_vectors_give_back_their_room(opened: Open, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SPARE", 10)
    collection = opened().create("letters")
    names = [f"{i:03}" for i in range(60)]
    put(collection, *items(*names))
    collection.delete(names[:40:2])
    put(collection, *items("new"))
    kept = {item.id for item in collection.page(None, 99)}
    assert collection.delete([name for name in names if name in kept and name != "007"]) == 39
    row = 4 * SIZE + 4
    files = list((folder / "vectors").iterdir())
    assert [file.stat().st_size for file in files] == [2 * row]
    for step in range(30):
        put(collection, Item("007", f"text {step}"))
    assert [file.stat().st_size <= 15 * row for file in (folder / "vectors").iterdir()] == [True]
    for reopened in (False, True):
        found = opened().open("letters") if reopened else collection
        assert [item.text for item in found.page(None, 9)] == ["text 29", "text of new"]
        assert [hit.item.id for hit in found.search(vector_of("text 29"), 9)] == ["007", "new"]


def test_room_that_cannot_be_given_back_now_is_no_error(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "SPARE", 2)
    collection = opened().create("letters")
    put(collection, *items(*"abcdefgh"))

    def full(*_: Any) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert collection.delete([*"abcdefg"]) == 7
    assert [hit.item.id for hit in collection.search(vector_of("q"), 9)] == ["h"]
    assert collection.delete(["h"]) == 1
    assert len(opened().open("letters")) == 0


def test_files_that_a_killed_process_left_are_deleted(opened: Open, folder: Path) -> None:
    put(opened().create("letters"), *items("a"))
    opened()
    (folder / "vectors/1-7.vectors").write_bytes(b"left")
    (folder / "vectors/9-0.vectors").write_bytes(b"left")
    assert len(opened().open("letters")) == 1
    assert [file.name for file in (folder / "vectors").iterdir()] == ["1-0.vectors"]


# -- damage --


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[SIZE * 4 + 4 + 5] ^= 1  # in the second row
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 3)


def swap(file: Path) -> None:
    row, content = 4 * SIZE + 4, file.read_bytes()
    file.write_bytes(content[row : 2 * row] + content[:row] + content[2 * row :])


@pytest.mark.parametrize(("damage", "count"), [(flip, 1), (cut, 1), (swap, 2), (Path.unlink, 3)])
def test_damaged_vectors_are_named_and_computed_again(
    opened: Open, folder: Path, damage: Callable[[Path], None], count: int
) -> None:
    store = opened()
    put(store.create("letters"), *items("a", "b", "c"))
    store.close()
    damage(folder / "vectors/1-0.vectors")
    shutil.copytree(folder, folder.parent / "copy")
    with pytest.raises(Unusable, match=rf"1-0.vectors: {count} vectors are damaged, of the items '"):
        DiskStore(folder.parent / "copy", SPACE)
    store = opened(embed=vectors_of)
    assert store.repaired == count
    hits = store.open("letters").search(vector_of("q"), 9)
    assert [hit.item.id for hit in hits] == [id for id, _ in expected(items("a", "b", "c"), vector_of("q"), 9)]
    assert opened().repaired == 0


def test_damage_where_nothing_is_kept_does_not_matter(opened: Open, folder: Path) -> None:
    store = opened()
    put(store.create("letters"), *items("a", "b", "c"))
    store.open("letters").delete(["b"])
    store.close()
    flip(folder / "vectors/1-0.vectors")
    assert len(opened().open("letters").search(vector_of("q"), 9)) == 2


def test_a_damaged_database_is_named(opened: Open, folder: Path) -> None:
    opened().close()
    (folder / "store.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Unusable, match="cannot be opened: file is not a database"):
        DiskStore(folder, SPACE)


# -- another store than was meant --


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Space(SIZE + 1, SPACE.made), "size 8; .* size 9"),
        (Space(SIZE, SPACE.made, "dot"), "measure cosine; .* measure dot"),
        (Space(SIZE, {**SPACE.made, "model_sha256": "6" * 64}), "model_sha256 5555555555555555; .* 6666666666666666"),
        (Space(SIZE, {**SPACE.made, "pooling": "cls"}), "pooling mean; .* pooling cls"),
        (Space(SIZE, {**SPACE.made, "prompt": "query: "}), "prompt \\(none\\); .* prompt query: "),
    ],
)
def test_a_store_of_another_model_is_refused_and_left_as_it_is(opened: Open, space: Space, message: str) -> None:
    put(opened().create("letters"), *items("a"))
    with pytest.raises(Unusable, match=f"vectors of tiny with {message}.*cannot be compared"):
        opened(space)
    assert len(opened().open("letters")) == 1


def test_another_name_of_the_same_model_is_no_other_model(opened: Open) -> None:
    opened()
    assert opened(Space(SIZE, {**SPACE.made, "model": "renamed"})).names() == []


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(opened: Open, folder: Path) -> None:
    put(opened().create("letters"), *items("a"))
    opened().close()
    with sqlite3.connect(folder / "store.sqlite") as database:
        database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(Unusable, match=r"newer version of this program \(store 2; this one reads 1\)"):
        DiskStore(folder, SPACE)
    with sqlite3.connect(folder / "store.sqlite") as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    assert len(opened().open("letters")) == 1


def test_one_process_at_a_time(opened: Open, folder: Path) -> None:
    put(opened().create("letters"), *items("a"))
    with pytest.raises(Unusable, match="in use: one process at a time"):
        DiskStore(folder, SPACE)
    assert len(opened().open("letters")) == 1


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(Unusable, match="is not a folder"):
        DiskStore(tmp_path / "file", SPACE)
    with pytest.raises(Unusable, match="has other files, such as file, and no store"):
        DiskStore(tmp_path, SPACE)
    (tmp_path / "other").mkdir()
    with sqlite3.connect(tmp_path / "other/store.sqlite") as database:
        database.execute("CREATE TABLE notes (text)")
    database.close()
    with pytest.raises(Unusable, match="another program's"):
        DiskStore(tmp_path / "other", SPACE)


def test_a_failed_computation_of_damaged_vectors_changes_nothing(opened: Open, folder: Path) -> None:
    store = opened()
    put(store.create("letters"), *items("a", "b", "c"))
    store.close()
    flip(folder / "vectors/1-0.vectors")

    def fails(texts: Sequence[str]) -> Any:
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError):
        opened(embed=fails)
    with pytest.raises(Unusable, match="1 vectors are damaged"):
        DiskStore(folder, SPACE)
