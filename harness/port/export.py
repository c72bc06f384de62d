"""For engines that run what PyTorch exports: the model that is exported, and a process of its own to do that in.

An engine's users export once and serve without torch, whose memory would otherwise count for the engine.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

import harness
from harness.port.hf_folder import read_folder

Result = TypeVar("Result")


# The new process learns where the package is: a foreign environment has it on no path (harness.measure.client).
START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("harness", {file!r})
sys.modules["harness"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["harness"])
"""


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function of this package gives, called in a process that ends with it; it raises what that raises."""
    context = multiprocessing.get_context("spawn")
    start = (START.format(file=harness.__file__),)
    with ProcessPoolExecutor(1, mp_context=context, initializer=exec, initargs=start) as pool:
        return pool.submit(function, *arguments).result()


def transformers_bert(folder: str) -> Any:
    """``BertModel`` of transformers with the weights of a folder, attention in plain PyTorch, ready to be traced.

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
    """The same as a function of ids, segments and mask that gives a tuple.

    The hidden states of the last layer, or with ``every`` of the embeddings and after each layer; then the pooled
    output, where there is a pooler.
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
