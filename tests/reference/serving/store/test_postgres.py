"""What only the store on PostgreSQL has: an index, several services at once, databases that cannot be used."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("psycopg_pool", reason="the extra postgres is not installed")

import psycopg

from reference.serving.store.items import Item, NoCollection, Space, StoreError, Unusable
from reference.serving.store.postgres import PostgresStore
from tests.reference.serving.store.conftest import SIZE, SPACE, put, vector_of

Connect = Callable[..., PostgresStore]


def test_several_services_share_a_store(connect: Connect) -> None:
    one, two = connect(), connect()
    collection = one.create("letters")
    put(collection, Item("a", "text"))
    assert two.open("letters").get(["a"]) == [Item("a", "text")]

    def adds(store: PostgresStore, number: int) -> None:
        for i in range(10):
            put(store.open("letters"), *(Item(f"{j}", f"{number} {i} {j}") for j in range(8)))

    threads = [threading.Thread(target=adds, args=(store, i)) for i, store in enumerate([one, two, one, two])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(two.open("letters")) == 9
    two.drop("letters")
    with pytest.raises(NoCollection):
        len(collection)


def test_an_index_is_used_with_filters_too(connect: Connect, address: str) -> None:
    collection = connect().create("many")
    draw = np.random.default_rng(0)
    rows = draw.standard_normal((600, SIZE))
    collection.put([Item(f"{i}", f"{i}", {"rare": i % 60 == 0}) for i in range(600)], rows)
    exact = [hit.item.id for hit in collection.search(rows[0], 10, {"rare": True})]
    with psycopg.connect(address) as connection:
        number = connection.execute("SELECT number FROM bert_atlas.collections WHERE name = 'many'").fetchone()[0]
        connection.execute(f"CREATE INDEX ON bert_atlas.items_{number} USING hnsw (vector vector_cosine_ops)")
    found = collection.search(rows[0], 10)
    assert (found[0].item.id, len(found)) == ("0", 10)
    assert [hit.item.id for hit in collection.search(rows[0], 10, {"rare": True})] == exact
    assert len(exact) == 10


def test_a_store_of_another_model_or_version_is_refused(connect: Connect, address: str) -> None:
    connect()
    with pytest.raises(Unusable, match=r"has vectors of tiny with size 8; .* size 9"):
        connect(Space(SIZE + 1, SPACE.made))
    with pytest.raises(Unusable, match="pooling"):
        connect(Space(SIZE, {**SPACE.made, "pooling": "cls"}))
    with psycopg.connect(address) as connection:
        connection.execute("UPDATE bert_atlas.space SET facts = jsonb_set(facts, '{version}', '2')")
    with pytest.raises(Unusable, match=r"newer version of this program \(store 2; this one reads 1\)"):
        connect()


def test_dot_products_are_scores(connect: Connect) -> None:
    collection = connect(Space(SIZE, SPACE.made, "dot")).create("letters")
    put(collection, Item("a", "a"), Item("b", "b"))
    query = vector_of("q")
    scores = {hit.item.id: hit.score for hit in collection.search(query, 2)}
    assert scores == pytest.approx({name: float(vector_of(name) @ query) for name in "ab"}, rel=1e-5)


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(Unusable, match=r"the database atlas at 127\.0\.0\.1: ") as refused:
        PostgresStore("postgresql://me:secret@127.0.0.1:1/atlas", SPACE)
    assert "secret" not in str(refused.value)
    with pytest.raises(Unusable):
        PostgresStore("postgresql://[", SPACE)


def test_vectors_that_pgvector_does_not_keep_are_refused() -> None:
    with pytest.raises(Unusable, match="pgvector keeps up to 16000"):
        PostgresStore("postgresql://127.0.0.1:1/atlas", Space(16_001, SPACE.made))


def test_a_server_that_went_away_is_an_error_of_the_store(connect: Connect) -> None:
    store = connect()
    collection = store.create("letters")
    store.close()
    with pytest.raises(StoreError, match="nothing was changed"):
        put(collection, Item("a", "a"))
