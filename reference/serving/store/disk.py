"""A store in a folder: rows of texts in SQLite, their vectors in files, all vectors in memory for the search.

Nothing that was acknowledged is lost when the process is killed or the machine loses power. Vectors are written and
synced first; then one transaction adds the rows that name their places. A place that no row names is free.

    store.sqlite          the space of the vectors, collections, items, and fields of metadata for filters
    vectors/3-1.vectors   vectors of collection 3; 1 counts how often its file was written again without deleted ones
"""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.serving.store.items import (
    CollectionExists,
    Condition,
    Hit,
    Item,
    NoCollection,
    NotWritten,
    Space,
    Unusable,
    check_items,
    check_name,
    conditions,
    kind_of,
)
from reference.serving.store.nearest import Vectors
from reference.serving.store.vector_file import VectorFile, sync_folder

FILE = "store.sqlite"
APPLICATION, VERSION = 0x42415453, 1  # SQLite's application_id and user_version of our files
SPARE = 4096  # places of deleted vectors that a file may have whatever its length
AT_ONCE = 500  # values in one statement
SCHEMA = """
CREATE TABLE space (fact TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE collections (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL DEFAULT 0,
    places INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE items (
    number INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL REFERENCES collections ON DELETE CASCADE,
    id TEXT NOT NULL,
    place INTEGER NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (collection, id),
    UNIQUE (collection, place)
);
CREATE TABLE fields (
    item INTEGER NOT NULL REFERENCES items ON DELETE CASCADE,
    collection INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value NOT NULL
);
CREATE INDEX fields_by_value ON fields (collection, name, kind, value, item);
CREATE INDEX fields_by_item ON fields (item);
"""
PLACES = "SELECT place FROM items"
SELECT = "SELECT place, id, text, metadata FROM items"
SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
Embed = Callable[[Sequence[str]], Any]


