"""Kinds of processor, by the instructions that decide how fast matrices are multiplied. The site's boards are of these.

The site has the same table, with names in Chinese too (``catalog/site/choices.py``); a test holds the two equal.
"""

from collections.abc import Iterable

from harness.records import record

# By name, what people call it and which instructions it has; a processor is of the first kind all of whose it has.
KINDS: dict[str, tuple[str, frozenset[str]]] = {
    "amx": ("AMX", frozenset({"amx_tile"})),
    "avx-512-vnni": ("AVX-512 with VNNI", frozenset({"avx512f", "avx512_vnni"})),
    "avx-512": ("AVX-512 without VNNI", frozenset({"avx512f"})),
    "avx2-vnni": ("AVX2 with VNNI", frozenset({"avx2", "avx_vnni"})),
    "avx2": ("AVX2 without VNNI", frozenset({"avx2"})),
    "arm": ("Arm", frozenset({"neon"})),
    "other": ("other processors", frozenset()),
}


def kind_of(flags: Iterable[str]) -> str:
    """The kind of a processor with these instructions."""
    has = frozenset(flags)
    return next(name for name, (_, needed) in KINDS.items() if needed <= has)


def machines(records: Iterable[record.Record]) -> dict[str, set[str]]:
    """For each kind the machines whose processors were timed."""
    found: dict[str, set[str]] = {name: set() for name in KINDS}
    for each in records:
        if isinstance(each, record.Speed) and each.state == "ok" and each.device == "cpu":
            found[kind_of(each.machine.get("flags") or [])].add(record.hardware(each))
    return found


def wanted(records: Iterable[record.Record]) -> list[str]:
    """What people call the kinds that no record is of."""
    known = machines(records)
    return [title for name, (title, _) in KINDS.items() if name != "other" and not known[name]]
