"""What a service takes, and how it says no."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Of one request."""

    body_bytes: int = 8 * 2**20
    texts: int = 2048
    characters: int = 100_000  # of a text
    body_seconds: float = 30.0  # in which the body must arrive


class NoAddress(ValueError):
    """The service cannot listen at an address, which the message names."""


class Why(Enum):
    """Reasons to refuse: OpenAI's status, type and code; then TEI's status and error_type."""

    SYNTAX = (400, "invalid_request_error", "invalid_json", 400, "Validation")
    INVALID = (400, "invalid_request_error", "invalid_value", 422, "Validation")
    EMPTY = (400, "invalid_request_error", "empty", 400, "Empty")
    TOO_LARGE = (413, "invalid_request_error", "request_too_large", 413, "Validation")
    SLOW = (408, "invalid_request_error", "request_timeout", 408, "Validation")
    MEDIA = (415, "invalid_request_error", "unsupported_media_type", 415, "Validation")
    KEY = (401, "invalid_request_error", "invalid_api_key", 401, "Unauthorized")
    NO_MODEL = (404, "invalid_request_error", "model_not_found", 404, "Validation")
    WRONG_MODEL = (400, "invalid_request_error", "wrong_model", 424, "Backend")
    NO_ROUTE = (404, "invalid_request_error", "unknown_url", 404, "Validation")
    NO_COLLECTION = (404, "invalid_request_error", "collection_not_found", 404, "Validation")
    EXISTS = (409, "invalid_request_error", "collection_exists", 409, "Validation")
    METHOD = (405, "invalid_request_error", "method_not_allowed", 405, "Validation")
    BUSY = (429, "rate_limit_error", "overloaded", 429, "Overloaded")
    FAILED = (500, "server_error", "model_failed", 424, "Backend")
    BUG = (500, "server_error", "internal_error", 500, "Backend")
    NOT_WRITTEN = (507, "server_error", "not_written", 507, "Backend")
    STOPPING = (503, "server_error", "stopping", 503, "Unhealthy")


@dataclass(eq=False)
class Refused(Exception):
    """A request that is not answered with vectors. ``param``: the field that is wrong."""

    why: Why
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def texts_of(value: Any, name: str, limits: Limits) -> list[str]:
    """The texts in a string or a list of strings; Refused for anything else, naming the first that is wrong."""
    if value is None:
        raise Refused(Why.INVALID, f"{name} is missing; give a string or a list of strings", name)
    if isinstance(value, str):
        text_of(value, name, limits)
        return [value]
    if not isinstance(value, list):
        raise Refused(Why.INVALID, f"{name} is {kind_of(value)}; give a string or a list of strings", name)
    if not value:
        raise Refused(Why.EMPTY, f"{name} is an empty list; give at least one text", name)
    if len(value) > limits.texts:
        raise Refused(Why.TOO_LARGE, f"{name} has {len(value)} texts; at most {limits.texts} are taken at once", name)
    first = value[0][0] if isinstance(value[0], list) and value[0] else value[0]
    if type(first) is int:
        message = (
            f"{name} has token ids, which are those of another model's tokenizer as a rule and would give wrong "
            "vectors; send the texts (LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False))"
        )
        raise Refused(Why.INVALID, message, name)
    for i, text in enumerate(value):
        text_of(text, f"{name}[{i}]", limits)
    return value


def words_of(texts: list[Any], limits: Limits) -> list[list[str]]:
    """Texts that are lists of tokens; Refused where one is not."""
    if not texts:
        raise Refused(Why.EMPTY, "texts is an empty list; give at least one text", "texts")
    if len(texts) > limits.texts:
        raise Refused(Why.TOO_LARGE, f"there are {len(texts)} texts; at most {limits.texts} are taken at once", "texts")
    for i, text in enumerate(texts):
        if not isinstance(text, list) or not all(isinstance(piece, str) for piece in text):
            raise Refused(Why.INVALID, f"not all tokens of texts[{i}] are strings", "texts")
    return texts


def text_of(value: Any, name: str, limits: Limits) -> str:
    """The value, if it is a string of Unicode that is not too long; else Refused."""
    if not isinstance(value, str):
        raise Refused(Why.INVALID, f"{name} is {kind_of(value)}; it must be a string", name)
    if len(value) > limits.characters:
        message = f"{name} has {len(value)} characters; at most {limits.characters} are taken"
        raise Refused(Why.TOO_LARGE, message, name)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"{name} has half of a surrogate pair at character {error.start}, which is not text"
        raise Refused(Why.INVALID, message, name) from None
    return value


def kind_of(value: Any) -> str:
    """The kind of a JSON value, in a sentence."""
    if value is None:
        return "null"
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return kinds.get(type(value), "an object")
