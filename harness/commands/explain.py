"""The command explain: what a model computes for one sentence, step by step."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Weights, check_output

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "python -m harness explain --output explained.json\n\n"
    'python -m harness explain "The bank of the river" --weights bert-base-uncased --output explained.json'
)
def explain(
    output: Annotated[Path, typer.Option(help="JSON file to write.")],
    text: Annotated[str | None, typer.Argument(help="The sentence.  [default: a pair of sentences]")] = None,
    pair: Annotated[str | None, typer.Option(help="A second sentence.")] = None,
    weights: Weights = "minilm-l6",
) -> None:
    """Write what a model computes for a sentence, step by step.

    The file has the word pieces, the attention of every head, what each layer changes, the size and the multiply-adds
    of every matrix product, and the effect of each known deviation of ports. The site's explanation is made from it.
    """
    from harness.errors import BadInput
    from harness.files import write_json
    from harness.predict.explain import PAIR, TEXT
    from harness.predict.explain import explain as explained

    if text is None and pair is not None:
        raise BadInput("--pair is the second sentence; give the first one as the argument")
    output.parent.mkdir(parents=True, exist_ok=True)
    check_output(output)
    values = explained(TEXT, PAIR, weights) if text is None else explained(text, pair, weights)
    write_json(values, output)
    print(f"{len(values['tokens'])} tokens, {len(values['layers'])} layers: {output}")
