"""The interface between the harness and an implementation: what ``load`` in an implementation's file returns.

``Model`` is all that the harness needs to measure parity and speed. A model may have more: each of the other Protocols
names one capability, which the harness detects by ``isinstance``. Nothing has to be inherited or registered.

Beside ``load`` the file may have ``optimizer(parameters, recipe)``, from which parity of training gets a function that
makes one step: the optimizer and schedule that its own users train with. ``parameters`` are those of ``module`` by
name; ``recipe`` has ``steps``, ``warmup`` (in steps), ``learning_rate``, ``weight_decay`` and ``max_grad_norm``.
"""

from typing import Any, Protocol, runtime_checkable

from harness.port.batch import Array, Batch, IntArray

OF_TOKENS = frozenset({"tagging", "question-answering"})  # heads with logits for every token; others are of sequences

MASKED_LM = "masked-lm"  # the head of pre-training that predicts masked words; no kind of task trains it


@runtime_checkable
class Model(Protocol):
    """A loaded model that computes hidden states.

    ``encode`` and ``synchronize`` are timed; ``fetch`` and ``pooled`` are not. Computation outside the worker's own
    process must be declared: see ``HasProcesses``.
    """

    batching: str  # how users feed it: "packed" (up to so many tokens, unpadded) or "padded" (rectangles)
    version: str  # of the package that computes

    def encode(self, batch: Batch) -> Any:
        """Hidden states of the last layer, in whatever form and place the implementation keeps them."""

    def fetch(self, encoded: Any, batch: Batch) -> Array:
        """Convert the result of ``encode`` to float32 or float64 of shape [tokens, hidden], without padding."""

    def pooled(self, encoded: Any, batch: Batch) -> Array | None:
        """The pooler's output [sequences, hidden], or None without a pooler."""

    def synchronize(self) -> None:
        """Return when the device has finished all work that was started."""


@runtime_checkable
class Trainable(Model, Protocol):
    """A model with a head that the harness's loop (``harness.worker.finetune``) can fine-tune with torch."""

    module: Any  # the torch.nn.Module whose parameters are trained

    def logits(self, batch: Batch) -> Any:
        """Differentiable torch tensor: [sequences, labels], or [tokens, labels] for the heads in ``OF_TOKENS``."""

    def export(self) -> dict[str, Array]:
        """All weights under Hugging Face's names, float32."""


@runtime_checkable
class PredictsWords(Model, Protocol):
    """A model with the vocabulary head of pre-training: what ``load`` returns for the head "masked-lm".

    A file whose models do so has the constant ``MASKED_LM = True``.
    """

    def words(self, batch: Batch, chosen: IntArray) -> Any:
        """Logits [chosen, vocabulary] at these tokens, as a torch tensor; ``chosen`` are indices of ``batch.ids``."""


@runtime_checkable
class ShowsLayers(Protocol):
    """Shows where it starts to differ from the reference."""

    def layers(self, batch: Batch) -> list[Array]:
        """Hidden states [tokens, hidden] of the embeddings and after each layer."""


@runtime_checkable
class HasProcesses(Protocol):
    """Computes in other processes too; their CPU time and memory count as the model's."""

    def processes(self) -> list[int]:
        """Their process ids."""


@runtime_checkable
class Castable(Protocol):
    """Changes its precision after training itself. Without this, ``module`` is converted with ``Module.to``."""

    def cast(self, precision: str) -> None:
        """Compute in "fp32", "bf16" or "fp16" from now on."""


@runtime_checkable
class HasPrecision(Protocol):
    """A variant that ignores the requested precision."""

    precision: str  # of weights and activations


@runtime_checkable
class HasComputedPrecision(Protocol):
    """Computes matrix products in another precision than it stores its weights in."""

    computed: str


@runtime_checkable
class HasCompiledFunctions(Protocol):
    """Compiles functions on this machine."""

    native: dict[str, Any]  # "functions", "compiler", and "reason" where there are none


@runtime_checkable
class HasTokenBudget(Protocol):
    """A packed model with a preferred size of batches."""

    tokens: int


@runtime_checkable
class HasWordEmbeddings(Protocol):
    """Lets fine-tuning replace its table of word embeddings by the rows in use (``harness.worker.used_words``)."""

    embeddings: Any  # a module whose attribute ``word`` is a torch.nn.Embedding


@runtime_checkable
class HasMixedAdamW(Protocol):
    """Brings an optimizer for training with bfloat16 products, such as ``reference.adamw.MixedAdamW``."""

    def mixed_adamw(self, groups: list[dict[str, Any]], lr: float, max_grad_norm: float) -> Any:
        """The optimizer, or None if it cannot run on this machine."""
