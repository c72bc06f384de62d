"""Metrics: values, signatures, and what is not a metric."""

import math
import random
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.examples import WordExample
from harness.data.kinds import KINDS
from harness.data.read import read_split
from harness.data.task import load_task
from harness.errors import BadInput, Failure
from harness.statistics.metrics import METRICS, Answers, Score, features, score

RTE = ("entailment", "not_entailment")
GOLD = ["entailment"] * 6 + ["not_entailment"] * 4
PREDICTED = ["entailment"] * 5 + ["not_entailment"] * 3 + ["entailment"] * 2
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def value(kind: str, metric: str, gold: Sequence[Any], predicted: Sequence[Any], **options: Any) -> float:
    return one(kind, metric, gold, predicted, **options).value


def one(kind: str, metric: str, gold: Sequence[Any], predicted: Sequence[Any], **options: Any) -> Score:
    settings: dict[str, Any] = {"task": "rte", "split": "dev", "labels": RTE, "draws": 500} | options
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return score(kind, [metric], gold, predicted, **settings)[0]


# Values worked out by hand. Of GOLD and PREDICTED: 5 and 2 are right, 1 entailment and 2 others are wrong.


def test_classification_by_hand() -> None:
    assert value("classification", "accuracy", GOLD, PREDICTED) == pytest.approx(0.7)
    assert value("classification", "f1", GOLD, PREDICTED, positive="entailment") == pytest.approx(10 / 13)
    assert value("classification", "f1", GOLD, PREDICTED, positive="not_entailment") == pytest.approx(4 / 7)
    assert value("classification", "macro_f1", GOLD, PREDICTED) == pytest.approx((10 / 13 + 4 / 7) / 2)
    assert value("classification", "micro_f1", GOLD, PREDICTED) == pytest.approx(0.7)
    matthews = (5 * 2 - 2 * 1) / math.sqrt(7 * 6 * 4 * 3)
    assert value("classification", "matthews", GOLD, PREDICTED) == pytest.approx(matthews)


def test_f1_of_one_among_three_labels() -> None:
    gold, predicted = ["a", "a", "b", "c"], ["a", "b", "b", "a"]
    assert value("classification", "f1", gold, predicted, labels="abc", positive="a") == pytest.approx(0.5)


def test_regression_by_hand() -> None:
    gold, predicted = [0.0, 1.0, 2.0, 5.0], [0.1, 0.2, 0.9, 0.5]
    assert value("regression", "spearman", gold, predicted) == pytest.approx(0.8)
    covariance, variances = 1.1, (14.0, 0.3875)  # sums about the means 2 and 0.425: of products, of squares
    assert value("regression", "pearson", gold, predicted) == pytest.approx(
        covariance / math.sqrt(math.prod(variances))
    )


def test_multi_label_by_hand() -> None:
    gold = [("joy",), ("joy", "fear"), ("anger",), ()]
    predicted = [("joy",), ("joy",), ("fear", "anger"), ("anger",)]
    labels = ("joy", "fear", "anger", "grief")
    assert value("multi-label", "micro_f1", gold, predicted, labels=labels) == pytest.approx(6 / 9)
    f1s = (1, 0, 2 / 3)  # grief does not occur
    assert value("multi-label", "macro_f1", gold, predicted, labels=labels) == pytest.approx(sum(f1s) / 3)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_multi_label_with_a_single_label(metric: str) -> None:
    gold, predicted = [("joy",), (), ("joy",)], [("joy",), ("joy",), ()]
    assert value("multi-label", metric, gold, predicted, labels=("joy",)) == pytest.approx(0.5)


def test_entities_by_hand() -> None:
    gold = [("B-PER", "I-PER", "O", "B-LOC"), ("B-LOC", "B-LOC", "O")]
    predicted = [("B-PER", "I-PER", "O", "B-PER"), ("B-LOC", "I-LOC", "O")]
    assert value("tagging", "entity_f1", gold, predicted) == pytest.approx(2 * 1 / (4 + 3))


# A gold answer, an answer, whether they match and F1, as the official scripts say: 1.1, and 2.0 where it differs.
ANSWERS: list[tuple[tuple[str, ...], str, float, float]] = [
    (("Jan Moor",), "Jan Moor", 1, 1),
    (("Jan Moor",), "the  jan moor.", 1, 1),
    (("Jan Moor",), "Jan", 0, 2 / 3),
    (("Jan", "Jan Moor of Orle"), "Jan Moor", 0, 2 / 3),
    (("in 1726",), "1726, in winter", 0, 4 / 5),
    (("a b b",), "b b b", 0, 4 / 5),
    (("U.S.",), "US", 1, 1),
    (("twenty-five",), "twenty five", 0, 0),
    (("mill",), "", 0, 0),
    (("The",), "an", 1, 0),  # by the script of 1.1; a task with unanswerable questions reads ("",) for ("The",)
    (("",), "an", 1, 1),
    (("",), "", 1, 1),
    (("",), "mill", 0, 0),
]


