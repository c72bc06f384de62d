"""What goes wrong when weights are read."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used as it is; the message names the file or tensor and says what is wrong."""
