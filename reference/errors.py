"""The errors that reading weights and pre-training raise."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used as it is; the message names the file or tensor and says what is wrong."""


class PretrainingError(ValueError):
    """A text, vocabulary, corpus or recipe cannot be used; the message names it and says what to do."""


class DivergedError(RuntimeError):
    """Training computed a loss that is not a number; the message says at which step, and what to change."""
