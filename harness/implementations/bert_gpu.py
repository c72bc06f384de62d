# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""BERT-GPU, Google's code with pre-training on several GPUs; from the user's checkout, on TensorFlow 2.15.

Its ``BertModel`` is called with padded batches. It approximates gelu by tanh.
"""

from collections.abc import Callable

from harness.port import Model, tensorflow1

NAME = "bert-gpu"
TITLE = "BERT-GPU"
CATALOG_ID = "guotong1988-bert-gpu"
CHECKOUT = "https://github.com/guotong1988/BERT-GPU"
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation"}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder into the repository's ``BertModel``."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    import modeling

    return tensorflow1.Encoder(modeling, folder, "guotong1988/BERT-GPU")


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The repository's own tokenizer."""
    tensorflow1.alias()
    from tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
