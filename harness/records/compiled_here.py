"""Which of the reference's C++ is compiled on this machine: like other code, it is part of a result's key."""

from functools import cache


@cache
def compiled_here() -> list[str]:
    """For each source its compiler, or why it is not compiled; and the processor's instructions that are hidden."""
    from reference import adamw, native
    from reference.processor import hidden

    each = (adamw.built(), native.built())
    return [*(f"{it.compiler}, {it.reason}" for it in each), *sorted(hidden())]
