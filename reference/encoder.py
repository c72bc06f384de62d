"""Texts to vectors, in one call.

>>> from reference import SentenceEncoder
>>> encoder = SentenceEncoder("minilm-l6")
>>> vectors = encoder.encode(["Where is my parcel?", "My parcel has not arrived.", "A cat sat on the mat."])
>>> vectors.shape
(3, 384)
>>> encoder.similarity(vectors[0], vectors[1:]).round(1).tolist()
[[0.8, 0.0]]

The vectors are those of sentence-transformers for the same folder. They are computed without padding.
"""

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, islice
from pathlib import Path
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from tokenizers import normalizers
from torch import Tensor
from tqdm import tqdm

import reference
from reference import named
from reference.errors import CheckpointError
from reference.files.tokenizer import read_folder
from reference.model import Packed, check, fill, kernel_rows
from reference.pooling import POOLINGS, pool
from reference.sentence_folder import SentenceFolder, read_sentence_folder, width_after
from reference.tokenizer import Tokenizer

CPU_TOKENS, GPU_TOKENS = 2048, 16384  # of a batch: what an L2 cache holds, and what keeps a GPU busy
AT_ONCE = 4096  # texts that are tokenized, and sorted by their number of tokens, together
UNCUT = 2**62  # tokens: the tokenizer cuts nothing, so that what is lost can be counted
ALIASES = {"mean_sqrt_len": "mean_sqrt_len_tokens"}


class TextsCut(UserWarning):
    """Some texts were longer than the model reads; ``SentenceEncoder.cut`` lists them."""


class Tokens(NamedTuple):
    """What the model reads of a text."""

    ids: list[int]
    segments: list[int]
    lost: int  # tokens that it does not read


