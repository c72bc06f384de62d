"""For engines that run an exported PyTorch model: the model to export, and a separate process for exporting it.

Users of an engine export once and then serve without torch. In the same process, torch's memory would be counted as the
engine's.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

from harness.port.hf_folder import read_folder
from harness.port.process import bootstrap

Result = TypeVar("Result")


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of this package in a new process, which then ends. Raises what the function raises."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=exec, initargs=(bootstrap(),)) as pool:
        return pool.submit(function, *arguments).result()


def transformers_bert(folder: str) -> Any:
    """``BertModel`` of transformers with the weights of a folder and attention in plain PyTorch, ready for tracing.

    RuntimeError naming every weight that is missing, left over or of another shape.
    """
    import torch
    from transformers import BertConfig, BertModel

    config, encoder, _ = read_folder(folder)
    settings = BertConfig(**config, attn_implementation="eager")
    module = BertModel(settings, add_pooling_layer=any(name.startswith("pooler.") for name in encoder))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in encoder.items()})
    return module.eval()


def traceable(folder: str, every: bool) -> Any:
    """The same model as a function of ids, segments and mask that returns a tuple.

    The tuple has the hidden states of the last layer, or with ``every`` those of the embeddings and after each layer;
    then the pooled output, if there is a pooler.
    """
    import torch

    class Traceable(torch.nn.Module):
        def __init__(self, bert: Any) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: Any, segments: Any, mask: Any) -> tuple[Any, ...]:
            out = self.bert(input_ids=ids, token_type_ids=segments, attention_mask=mask, output_hidden_states=every)
            states = tuple(out.hidden_states) if every else (out.last_hidden_state,)
            return states if out.pooler_output is None else (*states, out.pooler_output)

    return Traceable(transformers_bert(folder))
