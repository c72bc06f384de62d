"""Random numbers that are functions of a key and a counter, and so the same wherever and in whatever order drawn."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(numbers: Numbers) -> Numbers:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014) for states that follow these numbers."""
    with np.errstate(over="ignore"):
        z = numbers + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def key(*numbers: int) -> int:
    """One 64-bit number for several, such as a seed and an epoch."""
    state = np.zeros(1, np.uint64)
    for number in numbers:
        state = mixed(state ^ np.uint64(number & (1 << 64) - 1))
    return int(state[0])


def draws(keys: Numbers, counters: Numbers) -> Numbers:
    """A uniform 64-bit number for each pair of a key and a counter."""
    with np.errstate(over="ignore"):
        return mixed(mixed(keys) + counters * GOLDEN)


def shares(numbers: Numbers) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1), of 64-bit ones."""
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def order(count: int, state: int) -> NDArray[np.int64]:
    """A random order of the numbers below ``count``."""
    return np.argsort(draws(np.array([state], np.uint64), np.arange(count, dtype=np.uint64)), kind="stable")
