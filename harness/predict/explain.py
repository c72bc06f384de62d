"""What a BERT computes for one sentence or pair, step by step, in float64: the data of a page that explains it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.data.task import load_task
from harness.errors import BadInput, ours
from harness.measure.deviations import DEVIATIONS, NONE, Bert
from harness.measure.parity import differences
from harness.port.batch import Array, Batch, from_lists
from harness.predict.arithmetic import parameters, products
from harness.weights.examine import check_fit
from harness.weights.find import find_weights
from reference.pretraining.masking import MASK, RANDOM, choose, how_many, replaced, vocabulary_of
from reference.pretraining.randomness import key
from reference.tokenizer import Encoding, Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reference import model

SCHEMA = 1
TEXT, PAIR = "Is the ferry late?", "The lockkeeper says it left at nine."
LONGEST = 64  # tokens: what is written grows with the square of their number
LENGTHS = (16, 128, 512)  # tokens, for which products are counted
PADDING = 7  # tokens added to the sentence, to show deviations that concern padding
EPOCHS, RATE = 6, 0.15  # how often the sentence is masked, and the share of its tokens
SEED = 2  # with it, all three things that masking does to a token occur in so few epochs
TASK = "mini-sentiment"  # whose recipe of fine-tuning is given
PATTERNS = ("previous", "same", "next", "separators")  # what a head may look at


def explain(text: str, pair: str | None = None, weights: str = "minilm-l6") -> dict[str, Any]:
    """All steps of the model for one text or pair, as values for JSON.

    BadInput for weights that cannot be used, and for texts without word pieces or of more than LONGEST tokens.
    """
    import torch

    from reference.checkpoint import build, read
    from reference.errors import CheckpointError

    found = find_weights(weights)
    folder = found.folder if found.folder.is_dir() else found.folder.parent  # a TensorFlow checkpoint is a file
    try:
        checkpoint, tokenizer = read(found.folder), Tokenizer.from_folder(folder)
    except (CheckpointError, ValueError, OSError) as error:
        raise ours(error) or BadInput(str(error)) from error
    config = checkpoint.config
    check_fit(asdict(config), tokenizer, folder, [])
    encoding = _encoded(tokenizer, text, pair, config)
    bert: Any = build(checkpoint, dtype=torch.float64)
    pooler = bert.pooler is not None
    with torch.inference_mode():
        seen = Seen(bert, encoding)
        padding = _padding(bert, encoding)
    tensors = {
        name.removeprefix("bert."): tensor.double()
        for name, tensor in checkpoint.tensors.items()
        if name.startswith("bert.")
    }
    models = {found.name: (config, pooler)}
    models.setdefault("bert-base", (type(config)(), True))  # the defaults are BERT-base's
    return {
        "schema": SCHEMA,
        "weights": {"name": found.name, "sha256": found.sha256},
        "configs": {name: asdict(each) for name, (each, _) in models.items()},
        "text": text,
        "pair": pair,
        "tokens": _tokens(bert, tokenizer, encoding, seen),
        "attention": [_rounded(layer, 3) for layer in seen.attention],
        "scores": [_rounded(layer, 2) for layer in seen.scores],
        "heads": [_patterns(layer, np.array(encoding.ids), tokenizer) for layer in seen.attention],
        "layers": seen.layers(),
        "padding": padding,
        "parameters": {name: parameters(*each) for name, each in models.items()},
        "arithmetic": [
            {"model": name, "tokens": length, "products": _products(each, length, with_pooler)}
            for name, (each, with_pooler) in models.items()
            for length in LENGTHS
            if length <= each.max_position_embeddings
        ],
        "masking": {"rate": RATE, "mask": MASK, "random": RANDOM, "epochs": _epochs(tokenizer, encoding)},
        "recipe": asdict(load_task(TASK).recipe(config.hidden_size)) | {"task": TASK},
        "deviations": _deviations(tensors, asdict(config), encoding),
    }


def _encoded(tokenizer: Tokenizer, text: str, pair: str | None, config: model.BertConfig) -> Encoding:
    """The text's tokens. BadInput where there are too few or too many."""
    if pair is not None and config.type_vocab_size < 2:
        raise BadInput("these weights know one kind of text only (type_vocab_size is 1); leave out --pair")
    for name, each in (("the text", text), ("--pair", pair)):
        if each is not None and not tokenizer.pieces([each])[0].ids:
            raise BadInput(f"{name} {each!r} has no word piece")
    longest = min(LONGEST, config.max_position_embeddings)
    encoding = tokenizer.encode(text, pair, max_length=10**6)  # never cut
    if len(encoding.ids) > longest:
        raise BadInput(
            f"{len(encoding.ids)} tokens, with [CLS] and [SEP]: at most {longest} are explained; give a shorter text"
        )
    return encoding


