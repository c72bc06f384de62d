"""The lines of Python with which an implementation is used on the user's weights and texts."""

from pathlib import Path

from harness.registry.environments import find_environment, unmet
from harness.registry.implementations import FOLDER, Implementation

VECTORS = """\
from reference import SentenceEncoder
vectors = SentenceEncoder({folder!r}, precision={precision!r}).encode(texts)"""
STATES = """\
from harness.implementations import {module}
from harness.port.batch import from_lists
from reference.tokenizer import Tokenizer
model = {module}.load({folder!r}, None, {device!r}, "fp32", {variant!r})
read = Tokenizer.from_folder({folder!r}).encode_batch(texts, max_length={longest})
batch = from_lists([each.ids for each in read], [each.segments for each in read])
encoded = model.encode(batch)
hidden = model.fetch(encoded, batch)  # [tokens, hidden size], text after text; batch.lengths has their lengths"""
LOGITS = """
from harness.worker.heads import Head
logits = Head({folder!r}, {head!r}).logits(hidden, model.pooled(encoded, batch), batch)"""


def lines(implementation: Implementation, folder: Path, device: str, longest: int, head: str | None) -> str:
    """Lines that give vectors, hidden states, or with ``head`` logits, of a list ``texts``.

    They run where BERT Atlas is installed; a first comment names the interpreter where that is another one.
    """
    name, _, variant = implementation.name.partition(":")
    if implementation.file.parent != FOLDER:
        return f"# {implementation.name} is called as in {implementation.file}"
    if name == "reference" and head is None and variant != "unfrozen":
        return VECTORS.format(folder=str(folder), precision=variant or "fp32")
    place = find_environment(implementation.requirements) if unmet(implementation.requirements) else None
    where = f"# in {place.folder / 'bin' / 'python'}, with this checkout in PYTHONPATH\n" if place else ""
    filled = STATES + (LOGITS if head else "")
    module = implementation.file.stem
    return where + filled.format(
        module=module, folder=str(folder), device=device, variant=implementation.variant, longest=longest, head=head
    )
