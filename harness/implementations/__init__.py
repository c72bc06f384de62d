"""One file per implementation; ``harness.implementation`` says what stands in one."""