class Seen:
    """What passed through each layer of a model for one sequence of S tokens."""

    def __init__(self, bert: model.Bert, encoding: Encoding) -> None:
        self.scores: list[Array] = []  # of each layer, [heads, S, S], before the softmax
        self.attention: list[Array] = []  # the same after it: a token (row) attends to tokens (columns)
        self.updates: dict[str, list[Array]] = {"attention": [], "feed_forward": []}  # [S, hidden size]
        layers: Any = bert.layers
        hooks = [
            module.register_forward_hook(self._keep(name))
            for layer in layers
            for name, module in (("attention", layer.attention), ("feed_forward", layer.down))
        ]
        bert.use_attention(self._attend)
        try:
            batch = _packed([encoding])
            self.hidden = [_array(each) for each in bert.all_hidden_states(batch)]
        finally:
            for hook in hooks:
                hook.remove()
        self.updates = {name: [each[: len(encoding.ids)] for each in found] for name, found in self.updates.items()}

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.updates[name].append(_array(output))

        return hook

    def _attend(self, qkv: Tensor, batch: model.Packed, drop: float) -> Tensor:
        """``attention_as_in_the_paper`` for one sequence, with the numbers kept. qkv [S, 3, N, D] -> [S, N, D]"""
        q, k, v = qkv.permute(1, 2, 0, 3)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        weights = scores.softmax(-1)
        self.scores.append(_array(scores))
        self.attention.append(_array(weights))
        return (weights @ v).transpose(0, 1)

    def layers(self) -> list[dict[str, Any]]:
        """What each layer changes, by token: lengths of its input and of both updates, cosine of input and output."""
        found = []
        for number, (before, after) in enumerate(zip(self.hidden, self.hidden[1:], strict=False)):
            lengths = {name: _lengths(updates[number]) for name, updates in self.updates.items()}
            found.append({"input": _lengths(before), **lengths, "cosine": _rounded(_cosines(before, after), 3)})
        return found


def _array(tensor: Tensor) -> Array:
    return np.array(tensor.detach().numpy())


def _rounded(values: Array, digits: int) -> Any:
    return np.round(values, digits).tolist()


def _lengths(vectors: Array) -> list[float]:
    lengths: list[float] = _rounded(np.linalg.norm(vectors, axis=-1), 3)
    return lengths


def _cosines(one: Array, other: Array) -> Array:
    cosines: Array = (one * other).sum(-1) / (np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1))
    return cosines


def _packed(encodings: list[Encoding]) -> model.Packed:
    import torch

    from reference.model import Packed

    ids, segments = (
        torch.tensor([number for each in encodings for number in getattr(each, name)]) for name in ("ids", "segments")
    )
    return Packed.from_lengths(ids, [len(each.ids) for each in encodings], segments)


def _tokens(bert: model.Bert, tokenizer: Tokenizer, encoding: Encoding, seen: Seen) -> list[dict[str, Any]]:
    """Each token: piece, id, segment, position, and the lengths of its vectors up to the output of the embeddings."""
    batch, tables = _packed([encoding]), bert.embeddings
    parts = {
        "word": _array(tables.word(batch.ids)),
        "of_segment": _array(tables.segment(batch.segments)),
        "of_position": _array(tables.position(batch.positions)),
    }
    lengths = {name: _lengths(part) for name, part in parts.items()}
    lengths |= {"sum": _lengths(sum(parts.values(), np.zeros(1))), "embedded": _lengths(seen.hidden[0])}
    return [
        {
            **{"piece": tokenizer.token(number), "id": number, "segment": segment, "position": position},
            **{name: of_tokens[position] for name, of_tokens in lengths.items()},
        }
        for position, (number, segment) in enumerate(zip(encoding.ids, encoding.segments, strict=True))
    ]


