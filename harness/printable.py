"""Text that may stand on a terminal."""

import re

# Control characters but for tabs and line feeds, and halves of characters, which stand for bytes that are no UTF-8.
UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """The text, with what would steer the terminal written as Python writes it."""
    return UNFIT.sub(lambda found: ascii(found[0])[1:-1], text)
