# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "numpy==1.26.4", "safetensors==0.8.0", "six==1.17.0",
#     "bert-tensorflow==1.0.4", "bert-serving-server==1.10.0", "bert-serving-client==1.10.0",
#     "pyzmq==27.3.0", "GPUtil==1.4.0", "termcolor==3.3.0",
# ]
# ///
"""bert-tensorflow, the PyPI package of Google's code, as of 2020: attention written with einsum."""

import importlib.metadata
from collections.abc import Callable

from harness.port import tensorflow1

NAME = "bert-tensorflow"
TITLE = "bert-tensorflow (PyPI)"
CATALOG_ID = "google-research-bert"
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation"}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> tensorflow1.Model:
    """The weights of a Hugging Face folder in the package's BertModel."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    from bert import modeling

    return tensorflow1.Model(modeling, folder, f"bert-tensorflow {importlib.metadata.version('bert-tensorflow')}")


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The package's own tokenizer."""
    tensorflow1.alias()
    from absl.flags import FLAGS
    from bert.tokenization import FullTokenizer

    FLAGS.mark_as_parsed()  # it asks for a flag of its command line, which is not there
    return tensorflow1.tokenizer(FullTokenizer, folder)
