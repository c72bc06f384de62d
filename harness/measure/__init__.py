"""What is measured, and when: the main path from a plan to records."""
