"""The models of an entry, one for each kind of resource, and the JSON Schema that editors use."""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from catalog import identifiers
from catalog.reported.tables import Split, Table
from catalog.values import (
    Address,
    Arxiv,
    Author,
    Chinese,
    Count,
    Date,
    Doi,
    Id,
    Language,
    License,
    Line,
    SeedItem,
    SummaryChinese,
    SummaryEnglish,
    Tag,
    True_,
    Unique,
    Year,
    vocabulary,
)

Format = Literal["pytorch", "safetensors", "tensorflow", "flax", "onnx", "openvino", "coreml", "rust", "paddle"]
Kind = Literal["paper", "article", "repository", "model", "dataset"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOLDERS: dict[str, Kind] = {
    "papers": "paper",
    "articles": "article",
    "repositories": "repository",
    "models": "model",
    "datasets": "dataset",
}
ENTRY_SCHEMA = Path(__file__).with_name("entry.schema.json")


class _Entry(BaseModel):
    """The fields of all kinds. Nothing derived is among them: link states and BibTeX keys are computed, not written."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, str_strip_whitespace=True)
    identified_by: ClassVar[tuple[str, ...]] = ("url", "doi")

    id: Id = Field(description="The file's name without .yaml; unique across kinds.")
    title: Line = Field(description="The title as the resource itself writes it.")
    title_zh: Chinese | None = Field(None, description="The title in Chinese, where it differs.")
    authors: Unique[Author] = Field([], description="Names as seen, one per line; never `et al.`")
    and_others: True_ = Field(False, description="There are more authors than those listed.")
    year: Year = Field(description="Year of first public appearance; for a paper on arXiv rarely later than there.")
    doi: Doi | None = None
    url: Address | None = Field(None, description="The page itself: article, repository, model card.")
    language: Unique[Language] = Field([], description="Language of the resource itself.")
    tags: Annotated[Unique[Tag], Field(max_length=4)] = Field(
        description="One to four words of vocabulary.yaml, the most specific first."
    )
    builds_on: Unique[Id] = Field([], description="Ids of the papers and models that it takes further, main one first.")
    distils: Unique[Id] = Field([], description="Ids of the models whose knowledge it moves into a smaller one.")
    compresses: Unique[Id] = Field([], description="Ids of the models that it prunes, quantizes or shrinks otherwise.")
    analyses: Unique[Id] = Field([], description="Ids of the models that it studies.")
    evaluates_on: Unique[Id] = Field([], description="Ids of the data sets that it is evaluated on.")
    translates: Unique[Id] = Field([], description="Ids of the texts that it translates.")
    relates_to: Unique[Id] = Field([], description="Ids of entries that it belongs with in another way.")
    supersedes: Id | None = Field(None, description="Id of the entry that this one replaces.")
    renamed_to: Address | None = Field(None, description="Current address.")
    status: Literal["active", "archived", "gone", "renamed"] | None = Field(None, description="State as last seen.")
    archived_url: Address | None = Field(None, description="An archived copy that was seen to exist.")
    seed: SeedItem | None = Field(None, description="Section and number in the list of 2018 that this began with.")
    summary_en: SummaryEnglish | None = Field(None, description="One to three sentences in your own words.")
    summary_zh: SummaryChinese | None = Field(None, description="The same in Chinese, one to three sentences.")
    sources: Unique[Line] = Field([], description="Where each fact was seen; not shown on the page.")
    added: Date | None = Field(None, description="The day this entry was written, such as 2026-11-22.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not any(getattr(self, name) for name in self.identified_by):
            kind = type(self).__name__.lower()
            raise ValueError(f"a {kind} needs an identifier: {' or '.join(self.identified_by)}")
        return self

    @field_validator("and_others")
    @classmethod
    def _some_author(cls, value: bool, others: ValidationInfo) -> bool:
        if others.data.get("authors") == []:
            raise ValueError("is given without `authors`; list the names that are known")
        return value

    @field_validator("status")
    @classmethod
    def _new_address(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value == "renamed" and others.data.get("renamed_to", "wrong") is None:
            raise ValueError("'renamed' needs the field `renamed_to`, the current address")
        return value


class _Published(_Entry):
    """A resource that is published in a venue."""

    venue: Line | None = Field(None, description="Conference, journal or site, without the year.")
    venue_year: Year | None = Field(None, description="The venue's own year.")

    @field_validator("venue_year")
    @classmethod
    def _in_order(cls, value: int | None, others: ValidationInfo) -> int | None:
        if value is not None and value < others.data.get("year", value):
            raise ValueError(f"{value} is before `year`, {others.data['year']}: the year of first public appearance")
        return value


class Paper(_Published):
    """A scientific paper or preprint."""

    identified_by = ("arxiv", "doi", "url")

    kind: Literal["paper"]
    arxiv: Arxiv | None = Field(None, description='In quotes and without version: "1810.04805".')
    code: Unique[Address] = Field([], description="Addresses of its code.")
    for_language: Unique[Language] = Field([], description="Languages that the work is for, if not English.")
    reported: list[Table] = Field([], min_length=1, description="Results of its models, one table for each source.")

    @field_validator("arxiv")
    @classmethod
    def _first_year(cls, value: str | None, others: ValidationInfo) -> str | None:
        if value is not None and identifiers.arxiv_year(value) < others.data.get("year", 0):
            raise ValueError(
                f"{value!r} is of {identifiers.arxiv_year(value)}, before `year`, {others.data['year']}: "
                "`year` is the year of first public appearance, `venue_year` that of the venue"
            )
        return value


class Article(_Published):
    """A blog post, explanation, talk or discussion."""

    kind: Literal["article"]


class Repository(_Entry):
    """Source code."""

    identified_by = ("url",)

    kind: Literal["repository"]
    license: License | None = Field(None, description="SPDX id, or none-found.")
    implements: Unique[Id] = Field([], description="Ids of the papers or models that it implements.")
    last_commit: Date | None = Field(None, description="The day of the last commit that was seen.")


class Model(_Entry):
    """Trained weights.

    The facts that decide whether one can use them each need a source whose brackets name the field; see FACTS.
    """

    kind: Literal["model"]
    license: License | None = Field(None, description="SPDX id, or none-found.")
    implements: Unique[Id] = Field([], description="Ids of the papers or models that it implements.")
    base_model: Id | None = Field(None, description="Id of the model or paper whose weights it starts from.")
    parameters: Count | None = Field(None, description="Number of parameters, in digits.")
    layers: Count | None = Field(None, description="Number of Transformer layers.")
    hidden_size: Count | None = Field(None, description="Width of the hidden states.")
    context_length: Count | None = Field(None, description="Longest input, in tokens, special tokens included.")
    vocabulary_size: Count | None = Field(None, description="Number of tokens in the vocabulary.")
    tokenizer: Line | None = Field(None, description="Kind of tokenizer, such as WordPiece, lower case.")
    training_data: Unique[Line] = Field([], description="Names of the texts it was trained on, with sizes if stated.")
    for_language: Unique[Language] = Field([], description="Languages that the model is for.")
    formats: Unique[Format] = Field([], description="Formats in which the weights are offered.")
    reported: list[Table] = Field([], min_length=1, description="Its results, one table for each source.")


class Dataset(_Entry):
    """A data set or benchmark."""

    kind: Literal["dataset"]
    license: License | None = Field(None, description="SPDX id, or none-found.")
    splits: Unique[Split] = Field([], description="The splits that results may be of, such as dev_matched or test.")
    subsets: Unique[Line] = Field([], description="The parts that are scored on their own, such as languages.")


# The fields of a model that need a source naming them, with the word for them in the brackets of that source.
FACTS = {
    "base_model": "base model",
    "parameters": "parameters",
    "layers": "layers",
    "hidden_size": "hidden size",
    "context_length": "context length",
    "vocabulary_size": "vocabulary",
    "tokenizer": "tokenizer",
    "training_data": "training data",
    "formats": "formats",
}
# Fields that hold ids of other entries. `implements` says whose code or weights a resource provides.
LINKS = (
    *("implements", "base_model", "builds_on", "distils", "compresses", "analyses", "evaluates_on", "translates"),
    *("relates_to", "supersedes"),
)

Entry = Paper | Article | Repository | Model | Dataset
MODELS: dict[Kind, type[Entry]] = {
    "paper": Paper,
    "article": Article,
    "repository": Repository,
    "model": Model,
    "dataset": Dataset,
}
FIELDS: tuple[str, ...] = tuple(dict.fromkeys(name for model in MODELS.values() for name in model.model_fields))


def json_schema() -> dict[str, Any]:
    """The JSON Schema of an entry (draft 2020-12), for editors.

    The kinds are distinguished by if/then rather than oneOf, so that an editor marks the one wrong line instead of
    saying that the file fits none of five schemas.
    """
    definitions: dict[str, Any] = {
        "tag": {"enum": list(vocabulary()["tags"])},
        "language": {"enum": list(vocabulary()["languages"])},
    }
    for kind, model in MODELS.items():
        definitions[kind] = _tidy(model.model_json_schema())
        definitions |= definitions[kind].pop("$defs", {})
        definitions[kind]["properties"]["tags"]["items"] = {"$ref": "#/$defs/tag"}
        definitions[kind]["properties"]["language"]["items"] = {"$ref": "#/$defs/language"}
        if "for_language" in definitions[kind]["properties"]:
            definitions[kind]["properties"]["for_language"]["items"] = {"$ref": "#/$defs/language"}
        definitions[kind]["anyOf"] = [{"required": [name]} for name in model.identified_by]
    for part, name, group in (("Figure", "metric", "metrics"), ("Table", "by", "reporters")):
        definitions[part]["properties"][name]["enum"] = list(vocabulary()[group])
    definitions["Table"]["properties"]["setting"]["items"] = {"enum": list(vocabulary()["settings"])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "An entry of the BERT Atlas catalog",
        "description": "Generated by `python -m catalog schema`; edit catalog/schema.py instead.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(KINDS)}},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in KINDS
        ],
        "$defs": definitions,
    }


def _tidy(schema: Any) -> Any:
    """A field that is not there is left out, never null: so null is not a choice, and no default is shown.

    Pydantic's titles go too: they only repeat the names of the fields.
    """
    if isinstance(schema, list):
        return [_tidy(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if {"type": "null"} in schema.get("anyOf", []):
        schema = {**schema["anyOf"][0], **schema}
        del schema["anyOf"]
    noise = {key for key in ("default", "title") if not isinstance(schema.get(key), dict)}  # a field may be so named
    return {key: _tidy(value) for key, value in schema.items() if key not in noise}


def written_schema() -> str:
    """``json_schema()`` as the text of entry.schema.json."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