class SentenceEncoder:
    """A model with its tokenizer and pooling.

    ``model`` is a name (``reference.named.NAMES``), a folder of sentence-transformers, or any folder with a BERT that
    ``reference.load`` reads. An argument that is None follows the folder; a plain BERT has mean pooling and vectors
    that are not normalized, as in sentence-transformers.

    - ``pooling``: "mean", "cls", "max", "mean_sqrt_len", "weightedmean" or "lasttoken" as sentence-transformers
      defines them; a list of these, whose vectors are concatenated; or "pooler", the output of BERT's pooler.
    - ``normalize``: scale vectors to length 1, so that their dot product is the cosine.
    - ``layers``: the hidden states that are pooled: 0 is the embeddings, 1 the first layer, -1 the last. Several are
      concatenated in this order. Layers above the highest are not computed.
    - ``precision``: "fp32", "bf16", "fp16", "int8" or "fp64". "auto" is bf16 on a device that multiplies it in
      hardware (a GPU, or a CPU with AMX or AVX-512 BF16) and fp32 elsewhere. Vectors are float32; with "fp64", float64.
    - ``max_length``: the number of tokens that are read of a text, [CLS] and [SEP] included.
    - ``device``: "auto" is CUDA where there is one.

    What was decided is in the attributes of these names; ``size`` is that of a vector; ``prompts``,
    ``default_prompt_name`` and ``measure``, which is how vectors are compared, are the folder's.
    Raises ValueError for arguments out of range, and CheckpointError, a ValueError, for a folder that is not computed.
    """

    def __init__(
        self,
        model: str | Path = "minilm-l6",
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        layers: Sequence[int] | None = None,
        precision: str = "auto",
        max_length: int | None = None,
        device: str = "auto",
    ) -> None:
        self.folder = named.find(model) if isinstance(model, str) and model in named.NAMES else Path(model)
        if not self.folder.is_dir():
            what = "it is not a folder" if self.folder.exists() else "there is no such folder"
            raise CheckpointError(f"{model}: {what}; the names are {', '.join(named.NAMES)}")
        said = read_sentence_folder(self.folder)
        self.pooling = said.pooling if pooling is None else _modes(pooling)
        self.normalize = said.normalize if normalize is None else normalize
        self._asked_to_normalize = bool(normalize)
        self.bert: Any = reference.load(said.bert, None, device, precision, frozen=True)
        self.device, self.precision = str(self.bert.device_used), str(self.bert.precision_used)
        self.dtype = torch.float64 if self.precision == "fp64" else torch.float32
        self.layers = self._layers(said, layers)
        self._layer_weights = said.layer_weights if layers is None else None
        self.tokenizer, self.cut_left = _tokenizer(said)
        self.max_length = self._max_length(said, max_length)
        self._of_tokens = [module.to(self.device, self.dtype) for module in said.of_tokens]
        self._of_sentences = [module.to(self.device, self.dtype) for module in said.of_sentences]
        self._said, self.measure = said, said.similarity
        self.prompts, self.default_prompt_name = said.prompts, said.default_prompt_name
        self.size = self._size()
        self.cut: dict[int, int] = {}  # of the last call: the index of each text that was cut, and the tokens it lost

    def encode(
        self,
        texts: str | Iterable[str],
        batch_tokens: int | None = None,
        show_progress: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
    ) -> NDArray[Any]:
        """The vectors of texts in their order, float32 [texts, size]; of a single string [size].

        An empty text has a vector too: that of [CLS] [SEP]. Equal texts are computed once. Of a text that has more
        than ``max_length`` tokens the rest is not read; one ``TextsCut`` warning counts these texts, and ``cut``
        lists them.

        ``batch_tokens`` is how many tokens are computed together. ``prompt`` is put before each text;
        ``prompt_name`` is one of ``prompts``; without both the folder's ``default_prompt_name`` counts, if it has one.
        Raises TypeError or ValueError naming the first text that is not one.
        """
        given = _checked([texts] if isinstance(texts, str) else texts)
        budget = (CPU_TOKENS if self.device == "cpu" else GPU_TOKENS) if batch_tokens is None else batch_tokens
        if type(budget) is not int or budget < 1:
            raise ValueError(f"batch_tokens is {budget!r}; it is a whole number from 1")
        prefix, unpooled = self._prefix(prompt, prompt_name), self.unpooled(prompt, prompt_name)
        unique = list(dict.fromkeys(given))
        vectors, lost = self._encode(unique, prefix, unpooled, budget, show_progress)
        self.cut = {i: lost[text] for i, text in enumerate(given) if text in lost}
        if self.cut:
            count, total = len(self.cut), sum(self.cut.values())
            message = f"{count} of {len(given)} texts were cut to {self.max_length} tokens, and lost {total}"
            warnings.warn(message, TextsCut, stacklevel=2)
        if isinstance(texts, str):
            return vectors[0]
        rows = {text: i for i, text in enumerate(unique)}
        return vectors if len(unique) == len(given) else vectors[[rows[text] for text in given]]

    def similarity(self, a: ArrayLike, b: ArrayLike) -> NDArray[Any]:
        """How alike vectors are: [n, size] and [m, size] -> [n, m]. One vector [size] counts as [1, size].

        It is their cosine, unless the folder asks for "dot", "euclidean" or "manhattan" (distances are negative).
        """
        first, second = _rows(a), _rows(b)
        if first.shape[1] != second.shape[1]:
            raise ValueError(f"vectors of {first.shape[1]} and of {second.shape[1]} numbers cannot be compared")
        kind = np.result_type(first, second, np.float32)
        x, y = torch.from_numpy(first.astype(kind)), torch.from_numpy(second.astype(kind))
        if self._said.similarity == "cosine":
            x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
        if self._said.similarity in ("cosine", "dot"):
            return (x @ y.T).numpy()
        return -torch.cdist(x, y, p=1 if self._said.similarity == "manhattan" else 2).numpy()

    # -- the steps of ``encode``, for programs that queue texts, as ``reference.serving`` does --

    def tokenize(self, texts: Sequence[str], prompt: str | None = None, prompt_name: str | None = None) -> list[Tokens]:
        """What the model reads of each text after its prompt: at most ``max_length`` tokens, [CLS] and [SEP] too."""
        prefix = self._prefix(prompt, prompt_name)
        return self._tokens([prefix + text for text in texts])

    def unpooled(self, prompt: str | None = None, prompt_name: str | None = None) -> int:
        """The number of tokens at the beginning that are not pooled, since the folder leaves its prompts out."""
        prefix = self._prefix(prompt, prompt_name)
        return 0 if self._said.include_prompt or not prefix else len(self._tokens([prefix])[0].ids) - 1

    @torch.inference_mode()
    def compute(self, batch: Sequence[Tokens], unpooled: int = 0) -> NDArray[Any]:
        """The vectors of tokenized texts, computed together [texts, size], in their order."""
        return self._pooled(self._packed(list(batch)), unpooled).cpu().numpy()

    def hidden(self, batch: Packed) -> Tensor:
        """The hidden states that are pooled, [T, H x layers], or [T, H] if layers are averaged."""
        if self.layers == (len(self.bert.layers),):
            return self.bert(batch).to(self.dtype)
        check(batch, self.bert.config)
        embedded = self.bert.embeddings(batch)
        states = [fill(embedded, kernel_rows(embedded))]
        for layer in islice(self.bert.layers, max(self.layers)):
            states.append(layer(states[-1], batch))
        chosen = [states[layer][: len(embedded)].to(self.dtype) for layer in self.layers]
        if self._layer_weights is None:
            return torch.cat(chosen, dim=-1)
        weights = self._layer_weights.to(chosen[0]) / self._layer_weights.sum()
        return torch.tensordot(weights, torch.stack(chosen), dims=1)

    def normalized(self, normalize: bool) -> "SentenceEncoder":
        """The encoder with this ``normalize``, as if asked for when it was made; it shares the weights."""
        if normalize == self.normalize and not (normalize and self._said.truncate):
            return self
        other = copy.copy(self)
        other.normalize = other._asked_to_normalize = normalize
        return other

    def plain(self, layers: Sequence[int], pooling: str | Sequence[str]) -> "SentenceEncoder":
        """An encoder of these hidden states, pooled, without the folder's modules; it shares the weights.

        Raises ValueError as the constructor does.
        """
        other = copy.copy(self)
        other._said = SentenceFolder(self._said.bert)
        other.layers, other._layer_weights = self._layers(self._said, layers), None
        other.pooling, other._of_tokens, other._of_sentences = _modes(pooling), [], []
        other.normalize = other._asked_to_normalize = False
        other.size = other._size()
        return other

    # -- from texts to vectors --

    @torch.inference_mode()
    def _encode(
        self, texts: list[str], prefix: str, unpooled: int, batch_tokens: int, show_progress: bool
    ) -> tuple[NDArray[Any], dict[str, int]]:
        """The vectors of different texts [texts, size]; and of each text that was cut, how many tokens it lost."""
        vectors = np.empty((len(texts), self.size), dtype=np.float64 if self.dtype == torch.float64 else np.float32)
        lost: dict[str, int] = {}
        longest_first = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # if memory lacks, that shows at once
        with tqdm(total=len(texts), unit=" texts", disable=not show_progress) as progress:
            for start in range(0, len(texts), AT_ONCE):
                numbers = longest_first[start : start + AT_ONCE]
                tokens = dict(zip(numbers, self._tokens([prefix + texts[i] for i in numbers]), strict=True))
                lost |= {texts[i]: tokens[i].lost for i in numbers if tokens[i].lost}
                numbers.sort(key=lambda i: -len(tokens[i].ids))
                parts = []
                for batch in _batches(numbers, tokens, batch_tokens):
                    parts.append(self._pooled(self._packed([tokens[i] for i in batch]), unpooled))
                    progress.update(len(batch))
                vectors[numbers] = torch.cat(parts).cpu().numpy()
        return vectors, lost

    def _tokens(self, texts: list[str]) -> list[Tokens]:
        encodings = self.tokenizer.encode_batch(texts, max_length=UNCUT)
        return [
            Tokens(self._shortened(each.ids), self._shortened(each.segments), max(0, len(each.ids) - self.max_length))
            for each in encodings
        ]

    def _shortened(self, values: list[int]) -> list[int]:
        """The values of ``max_length`` tokens, cut on the side that the tokenizer's settings name."""
        if len(values) <= self.max_length:
            return values
        kept = self.max_length - 1
        return values[:1] + values[-kept:] if self.cut_left else values[:kept] + values[-1:]

    def _packed(self, batch: list[Tokens]) -> Packed:
        ids = torch.tensor([*chain.from_iterable(tokens.ids for tokens in batch)], device=self.device)
        segments = torch.tensor([*chain.from_iterable(tokens.segments for tokens in batch)], device=self.device)
        return Packed.from_lengths(ids, [len(tokens.ids) for tokens in batch], segments)

    def _pooled(self, batch: Packed, unpooled: int) -> Tensor:
        """The vectors of a batch [B, size]; the first ``unpooled`` tokens of each text are not pooled."""
        if self.pooling == ("pooler",):
            rows = self.bert.pooler(self.bert(batch), batch).to(self.dtype)
        else:
            hidden = self.hidden(batch)
            for module in self._of_tokens:
                hidden = module(hidden)
            rows = pool(hidden, batch, self.pooling, unpooled)
        for module in self._of_sentences:
            rows = module(rows)
        rows = F.normalize(rows, dim=-1) if self.normalize else rows
        if self.size == rows.shape[1]:
            return rows
        rows = rows[:, : self.size]  # as the folder says; sentence-transformers scales them again only if asked
        return F.normalize(rows, dim=-1) if self._asked_to_normalize else rows

    # -- arguments and settings --

    def _layers(self, said: SentenceFolder, given: Sequence[int] | None) -> tuple[int, ...]:
        """The numbers of the hidden states that are pooled, from 0 on."""
        last = len(self.bert.layers)
        if given is None:
            return tuple(range(last + 1))[-1 if said.layer_weights is None else -len(said.layer_weights) :]
        if not given or any(type(layer) is not int or not -last - 1 <= layer <= last for layer in given):
            raise ValueError(f"layers is {given!r}; this model has 0, the embeddings, to {last}, or {-last - 1} to -1")
        return tuple(layer % (last + 1) for layer in given)

    def _max_length(self, said: SentenceFolder, given: int | None) -> int:
        """As asked; else as the folder says, but not beyond the model's positions."""
        positions = self.bert.config.max_position_embeddings
        length = min(said.max_length or self.tokenizer.max_length, positions) if given is None else given
        if type(length) is not int or not 3 <= length <= positions:
            raise ValueError(
                f"max_length is {length!r}; it is a whole number from 3, [CLS], a token and [SEP], "
                f"to the {positions} positions of this model"
            )
        return length

    def _size(self) -> int:
        """Of the vectors. ValueError where what is asked does not fit the folder's model or modules."""
        width: int = self.bert.config.hidden_size
        if "pooler" in self.pooling:
            if self.bert.pooler is None or self.layers != (len(self.bert.layers),):
                why = "has none" if self.bert.pooler is None else "has it on the last layer: leave layers out"
                raise ValueError(f"pooling 'pooler' is BERT's pooler, and this model {why}")
        else:
            width *= len(self.layers) if self._layer_weights is None else 1
            width = width_after(self._of_tokens, width) * len(self.pooling)
        width = width_after(self._of_sentences, width)
        return min(width, self._said.truncate or width)

    def _prefix(self, prompt: str | None, name: str | None) -> str:
        """What is put before each text."""
        if prompt is not None and name is not None:
            raise ValueError("give prompt or prompt_name, not both")
        if prompt is not None:
            _check(prompt, "prompt")
            return prompt
        name = self.default_prompt_name if name is None else name
        if name is not None and name not in self.prompts:
            raise ValueError(f"prompt_name {name!r} is not one of {', '.join(self.prompts)}")
        return "" if name is None else self.prompts[name]


