"""The store on PostgreSQL with pgvector, for more texts than one process searches, or several services on one store.

Each collection is a table. Without an index a search reads all its vectors and is exact. With one, which the guide says
how to make, a search is approximate, and PostgreSQL goes on reading the index until enough rows fit the filter.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from reference.serving.store.items import (
    CollectionExists,
    Condition,
    Hit,
    Item,
    NoCollection,
    NotWritten,
    Space,
    StoreError,
    Unusable,
    check_items,
    check_name,
    conditions,
)

VERSION = 1  # of our tables
SCHEMA = "bert_atlas"
CONNECTIONS = 8
SECONDS = 10.0  # to get a connection
EF_SEARCH = 100  # rows that an index of pgvector looks at first
LARGEST = 16_000  # numbers of a vector that pgvector keeps
OPERATORS: dict[str, LiteralString] = {"cosine": "<=>", "dot": "<#>"}
SIGNS: dict[str, LiteralString] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
Connection = psycopg.Connection[TupleRow]


class PostgresStore:
    """A store in the schema ``bert_atlas`` of a database, which is made if it is not there.

    ``address`` is as libpq reads it; a password is better in the environment (PGPASSWORD) or in ~/.pgpass. Raises
    Unusable.
    """

    def __init__(self, address: str, space: Space) -> None:
        self.space = space
        if space.size > LARGEST:
            raise Unusable(f"vectors of {space.size} numbers are too large: pgvector keeps up to {LARGEST}")
        try:
            self._where = _where(address)
            with psycopg.connect(address, connect_timeout=int(SECONDS)) as connection:
                self._prepare(connection)
            self._pool = ConnectionPool(
                address, min_size=1, max_size=CONNECTIONS, timeout=SECONDS, configure=_configure, open=True
            )
        except psycopg.Error as error:
            raise Unusable(f"{self._where if hasattr(self, '_where') else 'the database'}: {_said(error)}") from error

    def names(self) -> list[str]:
        """The names of all collections, in order."""
        with self.connection() as connection:
            rows = connection.execute('SELECT name FROM bert_atlas.collections ORDER BY name COLLATE "C"').fetchall()
        return [name for (name,) in rows]

    def create(self, name: str) -> "PostgresCollection":
        """A new collection. Raises ValueError for a name that is none, CollectionExists, and NotWritten."""
        check_name(name)
        with self.connection() as connection:
            made = connection.execute(
                "INSERT INTO bert_atlas.collections (name) VALUES (%s) ON CONFLICT DO NOTHING RETURNING number", (name,)
            ).fetchone()
            if made is None:
                raise CollectionExists(f"there is a collection {name!r} already")
            table = _table(made[0])
            connection.execute(
                sql.SQL(
                    'CREATE TABLE {} (id text COLLATE "C" PRIMARY KEY, text text NOT NULL, metadata jsonb NOT NULL, '
                    "vector vector({}) NOT NULL)"
                ).format(table, sql.Literal(self.space.size))
            )
            connection.execute(sql.SQL("CREATE INDEX ON {} USING gin (metadata jsonb_path_ops)").format(table))
        return PostgresCollection(self, name, made[0])

    def open(self, name: str) -> "PostgresCollection":
        """A collection. Raises NoCollection."""
        with self.connection() as connection:
            found = connection.execute("SELECT number FROM bert_atlas.collections WHERE name = %s", (name,)).fetchone()
        if found is None:
            names = self.names()
            has = f"; there are {', '.join(names[:20])}" if names else "; there is none yet"
            raise NoCollection(f"there is no collection {name[:80]!r}{has}")
        return PostgresCollection(self, name, found[0])

    def drop(self, name: str) -> None:
        """Delete a collection with all its items. Raises NoCollection."""
        with self.connection() as connection:
            found = connection.execute(
                "DELETE FROM bert_atlas.collections WHERE name = %s RETURNING number", (name,)
            ).fetchone()
            if found is not None:
                connection.execute(sql.SQL("DROP TABLE {}").format(_table(found[0])))
        if found is None:
            self.open(name)  # says that there is none

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A transaction. NotWritten where the database refuses it, StoreError where there is no connection."""
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.UndefinedTable as error:
            raise NoCollection("the collection was deleted") from error
        except psycopg.Error as error:
            lost = isinstance(error, PoolTimeout | PoolClosed | psycopg.errors.OperationalError)
            kind = StoreError if lost and not isinstance(error, psycopg.errors.DiskFull) else NotWritten
            raise kind(f"nothing was changed: {self._where} said: {_said(error)}") from error

    def _prepare(self, connection: Connection) -> None:
        """Make what is missing; see that it is of this version and of this space."""
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('bert_atlas'))")  # services that start together
        if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
            try:
                connection.execute("CREATE EXTENSION vector")
            except psycopg.Error as error:
                raise Unusable(
                    f"{self._where} has no pgvector ({_said(error)}); install it there, and let one of its superusers "
                    "do: CREATE EXTENSION vector"
                ) from error
        if connection.execute("SELECT to_regclass('bert_atlas.space')").fetchone() == (None,):
            connection.execute("CREATE SCHEMA IF NOT EXISTS bert_atlas")
            connection.execute("CREATE TABLE bert_atlas.space (facts jsonb NOT NULL)")
            connection.execute(
                "CREATE TABLE bert_atlas.collections (number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                "name text NOT NULL UNIQUE)"
            )
            facts: dict[str, Any] = {"version": VERSION, "size": self.space.size, "measure": self.space.measure}
            facts["made"] = dict(self.space.made)
            connection.execute("INSERT INTO bert_atlas.space VALUES (%s)", (json.dumps(facts),))
        row = connection.execute("SELECT facts FROM bert_atlas.space").fetchone()
        assert row is not None
        if row[0]["version"] > VERSION:
            raise Unusable(
                f"{self._where} was written by a newer version of this program (store {row[0]['version']}; this one "
                f"reads {VERSION}); update the program, or name another database"
            )
        self.space.check(Space(row[0]["size"], row[0]["made"], row[0]["measure"]), self._where)


