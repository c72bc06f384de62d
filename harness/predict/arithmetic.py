"""The matrix products of a BERT: their sizes, multiply-adds and bytes, which depend on the configuration alone."""

from collections.abc import Iterator
from dataclasses import dataclass

from reference.model import BertConfig

FLOAT32 = 4  # bytes


@dataclass(frozen=True)
class Product:
    """[rows, inner] x [inner, columns], computed ``count`` times."""

    name: str
    count: int
    rows: int
    inner: int
    columns: int

    @property
    def multiply_adds(self) -> int:
        """Of all ``count`` products; a multiply-add is two floating-point operations."""
        return self.count * self.rows * self.inner * self.columns

    @property
    def bytes(self) -> int:
        """Both factors read and the result written, each once, in float32: the least that memory has to move."""
        numbers = self.rows * self.inner + self.inner * self.columns + self.rows * self.columns
        return FLOAT32 * self.count * numbers


def products(config: BertConfig, tokens: int, pooler: bool = True) -> Iterator[Product]:
    """Every product of one sequence of ``tokens`` tokens, in the order of computation, those of all layers together."""
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    layers, size = config.num_hidden_layers, config.hidden_size // config.num_attention_heads
    yield Product("qkv", layers, tokens, hidden, 3 * hidden)
    yield Product("scores", layers * heads, tokens, size, tokens)
    yield Product("context", layers * heads, tokens, tokens, size)
    yield Product("output", layers, tokens, hidden, hidden)
    yield Product("up", layers, tokens, hidden, inner)
    yield Product("down", layers, tokens, inner, hidden)
    if pooler:
        yield Product("pooler", 1, 1, hidden, hidden)


def parameters(config: BertConfig, pooler: bool = True) -> dict[str, int]:
    """The number of weights of each part; those of all layers together."""
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    counts = {
        "word": config.vocab_size * hidden,
        "position": config.max_position_embeddings * hidden,
        "segment": config.type_vocab_size * hidden,
        "attention": layers * (4 * hidden * hidden + 4 * hidden),
        "feed-forward": layers * (2 * hidden * inner + inner + hidden),
        "norms": (2 * layers + 1) * 2 * hidden,
    }
    return counts | ({"pooler": hidden * hidden + hidden} if pooler else {})
