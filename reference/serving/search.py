"""Collections of texts over HTTP: add, delete, get, list, search, export.

Texts are embedded by the service's model. Where its folder has prompts for documents and for queries, texts that are
added get the one and texts that are searched for the other, as in sentence-transformers.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from reference.encoder import SentenceEncoder
from reference.serving.http import LOG, Call, get, post
from reference.serving.limits import Refused, Why, kind_of, text_of, texts_of
from reference.serving.store.disk import DiskStore
from reference.serving.store.items import (
    MANY,
    Collection,
    CollectionExists,
    Item,
    NoCollection,
    NotWritten,
    Space,
    Store,
    StoreError,
    Unusable,
    check_items,
    check_metadata,
    conditions,
)

COLLECTIONS, LISTED, FOUND, EXPORTED = 1000, 1000, 1000, 256  # at most: kept, in a list, in an answer, read at once
QUERY, DOCUMENT = ("query",), ("document", "passage", "corpus")  # names of prompts in sentence-transformers
GROWN = (
    "{count} texts are in this collection, and a search reads them all; for more than about a million, keep them in "
    "PostgreSQL with an index: --store postgresql://..."
)
WHY = {NoCollection: Why.NO_COLLECTION, CollectionExists: Why.EXISTS, NotWritten: Why.NOT_WRITTEN}
Result = TypeVar("Result")


def space_of(encoder: SentenceEncoder, made: Mapping[str, str]) -> Space:
    """The space of an encoder's vectors, as a store keeps it. ``made``: how they are made.

    Raises Unusable for a model whose vectors are compared by a distance.
    """
    measure = encoder.measure
    if measure not in ("cosine", "dot"):
        raise Unusable(f"vectors of this model are compared by {measure} distance; a store searches by cosine or dot")
    prompt = _prompt(encoder, DOCUMENT)
    prompts = {} if prompt is None else {"document_prompt": encoder.prompts[prompt]}
    return Space(encoder.size, {**made, **prompts}, "dot" if measure == "dot" else "cosine")


def open_store(where: str, encoder: SentenceEncoder, made: Mapping[str, str], ends: ExitStack) -> Store:
    """The store in a folder, or in the PostgreSQL database of an address; it is closed at the end.

    ``made``: how the encoder's vectors are made. Raises Unusable.
    """
    space = space_of(encoder, made)
    if where.startswith(("postgresql://", "postgres://")):
        if missing := [name for name in ("psycopg", "psycopg_pool", "pgvector") if find_spec(name) is None]:
            raise Unusable(f'PostgreSQL needs {", ".join(missing)}: pip install -e ".[postgres]" in the checkout')
        from reference.serving.store.postgres import PostgresStore

        return ends.enter_context(closing(PostgresStore(where, space)))
    embed = partial(encoder.encode, prompt_name=_prompt(encoder, DOCUMENT))
    found = ends.enter_context(closing(DiskStore(Path(where).expanduser(), space, embed)))
    if found.repaired:
        LOG.warning("%d damaged vectors in %s were computed again from their texts", found.repaired, where)
    return found


def _prompt(encoder: SentenceEncoder, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in encoder.prompts), None)


@dataclass(frozen=True)
class Asked:
    """A request about the collections of a store."""

    call: Call
    store: Store

    async def run(self, work: Callable[[], Result]) -> Result:
        """What a function of the store returns, in a thread; Refused for its errors."""
        try:
            return await asyncio.to_thread(work)
        except StoreError as error:
            raise Refused(WHY.get(type(error), Why.STOPPING), str(error)) from error
        except ValueError as error:
            raise Refused(Why.INVALID, str(error)) from error

    async def collection(self) -> Collection:
        """The collection that the path names."""
        return await self.run(partial(self.store.open, self.call.request.path_params["name"]))

    async def vectors(self, texts: list[str], names: tuple[str, ...]) -> NDArray[Any]:
        """The vectors of texts with the first of these prompts that the folder has."""
        model = self.call.service.model
        prompt = _prompt(model.encoder, names)
        return await self.call.vectors(model.vectors(None, prompt), await self.call.tokenized(model, texts, prompt))

    def number(self, name: str, default: int, most: int) -> int:
        """A field that is a whole number from 1."""
        value = self.call.body.get(name, default)
        if type(value) is not int or not 1 <= value <= most:
            raise Refused(Why.INVALID, f"{name} is {str(value)[:40]}; it must be a whole number from 1 to {most}", name)
        return value

    def ids(self) -> list[str]:
        """The field ``ids``."""
        value = self.call.body.get("ids")
        if not isinstance(value, list):
            raise Refused(Why.INVALID, f"ids is {kind_of(value)}; it must be a list of strings", "ids")
        return texts_of(value, "ids", self.call.service.limits)

    def where(self) -> dict[str, Any] | None:
        """The field ``filter``, checked."""
        value = self.call.body.get("filter")
        if value is not None and not isinstance(value, dict):
            raise Refused(Why.INVALID, f"filter is {kind_of(value)}; it must be an object", "filter")
        try:
            conditions(value)
        except ValueError as error:
            raise Refused(Why.INVALID, str(error), "filter") from None
        return value


async def collections(asked: Asked) -> Response:
    """All collections, and what their vectors are."""

    def listed() -> dict[str, Any]:
        found = []
        for name in asked.store.names():
            try:
                found.append(_described(asked.store.open(name)))
            except NoCollection:  # dropped in between
                continue
        space = asked.store.space
        return {"collections": found, "model": space.made.get("model"), "size": space.size, "measure": space.measure}

    answer = await asked.run(listed)
    return await asked.call.json(lambda: answer, 0)


async def create(asked: Asked) -> Response:
    """A new collection, without texts."""
    name = asked.call.only("name").get("name")
    if not isinstance(name, str):
        raise Refused(Why.INVALID, f"name is {kind_of(name)}; it must be a string", "name")

    def made() -> dict[str, Any]:
        if len(asked.store.names()) >= COLLECTIONS:
            raise ValueError(f"there are {COLLECTIONS} collections, which is as many as are kept; delete one")
        return _described(asked.store.create(name))

    answer = await asked.run(made)
    return await asked.call.json(lambda: answer, 0)


async def describe(asked: Asked) -> Response:
    """One collection."""
    answer = await asked.run(partial(_described, await asked.collection()))
    return await asked.call.json(lambda: answer, 0)


async def drop(asked: Asked) -> Response:
    """Delete a collection with all its texts."""
    name = asked.call.request.path_params["name"]
    await asked.run(partial(asked.store.drop, name))
    return await asked.call.json(lambda: {"deleted": name}, 0)


async def add(asked: Asked) -> Response:
    """Embed texts and keep them: all, or with an error none. A text replaces that of the same id.

    Without ``ids`` each text gets one that is drawn at random.
    """
    said, limits = asked.call.only("texts", "ids", "metadata"), asked.call.service.limits
    texts = texts_of(said.get("texts"), "texts", limits)
    ids = asked.ids() if said.get("ids") is not None else [uuid.uuid4().hex for _ in texts]
    metadata = said.get("metadata") if said.get("metadata") is not None else [{}] * len(texts)
    if not isinstance(metadata, list):
        raise Refused(Why.INVALID, f"metadata is {kind_of(metadata)}; it must be a list of objects", "metadata")
    for name, values in (("ids", ids), ("metadata", metadata)):
        if len(values) != len(texts):
            raise Refused(Why.INVALID, f"{name} has {len(values)} elements for {len(texts)} texts", name)
    for i, each in enumerate(metadata):
        if not isinstance(each, dict):
            raise Refused(Why.INVALID, f"metadata[{i}] is {kind_of(each)}; it must be an object", f"metadata[{i}]")
        try:
            check_metadata(each)
        except ValueError as error:
            raise Refused(Why.INVALID, f"metadata[{i}]: {error}", f"metadata[{i}]") from None
    items = [Item(*each) for each in zip(ids, texts, metadata, strict=True)]
    try:
        check_items(items)
    except ValueError as error:
        raise Refused(Why.INVALID, str(error), "ids") from None
    collection = await asked.collection()  # before the model works for nothing
    rows = await asked.vectors(texts, DOCUMENT)
    replaced = await asked.run(partial(collection.put, items, rows))
    count = await asked.run(partial(len, collection))
    answer: dict[str, Any] = {"ids": ids, "replaced": replaced, "texts": count} | _note(count)
    if asked.call.cut:
        answer["cut"] = [{"id": ids[i], "tokens_lost": lost} for i, lost in asked.call.cut.items()]
    return await asked.call.json(lambda: answer, 0)


async def search(asked: Asked) -> Response:
    """The texts that are the most similar to a text or a vector, best first; of those that fit a filter, if given."""
    said, limits = asked.call.only("text", "vector", "k", "filter"), asked.call.service.limits
    k, where = asked.number("k", 10, FOUND), asked.where()
    if (said.get("text") is None) == (said.get("vector") is None):
        raise Refused(Why.INVALID, "give text or vector, and not both", "text")
    collection = await asked.collection()
    if said.get("text") is not None:
        query = (await asked.vectors([text_of(said["text"], "text", limits)], QUERY))[0]
    else:
        query = _vector(said["vector"], asked.store.space.size)
    hits = await asked.run(partial(collection.search, query, k, where))
    return await asked.call.json(lambda: {"results": [{**_said(hit.item), "score": hit.score} for hit in hits]}, 0)


async def get_items(asked: Asked) -> Response:
    """The texts of some ids."""
    asked.call.only("ids")
    ids, collection = asked.ids(), await asked.collection()
    items = await asked.run(partial(collection.get, ids))
    missing = sorted(set(ids) - {item.id for item in items})
    return await asked.call.json(lambda: {"items": [_said(item) for item in items], "missing": missing}, 0)


async def delete(asked: Asked) -> Response:
    """Delete the texts of some ids."""
    asked.call.only("ids")
    ids, collection = asked.ids(), await asked.collection()
    count = await asked.run(partial(collection.delete, ids))
    return await asked.call.json(lambda: {"deleted": count}, 0)


async def list_items(asked: Asked) -> Response:
    """Texts in the order of their ids; ``next`` is what to give as ``after`` for those that follow."""
    said = asked.call.only("after", "limit", "filter")
    limit, where = asked.number("limit", 100, LISTED), asked.where()
    after = None if said.get("after") is None else text_of(said["after"], "after", asked.call.service.limits)
    collection = await asked.collection()
    items = await asked.run(partial(collection.page, after, limit, where))
    following = items[-1].id if len(items) == limit else None
    return await asked.call.json(lambda: {"items": [_said(item) for item in items], "next": following}, 0)


async def export(asked: Asked) -> Response:
    """All texts with their vectors, one JSON object a line, in the order of their ids.

    Changes that are made meanwhile may or may not be in it.
    """
    collection = await asked.collection()
    return StreamingResponse(_lines(collection), media_type="application/x-ndjson")


def _lines(collection: Collection) -> Iterator[str]:
    after = None
    while items := collection.page(after, EXPORTED):
        vectors = collection.vectors([item.id for item in items])
        for item in items:
            if item.id in vectors:  # else it was deleted in between
                line = {**_said(item), "vector": vectors[item.id].tolist()}
                yield json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
        after = items[-1].id


def _described(collection: Collection) -> dict[str, Any]:
    count = len(collection)
    return {"name": collection.name, "texts": count} | _note(count)


def _note(count: int) -> dict[str, str]:
    return {"note": GROWN.format(count=count)} if count > MANY else {}


def _said(item: Item) -> dict[str, Any]:
    return {"id": item.id, "text": item.text, "metadata": dict(item.metadata)}


def _vector(value: Any, size: int) -> NDArray[np.float32]:
    """The query that is given as numbers."""
    if not isinstance(value, list) or not all(type(each) in (int, float) for each in value):
        raise Refused(Why.INVALID, "vector must be a list of numbers", "vector")
    if len(value) != size:
        raise Refused(Why.INVALID, f"vector has {len(value)} numbers; those of this store have {size}", "vector")
    try:
        found = np.array(value, np.float64)
    except OverflowError:
        found = np.full(size, np.inf)
    if not np.isfinite(found).all() or np.abs(found).max() > np.finfo(np.float32).max:
        raise Refused(Why.INVALID, "vector has a number that float32 cannot hold", "vector")
    return found.astype(np.float32)


def routes(store: Store | None) -> list[Route]:
    """The routes about the collections of a store; without one they say so."""

    def of(endpoint: Callable[[Asked], Awaitable[Response]]) -> Callable[[Call], Awaitable[Response]]:
        async def answered(call: Call) -> Response:
            if store is None:
                raise Refused(Why.NO_ROUTE, "this service keeps no collections; start it with --store FOLDER")
            return await endpoint(Asked(call, store))

        answered.__doc__ = endpoint.__doc__
        return answered

    one = "/collections/{name}"
    return [
        get("/collections", of(collections)),
        post("/collections", of(create)),
        get(one, of(describe)),
        get(one, of(drop), "DELETE"),
        post(f"{one}/add", of(add)),
        post(f"{one}/search", of(search)),
        post(f"{one}/get", of(get_items)),
        post(f"{one}/delete", of(delete)),
        post(f"{one}/list", of(list_items)),
        get(f"{one}/export", of(export)),
    ]