@pytest.mark.parametrize(("gold", "answer", "exact", "f1"), ANSWERS)
def test_answers_that_are_text(gold: tuple[str, ...], answer: str, exact: float, f1: float) -> None:
    assert value("question-answering", "exact", [gold], [answer]) == exact
    assert value("question-answering", "answer_f1", [gold], [answer]) == pytest.approx(f1)


# The same by the official script of CMRC 2018.
CHINESE: list[tuple[str, str, float, float]] = [
    ("南京市", "南京市。", 1, 1),
    ("南京市", "在南京市的", 0, 2 * 3 / 8),
    ("北京和南京", "南京和北京", 0, 2 * 2 / 10),
    ("《大公报》、《申报》", "大公报申报", 1, 1),
    ("1947年", "1947", 0, 2 / 3),
    ("Henry A. Walsh教授", "henry a. walsh", 0, 2 * 3 / 8),
    ("Walsh", "Walshe", 0, 0),
    ("共3,000人", "3,000", 0, 2 * 1 / 4),
    ("100%的人", "100", 0, 2 * 1 / 5),
    ("南京", "", 0, 0),
]


@pytest.mark.parametrize(("gold", "answer", "exact", "f1"), CHINESE)
def test_answers_in_chinese(gold: str, answer: str, exact: float, f1: float) -> None:
    assert value("question-answering", "cmrc_exact", [("零", gold)], [answer]) == exact
    assert value("question-answering", "cmrc_f1", [("零", gold)], [answer]) == pytest.approx(f1)


def test_scores_of_answers_are_means_over_questions() -> None:
    gold, answers = [each[0] for each in ANSWERS], [each[1] for each in ANSWERS]
    for metric, column in (("exact", 2), ("answer_f1", 3)):
        found = one("question-answering", metric, gold, answers)
        assert found.value == pytest.approx(sum(float(each[column]) for each in ANSWERS) / len(ANSWERS))
        assert 0 < found.low < found.value < found.high < 1
        assert found.signature.endswith("|rule:squad"), "which no library computes"
        none = METRICS[metric].baseline(Answers(gold, answers))
        assert none == value("question-answering", metric, gold, [""] * len(gold))


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([("a",)], [1.5], "prediction 1 is .*1.5.*, not text"),
        ([("a",)], [("a",)], "prediction 1 is .*, not text"),
        (["a"], ["a"], "gold answer 1 is 'a', not text"),
        ([()], ["a"], "gold answer 1 is .*, not text"),
        ([("a",)], ["a", "b"], "1 gold answers but 2 predictions"),
    ],
)
def test_what_is_no_answer(gold: Any, predicted: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        value("question-answering", "exact", gold, predicted)


def test_entity_type_may_contain_hyphens() -> None:
    gold, predicted = [("B-creative-work", "I-creative-work")], [("B-creative-work", "I-creative-work")]
    assert value("tagging", "entity_f1", gold, predicted) == 1
    assert value("tagging", "entity_f1", gold, [("B-creative-art", "I-creative-art")]) == 0


def test_ill_formed_tags_count_as_in_conlleval() -> None:
    """An I- tag after another type, or after nothing, begins an entity; seqeval's strict mode would not have it."""
    assert value("tagging", "entity_f1", [("B-PER", "I-PER", "O")], [("I-PER", "I-PER", "O")]) == 1
    assert value("tagging", "entity_f1", [("B-PER", "B-LOC")], [("B-PER", "I-LOC")]) == 1
    assert value("tagging", "entity_f1", [("B-PER", "B-PER")], [("B-PER", "I-PER")]) == 0


def conlleval(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """FB1 of all phrases by conlleval's rules: one pass over the words, a boundary after each sentence."""
    correct = in_gold = found = 0
    both_inside = False  # in a phrase that began at the same word with the same type in both
    previous = ("O", "O")
    for words in zip(gold, predicted, strict=True):
        for pair in (*zip(*words, strict=True), ("O", "O")):
            ended = [ends(before, tag) for before, tag in zip(previous, pair, strict=True)]
            began = [begins(before, tag) for before, tag in zip(previous, pair, strict=True)]
            if both_inside and all(ended):
                correct += 1
            if any(ended):
                both_inside = False
            if all(began):
                both_inside = pair[0][2:] == pair[1][2:]
            elif any(began):
                both_inside = False
            in_gold += began[0]
            found += began[1]
            previous = pair
    precision, recall = correct / found if found else 0.0, correct / in_gold if in_gold else 0.0
    return 2 * precision * recall / (precision + recall) if correct else 0.0


def begins(before: str, tag: str) -> bool:
    """A phrase begins at B, and at I after O or after another type."""
    return tag[0] == "B" or (tag[0] == "I" and (before == "O" or before[2:] != tag[2:]))


def ends(before: str, tag: str) -> bool:
    """A phrase ends before O, before B, and before another type."""
    return before != "O" and (tag[0] in "OB" or before[2:] != tag[2:])


def test_conlleval_of_the_test_by_hand() -> None:
    gold, predicted = [("B-PER", "I-PER", "O", "B-LOC"), ("B-LOC",)], [("I-PER", "I-PER", "O", "I-PER"), ("I-LOC",)]
    assert conlleval(gold, predicted) == pytest.approx(2 / 3)
    assert conlleval([("B-PER", "O")], [("B-PER", "I-PER")]) == 0


pairs_of_tags = st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS))
ill_formed_too = st.lists(st.lists(pairs_of_tags, min_size=1, max_size=8), min_size=1, max_size=4)


