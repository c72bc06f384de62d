"""Fine-tuned by the harness's loop, the reference and transformers agree step by step.

From real weights (the MiniLM that the project installs), in float64, without dropout.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.implementations import reference as ours
from harness.implementations import transformers as theirs
from harness.port.batch import IGNORE, Batch, from_lists
from harness.worker.finetune import Training, predict
from reference.checkpoint import add_head, read, save
from reference.tokenizer import Tokenizer

REVIEWS = [
    ("The soup was warm and full of flavour.", "praise"),
    ("We waited an hour for cold noodles.", "blame"),
    ("A charming little place by the river.", "praise"),
    ("The waiter forgot our order twice.", "blame"),
    ("Best dumplings I have had in years!", "praise"),
    ("Overpriced, noisy and far too salty.", "blame"),
    ("It opens at noon on weekdays.", "neither"),
    ("The terrace has twelve tables.", "neither"),
    ("I would happily eat here every week.", "praise"),
    ("Never again: the fish smelled of bleach.", "blame"),
    ("They also sell tea in tins.", "neither"),
    ("Friendly staff, fair prices.", "praise"),
    ("My steak came back raw both times.", "blame"),
    ("The menu is printed on brown paper.", "neither"),
    ("What a lovely surprise this cafe was.", "praise"),
    ("Dirty glasses and a sticky floor.", "blame"),
    ("You can pay by card or in cash.", "neither"),
    ("The bread alone is worth the walk.", "praise"),
    ("Bland rice, limp greens, no apology.", "blame"),
    ("It moved here from Market Street.", "neither"),
]
SENTENCES = [
    "Ada/B-PER Lovelace/I-PER wrote/O to/O Charles/B-PER Babbage/I-PER ./O",
    "Rain/O is/O expected/O in/O Bergen/B-LOC tomorrow/O ./O",
    "Siemens/B-ORG opened/O a/O plant/O near/O Leipzig/B-LOC ./O",
    "The/O Danube/B-LOC flows/O through/O Vienna/B-LOC and/O Budapest/B-LOC ./O",
    "Marie/B-PER Curie/I-PER studied/O in/O Paris/B-LOC ./O",
    "Nothing/O of/O note/O happened/O ./O",
    "Toyota/B-ORG and/O Panasonic/B-ORG make/O batteries/O together/O ./O",
    "Dr/O Okonkwo/B-PER left/O the/O Red/B-ORG Cross/I-ORG in/O May/O ./O",
    "They/O sailed/O from/O Lisbon/B-LOC to/O Recife/B-LOC ./O",
    "Grace/B-PER Hopper/I-PER found/O a/O moth/O ./O",
    "Shares/O of/O Nokia/B-ORG fell/O ./O",
    "Our/O guide/O ,/O Tenzin/B-PER ,/O grew/O up/O in/O Lhasa/B-LOC ./O",
]
LABELS = {
    "classification": ["praise", "blame", "neither"],
    "tagging": ["O", "B-PER", "I-PER", "B-LOC", "B-ORG", "I-ORG"],
}
HELD_OUT = 4  # examples that are predicted, not trained on
STEPS = 20
RECIPE: dict[str, Any] = {
    "batch_size": 4,
    "learning_rate": 3e-4,
    "weight_decay": 0.01,
    "warmup": 0.1,
    "max_grad_norm": 1.0,
    "micro_batches": 1,
    "precision": "fp64",
}


def reviews(tokenizer: Tokenizer) -> tuple[Batch, np.ndarray]:
    encodings = tokenizer.encode_batch([text for text, _ in REVIEWS])
    labels = np.array([LABELS["classification"].index(label) for _, label in REVIEWS])
    return from_lists([e.ids for e in encodings], [e.segments for e in encodings]), labels


def tagged(tokenizer: Tokenizer) -> tuple[Batch, np.ndarray]:
    """The first piece of each word has the word's tag."""
    ids, labels = [], []
    for sentence in SENTENCES:
        pairs = [token.rsplit("/", 1) for token in sentence.split()]
        pieces = tokenizer.word_pieces([word for word, _ in pairs])
        ids.append([tokenizer.cls_id, *(piece for word in pieces for piece in word), tokenizer.sep_id])
        labels.append(IGNORE)
        for word, (_, tag) in zip(pieces, pairs, strict=True):
            labels += [LABELS["tagging"].index(tag)] + [IGNORE] * (len(word) - 1)
        labels.append(IGNORE)
    return from_lists(ids, [[0] * len(sequence) for sequence in ids]), np.array(labels)


@pytest.fixture(scope="module")
def folders(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """MiniLM under each head, with dropout off."""
    folders = {}
    for head, labels in LABELS.items():
        folders[head] = tmp_path_factory.mktemp(head)
        save(add_head(read(minilm_folder), head, labels, seed=7), folders[head], head)
        config = json.loads((folders[head] / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (folders[head] / "config.json").write_text(json.dumps(config))
    return folders


def fine_tune(model: Any, head: str, batch: Batch, labels: np.ndarray) -> tuple[list[float], np.ndarray]:
    """The loss of every step, and the logits of the held-out examples after the last one."""
    count = len(batch.lengths)
    train, held_out = np.arange(count - HELD_OUT), np.arange(count - HELD_OUT, count)
    train_labels = labels[batch.tokens_of(train) if head == "tagging" else train]
    losses: list[float] = []

    def note(**values: Any) -> None:
        losses.append(values["loss"])

    recipe = RECIPE | {"epochs": STEPS // -(-len(train) // RECIPE["batch_size"])}
    training = Training(model, batch.select(train), train_labels, head, recipe, seed=3)
    for _ in range(recipe["epochs"]):
        training.epoch(note)
    return losses, predict(model, batch.select(held_out), head, 1000, lambda **_: None)


@pytest.mark.slow
@pytest.mark.parametrize("head", list(LABELS))
def test_twenty_steps_of_fine_tuning_are_the_same(head: str, minilm_folder: Path, folders: dict[str, Path]) -> None:
    tokenizer = Tokenizer.from_folder(minilm_folder)
    batch, labels = reviews(tokenizer) if head == "classification" else tagged(tokenizer)

    our_losses, our_logits = fine_tune(ours.load(str(folders[head]), head, "cpu", "fp64"), head, batch, labels)
    their_model = theirs.load(str(folders[head]), head, "cpu", "fp64")
    their_losses, their_logits = fine_tune(their_model, head, batch, labels)

    assert len(our_losses) == STEPS
    assert our_losses[-1] < 0.7 * our_losses[0]  # training has an effect
    np.testing.assert_allclose(our_losses, their_losses, rtol=0, atol=1e-9)
    assert our_logits.dtype == np.float64
    np.testing.assert_allclose(our_logits, their_logits, rtol=0, atol=1e-9)
