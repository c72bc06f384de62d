"""What every store does: what was put is found again, and a search finds the best."""

from typing import Any

import numpy as np
import pytest

from reference.serving.store.items import CollectionExists, Item, NoCollection, Store
from tests.reference.serving.store.conftest import SIZE, expected, put, vector_of, vectors_of

ITEMS = [
    Item("a", "a face", {"lang": "en", "year": 2019, "new": True}),
    Item("b/ü 世", "他吃了一个苹果 🍏", {"lang": "zh", "year": 2020.5}),
    Item("c", "", {"lang": "en", "year": 2021, "new": False}),
    Item("d", "a face too", {"lang": "fr", "year": "2021", "new": 1}),
    Item("e", "quotes ' \" \\ % _ ; --", {"a 'name\" %": "x", "lang": ""}),
    Item("f", "nothing known"),
]


def ids(found: list[Any]) -> list[str]:
    return [getattr(each, "item", each).id for each in found]


def test_items_come_back_as_they_were_put(store: Store) -> None:
    collection = store.create("letters")
    assert put(collection, *ITEMS) == 0
    assert len(collection) == 6
    assert collection.get([item.id for item in ITEMS]) == ITEMS
    assert collection.get(["none", "c", "a", "c"]) == [ITEMS[2], ITEMS[0]]
    kinds = {name: type(value) for name, value in collection.get(["d"])[0].metadata.items()}
    assert kinds == {"lang": str, "year": str, "new": int}
    found = collection.vectors(["a", "none", "f"])
    assert sorted(found) == ["a", "f"]
    np.testing.assert_array_equal(found["a"], vector_of("a face"))
    assert found["a"].dtype == np.float32


def test_a_search_finds_the_best_in_order(store: Store) -> None:
    collection = store.create("letters")
    put(collection, *ITEMS)
    query = vector_of("a question")
    for k in (1, 3, 6, 100):
        found = collection.search(query, k)
        assert ids(found) == [id for id, _ in expected(ITEMS, query, k)]
        np.testing.assert_allclose([hit.score for hit in found], [s for _, s in expected(ITEMS, query, k)], atol=1e-6)
    assert collection.search(query * 100, 1)[0].score == pytest.approx(collection.search(query, 1)[0].score)
    assert collection.search(vector_of("a face"), 1)[0].score == pytest.approx(1)


def test_nothing_is_found_in_an_empty_collection(store: Store) -> None:
    collection = store.create("empty")
    assert (collection.search(vector_of("a"), 3), collection.page(None, 3), len(collection)) == ([], [], 0)
    assert (collection.get(["a"]), collection.vectors(["a"]), collection.delete(["a"])) == ([], {}, 0)
    assert collection.put([], np.empty((0, SIZE))) == 0


FILTERS: list[tuple[dict[str, Any], str]] = [
    ({}, "abcdef"),
    ({"lang": "en"}, "ac"),
    ({"lang": ["en", "zh"]}, "abc"),
    ({"lang": "en", "new": True}, "a"),
    ({"new": [True, False]}, "ac"),
    ({"new": 1}, "d"),
    ({"year": 2019}, "a"),
    ({"year": 2019.0}, "a"),
    ({"year": "2021"}, "d"),
    ({"year": [2021, "2021"]}, "cd"),
    ({"year": {"gte": 2020}}, "bc"),
    ({"year": {"gt": 2019, "lt": 2021}}, "b"),
    ({"year": {"lte": 2020.5}}, "ab"),
    ({"year": {"gt": ""}}, "d"),
    ({"lang": {"gte": "en", "lt": "g"}}, "acd"),
    ({"a 'name\" %": "x"}, "e"),
    ({"lang": ""}, "e"),
    ({"lang": "%"}, ""),
    ({"missing": "x"}, ""),
]


@pytest.mark.parametrize(("where", "which"), FILTERS)
def test_a_filter_is_exact(store: Store, where: dict[str, Any], which: str) -> None:
    collection = store.create("letters")
    other = store.create("other")
    put(collection, *ITEMS)
    put(other, *(Item(f"x{i}", item.text, item.metadata) for i, item in enumerate(ITEMS)))
    assert [id[0] for id in ids(collection.page(None, 10, where))] == list(which)
    kept = [item for item in ITEMS if item.id[0] in which]
    found = collection.search(vector_of("q"), 2, where)
    assert ids(found) == [id for id, _ in (expected(kept, vector_of("q"), 2) if kept else [])]


@pytest.mark.parametrize(
    "where", [{"a": None}, {"a": []}, {"a": {}}, {"a": [None]}, {"a": {"near": 1}}, {"a": {"gt": True}}, {"": 1}]
)
def test_a_filter_that_is_none_is_refused(store: Store, where: dict[str, Any]) -> None:
    collection = store.create("letters")
    for call in (lambda: collection.search(vector_of("q"), 2, where), lambda: collection.page(None, 2, where)):
        with pytest.raises(ValueError, match=r"filter|metadata"):
            call()


def test_an_item_replaces_that_of_its_id(store: Store) -> None:
    collection = store.create("letters")
    put(collection, *ITEMS)
    assert put(collection, Item("a", "other"), Item("g", "new", {"lang": "en"})) == 1
    assert len(collection) == 7
    assert collection.get(["a"]) == [Item("a", "other")]
    assert ids(collection.page(None, 10, {"lang": "en"})) == ["c", "g"]
    assert ids(collection.search(vector_of("other"), 1)) == ["a"]
    assert "a" not in ids(collection.search(vector_of("a face"), 10, {"year": {"gte": 0}}))