def _modes(pooling: str | Sequence[str]) -> tuple[str, ...]:
    modes = [pooling] if isinstance(pooling, str) else list(pooling)
    modes = [ALIASES.get(mode, mode) for mode in modes]
    if not modes or (modes != ["pooler"] and not set(modes) <= POOLINGS.keys()):
        raise ValueError(f"pooling {pooling!r} is not pooler, nor one or several of {', '.join(POOLINGS)}")
    return tuple(modes)


def _tokenizer(said: SentenceFolder) -> tuple[Tokenizer, bool]:
    """The folder's tokenizer, and whether it cuts texts on the left."""
    try:
        tokenizer = Tokenizer.from_folder(said.bert)
    except (OSError, ValueError) as error:
        raise CheckpointError(str(error)) from error
    files = read_folder(said.bert)
    if said.lower_case:
        own = files.tokenizer.normalizer
        files.tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *([own] if own else [])])
        tokenizer = Tokenizer(files)
    return tokenizer, files.settings.get("truncation_side") == "left"


def _checked(texts: Any) -> list[str]:
    """The texts as a list; TypeError or ValueError naming the first that is not a string of Unicode."""
    if isinstance(texts, bytes | bytearray | Mapping | AbstractSet) or getattr(texts, "ndim", 1) != 1:
        what = type(texts).__name__
        raise TypeError(f"texts is of type {what}; give a list of strings, such as one column of a table")
    if not isinstance(texts, Iterable):
        raise TypeError(f"texts is {short(texts)}; give a string or a list of strings")
    texts = list(texts)
    for i, text in enumerate(texts):
        _check(text, f"texts[{i}]")
    return texts


def _check(text: Any, name: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} is {short(text)}, of type {type(text).__name__}; it is not a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"{name} has half of a surrogate pair at character {error.start}, which is not text"
        raise ValueError(f"{half}; decode it again from its source, or replace such characters") from error


def _batches(numbers: list[int], tokens: Mapping[int, Tokens], most: int) -> Iterator[list[int]]:
    """Neighbours of at most so many tokens in all; a longer text is alone."""
    batch: list[int] = []
    total = 0
    for number in numbers:
        length = len(tokens[number].ids)
        if batch and total + length > most:
            yield batch
            batch, total = [], 0
        batch.append(number)
        total += length
    yield batch


def _rows(vectors: ArrayLike) -> NDArray[Any]:
    rows = np.atleast_2d(np.asarray(vectors))
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise TypeError(f"similarity takes vectors, [n, size], not {short(vectors)}; encode texts first")
    return rows
