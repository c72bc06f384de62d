"""The error that reading weights raises."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used as it is; the message names the file or tensor and says what is wrong."""