def test_what_was_deleted_is_found_no_more(store: Store) -> None:
    collection = store.create("letters")
    put(collection, *ITEMS)
    assert collection.delete(["a", "none", "c", "a"]) == 2
    assert (len(collection), ids(collection.page(None, 9))) == (4, ["b/ü 世", "d", "e", "f"])
    assert sorted(ids(collection.search(vector_of("a face"), 9))) == ["b/ü 世", "d", "e", "f"]
    assert collection.search(vector_of("a face"), 9, {"lang": "en"}) == []
    put(collection, ITEMS[0])
    assert ids(collection.search(vector_of("a face"), 1)) == ["a"]


def test_pages_are_in_the_order_of_ids(store: Store) -> None:
    collection = store.create("letters")
    put(collection, *(Item(id, id) for id in ["b", "B", "a", "é", "a b", "世", "10", "9", "🍏", "\uffee"]))
    everything = ids(collection.page(None, 100))
    assert everything == ["10", "9", "B", "a", "a b", "b", "é", "世", "\uffee", "🍏"]
    pages, after = [], None
    while found := ids(collection.page(after, 3)):
        pages += found
        after = found[-1]
    assert pages == everything


def test_collections_are_separate(store: Store) -> None:
    one, two = store.create("one"), store.create("two")
    put(one, ITEMS[0])
    put(two, Item("a", "something else"))
    assert store.names() == ["one", "two"]
    assert store.open("two").get(["a"])[0].text == "something else"
    store.drop("one")
    assert (store.names(), len(store.open("two"))) == (["two"], 1)
    with pytest.raises(NoCollection, match="there is no collection 'one'; there are two"):
        store.open("one")
    with pytest.raises(NoCollection):
        store.drop("one")
    with pytest.raises(CollectionExists, match="'two' already"):
        store.create("two")
    assert len(store.create("one")) == 0


@pytest.mark.parametrize("name", ["", "a b", "ä", "../a", ".a", "a/b", "a" * 65, "a\n"])
def test_a_name_that_is_none_is_refused(store: Store, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a collection"):
        store.create(name)


WRONG = [
    (Item("", "a"), "no id"),
    (Item("a" * 513, "a"), "no id"),
    (Item("a\n", "a"), "no id"),
    (Item("a", "a\0"), "NUL"),
    (Item("a", "\ud83d"), "surrogate"),
    (Item("\ud83d", "a"), "surrogate"),
    (Item("a", "a", {"": 1}), "no name of metadata"),
    (Item("a", "a", {"n": float("nan")}), "finite"),
    (Item("a", "a", {"n": 2**60}), "2\\*\\*53"),
    (Item("a", "a", {"n": None}), "of type NoneType"),  # type: ignore[dict-item]
    (Item("a", "a", {"n": ["x"]}), "of type list"),  # type: ignore[dict-item]
    (Item("a", "a", {"n": "x" * 1025}), "1025 characters"),
    (Item("a", "a", {str(i): i for i in range(65)}), "65 fields"),
    (Item("ok", "a"), "given twice"),
]


@pytest.mark.parametrize(("item", "message"), WRONG)
def test_items_that_cannot_be_kept_are_refused_with_all_beside_them(store: Store, item: Item, message: str) -> None:
    collection = store.create("letters")
    with pytest.raises(ValueError, match=message):
        collection.put([Item("ok", "fine"), item], np.ones((2, SIZE)))
    assert len(collection) == 0


@pytest.mark.parametrize(
    "vectors", [np.ones((1, SIZE + 1)), np.ones(SIZE), np.ones((2, SIZE)), np.full((1, SIZE), np.nan)]
)
def test_vectors_of_another_form_are_refused(store: Store, vectors: Any) -> None:
    collection = store.create("letters")
    with pytest.raises(ValueError, match="vector"):
        collection.put([Item("a", "a")], vectors)
    with pytest.raises(ValueError, match="vector"):
        collection.search(np.ones(SIZE - 1), 1)


def test_a_vector_of_zeros_is_similar_to_nothing(store: Store) -> None:
    collection = store.create("letters")
    collection.put([Item("zero", "z"), Item("one", "o")], np.stack([np.zeros(SIZE), np.ones(SIZE)]))
    found = collection.search(np.ones(SIZE), 2)
    assert [(hit.item.id, round(hit.score, 6)) for hit in found] == [("one", 1.0), ("zero", 0.0)]


def test_random_changes_leave_what_a_dictionary_would(store: Store) -> None:
    collection, known = store.create("letters"), dict[str, Item]()
    draw = np.random.default_rng(3)
    for step in range(60):
        names = [f"{number}" for number in draw.choice(40, draw.integers(1, 12), replace=False)]
        if draw.random() < 0.3:
            assert collection.delete(names) == sum(known.pop(name, None) is not None for name in names)
        else:
            items = [Item(name, f"{name} at {step}", {"even": int(name) % 2 == 0}) for name in names]
            assert put(collection, *items) == sum(name in known for name in names)
            known |= {item.id: item for item in items}
        assert len(collection) == len(known)
    assert collection.page(None, 100) == [known[name] for name in sorted(known)]
    even = [item for item in known.values() if item.metadata["even"]]
    for query in vectors_of(["x", "y"]):
        assert ids(collection.search(query, 7)) == [id for id, _ in expected(list(known.values()), query, 7)]
        assert ids(collection.search(query, 7, {"even": True})) == [id for id, _ in expected(even, query, 7)]
