"""Measures BERT implementations: parity, accuracy, throughput. Start with ``python -m harness --help``."""

from harness import affinity as affinity  # before whatever imports a library that binds threads to CPUs

__version__ = "0.1.0"
