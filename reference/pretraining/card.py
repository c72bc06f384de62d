"""The model card: from what, how, at what cost, with what result; every figure is from the manifest and the log."""

from dataclasses import dataclass
from typing import Any

from reference.model import BertConfig
from reference.pretraining.recipe import Recipe
from reference.pretraining.state import Cursor

CARD = "README.md"


@dataclass(frozen=True)
class Published:
    """What only the person knows who publishes a model."""

    name: str
    text: str  # what the text is, in a few words
    licence: str  # of the text


def card(
    manifest: dict[str, Any],
    recipe: Recipe,
    config: BertConfig,
    log: list[dict[str, Any]],
    cursor: Cursor,
    published: Published | None = None,
) -> str:
    """The text of the card, in Markdown."""
    splits, vocabulary = manifest["splits"], manifest["vocabulary"]
    start: dict[str, Any] = next((line for line in log if line.get("event") == "start"), {})
    held_out: dict[str, Any] = next((line for line in reversed(log) if line.get("event") == "held out"), {})
    parts = [
        f"{line['precision']} on {line['device']}" + (f" with {line['threads']} threads" if "threads" in line else "")
        for line in log
        if line.get("event") == "part"
    ]
    epochs = cursor.tokens / max(1, splits["train"]["pieces"])
    lines = [
        f"# {published.name if published else 'A BERT pre-trained from raw text'}",
        "",
        f"{config.num_hidden_layers} layers, hidden size {config.hidden_size}, {config.num_attention_heads} attention "
        f"heads, {vocabulary['size']:,} word pieces, {'un' if vocabulary['lower_case'] else ''}cased. The architecture "
        "is that of the original BERT, and `BertForPreTraining` of transformers loads this folder. recipe.yaml has the "
        "recipe, log.jsonl the course of the training.",
        *(
            ["", "The weights are stored in float16, and are meant to be computed with in float32."]
            if published
            else []
        ),
        "",
        "## Data",
        "",
        *([f"{published.text}. Licence of the text: {published.licence}.", ""] if published else []),
        *(f"- {each['name']}, {each['bytes']:,} bytes, sha256 {each['sha256']}" for each in manifest["sources"]),
        f"- training: {splits['train']['documents']:,} documents, {splits['train']['pieces']:,} word pieces",
        f"- held out: {splits['held_out']['documents']:,} documents, {splits['held_out']['pieces']:,} word pieces",
    ]
    if not published:
        lines += [
            "",
            "The licence of the text is not known to the program that wrote this: name it here before you publish.",
        ]
    lines += [
        "",
        "## Training",
        "",
        f"- tokens: {cursor.tokens:,} in {cursor.step:,} steps, {epochs:.1f} passes over the text",
        f"- cost: {cursor.flop:.2e} FLOP in products, {cursor.seconds / 3600:.2f} hours of training",
        f"- computed in: {', '.join(dict.fromkeys(parts))}",
        f"- next-sentence prediction: {recipe.next_sentence}; masked: {recipe.mask_rate[0]:g} to "
        f"{recipe.mask_rate[1]:g} of the tokens; seed {recipe.seed}",
        "",
        "## Result",
        "",
    ]
    if held_out:
        lines += [
            "| on held-out text, 15% masked | this model | without learning |",
            "|---|---|---|",
            f"| loss of masked tokens | {held_out['held_out_loss']} | {_guesses(start)} |",
            f"| masked tokens right | {held_out['held_out_accuracy']} | {start.get('unigram_accuracy', '')} "
            "(commonest piece) |",
        ]
        if "held_out_nsp_accuracy" in held_out:
            lines.append(
                f"| next sentence right | {held_out['held_out_nsp_accuracy']} | {held_out['held_out_nsp_majority']} "
                "(majority) |"
            )
    else:
        lines.append("No text was held out, so nothing was measured.")
    lines += [
        "",
        "## What it is not",
        "",
        "It knows the language and the facts of its text, with its errors and its bias, and no more. Sentence vectors "
        "need fine-tuning. It was not tested for any use.",
    ]
    return "\n".join(lines) + "\n"


def _guesses(start: dict[str, Any]) -> str:
    """The losses that need no learning, as far as the log has them."""
    known = {"unigram_loss": "unigram", "bigram_loss": "bigram"}
    return ", ".join(f"{start[name]} ({said})" for name, said in known.items() if name in start)
