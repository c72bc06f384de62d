"""Measures BERT implementations: parity, accuracy, throughput. Start with ``python -m harness --help``."""

__version__ = "0.1.0"