@given(ill_formed_too)
def test_entity_f1_is_conllevals(sentences: list[list[tuple[str, str]]]) -> None:
    gold = [tuple(tag for tag, _ in sentence) for sentence in sentences]
    predicted = [tuple(tag for _, tag in sentence) for sentence in sentences]
    assert value("tagging", "entity_f1", gold, predicted, draws=1) == pytest.approx(
        conlleval(gold, predicted), abs=1e-12
    )


def test_entity_f1_is_conllevals_on_conll2003(data_folder: Path) -> None:
    sentences = read_split(load_task("conll2003"), "dev", data_folder)
    gold = [sentence.tags for sentence in sentences if isinstance(sentence, WordExample) and sentence.tags]
    noise = random.Random(0)
    predicted = [tuple(tag if noise.random() < 0.9 else noise.choice(TAGS) for tag in tags) for tags in gold]
    assert sum(tag[0] == "B" for tags in gold for tag in tags) == 5942
    result = one("tagging", "entity_f1", gold, predicted)
    assert result.value == pytest.approx(conlleval(gold, predicted), abs=1e-12)
    assert result.low < result.value < result.high


def test_signature_says_what_the_value_depends_on() -> None:
    sklearn, seqeval, scipy = (version(package) for package in ("scikit-learn", "seqeval", "scipy"))
    names = ["accuracy", "f1"]
    accuracy, f1 = score("classification", names, GOLD, PREDICTED, task="rte", split="dev", labels=RTE, positive=RTE[0])
    start = "task:rte|split:dev|n:10|ci:bootstrap95x10000|seed:0"
    assert accuracy.signature == f"accuracy|{start}|sklearn:{sklearn}"
    assert f1.signature == f"f1|{start}|positive:entailment|sklearn:{sklearn}"
    start = start.replace("10000", "500").replace("n:10", "n:2").replace("seed:0", "seed:7")
    entity = one("tagging", "entity_f1", [("O",), ("O",)], [("O",), ("O",)], seed=7, extra=["select=dev", "a=b"])
    settings = f"scheme:IOB2|mode:conlleval|avg:micro|seqeval:{seqeval}"
    assert entity.signature == f"entity_f1|{start}|{settings}|select=dev|a=b"
    assert one("regression", "pearson", [1.0, 2.0], [1.0, 3.0], seed=7).signature == f"pearson|{start}|scipy:{scipy}"


def test_signature_of_macro_f1_names_the_labels_that_the_mean_leaves_out() -> None:
    gold = [("joy",), ("joy", "fear"), ("anger",), ()]
    predicted = [("joy",), ("joy",), ("fear", "anger"), ("anger",)]
    labels = ("grief", "joy", "fear", "anger", "envy")
    settings = one("multi-label", "macro_f1", gold, predicted, labels=labels).signature.split("|")
    assert settings[-2] == "without:grief,envy"
    for present in (
        one("multi-label", "macro_f1", gold, predicted, labels=labels[1:4]),
        one("multi-label", "micro_f1", gold, predicted, labels=labels),
        one("classification", "macro_f1", GOLD, GOLD[:1] * 10),
    ):
        assert "without" not in present.signature