class PostgresCollection:
    """A collection of a ``PostgresStore``."""

    def __init__(self, store: PostgresStore, name: str, number: int) -> None:
        self._store, self.name, self._table = store, name, _table(number)

    def __len__(self) -> int:
        rows = self._rows("SELECT count(*) FROM {table}")
        return int(rows[0][0])

    def put(self, items: Sequence[Item], vectors: Any) -> int:
        """Add items with their vectors [n, size]: all or, with an error, none. Returns how many replaced one."""
        check_items(items)
        rows = self._store.space.rows(vectors, len(items))
        if not items:
            return 0
        values = [
            (item.id, item.text, json.dumps(dict(item.metadata)), Vector(row))
            for item, row in sorted(
                zip(items, rows, strict=True), key=lambda each: each[0].id
            )  # so none waits crosswise
        ]
        with self._store.connection() as connection, connection.cursor() as cursor:
            cursor.execute(self._sql("SELECT count(*) FROM {table} WHERE id = ANY(%s)"), ([v[0] for v in values],))
            counted = cursor.fetchone()
            cursor.executemany(
                self._sql(
                    "INSERT INTO {table} (id, text, metadata, vector) VALUES (%s, %s, %s, %s) ON CONFLICT (id) "
                    "DO UPDATE SET text = EXCLUDED.text, metadata = EXCLUDED.metadata, vector = EXCLUDED.vector"
                ),
                values,
            )
        return int(counted[0]) if counted else 0

    def delete(self, ids: Sequence[str]) -> int:
        """Delete those of these ids that are there. Returns how many were."""
        with self._store.connection() as connection:
            return connection.execute(self._sql("DELETE FROM {table} WHERE id = ANY(%s)"), (list(ids),)).rowcount

    def get(self, ids: Sequence[str]) -> list[Item]:
        """The items of these ids, without those that are not there."""
        rows = self._rows("SELECT id, text, metadata FROM {table} WHERE id = ANY(%s)", list(ids))
        found = {id: Item(id, text, metadata) for id, text, metadata in rows}
        return [found[id] for id in dict.fromkeys(ids) if id in found]

    def vectors(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of these ids, as they were given."""
        rows = self._rows("SELECT id, vector FROM {table} WHERE id = ANY(%s)", list(ids))
        return {id: np.asarray(_numbers(vector), np.float32) for id, vector in rows}

    def search(self, query: Any, k: int, where: Mapping[str, Any] | None = None) -> list[Hit]:
        """The k items whose vectors are the most similar to the query [size], best first."""
        test, values = _test(conditions(where))
        row = self._store.space.rows(np.asarray(query)[None], 1)[0]
        measure = self._store.space.measure
        asked = Vector(row)
        order = sql.SQL("vector {} %s").format(sql.SQL(OPERATORS[measure]))
        statement = sql.SQL(
            "SELECT id, text, metadata, {order} AS distance FROM {table} WHERE {test} ORDER BY {order} LIMIT %s"
        ).format(order=order, table=self._table, test=test)
        with self._store.connection() as connection:
            connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")  # else a filter leaves too few rows
            connection.execute("SELECT set_config('hnsw.ef_search', %s, true)", (str(max(EF_SEARCH, min(k, 1000))),))
            rows = connection.execute(statement, (asked, *values, asked, k)).fetchall()
        hits = [Hit(Item(id, text, metadata), _score(distance, measure)) for id, text, metadata, distance in rows]
        return sorted(hits, key=lambda hit: -hit.score)

    def page(self, after: str | None, count: int, where: Mapping[str, Any] | None = None) -> list[Item]:
        """The next items in the order of their ids (by code points), after this id."""
        test, values = _test(conditions(where))
        statement = sql.SQL("SELECT id, text, metadata FROM {} WHERE {} AND id > %s ORDER BY id LIMIT %s")
        with self._store.connection() as connection:
            rows = connection.execute(statement.format(self._table, test), (*values, after or "", count)).fetchall()
        return [Item(*row) for row in rows]

    def _sql(self, statement: LiteralString) -> sql.Composed:
        return sql.SQL(statement).format(table=self._table)

    def _rows(self, statement: LiteralString, *values: Any) -> list[TupleRow]:
        with self._store.connection() as connection:
            return connection.execute(self._sql(statement), values).fetchall()


def _table(number: int) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"items_{int(number)}")


def _configure(connection: Connection) -> None:
    connection.execute("SET client_encoding = 'UTF8'")
    register_vector(connection)
    connection.commit()


def _numbers(vector: Any) -> Any:
    return vector.to_numpy() if isinstance(vector, Vector) else vector


def _score(distance: float | None, measure: str) -> float:
    """A similarity; the distance to a vector of zeros is NaN, and its similarity 0."""
    if distance is None or distance != distance:
        return 0.0
    return 1 - distance if measure == "cosine" else -distance


def _test(asked: list[list[Condition]]) -> tuple[sql.Composable, list[Any]]:
    """A condition on rows, and its values. Kinds are those of JSON: a number is never a text."""
    parts: list[sql.Composable] = [sql.SQL("true")]
    found: list[Any] = []
    for alternatives in asked:
        each: list[sql.Composable] = []
        for condition in alternatives:
            if condition.operator == "in":
                each += [sql.SQL("metadata @> %s::jsonb")] * len(condition.values)
                found += [json.dumps({condition.name: value}) for value in condition.values]
            else:
                kind: LiteralString = "number" if condition.kind == "number" else "string"
                value: LiteralString = (
                    "(metadata ->> %s)::numeric" if kind == "number" else '(metadata ->> %s) COLLATE "C"'
                )
                kinds = sql.SQL("CASE WHEN jsonb_typeof(metadata -> %s) = {} THEN {} {} %s ELSE false END")
                each.append(kinds.format(sql.Literal(kind), sql.SQL(value), sql.SQL(SIGNS[condition.operator])))
                found += [condition.name, condition.name, *condition.values]
        parts.append(sql.SQL("({})").format(sql.SQL(" OR ").join(each)))
    return sql.SQL(" AND ").join(parts), found


def _where(address: str) -> str:
    """The database of an address, without its password."""
    said = psycopg.conninfo.conninfo_to_dict(address)
    return f"the database {said.get('dbname', '')} at {said.get('host', 'localhost')}".replace("  ", " ")


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
