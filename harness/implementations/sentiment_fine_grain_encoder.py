# /// script
# [tool.bert-atlas]
# environment = "tensorflow-1"
# ///
"""The BERT in sentiment_analysis_fine_grain: Google's first code; from the user's checkout, on TensorFlow 2.15.

Its ``BertModel`` is called with padded batches. Its numbers are those of the original BERT.
"""

from harness.port import Model, tensorflow1

NAME = "sentiment-fine-grain-encoder"
TITLE = "sentiment_analysis_fine_grain, its encoder"
CATALOG_ID = "brightmart-sentiment-analysis-fine-grain"
CHECKOUT = "https://github.com/brightmart/sentiment_analysis_fine_grain"
DEVIATIONS: dict[str, str] = {}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder into the repository's ``BertModel``."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    from model import bert_modeling

    return tensorflow1.Encoder(bert_modeling, folder, "brightmart/sentiment_analysis_fine_grain")
