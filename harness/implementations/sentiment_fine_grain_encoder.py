# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "tensorflow-cpu==2.15.1", "numpy==1.26.4", "safetensors==0.8.0", "six==1.17.0",
#     "bert-tensorflow==1.0.4", "bert-serving-server==1.10.0", "bert-serving-client==1.10.0",
#     "pyzmq==27.3.0", "GPUtil==1.4.0", "termcolor==3.3.0",
# ]
# ///
"""The BERT of sentiment_analysis_fine_grain: Google's first code, from the user's copy of the repository."""

from harness.port import tensorflow1

NAME = "sentiment-fine-grain-encoder"
TITLE = "sentiment_analysis_fine_grain, its encoder"
CATALOG_ID = "brightmart-sentiment-analysis-fine-grain"
CHECKOUT = "https://github.com/brightmart/sentiment_analysis_fine_grain"
DEVIATIONS: dict[str, str] = {}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> tensorflow1.Model:
    """The weights of a Hugging Face folder in the repository's BertModel."""
    tensorflow1.check_supported(NAME, device, precision)
    tensorflow1.alias()
    from model import bert_modeling

    return tensorflow1.Model(bert_modeling, folder, "brightmart/sentiment_analysis_fine_grain")