def test_same_seed_same_interval() -> None:
    assert one("classification", "matthews", GOLD, PREDICTED) == one("classification", "matthews", GOLD, PREDICTED)


PERFECT: list[tuple[str, Sequence[Any]]] = [
    ("classification", GOLD),
    ("regression", [1.0, 2.5, 4.0, 4.0, 0.0, 1.5, 2.0, 3.5]),
    ("multi-label", [("entailment",), RTE, ("not_entailment",), (), RTE]),
    ("tagging", [("B-PER", "O"), ("O",), ("B-LOC", "I-LOC"), ("O", "B-PER")] * 5),
]


@pytest.mark.parametrize(("kind", "gold"), PERFECT)
def test_all_correct_is_one_without_doubt(kind: str, gold: Sequence[Any]) -> None:
    for metric in KINDS[kind].metrics:
        result = one(kind, metric, gold, gold, positive=RTE[0])
        assert (result.value, result.low, result.high) == pytest.approx((1, 1, 1))
        assert result.n == len(gold)


@pytest.mark.parametrize(("kind", "gold"), PERFECT)
def test_one_example_gives_finite_numbers(kind: str, gold: Sequence[Any]) -> None:
    for metric in KINDS[kind].metrics:
        result = one(kind, metric, gold[:1], gold[:1], positive=RTE[0])
        assert result.low == result.value == result.high
        assert result.value == (0 if metric in ("matthews", "pearson", "spearman") else 1)


def test_constant_predictions_score_zero_where_undefined() -> None:
    assert value("classification", "matthews", GOLD, ["entailment"] * 10) == 0
    for metric in ("pearson", "spearman"):
        result = one("regression", metric, [0.1, 0.2, 0.7], [0.3, 0.3, 0.3])
        assert (result.value, result.low, result.high) == (0, 0, 0)


def test_nothing_to_find_and_nothing_found_is_zero() -> None:
    assert value("tagging", "entity_f1", [("O", "O")], [("O", "O")]) == 0
    assert value("multi-label", "macro_f1", [(), ()], [(), ()]) == 0
    assert value("multi-label", "micro_f1", [(), ()], [(), ()]) == 0
    assert value("classification", "f1", ["b", "b"], ["b", "b"], labels="ab", positive="a") == 0


# Bad inputs


def test_different_lengths() -> None:
    with pytest.raises(BadInput, match=r"rte dev: 10 gold answers but 9 predictions"):
        value("classification", "accuracy", GOLD, PREDICTED[1:])


def test_empty() -> None:
    with pytest.raises(BadInput, match="no example"):
        value("regression", "pearson", [], [])


def test_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(BadInput, match=r"'bleu'.*accuracy, f1"):
        value("classification", "bleu", GOLD, PREDICTED)
    with pytest.raises(BadInput, match="pearson"):
        value("classification", "pearson", GOLD, PREDICTED)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_score_that_is_no_number(bad: float) -> None:
    with pytest.raises(Failure, match=r"rte dev: prediction 2 is (nan|inf), not a finite number"):
        value("regression", "pearson", [0.0, 1.0], [1.0, bad])


def test_label_that_the_task_does_not_have() -> None:
    with pytest.raises(BadInput, match=r"prediction 1 is 'LABEL_0'.*entailment, not_entailment"):
        value("classification", "accuracy", GOLD, ["LABEL_0", *PREDICTED[1:]])
    with pytest.raises(BadInput, match="gold answer 2 is 'hope'"):
        value("multi-label", "micro_f1", [("fear",), ("fear", "hope")], [(), ()], labels=("fear",))


def test_f1_without_positive_label() -> None:
    with pytest.raises(BadInput, match="positive"):
        value("classification", "f1", GOLD, PREDICTED)


def test_tags_that_do_not_fit_name_the_sentence() -> None:
    with pytest.raises(BadInput, match="sentence 2 has 3 words but 2 predicted tags"):
        value("tagging", "entity_f1", [("O",), ("O", "O", "O")], [("O",), ("O", "O")])
    with pytest.raises(BadInput, match="prediction of sentence 1 has the tag 'LABEL_3'"):
        value("tagging", "entity_f1", [("O",)], [("LABEL_3",)])


# Baselines and degenerate predictions


