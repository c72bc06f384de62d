"""What a store holds and is asked: texts with ids and metadata, the space of their vectors, and filters.

Every store has the interface ``Store``, whose collections have the interface ``Collection``.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Value = str | int | float | bool
Kind = Literal["text", "number", "truth"]
Operator = Literal["in", "gt", "gte", "lt", "lte"]
Measure = Literal["cosine", "dot"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
ID_CHARACTERS, FIELDS, FIELD_CHARACTERS = 512, 64, 1024  # at most: of an id, of an item's metadata, of one text in it
WHOLE = 2**53  # integers beyond it are not the same in all stores
ALTERNATIVES = 256  # values of one field in a filter, at most
SHORTEST, LONGEST = 1e-12, 1e12  # of vectors, so that no product is lost or infinite in float32
MANY = 1_000_000  # texts of a collection, above which each search reads gigabytes


class StoreError(Exception):
    """What is asked of a store cannot be done; the message says why, and what to do."""


class Unusable(StoreError):
    """A store cannot be opened: it is another program's, another model's, a newer version's, or in use."""


class NoCollection(StoreError):
    """There is no collection of this name."""


class CollectionExists(StoreError):
    """There is a collection of this name already."""


class NotWritten(StoreError):
    """Nothing of a change was kept, for lack of room or as the system refused; what was there is still there."""


@dataclass(frozen=True)
class Item:
    """A text with its id and metadata."""

    id: str
    text: str
    metadata: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Hit:
    """An item that a search found. ``score``: its cosine with the query, or their dot product (``Space.measure``)."""

    item: Item
    score: float


@dataclass(frozen=True)
class Space:
    """Where vectors can be compared: those of one model, made in one way.

    ``made`` says how vectors are made: ``model`` is a name for people, everything else must be equal.
    """

    size: int
    made: Mapping[str, str]
    measure: Measure = "cosine"

    def check(self, other: "Space", where: str) -> None:
        """Unusable if the vectors of a store at ``where`` are of another space than this one."""
        mine, theirs = self._facts(), other._facts()
        different = [name for name in dict.fromkeys([*mine, *theirs]) if mine.get(name) != theirs.get(name)]
        if different:
            has = ", ".join(f"{name} {theirs.get(name, '(none)')[:16]}" for name in different)
            here = ", ".join(f"{name} {mine.get(name, '(none)')[:16]}" for name in different)
            raise Unusable(
                f"{where} has vectors of {other.made.get('model', 'another model')} with {has}; those of "
                f"{self.made.get('model', 'this model')} have {here}, and the two cannot be compared: give the weights "
                "and options that the store was made with, or another store"
            )

    def _facts(self) -> dict[str, str]:
        return {
            "size": str(self.size),
            "measure": self.measure,
            **{name: value for name, value in self.made.items() if name != "model"},
        }

    def rows(self, vectors: Any, count: int) -> NDArray[np.float32]:
        """So many vectors as float32 [count, size]; ValueError if they are no vectors of this space."""
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        if rows.shape != (count, self.size):
            raise ValueError(f"{count} vectors of {self.size} numbers are needed; these have the shape {rows.shape}")
        lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
        if not np.all((lengths == 0) | ((lengths >= SHORTEST) & (lengths <= LONGEST))):  # also for NaN
            raise ValueError(f"a vector's length is not finite, or neither 0 nor from {SHORTEST:g} to {LONGEST:g}")
        return rows


class Collection(Protocol):
    """Items of one name, in a store. ``where`` is a filter as ``conditions`` reads it; ValueError for another."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int:
        """The number of items."""
        ...

    def put(self, items: Sequence[Item], vectors: Any) -> int:
        """Add items with their vectors [n, size]: all or, with an error, none. Returns how many replaced one.

        An item replaces that of the same id. When this returns, the items are kept whatever happens to the process.
        Raises ValueError for items that cannot be kept as they are, and NotWritten.
        """
        ...

    def delete(self, ids: Sequence[str]) -> int:
        """Delete those of these ids that are there. Returns how many were."""
        ...

    def get(self, ids: Sequence[str]) -> list[Item]:
        """The items of these ids, without those that are not there."""
        ...

    def vectors(self, ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """The vectors of these ids, as they were given."""
        ...

    def search(self, query: Any, k: int, where: Mapping[str, Any] | None = None) -> list[Hit]:
        """The k items whose vectors are the most similar to the query [size], best first."""
        ...

    def page(self, after: str | None, count: int, where: Mapping[str, Any] | None = None) -> list[Item]:
        """The next items in the order of their ids (by code points), after this id."""
        ...


class Store(Protocol):
    """Collections of vectors of one space."""

    @property
    def space(self) -> Space: ...

    def names(self) -> list[str]:
        """The names of all collections, in order."""
        ...

    def create(self, name: str) -> Collection:
        """A new collection. Raises ValueError for a name that is none, and CollectionExists."""
        ...

    def open(self, name: str) -> Collection:
        """A collection. Raises NoCollection."""
        ...

    def drop(self, name: str) -> None:
        """Delete a collection with all its items. Raises NoCollection."""
        ...

    def close(self) -> None:
        """End the use of the store."""
        ...


def check_name(name: str) -> None:
    """ValueError for what cannot be the name of a collection."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} is no name of a collection: 1 to 64 of A-Z a-z 0-9 _ . - from a letter or digit"
        )


