"""What the catalog's page narrows by, and the data of its script."""

import json
from pathlib import Path
from typing import Any

import pytest

from catalog.site import facets
from catalog.site.view import Language
from tests.catalog.conftest import Write
from tests.catalog.reported.test_tables import table
from tests.catalog.site.views import view_of


def data(entries: Path, language: Language = "en") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(facets.data(view_of(entries, language)))
    return found


def entry(entries: Path, name: str) -> dict[str, Any]:
    return next(each for each in data(entries)["entries"] if each["id"] == name)


def test_each_facet_has_the_values_of_the_entries(entries: Path, write: Write) -> None:
    write("bert", language="[en]", tags="[pretraining, ner, pytorch]")
    write("other", arxiv='"1901.00001"', year="2019", for_language="[zh]", tags="[pretraining]")
    write("code", "repository", license="MIT", tags="[pytorch]")
    found = data(entries)["facets"]
    assert {name: [value for value, _ in facet["values"]] for name, facet in found.items()} == {
        "kind": ["paper", "repository"],
        "task": ["ner"],
        "language": ["en", "zh"],
        "results": [],
        "year": ["2019", "2018"],
        "subject": ["pretraining"],
        "size": [],
        "license": ["MIT"],
        "framework": ["pytorch"],
    }
    assert {found[name]["parameter"] for name in ("task", "subject", "framework")} == {"tag"}
    assert entry(entries, "bert")["task"] == ["ner"]
    assert entry(entries, "other")["language"] == ["zh"], "the language that it is for"
    assert "license" not in entry(entries, "bert")


def test_values_have_names_in_both_languages(entries: Path, write: Write) -> None:
    write("code", "repository", license="none-found", tags="[ner]")
    for language, names in (("en", {"kind": "repository", "task": "Named entity recognition", "license": "none found"}),
                            ("zh", {"kind": "代码仓库", "task": "命名实体识别", "license": "未见许可证"})):  # fmt: skip
        found = data(entries, language)["facets"]
        assert {name: found[name]["values"][0][1] for name in names} == names


@pytest.mark.parametrize(
    ("parameters", "name"),
    [("1000", "50m"), ("50000000", "50m"), ("50000001", "150m"), ("110000000", "150m"), ("340000000", "500m"),
     ("500000001", "more")],
)  # fmt: skip
def test_a_model_is_in_one_class_of_size(parameters: str, name: str, entries: Path, write: Write) -> None:
    write("bert", "model", parameters=parameters, sources="['a/b@0123abc README.md:1 (parameters)']")
    assert entry(entries, "bert")["size"] == [name]


def test_data_sets_and_works_with_reported_results_are_found(entries: Path, write: Write) -> None:
    write("mnli", "dataset", title="MNLI", url="https://example.org/mnli", splits="[dev_matched]")
    write("bert", reported=table())
    write("plain", arxiv='"1901.00001"')
    assert {each["id"] for each in data(entries)["entries"] if each.get("results") == ["reported"]} == {"mnli", "bert"}


def test_an_entry_counts_the_entries_that_name_it_once(entries: Path, write: Write) -> None:
    write("bert")
    write("one", arxiv='"1901.00001"', builds_on="[bert]", relates_to="[bert]")
    write("two", arxiv='"1901.00002"', distils="[bert]")
    assert entry(entries, "bert")["links"] == 2
    assert "links" not in entry(entries, "one")


def test_a_hostile_title_is_only_data(entries: Path, write: Write) -> None:
    write("nasty", title="'</script><script>alert(1)</script> \"q\"'")
    assert entry(entries, "nasty")["title"] == '</script><script>alert(1)</script> "q"'
