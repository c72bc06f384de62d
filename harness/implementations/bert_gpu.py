# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "numpy==1.26.4", "safetensors==0.8.0", "six==1.17.0",
#     "bert-tensorflow==1.0.4", "bert-serving-server==1.10.0", "bert-serving-client==1.10.0",
#     "pyzmq==27.3.0", "GPUtil==1.4.0", "termcolor==3.3.0",
# ]
# ///
"""BERT-GPU: Google's model, pre-trained on several GPUs of one machine; from the user's copy of the repository."""

from collections.abc import Callable

from harness.port import tensorflow1

NAME = "bert-gpu"
TITLE = "BERT-GPU"
CATALOG_ID = "guotong1988-bert-gpu"
CHECKOUT = "https://github.com/guotong1988/BERT-GPU"
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation"}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> tensorflow1.Model:
    """The weights of a Hugging Face folder in the repository's BertModel."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    import modeling

    return tensorflow1.Model(modeling, folder, "guotong1988/BERT-GPU")


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The repository's own tokenizer."""
    tensorflow1.alias()
    from tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
