"""Which implementations there are, and the environment that each runs in."""
