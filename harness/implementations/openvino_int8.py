# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "openvino==2026.4.1", "nncf==3.4.0", "torch>=2.11", "transformers>=5.17", "numpy>=1.26", "safetensors>=0.5",
# ]
# ///
"""OpenVINO in 8 bits, on a model quantized by its companion package nncf: weights alone, or calibrated activations too.

It is called like ``harness.implementations.openvino``. It deviates by the rounding of quantization.
"""

from importlib.metadata import version

from harness.implementations.openvino import Encoder, Write, convert
from harness.port import Model

NAME = "openvino-int8"
TITLE = "OpenVINO in int8"
CATALOG_ID = "openvino"
VARIANTS = {"calibrated": "activations too, by their ranges on eight sentences"}
BY_NAME = ["calibrated"]  # converting and calibrating take long, for each set of weights
DEVIATIONS: dict[str, str] = {}

# Calibration data; parity and quality are measured on other texts.
SENTENCES = [
    "Thanks!",
    "The kettle had been whistling for some time before anyone thought of tea.",
    "Is the museum open on Mondays, or should we come back later in the week?",
    "Revenue fell by 3.4% to $18.2 million in the third quarter, the company said on Tuesday.",
    "A dull, overlong film that two good performances cannot save.",
    "Dr. Okafor moved from Lagos to Rotterdam in 1998 and founded her laboratory there six years later.",
    "He asked whether the bridge would hold; nobody who had seen it in winter wanted to answer, so they walked "
    "down to the ford instead and crossed one after the other, holding the rope.",
    "今天下午三点在二楼会议室开会，请准时参加。",
]


def write_compressed(folder: str, file: str, every: bool) -> None:
    """Weights in 8 bits per channel; OpenVINO quantizes activations dynamically."""
    import nncf
    import openvino

    mode = nncf.CompressWeightsMode.INT8_SYM
    openvino.save_model(nncf.compress_weights(convert(folder, every), mode=mode), file, compress_to_fp16=False)


def write_calibrated(folder: str, file: str, every: bool) -> None:
    """Weights and activations in 8 bits, by nncf's preset for Transformers."""
    import nncf
    import openvino
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    names = ("input_ids", "token_type_ids", "attention_mask")
    encodings = [tokenizer(sentence, return_tensors="np", return_token_type_ids=True) for sentence in SENTENCES]
    data = nncf.Dataset([tuple(encoding[name] for name in names) for encoding in encodings])
    model = nncf.quantize(
        convert(folder, every), data, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(SENTENCES)
    )
    openvino.save_model(model, file, compress_to_fp16=False)


WRITE: dict[str, Write] = {"": write_compressed, "calibrated": write_calibrated}


def load(folder: str, head: str | None, device: str, precision: str, variant: str = "") -> Model:
    """Load the weights of a Hugging Face folder. RuntimeError names those that do not fit."""
    if device != "cpu":
        raise NotImplementedError(f"{NAME} runs on the CPU only, as the harness uses it")
    if precision != "fp32":
        raise NotImplementedError(f"{NAME} computes in 8 bits, and everything else in float32 only")
    model = Encoder(folder, "f32", WRITE[variant], "int8")
    model.version += f", nncf {version('nncf')}"
    return model
