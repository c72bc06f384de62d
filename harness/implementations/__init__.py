"""One file per implementation; ``harness.registry.implementations`` describes its content."""
