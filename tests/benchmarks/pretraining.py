"""Pre-training by the reference and by transformers, in turn, on the same instances: how many times as fast.

    python tests/benchmarks/pretraining.py --corpus FOLDER [--recipe atlas-mini] [--rounds 5]

transformers computes as its users do: rectangles padded to the longest of the batch, the vocabulary head on every
position, the loss of BertForPreTraining, torch's AdamW. Both take the same masked pairs and count real tokens. Only the
ratio is printed: absolute times depend on the machine. One thread and its processor time, which other programs disturb
least.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

from harness.commands.pretrain import read_recipe
from reference.pretraining.corpus import open_corpus
from reference.pretraining.masking import rows
from reference.pretraining.train import Run, Setting, by_tokens


class OfTransformers:
    """The same step as ``Run.step``, by transformers."""

    def __init__(self, run: Run) -> None:
        config = transformers.BertConfig(
            vocab_size=run.config.vocab_size,
            hidden_size=run.config.hidden_size,
            num_hidden_layers=run.config.num_hidden_layers,
            num_attention_heads=run.config.num_attention_heads,
            intermediate_size=run.config.intermediate_size,
            hidden_dropout_prob=run.config.hidden_dropout_prob,
            attention_probs_dropout_prob=run.config.attention_probs_dropout_prob,
        )
        self.run = run
        self.model = transformers.BertForPreTraining(config).to(run.setting.device).train()
        recipe = run.recipe
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), recipe.learning_rate, recipe.betas, recipe.epsilon, fused=True
        )

    def step(self) -> int:
        """Train on the next batch; the number of real tokens."""
        run, tokens = self.run, 0
        device, bf16 = run.setting.device, run.setting.precision == "bf16"
        taken = run.take()
        count = sum(len(indices) for _, indices in taken)
        self.optimizer.zero_grad()
        for epoch, indices in taken:
            lengths = run.instances[False].lengths(epoch)[indices]
            for part in by_tokens(lengths, run.recipe.micro_tokens):
                batch = run.instances[False].batch(epoch, indices[part], 0.15)
                sequence, position = rows(batch.lengths)
                shape = len(batch.lengths), int(batch.lengths.max())
                ids, segments, mask = (np.zeros(shape, np.int64) for _ in range(3))
                labels = np.full(shape, -100)
                ids[sequence, position], segments[sequence, position] = batch.ids, batch.segments
                mask[sequence, position] = 1
                labels[sequence[batch.chosen], position[batch.chosen]] = batch.labels
                given = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask, "labels": labels}
                inputs = {name: torch.from_numpy(value).to(device) for name, value in given.items()}
                following = torch.from_numpy(batch.is_random).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = self.model(**inputs, next_sentence_label=following).loss
                (loss * len(part) / count).backward()
                tokens += len(batch.ids)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return tokens


def main() -> None:
    """Print the ratio of each round, and their median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--recipe", default="atlas-mini")
    parser.add_argument("--tokens", type=int, default=8192, help="of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    recipe = replace(read_recipe(given.recipe), batch_tokens=(given.tokens, given.tokens), long_share=0.0)
    setting = Setting(torch.device("cpu"), given.precision)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (Run(open_corpus(given.corpus), recipe, Path(folder) / name, setting) for name in ("a", "b"))
        other = OfTransformers(theirs)
        ours.model.train()
        ratios = []
        for number in range(given.rounds + 1):
            rates = []
            for step in (ours.step, other.step):
                before, start = ours.cursor.tokens, time.process_time()
                tokens = step()
                taken = time.process_time() - start
                rates.append((ours.cursor.tokens - before or tokens) / taken)
            if number:  # the first warms up
                ratios.append(rates[0] / rates[1])
                print(f"round {number}: {ratios[-1]:.2f} times the tokens a second", flush=True)
    print(f"median of {len(ratios)}: {statistics.median(ratios):.2f} times as fast as transformers, {given.precision}")


if __name__ == "__main__":
    main()
