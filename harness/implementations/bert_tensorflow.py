# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""bert-tensorflow, the PyPI package of Google's code of 2020, with attention by einsum; on TensorFlow 2.15.

Its ``BertModel`` is called with padded batches. It approximates gelu by tanh.
"""

import importlib.metadata
from collections.abc import Callable

from harness.port import Model, tensorflow1

NAME = "bert-tensorflow"
TITLE = "bert-tensorflow (PyPI)"
CATALOG_ID = "google-research-bert"
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation"}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder into the package's ``BertModel``."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    from bert import modeling

    return tensorflow1.Encoder(modeling, folder, f"bert-tensorflow {importlib.metadata.version('bert-tensorflow')}")


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The package's own tokenizer."""
    tensorflow1.alias()
    from absl.flags import FLAGS
    from bert.tokenization import FullTokenizer

    FLAGS.mark_as_parsed()  # it reads a flag of a command line that does not exist here
    return tensorflow1.tokenizer(FullTokenizer, folder)
