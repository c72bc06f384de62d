"""Checks of reported results across entries: data sets and their splits, doubles, names of models."""

from collections.abc import Iterator
from typing import Any

from catalog.load import Document, Place
from catalog.reported.tables import Figure, Result, Table, file_of, results
from catalog.schema import Dataset
from catalog.values import nearest


def check_reported(documents: list[Document]) -> None:
    """Record what is wrong between the results of all entries, at the line of each figure or table."""
    sets = {each.entry.id: each.entry for each in documents if isinstance(each.entry, Dataset)}
    kinds = {str(each.data.get("id")): str(each.data.get("kind")) for each in documents}
    _models(documents)
    seen: dict[tuple[Any, ...], tuple[Result, Document, Place]] = {}
    for document, place, table, figure, result in _figures(documents):
        if wrong := _wrong_data(figure, sets, kinds):
            document.wrong(wrong[1], (*place, wrong[0]))
        key = (*result.identity, file_of(table))
        first, where, at = seen.setdefault(key, (result, document, place))
        if at != place or where is not document:
            same = "the same" if first.value == result.value else f"{first.written}"
            document.wrong(
                f"{result.model} has {same} on it in {where.file.name}, line {where.lines[at]}, from the same source; "
                "remove one, or say in `condition`, `setting` or `statistic` how they differ",
                place,
            )


def disagreeing(rows: list[Result]) -> set[tuple[Any, ...]]:
    """The identities of which two sources report different values. Both are right to be here; readers are warned."""
    values: dict[tuple[Any, ...], set[Any]] = {}
    for row in rows:
        values.setdefault(row.identity, set()).add(row.value)
    return {identity for identity, found in values.items() if len(found) > 1}


def _figures(documents: list[Document]) -> Iterator[tuple[Document, Place, Table, Figure, Result]]:
    for document in documents:
        rows = iter(results([document.entry] if document.entry else []))
        for number, table in enumerate(getattr(document.entry, "reported", [])):
            for at, figure in enumerate(table.figures):
                yield document, ("reported", number, "figures", at), table, figure, next(rows)


def _wrong_data(figure: Figure, sets: dict[str, Dataset], kinds: dict[str, str]) -> tuple[str, str] | None:
    """The field of a figure that does not fit its data set, and why; None if all fit."""
    name = figure.dataset
    if name not in sets:
        if kinds.get(name) == "dataset":
            return None  # the problems of its file are reported there
        if name in kinds:
            return "dataset", f"{name!r} is a {kinds[name]}, not a data set"
        return (
            "dataset",
            f"there is no data set {name!r}{nearest(name, sets)}; `python -m catalog add` writes its entry",
        )
    known = sets[name]
    if not known.splits:
        return "dataset", f"the entry of {name!r} lists no splits; add `splits: [{figure.split}, ...]` to it"
    if figure.split not in known.splits:
        return "split", f"{name} has no split {figure.split!r}, only {', '.join(known.splits)}"
    if figure.subset is not None and figure.subset not in known.subsets:
        listed = f", only {', '.join(known.subsets)}" if known.subsets else ""
        return "subset", f"{name} has no subset {figure.subset!r}{listed}{nearest(figure.subset, known.subsets)}"
    return None


def _models(documents: list[Document]) -> None:
    """Check that a name is that of one model: of one entry, and of one size."""
    owners: dict[str, tuple[Document, Place]] = {}
    sizes: dict[str, tuple[str, str]] = {}
    for document in documents:
        for number, table in enumerate(getattr(document.entry, "reported", [])):
            place: Place = ("reported", number, "model")
            owner, at = owners.setdefault(table.model.casefold(), (document, place))
            if owner is not document:
                document.wrong(
                    f"{table.model!r} is a model of {owner.file.name} too (line {owner.lines[at]}); write its results "
                    "there, or a name that tells the two apart",
                    place,
                )
            if table.parameters is None:
                continue
            size, where = sizes.setdefault(
                table.model.casefold(), (table.parameters, f"{owner.file.name}, line {document.lines[place]}")
            )
            if size != table.parameters:
                document.wrong(
                    f"{table.parameters}, but {size} in {where}: two models need two names",
                    ("reported", number, "parameters"),
                )
