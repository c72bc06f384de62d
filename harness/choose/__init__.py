"""Which engine to use: all that run here, on the user's own weights and texts."""
