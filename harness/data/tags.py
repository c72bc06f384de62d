"""Converts tags of any scheme to IOB2. Sequences that a scheme does not allow are read as conlleval reads them.

The rules of conlleval, extended to all prefixes: an entity ends after E and S, before B and S, before O, and
where the type changes; every other tag continues the entity before it, or begins one where there is none.
"""

from itertools import pairwise

from harness.data.examples import Repairs
from harness.data.reading import Reading
from harness.data.spelling import caseless, difference, narrow, plain, unique

PREFIXES = {
    "iob1": ("I", "B", "O"),  # B only where an entity follows another of its type
    "iob2": ("B", "I", "O"),  # B wherever an entity begins
    "iob": ("B", "I", "O"),  # either of these: an I that continues nothing begins an entity
    "bmes": ("B", "M", "I", "E", "S", "O"),  # M and I are the same
    "bioes": ("B", "I", "E", "S", "O"),
    "bilou": ("B", "I", "L", "U", "O"),  # L is E, U is S
}
SINGLE, LAST = ("S", "U"), ("E", "L")
WITH_ENDS = ("bmes", "bioes", "bilou")


class Tags:
    """Reads the tag column of one split."""

    def __init__(self, reading: Reading, column: int, repairs: Repairs) -> None:
        self._reading, self._column, self._repairs = reading, column, repairs
        self._plain = unique(plain, reading.labels)
        self._caseless = unique(caseless, reading.labels)
        self._tags: dict[str, tuple[str, str | None]] = {}  # as written -> as meant, and what was repaired
        # A tag's IOB2 form, and what is wrong with it, depend on the tag and the one before it alone.
        self._steps: dict[tuple[str, str], tuple[str, str | None]] = {}

    def is_tag(self, raw: str) -> bool:
        """Whether this looks like a tag, of any type."""
        prefix, _, entity = _parts(raw)
        return prefix.upper() in PREFIXES[self._reading.scheme] and bool(entity) == (prefix.upper() != "O")

    def entity(self, raw: str) -> str:
        """The entity type of what looks like a tag; "" for O, and for what does not."""
        return _parts(raw)[2] if self.is_tag(raw) else ""

    def iob2(self, raw: list[str], lines: list[int]) -> tuple[str, ...]:
        """The tags of one sentence. WrongTag, with the line, for what is no tag of the task."""
        tags = [self._meant(tag, line) for tag, line in zip(raw, lines, strict=True)]
        found = []
        for number, step in enumerate(pairwise(["O", *tags, "O"])):
            if step not in self._steps:
                self._steps[step] = self._step(*step)
            tag, wrong = self._steps[step]
            if wrong is not None:
                self._repair(wrong, lines[min(number, len(lines) - 1)])
            found.append(tag)
        return tuple(found[:-1])

    def _repair(self, wrong: str, line: int) -> None:
        if self._reading.tags == "strict":
            raise WrongTag(f"the tag, column {self._column}: {wrong}", line)
        self._repairs.add(
            f"tags that cannot follow the one before in {self._reading.scheme}, read as conlleval does", line
        )

    def _meant(self, raw: str, line: int) -> str:
        """The tag as the scheme spells it."""
        if raw not in self._tags:
            try:
                self._tags[raw] = self._spelled(raw)
            except ValueError as error:
                raise WrongTag(f"the tag, column {self._column}: {error}", line) from None
        tag, repaired = self._tags[raw]
        if repaired is not None:
            self._repairs.add(repaired, line)
        return tag

    def _spelled(self, raw: str) -> tuple[str, str | None]:
        """The tag that is meant, and how its spelling differs; ValueError if that is not certain."""
        if self._is_known(raw):
            return raw, None
        prefix, joiner, entity = _parts(raw)
        bare, only = not joiner and prefix in PREFIXES[self._reading.scheme], next(iter(self._reading.labels))
        if bare and len(self._reading.labels) == 1 and self._reading.tags != "strict":
            return f"{prefix}-{only}", "tags without a type, read as of the task's only one"
        value = self._plain.get(plain(entity)) or self._caseless.get(caseless(entity))
        tag = f"{prefix.upper()}-{value}" if value is not None else "" if entity else prefix.upper()
        if self._reading.tags == "strict" or not self._is_known(tag):
            raise ValueError(self._wrong(plain(raw)))
        if plain(raw) == plain(tag):
            return tag, f"tags that differ from those of the task only {difference(raw, tag)}, read as those"
        return tag, "tags in other letters, such as b-loc or B_LOC for B-LOC, read as those of the task"

    def _is_known(self, tag: str) -> bool:
        prefix, _, entity = tag.partition("-")
        known = tag == "O" if prefix == "O" else entity in self._reading.labels
        return known and prefix in PREFIXES[self._reading.scheme]

    def _wrong(self, tag: str) -> str:
        """What is wrong with a tag that the task does not have."""
        reading, scheme = self._reading, self._reading.scheme
        prefix, joiner, _ = _parts(tag)
        if tag == "":
            return "is empty"
        if prefix in PREFIXES[scheme] and prefix != "O" and not joiner:
            return f"it has no entity type; write one behind it, as in {prefix}-{next(iter(reading.labels))}"
        if prefix in PREFIXES[scheme] and prefix != "O":
            return f"its entity type is not declared; task {reading.name} has {', '.join(reading.labels)}"
        known = f"no {scheme} tag; they begin with {', '.join(PREFIXES[scheme])}"
        some = next(iter(reading.labels))
        if caseless(tag) in self._caseless:
            return f"{known}, as in B-{some}. Is no type marked so? Write I-{some}, and declare `scheme: iob`"
        if others := [each for each in WITH_ENDS if joiner and each != scheme and prefix in PREFIXES[each]]:
            return f"{known}; {prefix} is one of {', '.join(others)}: is another scheme meant?"
        if caseless(tag) == "0":
            return f"{known}; this one is the digit 0"
        return f"{known}, as in B-{some}"

    def _step(self, before: str, tag: str) -> tuple[str, str | None]:
        """A tag in IOB2, given the tag before it ("O" at both ends of a sentence); and what is wrong with it."""
        prefix, _, entity = tag.partition("-")
        last, _, last_entity = before.partition("-")
        same = entity == last_entity
        inside, unfinished = prefix in ("I", "M", *LAST), last in ("B", "I", "M")
        scheme = self._reading.scheme
        if scheme in WITH_ENDS:
            impossible = (inside and same) != unfinished or (inside and not same)
        else:
            impossible = prefix == {"iob1": "B", "iob2": "I", "iob": ""}[scheme] and not same
        wrong = f"{tag} cannot follow {before} in {scheme}; is another scheme meant?" if impossible else None
        if tag == "O":
            return tag, wrong
        begins = prefix in ("B", *SINGLE) or last in ("O", *LAST, *SINGLE) or not same
        return f"{'B' if begins else 'I'}-{self._reading.labels[entity]}", wrong


class WrongTag(ValueError):
    """A tag that the task does not have."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _parts(raw: str) -> tuple[str, str, str]:
    """Prefix, joiner and type: the joiner is a hyphen, or after a prefix of one letter an underscore."""
    tag = narrow(raw)
    return (tag[0], tag[1], tag[2:]) if tag[1:2] == "_" else tag.partition("-")
