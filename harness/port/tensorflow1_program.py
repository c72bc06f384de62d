"""Runs a repository's unmodified training program for TensorFlow 1 in a separate process."""

import importlib
import json
import os
import re
import runpy
import subprocess
import sys
import types
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.port import tensorflow1
from harness.port.hf_folder import is_uncased, read_folder, read_vocabulary
from harness.port.process import command

STAGES = {"Running train on": "training", "Running infer on": "predicting"}  # in the words of an estimator
ERROR = re.compile(r"[\w.]*(Error|Exception)\b")  # the start of the line that says why a program failed


def run(
    script: Path, flags: dict[str, Any], place: Path, show: Callable[[str], None], implementation: str = __name__
) -> None:
    """Run a program with these flags in the folder ``place``; ``show`` gets every line that it prints.

    ``implementation`` is a module whose function ``prepare`` is called first. Raises RuntimeError if the program fails,
    and prints its last lines to standard error. If this call is interrupted, the program is killed.
    """
    options = [f"--{name}={value}" for name, value in flags.items()]
    last: deque[str] = deque(maxlen=200)  # TensorFlow describes the place in the graph at length
    with subprocess.Popen(
        command(sys.executable, __name__, "main", implementation, str(script.resolve()), *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        cwd=place,
        env=os.environ | {"PYTHONUTF8": "1"},  # these programs open files without an encoding
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                last.append(line)
                show(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        print("".join(last), file=sys.stderr, flush=True)
        why = next((line.strip() for line in reversed(last) if ERROR.match(line)), "see standard error")
        raise RuntimeError(f"{script.name} ended with exit code {process.returncode}: {why}")


def main(implementation: str, script: str, *options: str) -> None:
    """Prepare TensorFlow, then run the script as ``__main__``. Called in the new process."""
    importlib.import_module(implementation).prepare()
    sys.path.insert(0, str(Path(script).parent))
    sys.argv = [script, *options]
    runpy.run_path(script, run_name="__main__")


def prepare() -> None:
    """Put what TPU estimators need where TensorFlow 1 had it, and let them log their progress."""
    tf = tensorflow1.alias()
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.contrib.tpu = tf.estimator.tpu
    tf.contrib.data = types.SimpleNamespace(map_and_batch=tf.data.experimental.map_and_batch)


def show_stages(progress: Callable[..., None]) -> Callable[[str], None]:
    """Returns a function that takes an estimator's output line by line and reports each new stage to ``progress``."""

    def show(line: str) -> None:
        for done, (announced, stage) in enumerate(STAGES.items()):
            if announced in line:
                progress(what=stage, done=done, total=len(STAGES))

    return show


def write_release(modeling: Any, weights: str | Path, place: Path) -> dict[str, Any]:
    """Write weights in the form of Google's releases. Returns the flags for them, the same in all derived programs.

    ``modeling`` is the repository's module with ``BertConfig`` and ``BertModel``.
    """
    tf = tensorflow1.alias()
    model = tensorflow1.Encoder(modeling, weights, "")
    with model.session.graph.as_default():
        tf.train.Saver().save(model.session, str(place / "bert_model.ckpt"), write_meta_graph=False)
    model.session.close()
    pieces = read_vocabulary(weights)
    (place / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    (place / "bert_config.json").write_text(json.dumps(read_folder(weights).config), encoding="utf-8")
    return {
        "vocab_file": place / "vocab.txt",
        "bert_config_file": place / "bert_config.json",
        "init_checkpoint": place / "bert_model.ckpt",
        "do_lower_case": is_uncased(weights, pieces),
    }
