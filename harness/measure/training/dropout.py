"""Whether training applies dropout where BERT does: embeddings, attention probabilities, three kinds of output."""

from collections.abc import Mapping
from typing import Any

PROBABILITY = 0.125  # that is set, unlike every default; the same everywhere, because tbert loads nothing else


def compare(places: Mapping[str, tuple[int, float | None]], layers: int) -> dict[str, Any]:
    """The field ``dropout`` of a record: the places, and in a sentence how they are not BERT's.

    ``places`` has the number of dropouts in one pass and the probability of each, None if it was not seen.
    """
    expected = {
        "embeddings": 1,
        "attention probabilities": layers,
        "attention output": layers,
        "feed-forward output": layers,
        "pooled output": 1,
    }
    parts = []
    if absent := [place for place in expected if place not in places]:
        parts.append(f"none of {', '.join(absent)}")
    if added := [place for place in places if place not in expected]:
        parts.append(f"also {', '.join(added)}")
    counted = {place: (places[place][0], often) for place, often in expected.items() if place in places}
    parts += [f"{place} {seen} times, not {often}" for place, (seen, often) in counted.items() if seen != often]
    for place, (_, probability) in places.items():
        if probability not in (None, PROBABILITY):
            parts.append(f"{place} with {probability:g}, whatever is configured")
    return {"places": {place: list(found) for place, found in places.items()}, "sentence": "; ".join(parts)}
