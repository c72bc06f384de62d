"""Tags of every scheme become IOB2, and tags that a scheme does not allow are read as conlleval reads them."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from harness.data.examples import WordExample
from harness.data.read import read_split
from harness.data.reading import Scheme
from harness.data.tags import PREFIXES
from harness.data.task import Task, load_task
from harness.errors import BadInput
from harness.statistics.metrics import score
from tests.harness.splits import own_task, repairs

Chunk = tuple[int, int, str]  # first word, one past the last, type


def tagged(folder: Path, *sentences: str, **fields: Any) -> Task:
    """A tagging task whose file has these sentences of tags, and an untagged one before them."""
    lines = (["w O\n"], *([f"w{i} {tag}\n" for i, tag in enumerate(tags.split())] for tags in sentences))
    return own_task(folder, "\n".join("".join(each) for each in lines), kind="tagging", **fields)


def iob2(task: Task) -> list[str]:
    """The tags of each sentence but the first."""
    return [" ".join(each.tags or ()) for each in read_split(task, "train", None)[1:] if isinstance(each, WordExample)]


@pytest.mark.parametrize(
    ("scheme", "tags", "wanted"),
    [
        ("iob2", "B-PER I-PER B-PER O B-LOC", "B-PER I-PER B-PER O B-LOC"),
        ("iob1", "I-PER I-PER B-PER O I-LOC I-PER", "B-PER I-PER B-PER O B-LOC B-PER"),
        ("iob", "I-PER B-PER O B-LOC I-PER I-PER", "B-PER B-PER O B-LOC B-PER I-PER"),
        ("bmes", "B-PER M-PER E-PER S-PER O B-LOC E-LOC", "B-PER I-PER I-PER B-PER O B-LOC I-LOC"),
        ("bmes", "B-PER I-PER E-PER S-LOC S-LOC", "B-PER I-PER I-PER B-LOC B-LOC"),
        ("bioes", "B-PER I-PER E-PER B-PER E-PER S-LOC", "B-PER I-PER I-PER B-PER I-PER B-LOC"),
        ("bilou", "B-PER I-PER L-PER B-PER L-PER U-LOC", "B-PER I-PER I-PER B-PER I-PER B-LOC"),
    ],
)
def test_schemes_become_iob2_and_nothing_is_repaired(tmp_path: Path, scheme: str, tags: str, wanted: str) -> None:
    task = tagged(tmp_path, tags, scheme=scheme, tags="strict")
    assert iob2(task) == [wanted]
    assert repairs(task) == []


# ---- sequences that a scheme does not allow ----

IMPOSSIBLE = [  # scheme, tags, the line of the first that is impossible, what is said of it, what conlleval reads
    ("iob2", "O I-PER", 4, "I-PER cannot follow O in iob2", "O B-PER"),
    ("iob2", "B-LOC I-PER I-PER", 4, "I-PER cannot follow B-LOC in iob2", "B-LOC B-PER I-PER"),
    ("iob1", "B-PER", 3, "B-PER cannot follow O in iob1", "B-PER"),
    ("bmes", "O B-PER O", 5, "O cannot follow B-PER in bmes", "O B-PER O"),
    ("bmes", "B-PER M-PER O", 5, "O cannot follow M-PER in bmes", "B-PER I-PER O"),
    ("bmes", "O E-PER", 4, "E-PER cannot follow O in bmes", "O B-PER"),
    ("bmes", "B-PER E-LOC", 4, "E-LOC cannot follow B-PER in bmes", "B-PER B-LOC"),
    ("bmes", "S-PER M-PER", 4, "M-PER cannot follow S-PER in bmes", "B-PER B-PER"),
    ("bmes", "B-PER B-PER E-PER", 4, "B-PER cannot follow B-PER in bmes", "B-PER B-PER I-PER"),
    ("bioes", "B-PER E-PER E-PER", 5, "E-PER cannot follow E-PER in bioes", "B-PER I-PER B-PER"),
    ("bioes", "I-PER S-PER I-PER", 3, "I-PER cannot follow O in bioes", "B-PER B-PER B-PER"),
    ("bilou", "U-PER L-PER I-PER", 4, "L-PER cannot follow U-PER in bilou", "B-PER B-PER B-PER"),
    ("bmes", "O B-PER", 4, "O cannot follow B-PER in bmes", "O B-PER"),  # the sentence ends inside the entity
]


@pytest.mark.parametrize(("scheme", "tags", "line", "message", "wanted"), IMPOSSIBLE)
def test_impossible_tags_are_read_as_conlleval_does_and_counted(
    tmp_path: Path, scheme: str, tags: str, line: int, message: str, wanted: str
) -> None:
    task = tagged(tmp_path, tags, scheme=scheme)
    assert iob2(task) == [wanted]
    [(what, count, first)] = repairs(task)
    assert what == f"tags that cannot follow the one before in {scheme}, read as conlleval does"
    assert first == f"data:{line}"
    assert count >= 1


@pytest.mark.parametrize(("scheme", "tags", "line", "message", "wanted"), IMPOSSIBLE)
def test_a_strict_task_refuses_them(
    tmp_path: Path, scheme: str, tags: str, line: int, message: str, wanted: str
) -> None:
    with pytest.raises(BadInput, match=f"data:{line}: the tag, column -1: {message}"):
        read_split(tagged(tmp_path, tags, scheme=scheme, tags="strict"), "train", None)


def test_each_impossible_tag_is_counted_once(tmp_path: Path) -> None:
    task = tagged(tmp_path, "B-PER I-PER O I-LOC", "I-LOC I-LOC B-LOC I-PER")
    assert [(count, first) for _, count, first in repairs(task)] == [(3, "data:6")]


def test_types_with_one_name_are_still_two_entities(tmp_path: Path) -> None:
    task = tagged(tmp_path, "B-nr I-nr I-ns", labels={"nr": "NAME", "ns": "NAME"})
    assert iob2(task) == ["B-NAME I-NAME B-NAME"]


def chunks(tags: list[str]) -> set[Chunk]:
    """The entities that conlleval finds, by its published rules: where one begins, and where one ends."""
    found, start = set(), 0
    same = {"M": "I", "L": "E", "U": "S"}  # which other schemes have for what conlleval knows
    parts = [(same.get(tag[0], tag[0]), tag[2:]) for tag in ["O", *tags, "O"]]
    for place, ((last, before), (prefix, entity)) in enumerate(pairwise(parts)):
        changes = before != entity
        ends = last in "ES" or (last in "BI" and prefix in "BSO") or (last != "O" and changes)
        begins = prefix in "BS" or (last in "ESO" and prefix in "EI") or (prefix != "O" and changes)
        if ends and last != "O":
            found.add((start, place, before))
        if begins:
            start = place
    return found


def random_tags(rng: random.Random, scheme: str) -> list[list[str]]:
    known = ["O", *(f"{p}-{entity}" for p in PREFIXES[scheme] if p != "O" for entity in ("PER", "LOC", "A-B"))]
    return [rng.choices(known, k=rng.randint(1, 9)) for _ in range(40)]


def read_back(folder: Path, sentences: list[list[str]], scheme: str) -> list[list[str]]:
    task = tagged(folder, *map(" ".join, sentences), scheme=scheme, labels=["PER", "LOC", "A-B"])
    return [each.split() for each in iob2(task)]


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_random_tags_hold_the_entities_that_conlleval_finds(tmp_path: Path, scheme: str) -> None:
    rng = random.Random(scheme)
    for _ in range(5):
        raw = random_tags(rng, scheme)
        read = read_back(tmp_path, raw, scheme)
        assert [chunks(tags) for tags in read] == [chunks(tags) for tags in raw]
        for tags in read:  # and the tags are sound IOB2
            assert all(tag[0] != "I" or before[2:] == tag[2:] for before, tag in pairwise(["O", *tags]))


@pytest.mark.parametrize("scheme", get_args(Scheme))
def test_entity_f1_is_that_of_the_raw_tags(tmp_path: Path, scheme: str) -> None:
    rng = random.Random(f"f1 {scheme}")
    raw = random_tags(rng, scheme)
    other = [[tag if rng.random() < 0.6 else rng.choice(tags) for tag in tags] for tags in raw]
    found = [read_back(tmp_path, each, scheme) for each in (raw, other)]
    [metric] = score("tagging", ["entity_f1"], *found, task="t", split="dev", labels=(), draws=10)
    right = sum(len(chunks(a) & chunks(b)) for a, b in zip(raw, other, strict=True))
    assert metric.value == pytest.approx(2 * right / sum(len(chunks(tags)) for tags in [*raw, *other]))
    assert 0.2 < metric.value < 0.9


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "iob", "bioes"])
def test_seqeval_finds_the_same_entities_where_it_knows_the_prefixes(tmp_path: Path, scheme: str) -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    raw = random_tags(random.Random(f"seqeval {scheme}"), scheme)
    for tags, read in zip(raw, read_back(tmp_path, raw, scheme), strict=True):
        assert {(start, end + 1, entity) for entity, start, end in get_entities(tags)} == chunks(read)


@pytest.mark.parametrize("name", ["conll2003", "wnut17", "msra_ner", "mini-ner"])
def test_the_built_in_sets_need_no_repair(data_folder: Path, name: str) -> None:
    from harness.data.read import read

    task = load_task(name)
    assert not any(read(task, split, data_folder).repairs for split in task.files)


# ---- tags that are written otherwise ----


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ("b-per i-PER o B-Loc", "B-PER I-PER O B-LOC"),
        ("B_PER I_PER O", "B-PER I-PER O"),
        ("Ｂ－ＰＥＲ Ｏ", "B-PER O"),
        ("B\u2013PER I\u2010PER", "B-PER I-PER"),
    ],
)
def test_other_letters_are_read_where_one_tag_alone_can_be_meant(tmp_path: Path, tags: str, wanted: str) -> None:
    task = tagged(tmp_path, tags)
    assert iob2(task) == [wanted]
    assert [what for what, _, _ in repairs(task)] == [
        "tags in other letters, such as b-loc or B_LOC for B-LOC, read as those of the task"
    ]
    with pytest.raises(BadInput, match=r"data:\d: the tag, column -1: "):
        read_split(tagged(tmp_path, tags, tags="strict"), "train", None)


def test_tags_without_a_type_are_of_the_only_one_that_there_is(tmp_path: Path) -> None:
    task = tagged(tmp_path, "B I O B", labels=["DISEASE"])
    assert iob2(task) == ["B-DISEASE I-DISEASE O B-DISEASE"]
    assert [(what, count) for what, count, _ in repairs(task)] == [
        ("tags without a type, read as of the task's only one", 3)
    ]
    with pytest.raises(BadInput, match=r"data:3: the tag, column -1: it has no entity type; write one behind it"):
        read_split(tagged(tmp_path, "B I O B", labels=["DISEASE"], tags="strict"), "train", None)
    with pytest.raises(BadInput, match=r"it has no entity type; write one behind it, as in B-PER"):
        read_split(tagged(tmp_path, "B I O B", labels=["PER", "LOC"]), "train", None)


@pytest.mark.parametrize(
    ("tag", "labels", "what"),
    [
        ("B-PER\u200b", ["PER"], "in characters that cannot be seen"),
        ("B-PER\u00a0", ["PER"], "in white space"),
        ("B-cafe\u0301", ["caf\u00e9"], "in their Unicode form"),
        ("B-caf\u00e9", ["cafe\u0301"], "in their Unicode form"),
    ],
)
def test_invisible_differences_of_a_tag_are_read_and_counted(
    tmp_path: Path, tag: str, labels: list[str], what: str
) -> None:
    task = own_task(tmp_path, f"w\t{tag}\n", kind="tagging", separator="tab", labels=labels)
    [example] = read_split(task, "train", None)
    assert isinstance(example, WordExample)
    assert example.tags == (f"B-{labels[0]}",)
    assert repairs(task) == [(f"tags that differ from those of the task only {what}, read as those", 1, "data:1")]


def test_types_that_differ_in_case_alone_are_two(tmp_path: Path) -> None:
    assert iob2(tagged(tmp_path, "b-loc B-LOC", labels=["loc", "LOC"])) == ["B-loc B-LOC"]
    with pytest.raises(BadInput, match="its entity type is not declared; task mine has loc, LOC"):
        read_split(tagged(tmp_path, "B-Loc", labels=["loc", "LOC"]), "train", None)


@pytest.mark.parametrize(
    ("scheme", "tag", "message"),
    [
        ("iob2", "PER", "no iob2 tag; they begin with B, I, O, as in B-PER. .* Write I-PER, and declare `scheme: iob`"),
        ("iob2", "S-PER", "no iob2 tag; they begin with B, I, O; S is one of bmes, bioes: is another scheme meant"),
        ("bmes", "U-PER", "no bmes tag; .*; U is one of bilou: is another scheme meant"),
        ("bilou", "S-PER", "no bilou tag; they begin with B, I, L, U, O; S is one of bmes, bioes"),
        ("iob2", "O-PER", "no iob2 tag"),
        ("iob2", "PER-B", "no iob2 tag; they begin with B, I, O, as in B-PER"),
        ("iob2", "0", "no iob2 tag; .*; this one is the digit 0"),
        ("iob2", "B-ORG", "its entity type is not declared; task mine has PER, LOC"),
        ("iob2", "b-org", "no iob2 tag|its entity type is not declared"),
        ("iob2", "B", "it has no entity type; write one behind it"),
        ("iob2", "B-", "its entity type is not declared"),
    ],
)
def test_what_is_no_tag_is_refused_with_the_reason(tmp_path: Path, scheme: str, tag: str, message: str) -> None:
    with pytest.raises(BadInput, match=f"data:3: the tag, column -1: {message}"):
        read_split(tagged(tmp_path, tag, scheme=scheme), "train", None)


def test_a_type_may_hold_hyphens_and_underscores(tmp_path: Path) -> None:
    task = tagged(tmp_path, "B-GPE-NAM I-GPE-NAM B-a_b", labels=["GPE-NAM", "a_b"])
    assert iob2(task) == ["B-GPE-NAM I-GPE-NAM B-a_b"]
    assert repairs(task) == []


def test_entity_types_are_renamed(tmp_path: Path) -> None:
    assert iob2(tagged(tmp_path, "B-nr I-nr", labels={"nr": "PER"})) == ["B-PER I-PER"]
