"""What each command of ``python -m harness`` takes, does and prints; ``harness.cli`` puts them together."""