def _patterns(attention: Array, ids: Array, tokenizer: Tokenizer) -> list[dict[str, float]]:
    """Of each head of a layer, the mean share of attention that goes to each of PATTERNS, and its entropy in bits."""
    separators = np.isin(ids, (tokenizer.cls_id, tokenizer.sep_id))
    found = []
    for head in attention:
        shares = {
            "previous": np.diagonal(head, -1).mean(),
            "same": np.diagonal(head).mean(),
            "next": np.diagonal(head, 1).mean(),
            "separators": head[:, separators].sum(-1).mean(),
            "entropy": -(head * np.log2(np.maximum(head, np.finfo(head.dtype).tiny))).sum(-1).mean(),
        }
        found.append({name: round(float(share), 3) for name, share in shares.items()})
    return found


def _padding(bert: model.Bert, encoding: Encoding) -> dict[str, Any]:
    """The largest difference that a longer neighbour makes: the sentence beside its own first two tokens, and alone."""
    from reference.model import attention_as_in_the_paper, attention_in_rectangle

    short = Encoding(encoding.ids[:2], encoding.segments[:2])
    bert.use_attention(attention_in_rectangle)
    together = _array(bert(_packed([encoding, short])))
    bert.use_attention(attention_as_in_the_paper)
    alone = np.concatenate([_array(bert(_packed([each]))) for each in (encoding, short)])
    return {"lengths": [len(encoding.ids), 2], "added": PADDING, "difference": float(np.abs(together - alone).max())}


def _products(config: model.BertConfig, tokens: int, pooler: bool) -> list[dict[str, Any]]:
    return [
        asdict(each) | {"multiply_adds": each.multiply_adds, "bytes": each.bytes}
        for each in products(config, tokens, pooler)
    ]


def _epochs(tokenizer: Tokenizer, encoding: Encoding) -> list[list[dict[str, Any]]]:
    """The sentence in some epochs of pre-training: of each chosen token the position, and what it becomes."""
    size = max(tokenizer.vocabulary().values()) + 1
    pieces = [tokenizer.token(number) for number in range(size)]
    try:
        vocabulary = vocabulary_of(pieces)
    except KeyError:  # no [MASK]: it was never pre-trained with one
        return []
    ids, lengths = np.array(encoding.ids), np.array([len(encoding.ids)])
    candidates = ~np.isin(ids, (vocabulary.cls_id, vocabulary.sep_id))
    epochs = []
    for epoch in range(EPOCHS):
        keys = np.array([key(SEED, epoch)], np.uint64)
        chosen = choose(candidates, lengths, keys, how_many(lengths, RATE))
        masked = replaced(ids, chosen, lengths, keys, vocabulary)
        epochs.append([{"position": int(place), "piece": pieces[masked[place]]} for place in chosen])
    return epochs


def _deviations(tensors: Mapping[str, Tensor], config: dict[str, Any], encoding: Encoding) -> list[dict[str, Any]]:
    """The effect of each known deviation on the sentence with padding: the lowest cosine of a token, by layer."""
    batch: Batch = from_lists([encoding.ids], [encoding.segments])
    bert = Bert(tensors, config, width=min(len(encoding.ids) + PADDING, config["max_position_embeddings"]))
    exact, found = bert.outputs(batch, NONE), []
    for name, words in DEVIATIONS.items():
        effect = differences(bert.outputs(batch, frozenset({name})), exact)
        title, _, description = words.partition(": ")
        cosines = [each["cosine"] for each in effect["layers"]]
        found.append({"name": name, "title": title, "what": description, "layers": cosines, "max": effect["max"]})
    return found