def check_items(items: Sequence[Item]) -> None:
    """ValueError for items that a store could not give back as they are."""
    seen: set[str] = set()
    for item in items:
        if not 1 <= len(item.id) <= ID_CHARACTERS or CONTROL.search(item.id):
            raise ValueError(
                f"{item.id[:80]!r} is no id, which is 1 to {ID_CHARACTERS} characters, none a control character"
            )
        if item.id in seen:
            raise ValueError(f"the id {item.id[:80]!r} is given twice")
        seen.add(item.id)
        for text in (item.id, item.text):
            _check_text(text, f"of {item.id[:80]!r}")
        check_metadata(item.metadata)


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """ValueError for metadata that is not a few names with a text, a number, true or false each."""
    if len(metadata) > FIELDS:
        raise ValueError(f"metadata has {len(metadata)} fields; at most {FIELDS} are kept")
    for name, value in metadata.items():
        _check_field(name)
        kind_of(value, name)


def kind_of(value: Any, name: str) -> Kind:
    """The kind of a value of metadata; ValueError for one that is not kept."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, str):
        _check_text(value, f"of metadata {name!r}")
        if len(value) > FIELD_CHARACTERS:
            raise ValueError(f"metadata {name!r} has {len(value)} characters; at most {FIELD_CHARACTERS} are kept")
        return "text"
    if isinstance(value, int) and abs(value) <= WHOLE:
        return "number"
    if isinstance(value, float) and math.isfinite(value):
        return "number"
    if isinstance(value, int | float):
        raise ValueError(f"metadata {name!r} is {str(value)[:40]}; numbers are finite, and whole ones up to 2**53")
    raise ValueError(f"metadata {name!r} is of type {type(value).__name__}; it must be a text, a number, true or false")


def _check_field(name: Any) -> None:
    if not isinstance(name, str) or not 1 <= len(name) <= 128 or CONTROL.search(name):
        raise ValueError(f"{str(name)[:80]!r} is no name of metadata: 1 to 128 characters without control characters")
    _check_text(name, "of metadata")


def _check_text(text: str, of: str) -> None:
    if "\0" in text:
        raise ValueError(f"a text {of} has the character NUL, which databases do not keep")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a text {of} has half of a surrogate pair, which is not text") from None


@dataclass(frozen=True)
class Condition:
    """What a filter asks of one field. All ``values`` are of ``kind``; only "in" has several."""

    name: str
    operator: Operator
    kind: Kind
    values: tuple[Value, ...]


def conditions(where: Mapping[str, Any] | None) -> list[list[Condition]]:
    """What a filter asks: of each list, one condition must hold. ValueError for a filter that is none.

    A field equals a value, ``{"lang": "en"}``; or one of a list, ``{"lang": ["en", "zh"]}``; or is between bounds,
    ``{"year": {"gte": 2019, "lt": 2021}}``. A value never equals one of another kind: 1 is neither "1" nor true.
    """
    found: list[list[Condition]] = []
    if len(where or {}) > FIELDS:
        raise ValueError(f"the filter has {len(where or {})} fields; at most {FIELDS} are taken")
    for name, asked in (where or {}).items():
        _check_field(name)
        if isinstance(asked, Mapping):
            found += [[_bound(name, operator, value)] for operator, value in asked.items()]
        values = asked if isinstance(asked, list) else [] if isinstance(asked, Mapping) else [asked]
        if len(values) > ALTERNATIVES or asked in ([], {}):
            raise ValueError(f"the filter of {name!r} needs a value, a bound, or a list of 1 to {ALTERNATIVES} values")
        by_kind: dict[Kind, list[Value]] = {}
        for value in values:
            by_kind.setdefault(kind_of(value, name), []).append(value)
        if by_kind:
            found.append([Condition(name, "in", kind, tuple(each)) for kind, each in by_kind.items()])
    return found


def _bound(name: str, operator: Any, value: Any) -> Condition:
    if operator not in ("gt", "gte", "lt", "lte"):
        raise ValueError(f"the filter of {name!r} has {str(operator)[:40]!r}; bounds are gt, gte, lt and lte")
    kind = kind_of(value, name)
    if kind == "truth":
        raise ValueError(f"the filter of {name!r}: {operator} needs a number or a text")
    return Condition(name, operator, kind, (value,))