class DiskStore:
    """A store in a folder, which is made if it is not there. One process at a time can have it open.

    ``embed`` makes vectors of texts: damaged ones are computed again, and ``repaired`` counts them. Without it a store
    with damaged vectors is Unusable.
    """

    def __init__(self, folder: Path, space: Space, embed: Embed | None = None) -> None:
        self.folder, self.space, self.repaired = folder, space, 0
        self.lock = threading.RLock()
        _check_folder(folder)
        try:
            (folder / "vectors").mkdir(parents=True, exist_ok=True)
            self.database = sqlite3.connect(folder / FILE, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise Unusable(f"{folder} cannot be opened: {_said(error)}") from error
        self._collections: dict[str, DiskCollection] = {}
        try:
            self._prepare()
            for name, number, generation, places in self.database.execute(
                "SELECT name, number, generation, places FROM collections ORDER BY name"
            ).fetchall():
                self._collections[name] = DiskCollection(self, name, number, generation, places)
            self._delete_unknown_files()
            for collection in self._collections.values():
                self.repaired += collection.repair(embed)
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise Unusable(f"{folder} cannot be opened: {_said(error)}") from error
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """The names of all collections, in order."""
        with self.lock:
            return sorted(self._collections)

    def create(self, name: str) -> "DiskCollection":
        """A new collection. Raises ValueError for a name that is none, CollectionExists, and NotWritten."""
        check_name(name)
        with self.lock:
            if name in self._collections:
                raise CollectionExists(f"there is a collection {name!r} already")
            with self.changing() as database:
                number = database.execute("INSERT INTO collections (name) VALUES (?)", (name,)).lastrowid
                made = DiskCollection(self, name, int(number or 0), 0, 0)
            self._collections[name] = made
            return made

    def open(self, name: str) -> "DiskCollection":
        """A collection. Raises NoCollection."""
        with self.lock:
            if name not in self._collections:
                has = f"; there are {', '.join(self.names()[:20])}" if self._collections else "; there is none yet"
                raise NoCollection(f"there is no collection {name[:80]!r}{has}")
            return self._collections[name]

    def drop(self, name: str) -> None:
        """Delete a collection with all its items. Raises NoCollection and NotWritten."""
        with self.lock:
            collection = self.open(name)
            with self.changing() as database:
                database.execute("DELETE FROM collections WHERE number = ?", (collection.number,))
            del self._collections[name]
            collection.forget()

    def close(self) -> None:
        """Close all files; collections cannot be used afterwards."""
        with self.lock:
            for collection in self._collections.values():
                collection.file.close()
            self._collections = {}
            self.database.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, which is kept whole or not at all. NotWritten if the system does not let it be kept."""
        try:
            self.database.execute("BEGIN IMMEDIATE")
            yield self.database
            self.database.execute("COMMIT")
        except BaseException as error:
            if self.database.in_transaction:
                self.database.execute("ROLLBACK")
            if isinstance(error, OSError | sqlite3.Error):
                raise NotWritten(
                    f"nothing was changed: {self.folder} cannot be written ({_said(error)}); make room, and try again"
                ) from error
            raise

    # -- opening --

    def _prepare(self) -> None:
        """Take the store for this process, and see that it is ours, of this version, and of this space."""
        execute = self.database.execute
        try:
            execute("PRAGMA locking_mode = EXCLUSIVE")
            execute("PRAGMA journal_mode = WAL")
            execute("PRAGMA synchronous = FULL")
            execute("PRAGMA foreign_keys = ON")
            execute("BEGIN EXCLUSIVE")  # the lock stays, as the mode says
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            raise Unusable(f"{self.folder} is in use: one process at a time can have a store open") from error
        try:
            application, version = execute("PRAGMA application_id").fetchone()[0], self._version()
            if not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                self._make()
            elif application != APPLICATION:
                raise Unusable(f"{self.folder / FILE} is another program's; name another folder")
            elif version > VERSION:
                raise Unusable(
                    f"{self.folder} was written by a newer version of this program (store {version}; this one reads "
                    f"{VERSION}); update the program, or name another folder"
                )
            self._check_space()
            execute("COMMIT")
        except BaseException:
            execute("ROLLBACK")
            raise
        sync_folder(self.folder)

    def _version(self) -> int:
        return int(self.database.execute("PRAGMA user_version").fetchone()[0])

    def _make(self) -> None:
        for statement in SCHEMA.split(";"):
            self.database.execute(statement)
        facts = {"size": self.space.size, "measure": self.space.measure, "made": dict(self.space.made)}
        self.database.executemany(
            "INSERT INTO space VALUES (?, ?)", [(name, json.dumps(fact)) for name, fact in facts.items()]
        )
        self.database.execute(f"PRAGMA application_id = {APPLICATION}")
        self.database.execute(f"PRAGMA user_version = {VERSION}")

    def _check_space(self) -> None:
        facts = {name: json.loads(value) for name, value in self.database.execute("SELECT fact, value FROM space")}
        self.space.check(Space(facts["size"], facts["made"], facts["measure"]), str(self.folder))

    def _delete_unknown_files(self) -> None:
        """Delete what is left of a collection that was dropped or written again when the process was killed."""
        known = {collection.file.path for collection in self._collections.values()}
        for path in (self.folder / "vectors").glob("*.vectors"):
            if path not in known:
                path.unlink()


class DiskCollection:
    """A collection of a ``DiskStore``."""

    def __init__(self, store: DiskStore, name: str, number: int, generation: int, places: int) -> None:
        self._store, self.name, self.number, self._generation = store, name, number, generation
        self.file = VectorFile(self._path(generation), store.space.size)
        self._vectors = Vectors(store.space.size, store.space.measure)
        damaged: list[int] = []
        for start, rows, wrong in self.file.read(places):
            self._vectors.append(rows)
            damaged += [start + int(i) for i in np.flatnonzero(wrong)]
        used = [place for (place,) in self._rows(f"{PLACES} WHERE collection = ?", number)]
        self._used = np.zeros(max(places, SPARE), np.bool_)  # by place: whether an item has it; longer than needed
        self._used[used] = True
        self._count = len(used)
        self._damaged = [place for place in damaged if self._used[place]]

    def __len__(self) -> int:
        return self._count

    def put(self, items: Sequence[Item], vectors: Any) -> int:
        """Add items with their vectors [n, size]: all or, with an error, none. Returns how many replaced one."""
        check_items(items)
        rows = self._store.space.rows(vectors, len(items))
        if not items:
            return 0
        with self._store.lock:
            start = len(self._vectors)
            self._vectors.append(rows)  # first what memory may not suffice for
            if len(self._vectors) > len(self._used):
                self._used = np.append(self._used, np.zeros(len(self._vectors), np.bool_))
            try:
                replaced = self._write(start, items, rows)
            except BaseException:
                self._vectors.shorten(start)
                raise
            self._used[start : len(self._vectors)] = True
            self._free(replaced)
            self._count += len(items)
            self._tidy()
            return len(replaced)

    def delete(self, ids: Sequence[str]) -> int:
        """Delete those of these ids that are there. Returns how many were."""
        with self._store.lock:
            with self._store.changing():
                removed = self._remove(ids)
            self._free(removed)
            self._tidy()
            return len(removed)

    def get(self, ids: Sequence[str]) -> list[Item]:
        """The items of these ids, without those that are not there."""
        with self._store.lock:
            found = {item.id: item for _, item in self._of("id", ids)}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def vectors(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of these ids, as they were given."""
        with self._store.lock:
            found = self._of("id", ids)
            rows = self._vectors.rows(np.array([place for place, _ in found], np.int64))
        return {item.id: row for (_, item), row in zip(found, rows, strict=True)}

    def search(self, query: Any, k: int, where: Mapping[str, Any] | None = None) -> list[Hit]:
        """The k items whose vectors are the most similar to the query [size], best first."""
        asked = conditions(where)
        row = self._store.space.rows(np.asarray(query)[None], 1)[0]
        with self._store.lock:
            among = self._used[: len(self._vectors)]
            if asked:
                sql, values = _sql(asked, self.number)
                among = np.zeros(len(self._vectors), np.bool_)
                among[[place for (place,) in self._rows(f"{PLACES} WHERE {sql}", *values)]] = True
            everything = not asked and self._count == len(self._vectors)
            places, scores = self._vectors.nearest(row, k, None if everything else among)
            items = dict(self._of("place", [int(place) for place in places]))
        return [Hit(items[int(place)], float(score)) for place, score in zip(places, scores, strict=True)]

    def page(self, after: str | None, count: int, where: Mapping[str, Any] | None = None) -> list[Item]:
        """The next items in the order of their ids (by code points), after this id."""
        sql, values = _sql(conditions(where), self.number)
        if after is not None:
            sql, values = f"{sql} AND id > ?", [*values, after]
        with self._store.lock:
            rows = self._rows(f"{SELECT} WHERE {sql} ORDER BY id LIMIT ?", *values, count)
        return [Item(id, text, json.loads(metadata)) for _, id, text, metadata in rows]

    def repair(self, embed: Embed | None) -> int:
        """Compute damaged vectors again. Returns how many; Unusable if there are some and no ``embed``."""
        if not self._damaged:
            return 0
        items = [item for _, item in self._of("place", self._damaged)]
        if embed is None:
            named = ", ".join(repr(item.id) for item in items[:5])
            raise Unusable(f"{self.file.path}: {len(items)} vectors are damaged, of the items {named}")
        for start in range(0, len(items), AT_ONCE):
            part = items[start : start + AT_ONCE]
            self.put(part, embed([item.text for item in part]))
        self._damaged = []
        return len(items)

    def forget(self) -> None:
        """Delete the file of a collection that was dropped."""
        self.file.close()
        self.file.path.unlink(missing_ok=True)

    # -- with the lock --

    def _path(self, generation: int) -> Path:
        return self._store.folder / "vectors" / f"{self.number}-{generation}.vectors"

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._store.database.execute(sql, values).fetchall()

    def _of(self, column: str, values: Sequence[Any]) -> list[tuple[int, Item]]:
        """The items in which a column has one of these values, with their places."""
        found = []
        for start in range(0, len(values), AT_ONCE):
            part = values[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            sql = f"{SELECT} WHERE collection = ? AND {column} IN ({marks})"
            found += self._rows(sql, self.number, *part)
        return [(place, Item(id, text, json.loads(metadata))) for place, id, text, metadata in found]

    def _write(self, start: int, items: Sequence[Item], rows: NDArray[np.float32]) -> list[int]:
        """Keep new items at the places from ``start`` on. Returns the places of those that they replace."""
        with self._store.changing() as database:
            self.file.write(start, rows)
            replaced = self._remove([item.id for item in items])
            for place, item in enumerate(items, start):
                metadata = json.dumps(dict(item.metadata), ensure_ascii=False)
                row = database.execute(
                    "INSERT INTO items (collection, id, place, text, metadata) VALUES (?, ?, ?, ?, ?)",
                    (self.number, item.id, place, item.text, metadata),
                ).lastrowid
                fields = item.metadata.items()
                database.executemany(
                    "INSERT INTO fields VALUES (?, ?, ?, ?, ?)",
                    [(row, self.number, name, kind_of(value, name), value) for name, value in fields],
                )
            places = (start + len(items), self.number)
            database.execute("UPDATE collections SET places = ? WHERE number = ?", places)
        return replaced

    def _remove(self, ids: Sequence[str]) -> list[int]:
        """Delete rows within a transaction. Returns the places that they had."""
        places = [place for place, _ in self._of("id", ids)]
        for place in places:
            self._rows("DELETE FROM items WHERE collection = ? AND place = ?", self.number, place)
        return places

    def _free(self, places: list[int]) -> None:
        self._used[places] = False
        self._count -= len(places)

    def _tidy(self) -> None:
        """Give back the room of deleted vectors when it is more than that of the others."""
        if len(self._vectors) > 2 * self._count + SPARE:
            with suppress(NotWritten):  # then later: what was asked for is done
                self._write_again()

    def _write_again(self) -> None:
        """Write the file again without the vectors of deleted items, in the same order."""
        kept = np.flatnonzero(self._used[: len(self._vectors)])
        file = VectorFile(self._path(self._generation + 1), self._store.space.size)
        vectors = Vectors(self._store.space.size, self._store.space.measure)
        try:
            with self._store.changing() as database:
                for start in range(0, len(kept), SPARE):
                    rows = self._vectors.rows(kept[start : start + SPARE])
                    file.write(start, rows)
                    vectors.append(rows)
                moved = [(new, self.number, int(old)) for new, old in enumerate(kept)]  # downwards, to a free place
                database.executemany("UPDATE items SET place = ? WHERE collection = ? AND place = ?", moved)
                state = (self._generation + 1, len(kept), self.number)
                database.execute("UPDATE collections SET generation = ?, places = ? WHERE number = ?", state)
        except BaseException:
            file.close()
            file.path.unlink(missing_ok=True)
            raise
        self.forget()
        self.file, self._vectors, self._generation = file, vectors, self._generation + 1
        self._used = np.zeros(max(len(kept), SPARE), np.bool_)
        self._used[: len(kept)] = True


def _sql(asked: list[list[Condition]], collection: int) -> tuple[str, list[Any]]:
    """A condition on rows of ``items`` and its values."""
    parts = ["collection = ?"]
    found: list[Any] = [collection]
    for alternatives in asked:
        each = []
        found.append(collection)
        for condition in alternatives:
            if condition.operator == "in":
                test = f"value IN ({', '.join('?' * len(condition.values))})"
            else:
                test = f"value {SIGNS[condition.operator]} ?"
            each.append(f"(name = ? AND kind = ? AND {test})")
            found += [condition.name, condition.kind, *condition.values]
        of_fields = f"collection = ? AND ({' OR '.join(each)})"
        parts.append(f"number IN (SELECT item FROM fields WHERE {of_fields})")  # noqa: S608 - no value is in the text
    return " AND ".join(parts), found


def _check_folder(folder: Path) -> None:
    """Unusable for a folder with other files, which is most often a mistake."""
    if folder.exists() and not folder.is_dir():
        raise Unusable(f"{folder} is not a folder; name one for the store")
    others = sorted(each.name for each in folder.glob("*") if each.name != "vectors")
    if others and not (folder / FILE).exists():
        raise Unusable(f"{folder} has other files, such as {others[0]}, and no store; name a new or empty folder")


def _said(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or str(error)).strip()
