"""What of the reference's C++ is compiled on this machine: it is part of a result's identity, as other code is."""

from functools import cache


@cache
def compiled_here() -> list[str]:
    """Of each source the compiler that made it, or why none did; and what is hidden of the processor."""
    from reference import adamw, layers
    from reference.processor import hidden

    each = (adamw.built(), layers.built())
    return [*(f"{it.compiler}, {it.reason}" for it in each), *sorted(hidden())]
