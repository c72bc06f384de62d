"""Questions whose answers are spans of a text: their files, the windows that a model reads, and answers from logits."""
