"""Load on services of sentence vectors: several services in one run, by the same clients, in turn."""
