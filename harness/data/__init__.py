"""Tasks, their examples, and the downloads that bring them."""
