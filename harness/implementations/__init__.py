"""One file per implementation; ``harness.registry.implementations`` says what stands in one."""
