"""Names of tensors as Hugging Face has them today, from any of the forms in which people have saved them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from reference.errors import CheckpointError

ANCHOR = "embeddings.position_embeddings.weight"  # every BERT has it once, and no other part of a model does
HEADS = ("cls.", "classifier.", "qa_outputs.")  # what a checkpoint may have on top, as transformers names it
NO_WEIGHTS = ("position_ids", "token_type_ids")  # numbers from 0 on, and zeros, that older versions saved
INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Attributes under which an encoder is kept by what wraps it: DataParallel, torch.compile, Lightning, sentence-
# transformers, people's own classes.
WRAPPERS = {
    "module",
    "model",
    "net",
    "0",
    "bert",
    "bert_model",
    "bert_encoder",
    "encoder",
    "text_encoder",
    "auto_model",
}
WRAPPERS |= {"base_model", "backbone", "transformer"}
TIED = (
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
)


class Unwrapped(NamedTuple):
    """The tensors of one model out of a file."""

    tensors: dict[str, Tensor]  # names as transformers has them, or an older version of it
    prefix: str  # that all of them had
    others: list[str]  # names of what is no part of this model


def unwrap(tensors: Mapping[str, Tensor]) -> Unwrapped:
    """Take off the prefix that a wrapper gave all names, such as ``module.`` or ``model.``.

    Names as transformers has them are taken as they are, whatever stands beside them. CheckpointError where there is
    no encoder, where there are several, or where it is that of another architecture.
    """
    plain = _renamed({name: INSIDE.sub("", name) for name in tensors}, tensors)
    leads = [name.removesuffix(ANCHOR) for name in plain if name.endswith(ANCHOR) and _whole(name)]
    leads = [lead for lead in leads if lead in ("", "bert.")] or leads
    if not leads:
        raise CheckpointError(f"no encoder of BERT's among its {len(tensors)} tensors ({_some(list(tensors))})")
    if len(leads) > 1:
        raise CheckpointError(
            f"several encoders, under {', '.join(lead or 'no prefix' for lead in leads)}; save the one that you mean"
        )
    strange = [part for part in leads[0].split(".")[:-1] if part not in WRAPPERS]
    if strange:
        raise CheckpointError(
            f"its encoder's names begin with {leads[0]!r}, which is not BERT's; if it is a BERT, rename them "
            f"({leads[0]}{ANCHOR} is bert.{ANCHOR})"
        )
    prefix = leads[0].removesuffix("bert.") if leads[0].endswith("bert.") else leads[0]
    own = {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}
    return Unwrapped(own, prefix, [name for name in plain if not name.startswith(prefix)])


def _whole(name: str) -> bool:
    lead = name.removesuffix(ANCHOR)
    return not lead or lead.endswith(".")


def standard_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face names as they are today, from older ones.

    Adds the prefix ``bert.`` where a bare encoder was saved, turns TensorFlow's gamma and beta into weight
    and bias, and drops what is not a weight of its own: position numbers and the copy of tied weights. The weights of
    a decoder that is not tied stay.
    """
    named = _renamed({name: _standard(name) for name in tensors}, tensors)
    for name in NO_WEIGHTS:
        named.pop(f"bert.embeddings.{name}", None)
    for copy, original in TIED:
        if copy in named and torch.equal(named[copy], named.setdefault(original, named[copy])):
            del named[copy]
    return named


def _standard(name: str) -> str:
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
    return f"bert.{name}" if name.startswith(("embeddings.", "encoder.", "pooler.")) else name


def _renamed(names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under new names, by their old; CheckpointError where two would have the same."""
    named: dict[str, Tensor] = {}
    of: dict[str, str] = {}
    for old, new in names.items():
        if new in named:
            raise CheckpointError(f"{of[new]} and {old} are the same tensor of BERT's; keep one of the two")
        named[new], of[new] = tensors[old], old
    return named


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
