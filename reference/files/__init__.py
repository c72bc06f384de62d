"""Readers of the files in a folder of weights: configuration, tensors, tokenizer."""
