# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""Google's original code, from the user's checkout of the repository, at any commit; on TensorFlow 2.15.

Its ``BertModel`` is called with padded batches. Since February 2019 the code approximates gelu by tanh.
"""

from collections.abc import Callable

from harness.port import Model, tensorflow1

NAME = "google-bert"
TITLE = "google-research/bert"
CATALOG_ID = "google-research-bert"
CHECKOUT = "https://github.com/google-research/bert"
VARIANTS = {"2018": "as first released, gelu by the error function"}
DEVIATIONS = {"gelu-tanh": "gelu by its tanh approximation, since February 2019; commits before that have the erf"}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder into the repository's ``BertModel``."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    import modeling

    model = tensorflow1.Encoder(modeling, folder, "google-research/bert")
    if variant == "2018" and "by erf" not in model.version:
        raise ValueError("this checkout is of 2019 or later; name one of 2018: --checkout google-bert:2018=FOLDER")
    return model


def tokenizer(folder: str) -> Callable[[str], list[int]]:
    """The repository's own tokenizer."""
    tensorflow1.alias()
    from tokenization import FullTokenizer

    return tensorflow1.tokenizer(FullTokenizer, folder)
