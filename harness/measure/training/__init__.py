"""Parity of training: gradients and optimizers, compared with the reference in float64."""
