"""The catalog of BERT resources: one YAML file per entry. Start with ``python -m catalog --help``."""
