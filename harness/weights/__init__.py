"""Weights: by name, drawn at random, fine-tuned; examined before any work."""
