"""Today's Hugging Face names of tensors, from all the forms in which people have saved them."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from reference.errors import CheckpointError

ANCHOR = "embeddings.position_embeddings.weight"  # exactly one in every BERT, and in no other part of a model
HEADS = ("cls.", "classifier.", "qa_outputs.")  # prefixes of the heads that transformers saves
NO_WEIGHTS = ("position_ids", "token_type_ids")  # constants that older versions of transformers saved
INSIDE = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Attribute names of an encoder in its wrappers: DataParallel, torch.compile, Lightning, sentence-transformers, and
# classes that people write.
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

    tensors: dict[str, Tensor]  # under the names of some version of transformers
    prefix: str  # the wrapper's, which all names began with
    others: list[str]  # names of the file's other tensors


def unwrap(tensors: Mapping[str, Tensor]) -> Unwrapped:
    """Remove the prefix that a wrapper gave all names, such as ``module.`` or ``model.``.

    If there are names without a wrapper's prefix, they are the model, whatever else the file contains. Raises
    CheckpointError if there is no encoder, if there are several, or if it is another architecture's.
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
    """Rename tensors from older Hugging Face names to today's.

    Adds the prefix ``bert.`` if a bare encoder was saved, renames TensorFlow's gamma and beta to weight and bias, and
    drops constants and copies of tied weights. A decoder that is not tied keeps its weights.
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
    """Rename tensors, by their old names. Raises CheckpointError if two would get the same name."""
    named: dict[str, Tensor] = {}
    old_names: dict[str, str] = {}
    for old, new in names.items():
        if new in named:
            raise CheckpointError(f"{old_names[new]} and {old} are the same tensor of BERT's; keep one of the two")
        named[new], old_names[new] = tensors[old], old
    return named


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
