# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "numpy==1.26.4", "safetensors==0.8.0", "six==1.17.0",
#     "bert-tensorflow==1.0.4", "bert-serving-server==1.10.0", "bert-serving-client==1.10.0",
#     "pyzmq==27.3.0", "GPUtil==1.4.0", "termcolor==3.3.0",
# ]
# ///
"""Google's original code, from the user's copy of the repository; every commit of it will do."""

from collections.abc import Callable

from harness.port import tensorflow1

NAME = "google-bert"
TITLE = "google-research/bert"
CATALOG_ID = "google-research-bert"
CHECKOUT = "https://github.com/google-research/bert"
VARIANTS = {"2018": "as first released, gelu by the error function"}
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation, since February 2019; commits before that have the erf"}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> tensorflow1.Model:
    """The weights of a Hugging Face folder in the repository's BertModel."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    import modeling

    model = tensorflow1.Model(modeling, folder, "google-research/bert")
    if variant == "2018" and "by erf" not in model.version:
        raise ValueError("this checkout is of 2019 or later; name one of 2018: --checkout google-bert:2018=FOLDER")
    return model


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The repository's own tokenizer."""
    tensorflow1.alias()
    from tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