def baseline(metric: str, gold: Sequence[Any], positive: str | None = None) -> float:
    return METRICS[metric].baseline(Answers(gold, gold, positive=positive))


def constant_answers(kind: str, gold: Sequence[Any], labels: Sequence[str]) -> list[Any]:
    if kind == "classification":
        return list(labels)
    return [tuple(name for bit, name in enumerate(labels) if which >> bit & 1) for which in range(2 ** len(labels))]


@pytest.mark.parametrize(
    ("kind", "metric"),
    [(kind, metric) for kind in ("classification", "multi-label") for metric in KINDS[kind].metrics],
)
@pytest.mark.parametrize("seed", range(5))
def test_baseline_is_the_best_constant_answer(kind: str, metric: str, seed: int) -> None:
    draw = random.Random(seed)
    gold: list[Any]
    if kind == "classification":
        gold = draw.choices("abc", weights=[1, 3, 5], k=30)
    else:
        shares = zip("abc", (0.1, 0.4, 0.6), strict=True)
        columns = [[(name,) if draw.random() < share else () for _ in range(30)] for name, share in shares]
        gold = [sum(row, ()) for row in zip(*columns, strict=True)]
    scores = [
        value(kind, metric, gold, [answer] * len(gold), labels="abc", positive="a", draws=1)
        for answer in constant_answers(kind, gold, "abc")
    ]
    assert baseline(metric, gold, "a") == pytest.approx(max(scores))


def test_baseline_of_mrpc() -> None:
    """68.4 and 81.2 are what a model that has learned nothing is known by on MRPC's 279 and 129 dev examples."""
    gold = ["equivalent"] * 279 + ["not_equivalent"] * 129
    assert baseline("accuracy", gold, "equivalent") == pytest.approx(0.684, abs=5e-4)
    assert baseline("f1", gold, "equivalent") == pytest.approx(0.812, abs=5e-4)


def test_baseline_without_anything_to_guess() -> None:
    assert baseline("spearman", [1.0, 2.0], None) == 0
    assert baseline("entity_f1", [("B-PER",)], None) == 0
    assert baseline("micro_f1", [(), ()], None) == 0


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
def test_a_label_that_an_answer_names_twice_counts_once_in_the_baseline(metric: str) -> None:
    once, twice = [("a",), ("b",), ("b",), ("b",)], [("a", "a"), ("b",), ("b",), ("b",)]
    assert baseline(metric, twice) == baseline(metric, once)


DEGENERATE: list[tuple[str, Sequence[Any], Sequence[Any], str]] = [
    ("classification", GOLD, ["entailment"] * 10, "entailment is predicted for every example"),
    ("classification", GOLD, [*GOLD[:2], *GOLD[:1:-1]], "accuracy is 0.200, and always answering entailment"),
    ("classification", list("aab"), list("aba"), "accuracy is 0.333, and always answering a would give 0.667"),
    ("classification", list("aab"), list("abb"), "accuracy is 0.667, and always answering a would give 0.667"),
    ("regression", [1.0, 2.0], [3.25, 3.25], r"all scores are equal \(3.25\)"),
    ("multi-label", [("a",), ("b",)], [("b", "a"), ("a", "b")], r"same labels \(a, b\)"),
    ("multi-label", [("a",), ("b",)], [(), ()], r"same labels \(none\)"),
    ("tagging", [("B-PER",), ("O",)], [("O",), ("O",)], "no entity"),
]


@pytest.mark.parametrize(("kind", "gold", "predicted", "sentence"), DEGENERATE)
def test_degenerate_predictions_are_told(kind: str, gold: Any, predicted: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        assert KINDS[kind].degenerate(gold, predicted) is None, KINDS[kind].degenerate(gold, predicted)


@pytest.mark.parametrize(("kind", "gold"), PERFECT)
def test_good_predictions_are_not_degenerate(kind: str, gold: Sequence[Any]) -> None:
    assert KINDS[kind].degenerate(gold, gold) is None


def test_features_are_those_of_each_example() -> None:
    assert features("classification", "accuracy", GOLD, PREDICTED, labels=RTE).sum(axis=0).tolist() == [7]
    f1 = features("classification", "f1", GOLD, PREDICTED, labels=RTE, positive="entailment")
    assert f1.sum(axis=0).tolist() == [5, 7, 6]  # correct, predicted, in gold
    assert features("tagging", "entity_f1", [("B-PER", "O"), ("O",)], [("B-PER", "B-PER"), ("O",)]).tolist() == [
        [1, 2, 1],
        [0, 0, 0],
    ]
