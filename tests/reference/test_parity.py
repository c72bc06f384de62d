"""The reference computes what transformers computes: this file is the proof.

A hundred configurations are drawn with a fixed seed: sizes, activation, eps, lengths, padding, precision,
head, and on both sides the way attention is computed. Weights are random and go the way real ones do,
``save_pretrained`` of transformers to ``reference.load``. Compared are all hidden states, the pooled output,
logits and losses, and in float64 the gradients.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

import reference
from reference.checkpoint import hugging_face_names
from reference.heads import HEADS, IGNORE
from reference.model import Packed, attention, attention_as_in_the_paper, pack

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
DYNAMO = "inductor" if shutil.which("g++") else "eager"  # inductor needs a C++ compiler
DTYPES = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {"fp64": 1e-12, "fp32": 2e-5}  # largest difference
BF16_COSINE = 0.999
ATTENTIONS = {"fused": attention, "paper": attention_as_in_the_paper}
Save = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One configuration; the test's id names everything but the sizes."""

    number: int
    head: str | None
    precision: str
    padding: str  # none, right, left, holes
    layout: str  # input of our model: packed tokens, or the rectangle
    ours: str  # attention of our model
    theirs: str  # attention of transformers
    config: dict[str, Any]
    lengths: tuple[int, ...]

    def __str__(self) -> str:
        parts = (self.head or "bare", self.precision, self.padding, self.layout, self.ours, self.theirs)
        return "-".join((str(self.number), *parts, self.config["hidden_act"], f"longest{max(self.lengths)}"))


