"""The options of bert-serving-start 1.10, in its own form: what they ask for, or why that is not served."""

import argparse
import shlex
from dataclasses import dataclass

STRATEGIES = {  # names, and their numbers in the answer to SHOW_CONFIG
    "NONE": 0,
    "REDUCE_MAX": 1,
    "REDUCE_MEAN": 2,
    "REDUCE_MEAN_MAX": 3,
    "FIRST_TOKEN": 4,
    "LAST_TOKEN": 5,
    "CLS_TOKEN": 4,
    "SEP_TOKEN": 5,
    "CLS_POOLED": 6,
}
WEIGHTS = "the weights, with their settings, are those of --weights"
REFUSED = {  # options that would change vectors or access, and are not honoured
    "-model_dir": WEIGHTS,
    "-tuned_model_dir": WEIGHTS,
    "-ckpt_name": WEIGHTS,
    "-config_name": WEIGHTS,
    "-cased_tokenization": "the tokenizer is that of the weights",
    "-no_position_embeddings": "BERT without positions is not computed",
    "-port": "the ports are those of --bert-serving-ports",
    "-port_in": "the ports are those of --bert-serving-ports",
    "-port_data": "the ports are those of --bert-serving-ports",
    "-port_out": "the ports are those of --bert-serving-ports",
    "-port_result": "the ports are those of --bert-serving-ports",
    "-cors": "pages of other origins are not answered",
}
# Options about the original's processes and TensorFlow, which change no vector: name -> how many values follow.
WITHOUT_EFFECT = {
    "-graph_tmp_dir": 1,
    "-http_max_connect": 1,
    "-num_worker": 1,
    "-max_batch_size": 1,
    "-priority_batch_size": 1,
    "-gpu_memory_fraction": 1,
    "-prefetch_size": 1,
    "-cpu": 0,
    "-xla": 0,
    "-verbose": 0,
}


@dataclass(frozen=True)
class Options:
    """Those that decide about vectors, with the original's defaults, and the port of its HTTP mode."""

    pooling_strategy: str = "REDUCE_MEAN"
    pooling_layer: tuple[int, ...] = (-2,)
    max_seq_len: int | None = 25  # tokens, [CLS] and [SEP] included; None: as many as the model reads
    mask_cls_sep: bool = False
    no_special_token: bool = False
    fixed_embed_length: bool = False
    fp16: bool = False
    http_port: int | None = None


def parse(text: str) -> tuple[Options, list[str]]:
    """The options in a command line such as ``-pooling_strategy NONE -max_seq_len 40``, and names without effect.

    Raises ValueError, which says what is wrong.
    """
    parser = _Parser(add_help=False, allow_abbrev=False, prog="")
    parser.add_argument("-pooling_strategy", choices=list(STRATEGIES), default="REDUCE_MEAN")
    parser.add_argument("-pooling_layer", type=int, nargs="+", default=[-2])
    parser.add_argument("-max_seq_len", type=_length, default=25)
    for flag in ("-mask_cls_sep", "-no_special_token", "-fixed_embed_length", "-fp16", "-show_tokens_to_client"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("-http_port", type=_port)
    for name, values in WITHOUT_EFFECT.items():
        parser.add_argument(name, action="store" if values else "store_true")
    parser.add_argument("-device_map", nargs="+")
    words = shlex.split(text)
    for word in words:
        if (name := word.partition("=")[0]) in REFUSED:
            raise ValueError(f"{name}: {REFUSED[name]}")
    said = vars(parser.parse_args(words))
    idle = [name for name in (*WITHOUT_EFFECT, "-device_map") if said[name[1:]]]
    said["pooling_layer"] = tuple(said["pooling_layer"])
    options = Options(**{name: said[name] for name in Options.__dataclass_fields__})
    if options.mask_cls_sep and options.pooling_strategy in ("FIRST_TOKEN", "LAST_TOKEN", "CLS_TOKEN", "SEP_TOKEN"):
        raise ValueError(
            f"-mask_cls_sep with {options.pooling_strategy}: the original reads another token then than it says; "
            "leave -mask_cls_sep out"
        )
    if options.mask_cls_sep and options.pooling_strategy == "CLS_POOLED":
        raise ValueError("-mask_cls_sep with CLS_POOLED: a [CLS] that is masked has no vector; leave -mask_cls_sep out")
    return options, idle


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise ValueError(message)


def _length(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isdecimal() or int(text) <= 3:
        raise argparse.ArgumentTypeError(f"{text} is not NONE nor a number above 3")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port")
    return int(text)