def draw(number: int) -> Case:
    """Case ``number``: heads and precisions alternate so that all pairs occur, the rest is random."""
    rng = np.random.default_rng(number)
    head = [None, *HEADS][number % (1 + len(HEADS))]
    paddings = ["none", "right", "left", "holes"]
    if head == "question-answering":
        paddings = ["none"]  # transformers includes padding in this loss
    elif head not in (None, "tagging", "masked-lm"):
        paddings.remove("left")  # transformers' heads pool the first column, which would be padding
    padding = str(rng.choice(paddings))
    layout = str(rng.choice(["packed", "padded"])) if padding in ("none", "right") else "padded"
    rows = int(rng.integers(1, 5))
    longest = 512 if number % 10 == 9 else int(rng.choice([1, 2, 7, 16, 33, 64]))
    if head == "question-answering":
        longest = max(longest, 2)  # for one token the loss and its gradient are 0
    lengths = [longest, *rng.integers(1, longest + 1, size=rows - 1).tolist()]
    heads = int(rng.choice([1, 2, 3, 4]))
    config = {
        "hidden_size": heads * int(rng.choice([4, 8, 16, 20])),
        "num_attention_heads": heads,
        "num_hidden_layers": int(rng.integers(1, 5)),
        "intermediate_size": int(rng.choice([5, 32, 100])),
        "hidden_act": str(rng.choice(["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
        "type_vocab_size": int(rng.choice([2, 3])),
        "max_position_embeddings": 512,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return Case(
        number=number,
        head=head,
        precision=["fp64", "fp64", "fp32", "fp32", "bf16"][number % 5],
        padding=padding,
        layout=layout,
        ours=str(rng.choice(list(ATTENTIONS))),
        theirs=str(rng.choice(["eager", "sdpa"])),
        config=config,
        lengths=tuple([longest] * rows if padding == "none" else lengths),
    )


CASES = [draw(number) for number in range(120)]
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_device = pytest.mark.parametrize("device", DEVICES)


@dataclass(frozen=True)
class Inputs:
    """A padded rectangle [B, S] and labels for the head."""

    ids: Tensor
    mask: Tensor
    segments: Tensor
    labels: dict[str, Tensor]  # named and padded as in transformers

    @classmethod
    def of(cls, case: Case, device: str) -> "Inputs":
        rng = np.random.default_rng(case.number)
        shape = (len(case.lengths), max(case.lengths))
        mask = np.stack([place(length, shape[1], case.padding, rng) for length in case.lengths])
        # From 1: in transformers token 0 is padding, and its embedding has no gradient.
        ids = rng.integers(1, 97, size=shape)
        segments = rng.integers(0, case.config["type_vocab_size"], size=shape)
        labels = draw_labels(case, mask, rng)

        def tensor(array: np.ndarray) -> Tensor:
            return torch.from_numpy(array).to(device)

        return cls(tensor(ids), tensor(mask), tensor(segments), {k: tensor(v) for k, v in labels.items()})

    def pack(self, layout: str) -> Packed:
        """As our model gets them. Where the rectangle is filled from the left, it is not needed."""
        if layout == "padded":
            return pack(self.ids, self.mask, self.segments)
        keep = self.mask.bool()
        return Packed.from_lengths(self.ids[keep], self.mask.sum(1).tolist(), self.segments[keep])


def place(length: int, width: int, padding: str, rng: np.random.Generator) -> np.ndarray:
    """Ones at the ``length`` real tokens of a row."""
    row = np.zeros(width, dtype=np.int64)
    if padding == "holes":
        row[rng.choice(width, length, replace=False)] = 1
        row[0] = 1  # transformers pools it
    else:
        row[width - length if padding == "left" else 0 :][:length] = 1
    return row


def draw_labels(case: Case, mask: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Labels by the names of transformers' arguments; IGNORE at padding and at some tokens."""
    rows = len(mask)

    def per_token(classes: int) -> np.ndarray:
        labels = np.where((mask == 1) & (rng.random(mask.shape) < 0.5), rng.integers(0, classes, mask.shape), IGNORE)
        first = mask[0].argmax()
        labels[0, first] = rng.integers(0, classes)  # the loss over no label is NaN
        return labels

    match case.head:
        case "pre-training":
            return {"labels": per_token(97), "next_sentence_label": rng.integers(0, 2, rows)}
        case "masked-lm":
            return {"labels": per_token(97)}
        case "classification":
            return {"labels": rng.integers(0, 3, rows)}
        case "regression":
            return {"labels": rng.normal(size=rows)}
        case "multi-label":
            return {"labels": rng.integers(0, 2, (rows, 4)).astype(float)}
        case "tagging":
            return {"labels": per_token(5)}
        case "question-answering":
            return {f"{end}_positions": rng.integers(0, mask.shape[1], rows) for end in ("start", "end")}
    return {}


def load_both(case: Case, device: str, save: Save) -> tuple[Any, Any]:
    """Our model and transformers' model, with the same weights."""
    theirs, folder = save(case.head, seed=case.number, attn_implementation=case.theirs, **case.config)
    ours: Any = reference.load(folder, case.head, device, case.precision)
    getattr(ours, "bert", ours).use_attention(ATTENTIONS[case.ours])
    return ours, theirs.to(device, DTYPES[case.precision])


def run_transformers(model: Any, case: Case, inputs: Inputs) -> dict[str, Tensor]:
    """By name: every hidden state [T, H], pooled output, logits and loss, as far as this head has them."""
    dtype = DTYPES[case.precision]
    labels = {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.labels.items()}
    rectangle = {"input_ids": inputs.ids, "attention_mask": inputs.mask, "token_type_ids": inputs.segments}
    output = model(**rectangle, **labels, output_hidden_states=True)
    keep = inputs.mask.bool()
    found = {f"hidden state {i}": state[keep] for i, state in enumerate(output.hidden_states)}
    bert = getattr(model, "bert", model)
    if bert.pooler is not None:
        first = inputs.mask.argmax(1)  # not always the first column
        found["pooled"] = bert.pooler(output.hidden_states[-1][torch.arange(len(first)), first].unsqueeze(1))
    match case.head:
        case None:
            return found
        case "pre-training":
            found |= {
                "words": output.prediction_logits[keep],
                "next sentence": output.seq_relationship_logits,
            }
        case "tagging" | "masked-lm":
            found["logits"] = output.logits[keep]
        case "question-answering":
            found["logits"] = torch.stack([output.start_logits, output.end_logits], dim=-1)[keep]
        case _:
            found["logits"] = output.logits
    return found | {"loss": output.loss}


def run_ours(model: Any, case: Case, inputs: Inputs) -> dict[str, Tensor]:
    """The same from our model."""
    batch = inputs.pack(case.layout)
    bert = getattr(model, "bert", model)
    states = bert.all_hidden_states(batch)
    found = {f"hidden state {i}": state for i, state in enumerate(states)}
    if bert.pooler is not None:
        found["pooled"] = bert.pooler(states[-1], batch)
    if case.head is None:
        return found
    logits = model(batch)
    keep = inputs.mask.bool()
    match case.head:
        case "pre-training":
            labels = (inputs.labels["labels"][keep], inputs.labels["next_sentence_label"])
            found |= {"words": logits[0], "next sentence": logits[1], "loss": model.loss(logits, labels)}
        case "question-answering":
            loss = model.loss(logits, batch, inputs.labels["start_positions"], inputs.labels["end_positions"])
            found |= {"logits": logits, "loss": loss}
        case "tagging" | "masked-lm":
            found |= {"logits": logits, "loss": model.loss(logits, inputs.labels["labels"][keep])}
        case _:
            found |= {"logits": logits, "loss": model.loss(logits, inputs.labels["labels"])}
    return found


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], precision: str) -> None:
    """Every value is within the precision's tolerance; in bf16, vectors have the same direction."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        actual = ours[name]
        assert actual.shape == expected.shape, name
        computed = reference.computed_precision(precision, actual.device.type)  # fp32 on a processor without bf16
        assert (actual.dtype, expected.dtype) == (DTYPES[computed], DTYPES[precision]), name
        if precision != "bf16":
            assert (actual - expected).abs().max().item() <= TOLERANCE[precision], name
        elif name != "loss":  # a scalar has no direction
            cosine = torch.cosine_similarity(actual.flatten().double(), expected.flatten().double(), dim=0)
            assert cosine.item() >= BF16_COSINE, name


@every_device
@every_case
@torch.no_grad()
def test_same_outputs(case: Case, device: str, save_with_transformers: Save) -> None:
    inputs = Inputs.of(case, device)
    ours, theirs = load_both(case, device, save_with_transformers)

    assert_close(run_ours(ours, case, inputs), run_transformers(theirs, case, inputs), case.precision)


@every_device
@pytest.mark.parametrize("case", [c for c in CASES if c.precision == "fp64" and c.head], ids=str)
def test_same_gradients(case: Case, device: str, save_with_transformers: Save) -> None:
    inputs = Inputs.of(case, device)
    ours, theirs = load_both(case, device, save_with_transformers)
    run_ours(ours.train(), case, inputs)["loss"].backward()
    run_transformers(theirs.train(), case, inputs)["loss"].backward()

    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    actual: dict[str, Tensor] = {}
    for name, parameter in ours.named_parameters():
        names = hugging_face_names(name)
        actual |= zip(names, parameter.grad.chunk(len(names)), strict=True)
    assert actual.keys() == expected.keys()
    ours_flat = torch.cat([actual[name].flatten() for name in expected])
    theirs_flat = torch.cat([gradient.flatten() for gradient in expected.values()])
    largest = theirs_flat.abs().max()
    assert largest > 1e-4
    assert (ours_flat - theirs_flat).abs().max() / largest <= 1e-10
    assert torch.cosine_similarity(ours_flat, theirs_flat, dim=0) > 1 - 1e-12


@every_device
@pytest.mark.parametrize("padding", ["none", "right", "left", "holes"])
@torch.no_grad()
def test_padded_is_transformers_with_zeros_at_padding(padding: str, device: str, save_with_transformers: Save) -> None:
    case = replace(CASES[0], head=None, padding=padding, lengths=(9, 9) if padding == "none" else (9, 4))
    inputs = Inputs.of(case, device)
    ours, theirs = load_both(case, device, save_with_transformers)

    hidden = ours.padded(inputs.ids, inputs.mask, inputs.segments)

    expected = theirs(inputs.ids, inputs.mask, inputs.segments).last_hidden_state
    torch.testing.assert_close(hidden, expected * inputs.mask.unsqueeze(-1), rtol=0, atol=TOLERANCE["fp64"])


@pytest.mark.slow
@every_device
@pytest.mark.parametrize("head", ["classification", "tagging"])
@torch.no_grad()
def test_compiled_is_the_same(head: str, device: str, save_with_transformers: Save) -> None:
    case = replace(CASES[0], head=head, padding="right", lengths=(11, 3, 6), layout="packed", ours="fused")
    inputs = Inputs.of(case, device)
    ours, theirs = load_both(case, device, save_with_transformers)

    torch.compiler.reset()
    counters.clear()
    logits = torch.compile(ours, backend=DYNAMO)(inputs.pack("packed"))

    assert counters["stats"]["unique_graphs"] > 0  # something was compiled
    expected = run_transformers(theirs, case, inputs)["logits"]
    torch.testing.assert_close(logits, expected, rtol=0, atol=TOLERANCE["fp64"])


def test_the_cases_cover_what_they_should() -> None:
    """Otherwise the file would prove less than it claims."""
    assert {(case.head, case.precision) for case in CASES} == {
        (head, precision) for head in (None, *HEADS) for precision in DTYPES
    }
    for ours in ATTENTIONS:
        for theirs in ("eager", "sdpa"):
            pair = [case for case in CASES if (case.ours, case.theirs) == (ours, theirs)]
            assert {case.padding for case in pair} == {"none", "right", "left", "holes"}
            assert {case.precision for case in pair} == set(DTYPES)
    assert {case.layout for case in CASES} == {"packed", "padded"}
    assert {case.config["hidden_act"] for case in CASES} == {"gelu", "gelu_new", "gelu_pytorch_tanh", "relu"}
    assert {case.config["layer_norm_eps"] for case in CASES} == {1e-12, 1e-5}
    assert {case.config["type_vocab_size"] for case in CASES} == {2, 3}
    assert {1, 512} <= {length for case in CASES for length in case.lengths}
